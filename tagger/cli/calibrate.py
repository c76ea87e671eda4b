"""`tagger calibrate`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tagger.cli.common import device_option, hop_option, model_option, window_option
from tagger.errors import UserError


@click.command()
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path), metavar="[RECORDING]...")
@click.option("--listen", "duration", metavar="TIME", help="Hear the room now, for so long: 10m, 8h.")
@click.option("--source", metavar="SOURCE", help="For --listen, as `tagger listen` names it. [default: mic]")
@model_option
@device_option
@window_option
@hop_option
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML that holds now; it is kept.")
@click.option("--wish", metavar="RATE", help="Of each label, at most: 1/day, 2/hour. [default: 1/day]")
@click.option("--wish-all", metavar="RATE", help="Of all labels together, at most.")
@click.option("--sure", is_flag=True, help="Meet the wish with 95 % confidence, not only on average.")
@click.option("--lower", is_flag=True, help="Set thresholds also below those that hold now.")
@click.option("--examples", type=click.Path(path_type=Path), metavar="DIR", help="DIR/LABEL/FILE: still found?")
@click.option("--except", "excepted", multiple=True, metavar="LABEL", help="Is heard in the recording; repeatable.")
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("tagger.toml"), show_default=True)
@click.option("--force", is_flag=True, help="Replace the file that is there.")
def calibrate(recordings: Sequence[Path], duration: str | None, source: str | None, **flags: Any) -> None:
    """Set each label's threshold by how often your room is mistaken for it.

    RECORDING is a file, or a folder of them, of what happens in the room without any of the labels' sounds: all that is
    announced in it is a false alarm. Ten minutes tell something, a day much. The thresholds are written to a file for
    `tagger listen --config`.
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
