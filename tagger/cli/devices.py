"""The command `tagger devices`."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from tagger.errors import TaggerError, UserError
from tagger.printable import StatusLine, echo, is_terminal

if TYPE_CHECKING:
    from tagger.audio.meter import Meter  # imports numpy
    from tagger.events import Level

_LINE_SECONDS = 1.0
"""Length of the audio that one line shows, where the output is no terminal."""


@click.command()
@click.argument("device", required=False, metavar="[DEVICE]")
@click.option("--meter", is_flag=True, help="Show the level of DEVICE, or of the default microphone, until Ctrl-C.")
@click.option("--probe", metavar="SOURCE", help="Open a URL or another live source; say what it is and what is heard.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each device; with --meter each second.")
def devices(device: str | None, meter: bool, probe: str | None, as_json: bool) -> None:
    """List the microphones that `tagger listen mic:NAME` can use, or show the level of one, or probe a stream.

    DEVICE is a name, a part of it, or a number of the list. The bar shows the mean level (#), the highest (-) and the
    highest of the last 1.5 s (|), from -60 dB to full scale.
    """
    if probe is not None:
        if meter or device is not None:
            raise UserError("--probe goes with --json only; give it what `tagger listen` would take")
        from tagger.cli.common import hide_secrets

        hide_secrets({})
        _probe(probe, as_json)
        return
    if meter:
        _meter((device or "").removeprefix("mic:"), as_json)
        return
    if device is not None:
        raise UserError(f"{device}: a device is for --meter; without it all are listed")
    from tagger.sources.portaudio import input_devices

    found = input_devices()
    if not found:
        raise UserError("no input device: connect a microphone; `tagger listen demo` needs none")
    for each in found:
        if as_json:
            keys = ("index", "name", "max_input_channels", "default_samplerate", "is_default", "usb")
            echo(json.dumps({key: each.get(key) for key in keys}))
        else:
            default = "  (default)" if each["is_default"] else ""
            channels = f"{each['max_input_channels']} ch"
            port = f"  mic:usb:{each.get('usb')}" if each.get("usb") else ""
            echo(f"{each['index']:>3}  {each['name']}  {channels}, {each['default_samplerate']:.0f} Hz{port}{default}")


def _meter(device: str, as_json: bool) -> None:
    """Shows the level of a microphone until Ctrl-C.

    Raises:
        UserError: there is no such microphone.
        TaggerError: it cannot be opened, or has gone.
    """
    from tagger.audio.level import LevelMeter
    from tagger.audio.meter import UPDATE_SECONDS, Meter
    from tagger.sources import open_source, split_name
    from tagger.sources.portaudio import find_input_device
    from tagger.stop import Stop

    uri = f"mic:{device}" if device not in ("", "mic") else "mic"
    found = find_input_device(split_name(uri)[1].removeprefix("mic").removeprefix(":") or None)
    rate_hz = int(found["default_samplerate"])  # a resampler would hide clipping
    source = open_source(uri, rate_hz)
    status = StatusLine(sys.stdout) if is_terminal(sys.stdout) and not as_json else None
    meter = Meter() if status is not None else Meter(clipped_s=0)
    levels = LevelMeter(rate_hz, _LINE_SECONDS if status is None else UPDATE_SECONDS)
    echo(f"{source.description}; Ctrl-C ends it", err=True)
    with Stop() as stop:
        try:
            for block in source.blocks():
                if (level := levels.feed(block)) is not None:
                    meter.add(level)
                    _show(meter, level, status, as_json)
                if stop.wait(0):
                    break
        except TaggerError:
            if not stop.interrupted:  # else the device was silent when it was to end
                raise
        finally:
            if status is not None:
                status.clear()


def _show(meter: "Meter", level: "Level", status: StatusLine | None, as_json: bool) -> None:
    from tagger.audio.meter import plain

    if as_json:
        made: dict[str, Any] = {"rms_dbfs": round(level.rms_dbfs, 1), "peak_dbfs": round(level.peak_dbfs, 1)}
        echo(json.dumps({**made, "clipped": level.clipped, "trouble": meter.trouble}))
    elif status is not None:
        status.show(meter.line(status.columns))
    else:
        echo(plain(level, meter.trouble))


def _probe(text: str, as_json: bool) -> None:
    """Says what a live source is, how loud, and what the bundled model hears in its first seconds.

    Raises:
        TaggerError: nothing can be heard; the reason is named.
    """
    from tagger.tag.probe import probed

    found = probed(text)
    if as_json:
        echo(json.dumps(found.to_json()))
        return
    for line in found.lines:
        echo(line)
