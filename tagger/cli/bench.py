"""The command `tagger bench`."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from tagger.bench.settings import ALWAYS, PARTS
from tagger.cli.common import check_new_file
from tagger.errors import UserError, to_install
from tagger.printable import echo, echo_lines

_INTERRUPTED = 130


@click.command("bench")
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[PART]...")
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    help="Model: a name from `tagger models`, or a path; repeatable. [default: the bundled ones]",
)
@click.option("--runtime", metavar="NAME", help="What runs the network. [default: each that is installed, in turn]")
@click.option(
    "--window", "window_s", type=float, metavar="S", help="Length of a window, seconds. [default: the model's own]"
)
@click.option(
    "--hop", "hop_s", type=float, default=1.0, show_default=True, metavar="S", help="Time between windows, seconds."
)
@click.option("--quick", is_flag=True, help="Less exact, in a minute.")
@click.option("--seconds", type=float, metavar="S", help="Time for which live sources are listened to.")
@click.option("--streams", type=click.IntRange(1), metavar="N", help="Whether N live sources are carried.")
@click.option(
    "--compare",
    "efficientat",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also time EfficientAT's own code, whose repository is here.",
)
@click.option("--python", metavar="FILE", help="Python with EfficientAT's packages. [default: this one]")
@click.option("--embedded", is_flag=True, help="Use the embedded broker, also where mosquitto is installed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw how the cost grows, as a PNG.")
def bench(
    parts: tuple[str, ...],
    models: tuple[str, ...],
    runtime: str | None,
    window_s: float | None,
    hop_s: float,
    quick: bool,
    seconds: float | None,
    streams: int | None,
    efficientat: Path | None,
    python: str | None,
    embedded: bool,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Measure what listening costs on this machine.

    PART is cost (processor time by model and runtime), daemon (start, latency, memory of one live source), streams (the
    most live sources), size (installed), compare (EfficientAT's own code) or growth (against hop, window and number of
    sources). Without one: the first four, and what --compare and --plot ask for. Times are of the processor. Leave the
    machine alone meanwhile. Ctrl-C prints what was measured.
    """
    from tagger.bench.report import lines, warnings
    from tagger.bench.run import run
    from tagger.bench.settings import BenchSettings

    for name, value in (("--window", window_s), ("--hop", hop_s), ("--seconds", seconds)):
        if value is not None and not 0 < value < 86_400:
            raise UserError(f"{name} {value:g}: must be a number of seconds, more than 0")
    wanted = {*(parts or ALWAYS), *(["compare"] if efficientat else []), *(["growth"] if plot else [])}
    if plot is not None:
        _check_plot(plot)
    results = run(
        BenchSettings(
            parts=tuple(part for part in PARTS if part in wanted),
            models=models,
            runtime=runtime,
            window_s=window_s,
            hop_s=hop_s,
            quick=quick,
            seconds=seconds,
            streams=streams,
            efficientat=None if efficientat is None else efficientat.resolve(),
            python=python or sys.executable,
            embedded=embedded,
        )
    )
    if as_json:
        echo(json.dumps(results.to_json(), allow_nan=False))
    else:
        echo_lines(lines(results))
    for warning in warnings(results):
        echo(f"Warning: {warning}", err=True)
    if plot is not None and results.growth is not None:
        from tagger.bench.plot import draw

        draw(results.growth, plot)
    if not results.complete:
        sys.exit(_INTERRUPTED)


def _check_plot(path: Path) -> None:
    """
    Raises:
        UserError: matplotlib is not installed, or no file can be there.
    """
    if find_spec("matplotlib") is None:
        raise UserError(f"--plot needs matplotlib, which is not installed: {to_install('plot')}")
    check_new_file("--plot", path)
