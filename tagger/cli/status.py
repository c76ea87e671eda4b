"""The command `tagger status`."""

import json
import sys
from pathlib import Path

import click

from tagger.errors import TaggerError
from tagger.printable import echo, echo_lines


@click.command()
@click.argument("url", required=False, metavar="[URL]")
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="The daemon's state folder.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The daemon's settings.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each daemon.")
def status(url: str | None, state: Path | None, config: Path | None, as_json: bool) -> None:
    """Ask running daemons how they do.

    Asks those that use the state folder of this user's settings, or the one at URL: http://HOST:PORT of its
    --http-port. Exit code 0: all is well. Exit code 1: something is amiss. Exit code 2: no daemon runs there.
    """
    from tagger.daemon.status import ask_here, ask_url, text

    answers = [ask_url(url)] if url is not None else ask_here(state or _state_folder(config))
    for number, answer in enumerate(answers):
        if as_json:
            echo(json.dumps(answer))
        else:
            echo_lines([""] if number else [])
            echo_lines(text(answer))
    if any(answer["verdict"] != "ok" for answer in answers):
        sys.exit(TaggerError.exit_code)


def _state_folder(config: Path | None) -> Path:
    import os

    from tagger.config.build import resolve
    from tagger.files import state_folder

    return state_folder(resolve({}, os.environ, config).values["listen.state"].value)
