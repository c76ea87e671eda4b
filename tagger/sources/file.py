"""A file, replayed in real time or as fast as it can be read."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tagger.audio.decode import decode_blocks, open_audio
from tagger.audio.downmix import heard_channels
from tagger.audio.recorded import Began, began, by_user, length_of
from tagger.events import Block
from tagger.names import slug
from tagger.settings import Channel
from tagger.sources import Request, wait_idly
from tagger.sources.clock import WallClock, steady

DEMO = Path(__file__).parent / "demo" / "demo.ogg"
_BLOCK_SECONDS = 0.1


def open_source(request: Request) -> "FileSource":
    """Opens `demo`, or a file's path."""
    request.refuse_raw_options()
    is_demo = request.uri == "demo"
    path = DEMO if is_demo else Path(request.uri)
    return FileSource(
        request.name or ("demo" if is_demo else slug(path.stem)),
        path,
        request.rate_hz,
        request.realtime,
        "the built-in demo, one minute" if is_demo else None,
        request.channel,
        _start(path, request),
    )


def _start(path: Path, request: Request) -> Began | None:
    """When the recording began. None: its sound is dated as if it sounded now.

    Raises:
        UserError: by the user's word it would end in the future.
    """
    if request.start_time is not None:
        return by_user(str(path), request.start_time, length_of(path))
    if request.realtime or not request.is_dated:
        return None
    return Began(time.time() - length_of(path), "") if path == DEMO else began(path)


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
        start: Began | None = None,
    ) -> None:
        """
        Args:
            rate_hz: rate of the blocks.
            realtime: give each block when its last sample would have sounded; else as soon as it is decoded.
            description: for people; the path if it is None.
            channel: channels that are heard.
            start: when it was recorded. None: it is dated from when it is heard.

        Raises:
            AudioError: the file is missing, empty or not audio, or does not have the channels.
        """
        audio = open_audio(path, channel)
        audio.close()
        self.name, self.on_wait = name, wait_idly
        pace = "at real-time pace" if realtime else "as fast as it goes"
        heard = heard_channels(channel, audio.channels)
        dated = f", {start}" if start is not None and start.why else ""
        self.description = f"{description or path}, {audio.rate_hz} Hz{heard}, {pace}{dated}"
        self._path, self._rate_hz, self._realtime, self._channel = path, rate_hz, realtime, channel
        self._start = start
        self._closed = threading.Event()
        self._due = float("inf")
        """Time at which the next block is due, on the monotonic clock."""

    def blocks(self) -> Iterator[Block]:
        """
        Raises:
            AudioError: the file ends early or is damaged. The blocks before the error are good.
        """
        clock, heard_from, started = WallClock(), steady(), time.monotonic()
        clock.read(heard_from, time.time())
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
                if self._realtime:
                    clock.read(steady(), time.time())
                began_at = self._start.time if self._start is not None else clock.time(heard_from)
                yield Block(samples, began_at + at_s, gap)
                at_s, gap = end_s, False

    def behind(self) -> float:
        return max(0.0, time.monotonic() - self._due) if self._realtime else 0.0

    def close(self) -> None:
        self._closed.set()
