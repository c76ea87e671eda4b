"""The command `tagger fleet`."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.common import Group
from tagger.errors import TaggerError, UserError
from tagger.printable import echo, echo_lines, number_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagger.fleet.file import FleetFile
    from tagger.settings import ListenSettings

_state_option = click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The fleet's folder; with --ray, on each node. [default: $TAGGER_HOME/fleet]",
)
_ray_option = click.option(
    "--ray", metavar="auto|ADDRESS", help="A Ray cluster, on whose nodes the workers are: `auto`, or HOST:6379."
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
@_ray_option
@_state_option
def run(file: Path, ray: str | None, state: Path | None) -> None:
    """Run the fleet of FILE until Ctrl-C. `tagger fleet FILE` is the same."""
    from tagger import cluster, logs
    from tagger.daemon.model import check
    from tagger.errors import SettingError
    from tagger.fleet.file import load

    if ray is not None:
        cluster.library()  # what is missing is said before the work begins
    found = load(file)
    logs.configure(found.settings.log_level, found.settings.log_format)
    try:
        check(found.settings)
        if ray is None:
            _run_here(found, _folder(state))
        else:
            _run_on_ray(found, ray, state)
    except SettingError as error:
        raise UserError(f"{file}: {error}") from None


def _run_here(file: "FleetFile", folder: Path) -> None:
    import pickle

    from tagger import logs
    from tagger.fleet.coordinator import Habits
    from tagger.fleet.machine import LocalStaff, Machine
    from tagger.fleet.run import Fleet, FleetFolder
    from tagger.stop import Stop

    settings = file.settings
    assert settings.mqtt is not None
    machine = Machine.of(settings.mqtt.node, file.fleet.workers, settings.device)

    def command(node: str, session: str) -> list[str]:
        return [sys.executable, "-m", "tagger.fleet.process", str(folder), node, session, machine.places[node]]

    with Stop() as stop:
        staff = LocalStaff(list(machine.places), command, pickle.dumps(settings))
        running = Fleet(FleetFolder(folder), Habits(), staff, file.again, file.fleet.every_s)
        with _shown(settings, running.answer):
            streams = number_of(len(running.coordinator.sources), "stream")
            logs.tell(f"{streams} on {number_of(len(machine.places), 'worker')}; see `tagger fleet status`")
            running.run(stop)


def _run_on_ray(file: "FleetFile", address: str, state: Path | None) -> None:
    import pickle

    from tagger import logs
    from tagger.fleet.coordinator import Habits
    from tagger.fleet.ray_coordinator import Plan
    from tagger.fleet.ray_driver import RayFleet
    from tagger.fleet.ray_post import FleetJob
    from tagger.stop import Stop

    settings = file.settings
    assert settings.mqtt is not None
    if settings.device.startswith("cuda:"):
        raise UserError('device: on a cluster each worker has a GPU of its own; write device = "cuda"')
    folder = None if state is None else str(state.absolute())
    is_gpu = settings.device == "cuda"
    habits = Habits(gather_s=60.0)  # actors take longer to start than processes
    plan = Plan(FleetJob(pickle.dumps(settings), folder), habits, settings.mqtt.node, file.fleet.workers, is_gpu)
    with (
        Stop() as stop,
        RayFleet(address, plan, file.again, file.fleet.every_s) as running,
        _shown(settings, running.answer),
    ):
        streams = number_of(len(running.sources), "stream")
        logs.tell(f"{streams} on the Ray cluster; see `tagger fleet status --ray {address}`")
        running.run(stop)


@contextmanager
def _shown(settings: "ListenSettings", answer: "Callable[[dict[str, Any]], Any]") -> Iterator[None]:
    """Shows within the block how the fleet does, where the settings say so: on the port, and on the page.

    Args:
        answer: asks the coordinator. Raises TaggerError: it does not answer.
    """
    from tagger.daemon.web import answering_port
    from tagger.fleet import figures, page

    def status() -> dict[str, Any]:
        found: dict[str, Any] = answer({"status": True})
        return found

    with ExitStack() as stack:
        if settings.http is not None:
            stack.enter_context(answering_port(settings.http, lambda path: figures.page(path, status)))
        stack.enter_context(page.serving(settings, status))
        yield


@fleet.command()
@_ray_option
@_state_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON, with every stream.")
def status(ray: str | None, state: Path | None, as_json: bool) -> None:
    """Say how a running fleet does.

    Exit code 0: all is well. Exit code 1: something is amiss. Exit code 2: no fleet runs there.
    """
    from tagger.fleet.figures import lines, problems

    found = _ask(ray, state, {"status": True})
    if as_json:
        echo(json.dumps({**found, "problems": problems(found)}))
    else:
        echo_lines(lines(found))
    if problems(found):
        sys.exit(TaggerError.exit_code)


@fleet.command()
@click.argument("worker")
@click.option("--undo", is_flag=True, help="Give it streams again.")
@_ray_option
@_state_option
def drain(worker: str, undo: bool, ray: str | None, state: Path | None) -> None:
    """Give the streams of WORKER to others, and none to it from now on.

    The name of a machine, as `tagger fleet status` has it, stands for all of its workers.
    """
    answer = _ask(ray, state, {"drain": worker, "drained": not undo})
    if "problem" in answer:
        raise UserError(f"{answer['problem']}; see `tagger fleet status`")
    echo(f"drained: {', '.join(answer['drained']) or 'none'}")


def _folder(given: Path | None) -> Path:
    from tagger.files import home

    return given or home() / "fleet"


def _ask(ray: str | None, state: Path | None, message: dict[str, Any]) -> dict[str, Any]:
    if ray is not None:
        from tagger.fleet import ray_driver

        answer: dict[str, Any] = ray_driver.ask(ray, message)
        return answer
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
