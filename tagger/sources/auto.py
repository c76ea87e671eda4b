"""`auto`: the microphone, or the demo where there is none."""

from dataclasses import replace

from tagger import sources
from tagger.sources.portaudio import has_input_device


def open_source(request: sources.Request) -> sources.Source:
    """Opens `auto`."""
    return sources.open_request(replace(request, uri="mic" if has_input_device() else "demo"))
