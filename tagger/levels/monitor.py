"""What is measured of a stream beside its network: its levels, and events that need no network."""

import math
import threading
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tagger.audio.level import LevelMeter
from tagger.events import SILENCE_DBFS, Block, Event, Level, Samples, SoundLevel
from tagger.levels.alarm import AlarmDetector
from tagger.levels.bands import Bands, Frames
from tagger.levels.loud import LoudDetector
from tagger.levels.weighting import FAST_SECONDS, MOST_STEPS, STEP, AWeighting, FastWeighting

_PIECE_SECONDS, _LOUD_PIECE_SECONDS = 1.0, 0.5
"""Least sound that is measured together; and where loud sounds are events. A small piece costs as much as a large
one."""
_MOST_PIECES = 8
"""Pieces that may wait for the turn."""
turn = threading.Lock()
"""Whoever has it measures. Many short calls of numpy in many threads hand Python's lock around, which costs several
times what they measure. A stream goes on without its levels meanwhile: it is not late, and its next piece is larger."""
_SETTLED_SECONDS = 4 * FAST_SECONDS
"""Time after which the F weighted level no longer knows that the stream began: then it counts for L10 and L90."""
BEFORE_SECONDS = 10.0
"""Sound before an event whose level is kept with it."""
_GUARD_SECONDS = 0.5
"""These ten seconds end so long before the onset, which is known to some tenths of a second only."""
_LEAST_BEFORE_SECONDS = 1.0
"""With less of it, there is no such level."""
_LOWEST_DB, _BINS_EACH_DB, _BINS = -150, 10, 2000
"""Levels are counted in bins of 0.1 dB, up to 50 dB above full scale."""


class SoundMonitor:
    """Follows one stream, whatever the size of its blocks. One thread at a time may call it.

    Levels are published span after span; a span is exactly so long, and A weighted levels have a step of 2 ms. A gap
    begins everything anew: sound from both sides of it is never measured together.
    """

    def __init__(
        self,
        rate_hz: int,
        seconds: float,
        publish: Callable[[Level], None],
        calibrate_db: float | None = None,
        loud_db: float | None = None,
        memory_s: float = 10.0,
        has_alarms: bool = False,
    ) -> None:
        """
        Args:
            rate_hz: the stream's rate.
            seconds: length of a span.
            publish: called with the level of each span.
            calibrate_db: sound pressure level of a full-scale square wave, decibels. None: it is not known.
            loud_db: level from which a sound is an event; calibrated, if the source is. None: there are no such events.
            has_alarms: whether smoke and carbon monoxide alarms are looked for.
            memory_s: longest time from an event's onset until `level_before` is called, seconds.
        """
        self._piece = round((_PIECE_SECONDS if loud_db is None else _LOUD_PIECE_SECONDS) * rate_hz)
        self._rate_hz, self._span, self._publish = rate_hz, max(1, round(seconds * rate_hz)), publish
        self._calibrate_db = calibrate_db
        self._meter = LevelMeter(rate_hz, self._span / rate_hz)
        self._a, self._fast = AWeighting(rate_hz), FastWeighting(rate_hz)
        self._frames = Frames(rate_hz)
        self._bands = Bands(rate_hz, self._frames)
        self._loud = None if loud_db is None else LoudDetector(loud_db - (calibrate_db or 0.0), STEP / rate_hz)
        self._alarms = AlarmDetector(self._frames) if has_alarms else None
        self._settled = math.ceil(_SETTLED_SECONDS * rate_hz / STEP)
        self._memory = math.ceil((memory_s + _GUARD_SECONDS + BEFORE_SECONDS) * rate_hz / STEP)
        self._found: list[Event] = []
        """Events that nobody has been told yet."""
        self._past: deque[tuple[float, NDArray[np.float32]]] = deque()
        """Power of the newest steps, A weighted: time at which the first of them ended, and [N]."""
        self._reset()

    def heard(self, block: Block) -> list[Event]:
        """Takes the stream's next block. Publishes levels, and returns the events that began or ended.

        A loud sound is found within half a second; where many streams are measured, within four. What is found does not
        depend on that.
        """
        found = self.interrupt() if block.gap else []
        samples, used = block.samples, 0
        while used < samples.size:
            taken = min(samples.size - used, self._span - self._fed)
            self._waiting.append(samples[used : used + taken])
            used += taken
            self._fed += taken
            if self._fed == self._span:
                self._cut(block.time + used / self._rate_hz)
        self._waits += samples.size
        self._end = block.time + samples.size / self._rate_hz
        if self._pieces or self._waits >= self._piece:
            self._measure(must=self._waits >= _MOST_PIECES * self._piece)
            found += self._taken()
        return found

    def interrupt(self) -> list[Event]:
        """The next block does not follow the one before, or none follows. Returns the ends of open events."""
        self._measure(must=True)
        ends = self._taken()
        for detector in (self._loud, self._alarms):
            if detector is not None:
                ends += detector.close()
        self._meter.reset()
        self._reset()
        return ends

    def level_before(self, onset: float) -> float | None:
        """Equivalent level, A weighted, of up to ten seconds before a time; calibrated, if the source is.

        None: less than a second of it is known.
        """
        self._measure(must=False)
        step_s, until = STEP / self._rate_hz, onset - _GUARD_SECONDS
        total, count = 0.0, 0
        for time, power in self._past:
            first = max(0, math.ceil((until - BEFORE_SECONDS - time) / step_s))
            last = min(len(power), math.floor((until - time) / step_s + 1))
            if last > first:
                total += float(power[first:last].sum(dtype=np.float64))
                count += last - first
        return None if count * step_s < _LEAST_BEFORE_SECONDS else round(self._db(total / count), 2)

    def _reset(self) -> None:
        self._waiting: list[Samples] = []
        self._waits = 0
        """Samples that were not measured yet."""
        self._fed = 0
        """Samples of this span."""
        self._pieces: list[tuple[Samples, float]] = []
        """Of the samples that were not measured yet, those of spans that are over, and when they ended."""
        self._end = 0.0
        """When the newest block ended, seconds since the epoch."""
        self._rest = np.zeros(0, np.float32)
        """Samples that make no whole step."""
        self._steps = 0
        """Steps since the beginning or the last gap."""
        self._a.reset()
        self._fast.reset()
        self._frames.reset()
        self._bands.reset()
        self._past.clear()
        self._held = 0
        self._begin()

    def _begin(self) -> None:
        """Begins a span."""
        self._total, self._count, self._highest = 0.0, 0, 0.0
        self._histogram = np.zeros(_BINS, np.int64)

    def _cut(self, end: float) -> None:
        """Makes a piece of what waits.

        Args:
            end: time of its end, seconds since the epoch.
        """
        if self._waiting:
            samples = np.concatenate(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
            self._pieces.append((samples, end))
            self._waiting = []
        if self._fed == self._span:
            self._fed = 0

    def _measure(self, must: bool) -> None:
        """Measures what waits, keeps the events for `_taken`, and publishes the levels of spans that are over.

        Args:
            must: wait for the turn. Else it may be left for the next call.
        """
        if not self._waits or not turn.acquire(blocking=must):
            return
        levels: list[Level] = []
        try:
            self._cut(self._end)
            for samples, ended in self._pieces:
                self._found += self._measure_piece(samples, ended, levels)
        finally:
            self._pieces, self._waits = [], 0
            turn.release()
        for level in levels:
            self._publish(level)

    def _taken(self) -> list[Event]:
        found, self._found = self._found, []
        return found

    def _measure_piece(self, samples: Samples, end: float, levels: list[Level]) -> list[Event]:
        """Measures a piece, and adds the level of a span that is over to `levels`."""
        level = self._meter.feed(Block(samples, end - samples.size / self._rate_hz))
        if not math.isfinite(float(samples.sum())):  # it would stay in the filters for ever
            samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        powers = self._frames(samples)
        self._bands.add_high(powers)
        self._bands.add_low(samples)
        found: list[Event] = []
        if self._alarms is not None:
            found += self._alarms.heard(powers, end - self._frames.behind_s)
        joined = np.concatenate([self._rest, samples]) if self._rest.size else samples
        steps = joined.size // STEP
        self._rest = joined[steps * STEP :].copy()
        for first in range(0, steps, MOST_STEPS):
            count = min(MOST_STEPS, steps - first)
            power = self._a(joined[first * STEP : (first + count) * STEP].reshape(count, STEP))
            time = end - (joined.size - (first + 1) * STEP) / self._rate_hz
            found += self._add(power, time)
        if level is not None:  # the meter's spans are these
            levels.append(Level(level.rms_dbfs, level.peak_dbfs, level.clipped, end, self._take()))
        return found

    def _add(self, power: NDArray[np.float64], time: float) -> list[Event]:
        """Counts steps. The first ended at `time`."""
        fast = self._fast(power)
        self._total += float(power.sum())
        self._count += len(power)
        self._highest = max(self._highest, float(fast.max()))
        counted = fast[max(0, self._settled - self._steps) :]
        self._steps += len(power)
        if counted.size:
            db = 10 * np.log10(np.maximum(counted, 1e-15))
            bins = np.clip(((db - _LOWEST_DB) * _BINS_EACH_DB).astype(np.int64), 0, _BINS - 1)
            self._histogram += np.bincount(bins, minlength=_BINS)
        self._past.append((time, power.astype(np.float32)))
        self._held += len(power)
        while self._held - len(self._past[0][1]) >= self._memory:
            self._held -= len(self._past.popleft()[1])
        return [] if self._loud is None else self._loud.heard(fast, time)

    def _take(self) -> SoundLevel | None:
        """The level of the span that has ended. None: it is shorter than a step."""
        if not self._count:
            self._begin()
            return None
        found = SoundLevel(
            laeq_db=self._db(self._total / self._count),
            lafmax_db=self._db(self._highest),
            la10_db=self._exceeded(0.10),
            la90_db=self._exceeded(0.90),
            third_octaves_db=dict(zip(self._bands.names, map(self._db, self._bands.take().tolist()), strict=True)),
            is_calibrated=self._calibrate_db is not None,
        )
        self._begin()
        return found

    def _exceeded(self, share: float) -> float | None:
        """Level that is exceeded in this share of the time. None: the stream began too short a time ago."""
        total = int(self._histogram.sum())
        if not total:
            return None
        below = np.cumsum(self._histogram)
        wanted = (1 - share) * total
        at = int(np.searchsorted(below, wanted))
        inside = (wanted - (below[at] - self._histogram[at])) / self._histogram[at]
        db = _LOWEST_DB + (at + float(inside)) / _BINS_EACH_DB
        return max(SILENCE_DBFS, db) + (self._calibrate_db or 0.0)

    def _db(self, power: float) -> float:
        """Level of a mean square, decibels; of full scale at least SILENCE_DBFS."""
        return max(SILENCE_DBFS, 10 * math.log10(max(power, 1e-15))) + (self._calibrate_db or 0.0)
