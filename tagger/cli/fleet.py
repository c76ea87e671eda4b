"""The command `tagger fleet`."""

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.common import Group
from tagger.errors import TaggerError, UserError
from tagger.printable import echo, echo_lines, number_of

if TYPE_CHECKING:
    from tagger.fleet.run import Fleet
    from tagger.settings import HttpSettings

_state_option = click.option(
    "--state", type=click.Path(path_type=Path), metavar="DIR", help="The fleet's folder. [default: $TAGGER_HOME/fleet]"
)


class _Fleet(Group):
    """Takes a file for the command `run`, so that `tagger fleet fleet.toml` runs it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_Fleet, subcommand_metavar="FILE | COMMAND [ARGS]...")
def fleet() -> None:
    """Hear many streams with several workers, one owner each.

    `tagger fleet fleet.toml` starts the workers of this machine, shares the streams out, and takes over those of a
    worker that dies. FILE has the settings of `tagger listen`, a broker, [[source]] tables with names, and a table
    [fleet]. It is read again while the fleet runs.
    """


@fleet.command()
@click.argument("file", type=click.Path(path_type=Path))
@_state_option
def run(file: Path, state: Path | None) -> None:
    """Run the fleet of FILE until Ctrl-C. `tagger fleet FILE` is the same."""
    import pickle

    from tagger import logs
    from tagger.daemon.model import check
    from tagger.errors import SettingError
    from tagger.fleet.coordinator import Habits
    from tagger.fleet.file import load
    from tagger.fleet.local import Machine
    from tagger.fleet.run import Fleet, FleetFolder
    from tagger.stop import Stop

    found = load(file)
    settings, folder = found.settings, _folder(state)
    logs.configure(settings.log_level, settings.log_format)
    assert settings.mqtt is not None
    machine = Machine.of(settings.mqtt.node, found.fleet.workers, settings.device)

    def command(node: str, session: str) -> list[str]:
        return [sys.executable, "-m", "tagger.fleet.process", str(folder), node, session, machine.places[node]]

    with Stop() as stop:
        try:
            check(settings)
            running = Fleet(
                FleetFolder(folder),
                Habits(),
                list(machine.places),
                command,
                lambda: load(file).sources(),
                found.fleet.every_s,
                given=pickle.dumps(settings),
            )
            with _port(settings.http, running):
                streams = number_of(len(running.coordinator.sources), "stream")
                logs.tell(f"{streams} on {number_of(len(machine.places), 'worker')}; see `tagger fleet status`")
                running.run(stop)
        except SettingError as error:
            raise UserError(f"{file}: {error}") from None


def _port(http: "HttpSettings | None", running: "Fleet") -> AbstractContextManager[None]:
    if http is None:
        return nullcontext()
    from tagger.daemon.web import answering_port
    from tagger.fleet.figures import page

    return answering_port(http, lambda path: page(path, lambda: running.answer({"status": True})))


@fleet.command()
@_state_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON, with every stream.")
def status(state: Path | None, as_json: bool) -> None:
    """Say how a running fleet does.

    Exit code 0: all is well. Exit code 1: something is amiss. Exit code 2: no fleet runs there.
    """
    from tagger.fleet.figures import lines, problems

    found = _ask(state, {"status": True})
    if as_json:
        echo(json.dumps({**found, "problems": problems(found)}))
    else:
        echo_lines(lines(found))
    if problems(found):
        sys.exit(TaggerError.exit_code)


@fleet.command()
@click.argument("worker")
@click.option("--undo", is_flag=True, help="Give it streams again.")
@_state_option
def drain(worker: str, undo: bool, state: Path | None) -> None:
    """Give the streams of WORKER to others, and none to it from now on."""
    answer = _ask(state, {"drain": worker, "drained": not undo})
    if "problem" in answer:
        raise UserError(f"{answer['problem']}; see `tagger fleet status`")
    echo(f"drained: {', '.join(answer['drained']) or 'none'}")


def _folder(given: Path | None) -> Path:
    from tagger.files import home

    return given or home() / "fleet"


def _ask(state: Path | None, message: dict[str, Any]) -> dict[str, Any]:
    from tagger.fleet.local import Client

    folder = _folder(state)
    client = Client(folder)
    try:
        found: dict[str, Any] = client.ask(message)
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(f"{folder}: no fleet runs there ({why}); start it with `tagger fleet FILE`") from None
    finally:
        client.close()
    return found
