"""The command `tagger devices`."""

import json

import click

from tagger.errors import UserError
from tagger.printable import echo


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each device.")
def devices(as_json: bool) -> None:
    """List the microphones that `tagger listen mic:NAME` can use."""
    from tagger.sources.portaudio import input_devices

    found = input_devices()
    if not found:
        raise UserError("no input device: connect a microphone; `tagger listen demo` needs none")
    for each in found:
        if as_json:
            keys = ("index", "name", "max_input_channels", "default_samplerate", "is_default")
            echo(json.dumps({key: each[key] for key in keys}))
        else:
            default = "  (default)" if each["is_default"] else ""
            channels = f"{each['max_input_channels']} ch"
            echo(f"{each['index']:>3}  {each['name']}  {channels}, {each['default_samplerate']:.0f} Hz{default}")
