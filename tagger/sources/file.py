"""A file, replayed in real time or as fast as it can be read."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tagger.audio.decode import decode_blocks, open_audio
from tagger.events import Block
from tagger.names import slug
from tagger.sources import Request

DEMO = Path(__file__).parent / "demo" / "demo.ogg"
_BLOCK_SECONDS = 0.1


def open_source(request: Request) -> "FileSource":
    """Opens `demo`, or a file's path."""
    if request.uri == "demo":
        name = request.name or "demo"
        return FileSource(name, DEMO, request.rate_hz, request.realtime, "the built-in demo, one minute")
    path = Path(request.uri)
    return FileSource(request.name or slug(path.stem), path, request.rate_hz, request.realtime)


class FileSource:
    """Blocks of a file, once from its beginning to its end."""

    live = False

    def __init__(self, name: str, path: Path, rate_hz: int, realtime: bool, description: str | None = None) -> None:
        """
        Args:
            rate_hz: rate of the blocks.
            realtime: give each block when its last sample would have sounded; else as soon as it is decoded.
            description: for people; the path if it is None.

        Raises:
            AudioError: the file is missing, empty or not audio.
        """
        audio = open_audio(path)
        audio.close()
        self.name = name
        pace = "at real-time pace" if realtime else "as fast as it goes"
        self.description = f"{description or path}, {audio.rate_hz} Hz, {pace}"
        self._path, self._rate_hz, self._realtime = path, rate_hz, realtime
        self._closed = threading.Event()
        self._due = float("inf")
        """Time at which the next block is due, on the monotonic clock."""

    def blocks(self) -> Iterator[Block]:
        """
        Raises:
            AudioError: the file ends early or is damaged. The blocks before the error are good.
        """
        began, started = time.time(), time.monotonic()
        for decoded in decode_blocks(self._path, self._rate_hz):
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
