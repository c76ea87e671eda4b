"""Measures a stream piece after piece: its levels, and events that need no network."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tagger.audio.level import LevelMeter
from tagger.events import SILENCE_DBFS, Block, Event, Level, Samples, SoundLevel
from tagger.levels.alarm import AlarmDetector
from tagger.levels.bands import Bands, Frames
from tagger.levels.loud import LoudDetector
from tagger.levels.weighting import FAST_SECONDS, MOST_STEPS, STEP, AWeighting, FastWeighting

_SETTLED_SECONDS = 4 * FAST_SECONDS
"""Time after which the F weighted level no longer knows that the stream began: then it counts for L10 and L90."""
_LOWEST_DB, _BINS_EACH_DB, _BINS = -150, 10, 2000
"""Levels are counted in bins of 0.1 dB, up to 50 dB above full scale."""


@dataclass(frozen=True)
class Wanted:
    """What is measured of a stream."""

    rate_hz: int
    span: int
    """Length of a span, samples."""
    calibrate_db: float | None = None
    """Sound pressure level of a full-scale square wave, decibels. None: it is not known."""
    loud_db: float | None = None
    """Level from which a sound is an event; calibrated, if the source is. None: there are no such events."""
    has_alarms: bool = False
    """Whether smoke and carbon monoxide alarms are looked for."""


class Steps(NamedTuple):
    """Power of consecutive steps of 2 ms, A weighted."""

    time: float
    """When the first of them ended, seconds since the epoch."""
    power: NDArray[np.float32]
    """[N]"""


class Measured(NamedTuple):
    """What a piece showed."""

    events: list[Event]
    """Those that began or ended."""
    level: Level | None
    """Of the span that was over with the piece."""
    steps: list[Steps]


class Measures(Protocol):
    """Measures one stream."""

    def measure(self, samples: Samples, end: float) -> Measured:
        """Takes the next piece, [N]. A span ends with a piece.

        Args:
            end: time of its end, seconds since the epoch.
        """

    def interrupt(self) -> list[Event]:
        """The next piece does not follow the one before, or none follows. Returns the ends of open events."""


class Measurer:
    """Measures in this process."""

    def __init__(self, wanted: Wanted) -> None:
        rate_hz, loud_db = wanted.rate_hz, wanted.loud_db
        self._rate_hz, self._calibrate_db = rate_hz, wanted.calibrate_db
        self._meter = LevelMeter(rate_hz, wanted.span / rate_hz)
        self._a, self._fast = AWeighting(rate_hz), FastWeighting(rate_hz)
        self._frames = Frames(rate_hz)
        self._bands = Bands(rate_hz, self._frames)
        offset_db = wanted.calibrate_db or 0.0
        self._loud = None if loud_db is None else LoudDetector(loud_db - offset_db, STEP / rate_hz)
        self._alarms = AlarmDetector(self._frames) if wanted.has_alarms else None
        self._settled = math.ceil(_SETTLED_SECONDS * rate_hz / STEP)
        self._reset()

    def _reset(self) -> None:
        self._rest = np.zeros(0, np.float32)
        """Samples that make no whole step."""
        self._steps = 0
        """Steps since the beginning or the last gap."""
        self._a.reset()
        self._fast.reset()
        self._frames.reset()
        self._bands.reset()
        self._begin()

    def _begin(self) -> None:
        """Begins a span."""
        self._total, self._count, self._highest = 0.0, 0, 0.0
        self._histogram = np.zeros(_BINS, np.int64)

    def measure(self, samples: Samples, end: float) -> Measured:
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
        count = joined.size // STEP
        self._rest = joined[count * STEP :].copy()
        steps = []
        for first in range(0, count, MOST_STEPS):
            taken = min(MOST_STEPS, count - first)
            power = self._a(joined[first * STEP : (first + taken) * STEP].reshape(taken, STEP))
            time = end - (joined.size - (first + 1) * STEP) / self._rate_hz
            found += self._add(power, time)
            steps.append(Steps(time, power.astype(np.float32)))
        if level is not None:  # the meter's spans are these
            level = Level(level.rms_dbfs, level.peak_dbfs, level.clipped, end, self._take())
        return Measured(found, level, steps)

    def interrupt(self) -> list[Event]:
        ends: list[Event] = []
        for detector in (self._loud, self._alarms):
            if detector is not None:
                ends += detector.close()
        self._meter.reset()
        self._reset()
        return ends

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
        return [] if self._loud is None else self._loud.heard(fast, time)

    def _take(self) -> SoundLevel | None:
        """The level of the span that has ended. None: it is shorter than a step."""
        if not self._count:
            self._begin()
            return None
        bands_db = [self._db(power) for power in self._bands.take().tolist()]
        found = SoundLevel(
            laeq_db=self._db(self._total / self._count),
            lafmax_db=self._db(self._highest),
            la10_db=self._exceeded(0.10),
            la90_db=self._exceeded(0.90),
            third_octaves_db=dict(zip(self._bands.names, bands_db, strict=True)),
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
        return decibels(power, self._calibrate_db)


def decibels(power: float, calibrate_db: float | None) -> float:
    """Level of a mean square, decibels; of full scale at least SILENCE_DBFS.

    >>> round(decibels(0.5, None), 2), round(decibels(0.5, 97.0), 2), decibels(0.0, None)
    (-3.01, 93.99, -120.0)
    """
    return max(SILENCE_DBFS, 10 * math.log10(max(power, 1e-15))) + (calibrate_db or 0.0)
