"""The command `tagger doctor`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from tagger.cli.common import check_new_file, hide_secrets
from tagger.config.flags import listen_options, typed
from tagger.errors import TaggerError, UserError
from tagger.printable import echo, echo_lines


@click.command()
@listen_options(without=("--json",))
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    metavar="ZIP",
    help="Also write a file for whoever helps you; no audio, no events and no secret is in it.",
)
@click.pass_context
def doctor(ctx: click.Context, /, **flags: Any) -> None:
    """Look at everything that `tagger listen` with these flags needs, and say what to do about what is amiss.

    PortAudio, microphones and who may use them, each source for a second, a message to the broker and back, model and
    runtime, GPU, disk, clock. Exit code 0: all is well. Exit code 1: something is amiss. Exit code 2: a setting is
    wrong.
    """
    given = typed(ctx)
    hide_secrets(given)
    if flags["bundle"] is not None:
        check_new_file("--bundle", flags["bundle"])
    from tagger.config.build import resolve
    from tagger.doctor import bundle, run

    resolved = resolve(given, os.environ, flags["config"])
    running = run.running_daemons(run.state_folder(resolved))
    found = []
    for each in run.examine(resolved, running):
        found.append(each)
        if not flags["as_json"]:
            echo_lines(run.lines(each))
    failures = [each for each in found if each.state == "fail"]
    if flags["as_json"]:
        echo(json.dumps({"ok": not failures, "findings": [each.to_json() for each in found]}))
    if flags["bundle"] is not None:
        bundle.write(flags["bundle"], resolved, found, running)
        echo(f"wrote {flags['bundle']}", err=True)
    if failures:
        sys.exit(UserError.exit_code if any(each.is_mistake for each in failures) else TaggerError.exit_code)
