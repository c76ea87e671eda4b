"""Audio from a pipe: `arecord ... | tagger listen -`, a FIFO, `/dev/fd/N`. Raw samples, or what the first bytes say."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tagger.audio.downmix import check_channel, heard_channels
from tagger.audio.recorded import Began, by_modification, by_user, measured
from tagger.audio.stream import Bytes, Stream, open_stream
from tagger.errors import AudioError, TaggerError
from tagger.events import Block
from tagger.names import slug
from tagger.retry import Repeats
from tagger.settings import Channel, PcmFormat
from tagger.sources import Request, wait_idly
from tagger.sources.arrivals import Arrivals
from tagger.sources.clock import Arrival, LiveClock, Workload, steady
from tagger.sources.pipe import Pipe, is_stdin

log = logging.getLogger(__name__)

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
        self._fast = Repeats()
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
        arrivals = Arrivals(self.name, self._rate_hz, self._channel, self._pipe, lambda: self._came)
        try:
            yield from arrivals.of(stream.chunks())
        except AudioError:
            if arrivals.has_read or self._pipe.is_closed:
                raise
        if not arrivals.has_read and not self._pipe.is_closed:
            where = self._pipe.where
            raise AudioError(f"{where}: ended before any sound came; pipe raw samples into `tagger listen -`")

    def _first(self) -> bytes:
        data = self._pipe.wait_for_writer(lambda line: log.warning("%s: %s", self.name, line))
        self._came = steady(), time.time()
        return data

    def _say_fast(self) -> None:
        if self._fast.begins():
            log.warning(
                "%s: comes faster than live sound, and is dated from when it began to come: its times run ahead of the "
                "clock; --start-time says when it was recorded",
                self.name,
            )

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
