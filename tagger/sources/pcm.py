"""Raw PCM from a pipe: `arecord -t raw ... | tagger listen -`."""

import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tagger.audio.resample import ToMono, is_sound
from tagger.errors import AudioError
from tagger.events import Block
from tagger.settings import PcmFormat

ENCODINGS: dict[str, np.dtype[Any]] = {
    "u8": np.dtype("u1"),
    "s16le": np.dtype("<i2"),
    "s16be": np.dtype(">i2"),
    "s32le": np.dtype("<i4"),
    "f32le": np.dtype("<f4"),
    "f64le": np.dtype("<f8"),
}
_READ_BYTES = 1 << 16
_POLL_SECONDS = 0.2
"""How long `close` may go unnoticed while nothing comes."""
_LATE_SECONDS = 2.0
"""Samples that come so much later than the clock of those before says were not recorded without a break, or by a slow
clock: times follow the wall clock again. (A pipe that is ahead of it, as from a file, is left alone.)"""


class PcmSource:
    """Interleaved samples, read as they come. The pipe itself holds its writer back, so nothing is ever skipped."""

    live = False

    def __init__(self, name: str, pcm: PcmFormat, rate_hz: int, pipe: BinaryIO | None = None) -> None:
        self.name = name
        self.description = (
            f"standard input, raw {pcm.encoding} at {pcm.rate_hz} Hz, {pcm.channels} channel{'s' * (pcm.channels > 1)}"
        )
        self._pcm, self._rate_hz = pcm, rate_hz
        if pipe is None and sys.stdin is None:
            raise AudioError("standard input is closed; pipe raw samples into `tagger listen -`")
        self._pipe = pipe if pipe is not None else sys.stdin.buffer
        self._closed = threading.Event()

    def blocks(self) -> Iterator[Block]:
        """
        Raises:
            AudioError: nothing came, or the stream ended inside a frame (after all whole frames were given).
        """
        to_mono = ToMono(self._pcm.rate_hz, self._rate_hz, self._pcm.channels)
        dtype = ENCODINGS[self._pcm.encoding]
        frame_bytes = dtype.itemsize * self._pcm.channels
        began, given, rest, gap = 0.0, 0, b"", False
        while data := self._read():
            if time.time() - (began + given / self._rate_hz) > _LATE_SECONDS:
                began = time.time() - given / self._rate_hz
            data = rest + data
            whole = len(data) // frame_bytes * frame_bytes
            rest = data[whole:]
            frames = to_float(np.frombuffer(data[:whole], dtype)).reshape(-1, self._pcm.channels)
            good = is_sound(frames).all(axis=1)
            for piece in np.split(frames, np.flatnonzero(np.diff(good)) + 1):
                heard = bool(is_sound(piece[:1]).all())  # a piece is of one kind
                samples = to_mono.feed(piece) if heard else to_mono.flush()
                if samples.size:
                    yield Block(samples, began + given / self._rate_hz, gap)
                    given, gap = given + samples.size, False
                if not heard:  # the stream goes on, and what it says before and after is not joined
                    to_mono, gap = ToMono(self._pcm.rate_hz, self._rate_hz, self._pcm.channels), True
                    given += round(len(piece) * self._rate_hz / self._pcm.rate_hz)
        if self._closed.is_set():
            return
        samples = to_mono.flush()
        if samples.size:
            yield Block(samples, began + given / self._rate_hz, gap)
        elif not given:
            raise AudioError("standard input: ended before any sound came; pipe raw samples into `tagger listen -`")
        if rest:
            raise AudioError(
                f"standard input: ended inside a frame, {len(rest)} of {frame_bytes} bytes; "
                "check --format and --channels (everything before was heard)"
            )

    def behind(self) -> float:
        return 0.0

    def _read(self) -> bytes:
        """What is there now, at least one byte; empty at the end of the stream, and once closed."""
        try:
            descriptor = self._pipe.fileno()
        except (AttributeError, OSError):  # no operating system's pipe
            return b"" if self._closed.is_set() else self._pipe.read(_READ_BYTES)
        while not self._closed.is_set():
            if select.select([descriptor], [], [], _POLL_SECONDS)[0]:
                return os.read(descriptor, _READ_BYTES)
        return b""

    def close(self) -> None:
        self._closed.set()


def to_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Integers to full scale -1 to 1, float32; floats as they are.

    >>> to_float(np.array([-32768, 16384], "<i2")).tolist()
    [-1.0, 0.5]
    """
    if samples.dtype.kind == "u":
        return (samples.astype(np.float32) - 128) / np.float32(128)
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    with np.errstate(over="ignore"):  # becomes infinity, which is no sound
        return samples.astype(np.float32)
