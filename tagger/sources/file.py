"""A file, replayed in real time or as fast as it can be read."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tagger.audio.decode import decode_blocks, open_audio
from tagger.audio.downmix import heard_channels
from tagger.events import Block
from tagger.names import slug
from tagger.settings import Channel
from tagger.sources import Request

DEMO = Path(__file__).parent / "demo" / "demo.ogg"
_BLOCK_SECONDS = 0.1


def open_source(request: Request) -> "FileSource":
    """Opens `demo`, or a file's path."""
    request.refuse_raw_options()
    rate_hz, realtime, channel = request.rate_hz, request.realtime, request.channel
    if request.uri == "demo":
        about = "the built-in demo, one minute"
        return FileSource(request.name or "demo", DEMO, rate_hz, realtime, about, channel)
    path = Path(request.uri)
    return FileSource(request.name or slug(path.stem), path, rate_hz, realtime, channel=channel)


class FileSource:
    """Blocks of a file, once from its beginning to its end."""

    live = False

    def __init__(
        self,
        name: str,
        path: Path,
        rate_hz: int,
        realtime: bool,
        description: str | None = None,
        channel: Channel = (),
    ) -> None:
        """
        Args:
            rate_hz: rate of the blocks.
            realtime: give each block when its last sample would have sounded; else as soon as it is decoded.
            description: for people; the path if it is None.

        Raises:
            AudioError: the file is missing, empty or not audio, or does not have the channels.
        """
        audio = open_audio(path, channel)
        audio.close()
        self.name = name
        pace = "at real-time pace" if realtime else "as fast as it goes"
        heard = heard_channels(channel, audio.channels)
        self.description = f"{description or path}, {audio.rate_hz} Hz{heard}, {pace}"
        self._path, self._rate_hz, self._realtime, self._channel = path, rate_hz, realtime, channel
        self._closed = threading.Event()
        self._due = float("inf")
        """Time at which the next block is due, on the monotonic clock."""

    def blocks(self) -> Iterator[Block]:
        """
        Raises:
            AudioError: the file ends early or is damaged. The blocks before the error are good.
        """
        began, started = time.time(), time.monotonic()
        for decoded in decode_blocks(self._path, self._rate_hz, channel=self._channel):
            size = int(self._rate_hz * _BLOCK_SECONDS) if self._realtime else len(decoded.samples)
            at_s, gap = decoded.time, decoded.gap
            for samples in np.split(decoded.samples, range(size, len(decoded.samples), size)):
                end_s = at_s + len(samples) / self._rate_hz
                if self._realtime:
                    # A microphone, too, gives a block when its last sample has sounded.
                    self._due = started + end_s
                    self._closed.wait(max(0.0, self._due - time.monotonic()))
                if self._closed.is_set():
                    return
                yield Block(samples, began + at_s, gap)
                at_s, gap = end_s, False

    def behind(self) -> float:
        return max(0.0, time.monotonic() - self._due) if self._realtime else 0.0

    def close(self) -> None:
        self._closed.set()
