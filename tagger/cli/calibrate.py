"""The command `tagger calibrate`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tagger.cli.common import each_once
from tagger.errors import UserError
from tagger.settings import RUNTIMES


@click.command()
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path), metavar="[RECORDING]...")
@click.option("--listen", "duration", metavar="TIME", help="Record the room now, for this time: 10m, 8h.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="SOURCE",
    help="Source for --listen, named as for `tagger listen`; repeatable. [default: those of the file, or mic]",
)
@click.option(
    "--model",
    "-m",
    multiple=True,
    callback=each_once,
    help="Model: a name from `tagger models`, or a path; repeatable. [default: those of the file, or esc50]",
)
@click.option("--device", help="Device that runs the network: auto, cpu, cuda, cuda:N or mps. [default: auto]")
@click.option("--runtime", type=click.Choice(RUNTIMES), help="What runs the network. [default: auto]")
@click.option(
    "--window", "window_s", type=float, metavar="S", help="Length of a window, seconds. [default: the model's]"
)
@click.option(
    "--hop", "hop_s", type=float, metavar="S", help="Time from one window to the next, seconds. [default: 1.0]"
)
@click.option("--channel", metavar="N", help="Channels that are heard: mix, or numbers such as 1+3. [default: mix]")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar=["TAGGER_CALIBRATE_CONFIG", "TAGGER_LISTEN_CONFIG"],
    metavar="FILE",
    help="TOML file in force now, whose sources and model are used. [default: $TAGGER_HOME/tagger.toml, if it exists]",
)
@click.option(
    "--wish", metavar="RATE", help="Highest rate of false alarms for each label: 1/day, 2/hour. [default: 1/day]"
)
@click.option("--wish-all", metavar="RATE", help="Highest rate of false alarms for all labels together.")
@click.option("--sure", is_flag=True, help="Meet the wish with 95 % confidence, not only on average.")
@click.option("--lower", is_flag=True, help="Also lower thresholds below those in force now.")
@click.option(
    "--examples",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of examples, DIR/LABEL/FILE: count how many are still found.",
)
@click.option(
    "--except", "excepted", multiple=True, metavar="LABEL", help="Label that does sound in the recording; repeatable."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write. [default: that of --config, in which only thresholds change]",
)
@click.option("--force", is_flag=True, help="Replace another file that exists.")
def calibrate(
    recordings: Sequence[Path], duration: str | None, wish: str | None, wish_all: str | None, **typed: Any
) -> None:
    """Set each label's threshold from recordings of your own room.

    RECORDING is a file or a folder of files, recorded in the room while none of the labels sounded. Everything that the
    model announces in it is a false alarm. Ten minutes are a start, a day is better. The thresholds are written into
    the file that `tagger listen` reads, where all else stays as it is.
    """
    from tagger.calibration.calibrate import calibrate
    from tagger.calibration.settings import seconds, settings
    from tagger.calibration.targets import Wishes

    sure = typed.pop("sure")
    if typed["sources"] and duration is None:
        raise UserError("--source is for --listen TIME")
    listen_s = None if duration is None else seconds("--listen", duration)
    wishes = Wishes.parse(wish, wish_all, sure)
    if not calibrate(settings(recordings=tuple(recordings), listen_s=listen_s, wishes=wishes, **typed)):
        sys.exit(UserError.exit_code)
