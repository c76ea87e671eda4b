"""Where audio comes from. A new kind of source is a file here and a line in `open_source`.

Every source yields blocks of mono float32 samples at the rate it was opened with, whatever the device or file has.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tagger.errors import UserError
from tagger.events import Block
from tagger.names import slug
from tagger.settings import PcmFormat


class Source(Protocol):
    """A stream of audio. Constructing one checks all that can be checked; reading begins with `blocks`."""

    name: str
    """One MQTT topic level."""
    description: str
    """For people: what is listened to."""

    live: bool
    """It may break and come back, as a microphone does: `blocks` can be called again after an error."""

    def blocks(self) -> Iterator[Block]:
        """Blocks until the stream ends or `close` is called.

        Raises:
            TaggerError: the stream broke. What came before was good.
        """

    def behind(self) -> float:
        """Seconds of audio that wait to be read; 0 where the stream waits for its reader, as a pipe does."""

    def close(self) -> None:
        """Ends `blocks`, also from another thread or a signal handler's."""


def open_source(uri: str, rate_hz: int, realtime: bool = True, pcm: PcmFormat | None = None) -> Source:
    """
    Args:
        uri: `[NAME=]` and `mic`, `mic:DEVICE`, `demo`, `auto` (the microphone, or the demo where there is none), `-`,
            or a file.
        rate_hz: rate of the blocks.
        realtime: replay files and the demo at the pace of the clock.
        pcm: format of the raw samples that `-` reads.

    Raises:
        UserError: there is no such device or file, or it is not audio.
    """
    name, uri = split_name(uri)
    if "://" in uri:  # which may hold a password
        raise UserError("a source is a URL: these are not supported; pipe what it holds into `tagger listen -`")
    if uri == "auto":
        from tagger.sources.microphone import has_microphone

        uri = "mic" if has_microphone() else "demo"
    if uri == "mic" or uri.startswith("mic:"):
        from tagger.sources.microphone import MicrophoneSource

        device = uri.partition(":")[2]
        return MicrophoneSource(name or (f"mic_{slug(device)}" if device else "mic"), device or None, rate_hz)
    if uri == "-":
        from tagger.sources.pcm import PcmSource

        return PcmSource(name or "stdin", pcm or PcmFormat(), rate_hz)
    from tagger.sources.file import DEMO, FileSource

    if uri == "demo":
        return FileSource(name or "demo", DEMO, rate_hz, realtime, "the built-in demo, one minute")
    return FileSource(name or slug(Path(uri).stem), Path(uri), rate_hz, realtime)


def split_name(uri: str) -> tuple[str | None, str]:
    """A source's given name and the rest. An existing file is never taken apart.

    >>> split_name("kitchen=mic:USB"), split_name("mic")
    (('kitchen', 'mic:USB'), (None, 'mic'))
    """
    name, separator, rest = uri.partition("=")
    if separator and rest and name == slug(name) and not Path(uri).exists():
        return name, rest
    return None, uri
