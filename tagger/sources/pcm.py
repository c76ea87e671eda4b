"""Audio from a pipe: `arecord ... | tagger listen -`, a FIFO, `/dev/fd/N`. Raw samples, or what the first bytes say."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tagger.audio.chunk import Chunk, Frames
from tagger.audio.downmix import Downmix, check_channel, heard_channels
from tagger.audio.recorded import Began, by_modification, by_user, measured
from tagger.audio.resample import SHORTEST_SECONDS, Resampler, stretches
from tagger.audio.stream import Bytes, Stream, open_stream
from tagger.errors import AudioError, TaggerError
from tagger.events import Block, Samples
from tagger.names import slug
from tagger.settings import Channel, PcmFormat
from tagger.sources import Request, wait_idly
from tagger.sources.clock import Arrival, LiveClock, Workload, steady
from tagger.sources.pipe import Pipe, is_stdin

log = logging.getLogger(__name__)

_NOTHING: Samples = np.zeros(0, np.float32)
_STDIN = "standard input"


def open_source(request: Request) -> "PcmSource":
    """Opens standard input, `-`, or a FIFO, `/dev/fd/N` or a device by its path."""
    path, pipe, name = Path(request.uri), Pipe(_STDIN), "stdin"
    if not is_stdin(request.uri):
        name = slug(f"fd_{path.name}" if path.parent.name == "fd" else path.stem)
        pipe = Pipe(request.uri, request.uri)
    start = _start(pipe, request)
    return PcmSource(request.name or name, request.pcm, request.rate_hz, pipe, request.channel, start)


def _start(pipe: Pipe, request: Request) -> Began | None:
    """When what is piped was recorded. None: it is dated by when it comes.

    A regular file on standard input is dated as a file at full speed is. Its length is measured by decoding it once.

    Raises:
        UserError: by the user's word it would end in the future.
    """
    file = pipe.redirected() if request.is_dated else None
    length_s = 0.0
    if file is not None:
        source = Bytes(file.read)
        length_s = measured(pipe.where, lambda: open_stream(pipe.where, source, request.pcm, lambda _: None).chunks())
    if request.start_time is not None:
        return by_user(pipe.where, request.start_time, length_s)
    return by_modification(file.modified, length_s, time.time()) if file is not None else None


_Moment = tuple[float, float]
"""On the steady clock, seconds, and on the wall clock, seconds since the epoch."""


class PcmSource:
    """Audio from a pipe. The pipe makes its writer wait for the reader, so no sample is skipped."""

    def __init__(
        self,
        name: str,
        pcm: PcmFormat,
        rate_hz: int,
        pipe: Pipe | BinaryIO | None = None,
        channel: Channel = (),
        start: Began | None = None,
    ) -> None:
        """
        Args:
            pcm: format of raw samples.
            rate_hz: rate of the blocks.
            pipe: None is standard input.
            channel: channels that are heard.
            start: when a recording that is piped began.

        Raises:
            AudioError: standard input is closed.
        """
        self._pipe = pipe if isinstance(pipe, Pipe) else Pipe(_STDIN, file=pipe)
        self.name, self.live = name, self._pipe.is_fifo
        self.on_wait, self._pipe.on_wait = wait_idly, self._wait
        raw = f"raw {pcm.encoding} at {pcm.rate_hz} Hz{heard_channels(channel, pcm.channels) or ', 1 channel'}"
        self.description = f"{self._pipe.where}, {raw}, unless it begins as WAV, FLAC, Ogg, MP3 or the like"
        self._dated = "" if start is None else f", {start}"
        self.description += self._dated
        self._pcm, self._rate_hz, self._channel = pcm, rate_hz, channel
        self._start_time = start.time if start is not None else None
        self._is_fast_said = False
        self._begin()

    def _begin(self) -> None:
        self._stream: Stream | None = None
        self._came = steady(), time.time()
        self._clock = LiveClock(self.name, self._rate_hz, start_time=self._start_time, on_ahead=self._say_fast)
        self._workload = Workload(self._rate_hz)

    def blocks(self) -> Iterator[Block]:
        """
        Raises:
            AudioError: no sample came, it is no audio, or it is damaged (all that is good was given before).
            TaggerError: the writer of a FIFO has ended. The next call waits for another one.
        """
        self._begin()
        self._pipe.open()
        try:
            has_more = self._has_more if self._pipe.can_tell else None
            yield from self._workload.follow(self._clock.blocks(self._arrivals(), has_more))
        finally:
            self._pipe.release()
            self._start_time, self._dated = None, ""  # the next writer of a FIFO begins later
        if self.live and not self._pipe.is_closed:
            raise TaggerError("the program that wrote to it has ended")

    def _arrivals(self) -> Iterator[Arrival]:
        """What is read, as it is read. Raises as `blocks`."""
        source = Bytes(self._read)
        if self._pipe.is_fifo:
            source.give_back(self._first())
        self._stream = stream = self._opened(source)
        yield from _Arrivals(self.name, self._rate_hz, self._channel, self._pipe, lambda: self._came).of(stream)

    def _first(self) -> bytes:
        data = self._pipe.wait_for_writer(lambda line: log.warning("%s: %s", self.name, line))
        self._came = steady(), time.time()
        return data

    def _say_fast(self) -> None:
        if not self._is_fast_said:
            log.warning(
                "%s: comes faster than live sound, and is dated from when it began to come: its times run ahead of the "
                "clock; --start-time says when it was recorded",
                self.name,
            )
        self._is_fast_said = True

    def _has_more(self, within_s: float) -> bool:
        return (self._stream is not None and self._stream.is_ready) or self._pipe.has_more(within_s)

    def _read(self) -> bytes:
        data = self._pipe.read()
        if data:
            self._came = steady(), time.time()
        else:  # the end is no sound that comes late
            self._pipe.waited = False
        return data

    def _opened(self, source: Bytes) -> Stream:
        where = self._pipe.where
        stream = open_stream(where, source, self._pcm, lambda line: log.warning("%s", line))
        check_channel(where, self._channel, stream.channels)
        heard = heard_channels(self._channel, stream.channels) or ", 1 channel"
        self.description = f"{where}, {stream.about}{heard}{self._dated}"
        if not stream.about.startswith("raw"):
            log.info("%s: %s%s", self.name, stream.about, heard)
        return stream

    def _wait(self, silent_s: float) -> None:
        self.on_wait(silent_s if self._clock.may_be_live else 0.0)

    def behind(self) -> float:
        return self._workload.behind_s() if self._clock.may_be_live else 0.0

    def close(self) -> None:
        self._pipe.close()


class _Arrivals:
    """Makes arrivals of a stream's chunks: mono, at one rate, with their positions in the stream."""

    def __init__(self, name: str, rate_hz: int, channel: Channel, pipe: Pipe, came: Callable[[], _Moment]) -> None:
        """
        Args:
            came: when the newest bytes had come.
        """
        self._name, self._rate_hz, self._pipe, self._came = name, rate_hz, pipe, came
        self._downmix = Downmix(name, channel, log.warning)
        self._resampler: Resampler | None = None
        self._format = (0, 0)
        """Rate and channels of what `_resampler` takes."""
        self._began_s, self._given = 0.0, 0
        """Where the sound since the last gap or change began, seconds, and how many samples of it were given."""
        self._read_s = 0.0
        """Sound that was read, seconds."""
        self._gap, self._is_warned, self._is_silent = False, False, True
        self._held: list[Frames] = []
        """Sound after damage, until there is enough to be sure that the damage is over."""
        self._held_s = 0.0

    def of(self, stream: Stream) -> Iterator[Arrival]:
        """
        Raises:
            AudioError: as the stream, or no sample came. All good samples were given before.
        """
        error: AudioError | None = None
        try:
            for chunk in stream.chunks():
                yield from self._converted(chunk)
        except AudioError as broken:
            error = broken
        if self._pipe.is_closed:
            return
        self._downmix.finish()
        yield from self._flush()
        if self._is_silent and not self._read_s:
            where = self._pipe.where
            error = AudioError(f"{where}: ended before any sound came; pipe raw samples into `tagger listen -`")
        if error is not None:
            raise error

    def _converted(self, chunk: Chunk) -> Iterator[Arrival]:
        frames, rate_hz = self._downmix.chosen(chunk.frames), chunk.rate_hz
        if chunk.missing_s or chunk.is_joined:
            yield from self._skip(chunk.missing_s)
            self._read_s += chunk.missing_s
        if self._format != (rate_hz, frames.shape[1]):
            yield from self._flush()
            self._format = rate_hz, frames.shape[1]
        self._read_s += len(frames) / rate_hz
        for start, end, is_sound in stretches(frames, rate_hz):
            if not is_sound:
                yield from self._leave_out((end - start) / rate_hz)
                continue
            self._held.append(frames[start:end])
            self._held_s += (end - start) / rate_hz
            if self._resampler is not None or not self._gap or self._held_s >= SHORTEST_SECONDS:
                yield from self._give(rate_hz)
        if self._held:
            yield self._arrival(_NOTHING)

    def _give(self, rate_hz: int) -> Iterator[Arrival]:
        """The sound that was held."""
        if self._held:
            frames = np.concatenate(self._held) if len(self._held) > 1 else self._held[0]
            self._held, self._held_s = [], 0.0
            self._resampler = self._resampler or Resampler(rate_hz, self._rate_hz)
            yield self._arrival(self._resampler.feed(self._downmix.mean(frames, rate_hz)))

    def _leave_out(self, lost_s: float) -> Iterator[Arrival]:
        """Damage, and the little sound between it and the damage before: so damage takes no longer than sound."""
        held_s, self._held, self._held_s = self._held_s, [], 0.0
        yield from self._skip(held_s + lost_s)
        yield self._arrival(_NOTHING)
        if not self._is_warned:
            at = self._began_s - lost_s
            log.warning(f"{self._name}: NaN, infinity or an absurd value at {at:.3f} s; such samples are left out")
            self._is_warned = True

    def _skip(self, seconds: float) -> Iterator[Arrival]:
        """Sound is missing: no block joins what is before it and after it."""
        yield from self._flush()
        self._began_s, self._gap = self._began_s + seconds, True

    def _flush(self) -> Iterator[Arrival]:
        """The samples that are held or wait in the resampler."""
        yield from self._give(self._format[0])
        if self._resampler is not None:
            yield self._arrival(self._resampler.flush())
        self._resampler = None
        self._began_s, self._given = self._began_s + self._given / self._rate_hz, 0

    def _arrival(self, samples: Samples) -> Arrival:
        start_s = self._began_s + self._given / self._rate_hz
        arrival = Arrival(samples, start_s, self._read_s, *self._came(), self._pipe.waited, self._gap)
        self._pipe.waited = False
        if samples.size:
            self._given, self._gap, self._is_silent = self._given + samples.size, False, False
        return arrival
