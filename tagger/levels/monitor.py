"""Follows a stream beside its network: publishes its levels, and finds events that need no network."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

import numpy as np

from tagger.events import Block, Event, Level, Samples
from tagger.levels.measure import Measurer, Measures, Steps, Wanted, decibels
from tagger.levels.weighting import STEP

log = logging.getLogger(__name__)

_PIECE_SECONDS, _LOUD_PIECE_SECONDS = 1.0, 0.5
"""Least sound that is measured together; and where loud sounds are events. A small piece costs as much as a large
one."""
_MOST_PIECES = 8
"""Pieces that may wait for the turn. Then a recording waits, and of a live stream they are left out: it would be late,
and the network would hear nothing of it."""
_FASTEST = 2.0
"""Highest pace of a live stream, seconds of sound a second."""
turn = threading.Lock()
"""Whoever has it measures. Many short calls of numpy in many threads hand Python's lock around, which costs several
times what they measure. A stream goes on without its levels meanwhile: it is not late, and its next piece is larger."""
BEFORE_SECONDS = 10.0
"""Sound before an event whose level is kept with it."""
_GUARD_SECONDS = 0.5
"""These ten seconds end so long before the onset, which is known to some tenths of a second only."""
_LEAST_BEFORE_SECONDS = 1.0
"""With less of it, there is no such level."""


class SoundMonitor:
    """Follows one stream, whatever the size of its blocks. One thread at a time may call it.

    Levels are published span after span; a span is exactly so long, and A weighted levels have a step of 2 ms. A gap
    begins everything anew: sound from both sides of it is never measured together.
    """

    def __init__(
        self,
        rate_hz: int,
        seconds: float,
        publish: Callable[[Level], None] = lambda level: None,
        calibrate_db: float | None = None,
        loud_db: float | None = None,
        memory_s: float = 10.0,
        has_alarms: bool = False,
        measuring: Callable[[Wanted], Measures] = Measurer,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """
        Args:
            rate_hz: the stream's rate.
            seconds: length of a span.
            publish: called with the level of each span. A listener sets its own.
            calibrate_db: as in `Wanted`.
            loud_db: as in `Wanted`.
            memory_s: longest time from an event's onset until `level_before` is called, seconds.
            has_alarms: as in `Wanted`.
            measuring: makes what measures.
            now: the monotonic clock, seconds.
        """
        self._piece = round((_PIECE_SECONDS if loud_db is None else _LOUD_PIECE_SECONDS) * rate_hz)
        self._now = now
        self._rate_hz, self._span, self.publish = rate_hz, max(1, round(seconds * rate_hz)), publish
        self._calibrate_db = calibrate_db
        self._measurer = measuring(Wanted(rate_hz, self._span, calibrate_db, loud_db, has_alarms))
        self._memory = math.ceil((memory_s + _GUARD_SECONDS + BEFORE_SECONDS) * rate_hz / STEP)
        self._found: list[Event] = []
        """Events that nobody has been told yet."""
        self._past: deque[Steps] = deque()
        """The newest steps."""
        self._is_cut = False
        """Sound was left out after what was measured last."""
        self._reset()

    def heard(self, block: Block) -> list[Event]:
        """Takes the stream's next block. Publishes levels, and returns the events that began or ended.

        A loud sound is found within half a second; where many streams are measured, within four. What is found does not
        depend on that.
        """
        found = self.interrupt() if block.gap else []
        samples, used = block.samples, 0
        if not self._waits:
            self._since = self._now()
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
            is_full = self._waits >= _MOST_PIECES * self._piece
            if not self._measure(must=is_full and not self._is_live()) and is_full:
                self._leave_out()
            found += self._taken()
        return found

    def interrupt(self) -> list[Event]:
        """The next block does not follow the one before, or none follows. Returns the ends of open events."""
        self._measure(must=True)
        with turn:
            ends = self._measurer.interrupt()
        self._is_cut = False
        self._reset()
        return self._taken() + ends

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
        return None if count * step_s < _LEAST_BEFORE_SECONDS else round(decibels(total / count, self._calibrate_db), 2)

    def _reset(self) -> None:
        self._waiting: list[Samples] = []
        self._waits = 0
        """Samples that were not measured yet."""
        self._since = 0.0
        """When the first of them came, on the monotonic clock."""
        self._fed = 0
        """Samples of this span."""
        self._pieces: list[tuple[Samples, float]] = []
        """Of the samples that were not measured yet, those of spans that are over, and when they ended."""
        self._end = 0.0
        """When the newest block ended, seconds since the epoch."""
        self._past.clear()
        self._held = 0
        """Steps in `_past`."""

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

    def _is_live(self) -> bool:
        """Whether what waits came at the pace of the clock."""
        return self._waits / self._rate_hz <= _FASTEST * (self._now() - self._since)

    def _leave_out(self) -> None:
        """Forgets what waits. Open events end, and spans begin anew, as after a gap."""
        log.warning(
            "too busy to measure all sound: levels, and alarms by their pattern, of %.0f s were left out; "
            "listen to fewer sources, or use --no-alarms",
            self._waits / self._rate_hz,
        )
        self._reset()
        self._is_cut = True

    def _measure(self, must: bool) -> bool:
        """Measures what waits, keeps the events for `_taken`, and publishes the levels of spans that are over.

        Args:
            must: wait for the turn. Else it may be left for the next call.

        Returns:
            Whether nothing waits any more.
        """
        if not self._waits:
            return True
        if not turn.acquire(blocking=must):
            return False
        levels: list[Level] = []
        try:
            if self._is_cut:
                self._found += self._measurer.interrupt()
                self._is_cut = False
            self._cut(self._end)
            for samples, ended in self._pieces:
                events, level, steps = self._measurer.measure(samples, ended)
                self._found += events
                self._keep(steps)
                if level is not None:
                    levels.append(level)
        finally:
            self._pieces, self._waits = [], 0
            turn.release()
        for level in levels:
            self.publish(level)
        return True

    def _taken(self) -> list[Event]:
        found, self._found = self._found, []
        return found

    def _keep(self, steps: list[Steps]) -> None:
        """Keeps the newest steps, for `level_before`."""
        self._past.extend(steps)
        self._held += sum(len(each.power) for each in steps)
        while self._past and self._held - len(self._past[0].power) >= self._memory:
            self._held -= len(self._past.popleft().power)
