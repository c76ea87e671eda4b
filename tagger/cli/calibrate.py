"""The command `tagger calibrate`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tagger.cli.common import channel_option, device_option, hop_option, model_option, window_option
from tagger.errors import UserError


@click.command()
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path), metavar="[RECORDING]...")
@click.option("--listen", "duration", metavar="TIME", help="Record the room now, for this time: 10m, 8h.")
@click.option("--source", metavar="SOURCE", help="Source for --listen, named as for `tagger listen`. [default: mic]")
@model_option
@device_option
@window_option
@hop_option
@channel_option
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file in force now; the output keeps all else in it.",
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
    default=Path("tagger.toml"),
    show_default=True,
    help="File to write.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def calibrate(recordings: Sequence[Path], duration: str | None, source: str | None, **flags: Any) -> None:
    """Set each label's threshold from recordings of your own room.

    RECORDING is a file or a folder of files, recorded in the room while none of the labels sounded. Everything that the
    model announces in it is a false alarm. Ten minutes are a start, a day is better. The thresholds are written to a
    file for `tagger listen --config`.
    """
    from tagger.calibration import calibrate
    from tagger.calibration.targets import Wishes

    if source is not None and duration is None:
        raise UserError("--source is for --listen TIME")
    chosen = calibrate.CalibrationSettings(
        recordings=tuple(recordings),
        listen_s=None if duration is None else calibrate.seconds("--listen", duration),
        source=source or "mic",
        model=flags["model"],
        device=flags["device"],
        window_s=flags["window"],
        hop_s=flags["hop"],
        channel=flags["channel"],
        config=flags["config"],
        wishes=Wishes.parse(flags["wish"], flags["wish_all"], flags["sure"]),
        lower=flags["lower"],
        examples=flags["examples"],
        excepted=flags["excepted"],
        output=flags["output"],
        force=flags["force"],
    )
    if not calibrate.calibrate(chosen):
        sys.exit(UserError.exit_code)
