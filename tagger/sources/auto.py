"""`auto`: the microphone, or the demo if no microphone is connected."""

from dataclasses import replace

from tagger import sources
from tagger.sources.portaudio import has_input_device


def open_source(request: sources.Request) -> sources.Source:
    """Opens the microphone, or the demo."""
    return sources.open_request(replace(request, uri="mic" if has_input_device() else "demo"))
