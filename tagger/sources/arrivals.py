"""Chunks as a decoder gives them to arrivals, which a live clock dates: mono, at one rate, without damage."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

from tagger.audio.chunk import Chunk, Frames
from tagger.audio.downmix import Downmix
from tagger.audio.resample import SHORTEST_SECONDS, Resampler, stretches
from tagger.errors import TaggerError
from tagger.events import Samples
from tagger.retry import Repeats
from tagger.settings import Channel
from tagger.sources.clock import Arrival

log = logging.getLogger(__name__)

_NOTHING: Samples = np.zeros(0, np.float32)

Moment = tuple[float, float]
"""On the steady clock, seconds, and on the wall clock, seconds since the epoch."""


class Feed(Protocol):
    """What chunks are read from: a pipe, a connection."""

    waited: bool
    """Whether the last read had to wait."""

    @property
    def is_closed(self) -> bool:
        """Whether nobody wants more of it."""


class Arrivals:
    """Makes arrivals of a stream's chunks: mono, at one rate, with their positions in the stream."""

    def __init__(self, name: str, rate_hz: int, channel: Channel, feed: Feed, came: Callable[[], Moment]) -> None:
        """
        Args:
            feed: what the chunks are read from.
            came: when the newest bytes had come.
        """
        self._name, self._rate_hz, self._feed, self._came = name, rate_hz, feed, came
        self._downmix = Downmix(name, channel, log.warning)
        self._resampler: Resampler | None = None
        self._format = (0, 0)
        """Rate and channels of what `_resampler` takes."""
        self._began_s, self._given = 0.0, 0
        """Where the sound since the last gap or change began, seconds, and how many samples of it were given."""
        self._read_s = 0.0
        """Sound that was read, seconds."""
        self._gap, self._damage = False, Repeats()
        self._held: list[Frames] = []
        """Sound after damage, until there is enough to be sure that the damage is over."""
        self._held_s = 0.0

    def of(self, chunks: Iterable[Chunk]) -> Iterator[Arrival]:
        """
        Raises:
            TaggerError: as `chunks`. All good samples were given before.
        """
        error: TaggerError | None = None
        try:
            for chunk in chunks:
                yield from self._converted(chunk)
        except TaggerError as broken:
            error = broken
        if self._feed.is_closed:
            return
        self._downmix.finish()
        yield from self._flush()
        if error is not None:
            raise error

    @property
    def has_read(self) -> bool:
        """Whether any sound came."""
        return self._read_s > 0

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
        if self._damage.begins():
            log.warning(
                "%s: NaN, infinity or an absurd value at %.3f s; such samples are left out",
                *(self._name, self._began_s - lost_s),
            )

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
        arrival = Arrival(samples, start_s, self._read_s, *self._came(), self._feed.waited, self._gap)
        self._feed.waited = False
        if samples.size:
            self._given, self._gap = self._given + samples.size, False
        return arrival
