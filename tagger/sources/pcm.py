"""Raw PCM from a pipe: `arecord -t raw ... | tagger listen -`."""

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tagger.audio.downmix import Downmix, check_channel, heard_channels
from tagger.audio.resample import Resampler, stretches
from tagger.errors import AudioError
from tagger.events import Block, Samples
from tagger.settings import Channel, PcmFormat
from tagger.sources import Request
from tagger.sources.clock import Arrival, LiveClock, Workload, steady
from tagger.times import local_text

log = logging.getLogger(__name__)

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
"""Longest time until `close` is noticed while the pipe is silent."""


def open_source(request: Request) -> "PcmSource":
    """Opens standard input, `-`."""
    name, start_time = request.name or "stdin", request.start_time
    return PcmSource(name, request.pcm, request.rate_hz, channel=request.channel, start_time=start_time)


class PcmSource:
    """Interleaved samples from a pipe. The pipe makes its writer wait for the reader, so no sample is skipped."""

    live = False

    def __init__(
        self,
        name: str,
        pcm: PcmFormat,
        rate_hz: int,
        pipe: BinaryIO | None = None,
        channel: Channel = (),
        start_time: float | None = None,
    ) -> None:
        """
        Args:
            rate_hz: rate of the blocks.
            pipe: None is standard input.
            channel: channels that are heard.
            start_time: when a recording that is piped began, seconds since the epoch.

        Raises:
            AudioError: standard input is closed, or does not have the channels.
        """
        self.name = name
        check_channel("standard input", channel, pcm.channels)
        heard = heard_channels(channel, pcm.channels)
        self.description = f"standard input, raw {pcm.encoding} at {pcm.rate_hz} Hz{heard or ', 1 channel'}"
        if start_time is not None:
            self.description += f", dated from {local_text(start_time)}"
        self._pcm, self._rate_hz, self._channel = pcm, rate_hz, channel
        if pipe is None and sys.stdin is None:
            raise AudioError("standard input is closed; pipe raw samples into `tagger listen -`")
        self._pipe = pipe if pipe is not None else sys.stdin.buffer
        self._descriptor = _descriptor(self._pipe)
        self._waited = False
        """Whether the last read had to wait."""
        self._closed = threading.Event()
        self._clock, self._workload = LiveClock(name, rate_hz, start_time=start_time), Workload(rate_hz)

    def blocks(self) -> Iterator[Block]:
        """
        Raises:
            AudioError: no sample came, or the stream ended inside a frame (all whole frames were given before).
        """
        has_more = self._has_more if self._descriptor is not None else None
        yield from self._workload.follow(self._clock.blocks(self._arrivals(), has_more))

    def _arrivals(self) -> Iterator[Arrival]:
        """What is read, as it is read. Raises as `blocks`."""
        resampler = Resampler(self._pcm.rate_hz, self._rate_hz)
        downmix = Downmix(self.name, self._channel, log.warning)
        dtype = ENCODINGS[self._pcm.encoding]
        frame_bytes = dtype.itemsize * self._pcm.channels
        read, given, rest, gap, warned = 0, 0, b"", False, False

        def arrival(samples: Samples) -> Arrival:
            start_s, newest_s = given / self._rate_hz, read / self._pcm.rate_hz
            return Arrival(samples, start_s, newest_s, steady_s, wall, self._waited, gap)

        while data := self._read():
            steady_s, wall = steady(), time.time()
            data = rest + data
            whole = len(data) // frame_bytes * frame_bytes
            rest = data[whole:]
            frames = to_float(np.frombuffer(data[:whole], dtype)).reshape(-1, self._pcm.channels)
            read += len(frames)
            frames = downmix.chosen(frames)
            for start, end, is_valid in stretches(frames, self._pcm.rate_hz):
                mono = downmix.mean(frames[start:end], self._pcm.rate_hz) if is_valid else None
                samples = resampler.feed(mono) if mono is not None else resampler.flush()
                yield arrival(samples)
                if samples.size:
                    given, gap = given + samples.size, False
                self._waited = False
                if not is_valid and not warned:
                    at = given / self._rate_hz
                    log.warning(
                        f"{self.name}: NaN, infinity or an absurd value at {at:.3f} s; such samples are left out"
                    )
                    warned = True
                if not is_valid:  # no block joins the sound before the damage and after it
                    resampler, gap = Resampler(self._pcm.rate_hz, self._rate_hz), True
                    given += round((end - start) * self._rate_hz / self._pcm.rate_hz)
        if self._closed.is_set():
            return
        downmix.finish()
        samples = resampler.flush()
        if samples.size:
            yield arrival(samples)
        elif not given:
            raise AudioError("standard input: ended before any sound came; pipe raw samples into `tagger listen -`")
        if rest:
            raise AudioError(
                f"standard input: ended inside a frame, {len(rest)} of {frame_bytes} bytes; "
                "check --format and --channels (everything before was heard)"
            )

    def behind(self) -> float:
        return self._workload.behind_s() if self._clock.is_live else 0.0

    def _read(self) -> bytes:
        """The bytes that are there, at least one; waits for them. Empty at the end of the stream and after `close`."""
        if self._descriptor is None:
            return b"" if self._closed.is_set() else self._pipe.read(_READ_BYTES)
        self._waited = not self._has_more(0)
        while not self._closed.is_set():
            if self._has_more(_POLL_SECONDS):
                return os.read(self._descriptor, _READ_BYTES)
        return b""

    def _has_more(self, within_s: float) -> bool:
        """Whether a read would return at once, now or within some seconds."""
        return bool(select.select([self._pipe], [], [], within_s)[0])

    def close(self) -> None:
        self._closed.set()


def _descriptor(pipe: BinaryIO) -> int | None:
    """The number that the system knows the pipe by; None: it is a file object without one."""
    try:
        return pipe.fileno()
    except (AttributeError, OSError):
        return None


def to_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples as float32: integers scaled to -1 to 1, floats unscaled. Same shape.

    >>> to_float(np.array([-32768, 16384], "<i2")).tolist()
    [-1.0, 0.5]
    """
    if samples.dtype.kind == "u":
        return (samples.astype(np.float32) - 128) / np.float32(128)
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    with np.errstate(over="ignore"):  # too large a value becomes infinity, which `is_plausible` rejects
        return samples.astype(np.float32)
