"""Times of a live stream's blocks: as even as the samples, not in the future, and never far from the wall clock."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tagger.errors import TaggerError
from tagger.events import Block, Samples
from tagger.retry import Repeats

log = logging.getLogger(__name__)

_TOLERANCE_SECONDS = 0.25
"""Largest time by which samples may be ahead of the clock within a burst, whose end will tell."""
_SLOW_SECONDS = 0.2
"""Largest lag behind the clock. Beyond it the recorder's clock is slow, or samples were lost."""
_STALL_SECONDS = 0.5
"""Delay that is a stall: sound was lost, or it comes later, all at once."""
_SPAN_SECONDS = 1.0
"""Time over which the pace of a stream is measured."""
_FASTEST = 2.0
"""Highest pace of a live stream, seconds of sound a second. A file at full speed is faster."""
_CATCHING_UP = 1.3
"""Pace from which a stream makes up for a delay. A recorder whose clock is fast is slower than that."""
_HOLD_SECONDS = 0.5
"""Longest time for which blocks are held, after a stall, to see whether what was missed comes yet."""
_HOLD_AUDIO_SECONDS = 30.0
"""Most audio that is held."""
_LATE_SECONDS = 5.0
"""Time for which all of a stream is late before that counts as lost, where its time stamps say that nothing is."""
_BURST_SECONDS = 0.05
"""Longest pause within a burst, at the start of a stream."""
_SET_SECONDS = 0.05
"""Largest change of the wall clock, against the steady one, that is not followed."""
_AHEAD_SECONDS = 2.0
"""Time by which a stream that may yet turn out to be live is ahead of the clock before this is told."""
_PIECE_SECONDS = 0.1
"""Longest block of a live stream that came in larger ones."""


def steady() -> float:
    """Seconds on a clock that nobody sets. Where the system has one, it goes on while the machine sleeps."""
    return time.clock_gettime(_BOOT) if _BOOT is not None else time.monotonic()


_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class WallClock:
    """Wall-clock time of moments on the steady clock. Even, whatever the readings' jitter, but it follows a clock that
    is set.

    >>> clock = WallClock()
    >>> clock.read(10.0, 1000.0), clock.time(12.0)
    (None, 1002.0)
    """

    def __init__(self) -> None:
        self._offset = 0.0
        self._latest: float | None = None
        """Wall clock less steady clock at the last reading. None: none was taken."""

    def read(self, steady_s: float, wall: float) -> None:
        """Takes readings of both clocks at one moment, seconds. A change counts when two readings in turn have it."""
        latest, self._latest = self._latest, wall - steady_s
        is_first = latest is None
        if is_first or (
            abs(self._latest - self._offset) > _SET_SECONDS and abs(self._latest - (latest or 0.0)) <= _SET_SECONDS
        ):
            self._offset = self._latest

    def time(self, steady_s: float) -> float:
        """Seconds since the epoch."""
        return self._offset + steady_s


@dataclass(frozen=True, eq=False)
class Arrival:
    """Samples of a stream that have just been read."""

    samples: Samples
    """[N], mono."""
    start_s: float
    """Position of the first of them in the stream, seconds."""
    newest_s: float
    """Position after the newest sample that was read, seconds. A resampler may hold some of those back."""
    steady_s: float
    """When that one had come, on the steady clock, seconds."""
    wall: float
    """The same moment on the wall clock, seconds since the epoch."""
    waited: bool
    """Whether the reader had to wait: it had read all that had been sent before."""
    gap: bool = False
    """Samples were lost before these."""
    is_unknown: bool = False
    """Nobody knows how many were lost: these are dated by their arrival."""

    @property
    def delay_s(self) -> float:
        """When the stream would have begun, on the steady clock, if the newest sample came without delay, seconds."""
        return self.steady_s - self.newest_s


@dataclass(frozen=True)
class _Spell:
    """From one wait of the reader to the next one."""

    until_s: float
    """End on the steady clock, less the stalls, seconds."""
    position_s: float
    """Position in the stream at the end, seconds."""
    delay_s: float
    """`Arrival.delay_s` of its last samples: the reader had all that had been sent."""


class LiveClock:
    """Dates what arrives. One stream, one thread.

    Times count samples, from a moment at which the stream would have begun had nothing ever been late. A sample cannot
    arrive before it sounded, so the least delay is the true one: where a stream is ahead of the clock (a recorder that
    is fast, a beginning that was late) this moment moves back at once. It moves on when all of a second's samples were
    late (a slow recorder), with a gap if they were late by half a second or more. After a stall, blocks are held for up
    to half a second: what was missed may come yet. If not, the sound is lost, and there is a gap before them. Where the
    stream's own time stamps say what was lost, the rest is only late, unless all of it is for some seconds.

    All this is done to live streams alone: those whose reader must wait, and which are no faster than twice the time
    that passes: over a second, or with a second's wait. A recording that is piped at full speed is dated from its
    beginning, sample by sample.
    """

    def __init__(
        self,
        name: str,
        rate_hz: int,
        is_live: bool | None = None,
        start_time: float | None = None,
        on_ahead: Callable[[], None] = lambda: None,
        tells_losses: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            name: of the stream, for people.
            rate_hz: rate of the blocks.
            is_live: None: its pace will tell.
            start_time: when the stream began, seconds since the epoch: it is a recording, and nothing is adjusted.
            on_ahead: called once, when a stream is so much faster than a live one that its times are in the future.
            tells_losses: whether the stream has time stamps now, by which its losses are known.
        """
        self.is_live = bool(is_live)
        self._name, self._rate_hz, self._is_certain = name, rate_hz, is_live is not None
        self._start_time = start_time
        self._on_ahead: Callable[[], None] | None = None if self._is_certain else on_ahead
        """None: it was called, or the stream is live for certain."""
        self._tells_losses = tells_losses
        self._late_since_s: float | None = None
        """Since when all of the stream has been late, on the steady clock. None: it is not."""
        self._wall = WallClock()
        self._began_s: float | None = None
        """When the stream began, on the steady clock. None before the first block."""
        self._has_waited = self.is_live
        """The first burst has ended: whoever sends keeps the reader waiting."""
        self._is_fast = False
        """The stream was found to be faster than a live one."""
        self._is_stalled = False
        """Blocks are held, after a stall."""
        self._gap = False
        """Samples were lost before what is given next."""
        self._former: Arrival | None = None
        self._wait = 0.0, 0.0
        """When the reader's last wait ended, on the steady clock, and the position in the stream then, seconds."""
        self._spells: deque[_Spell] = deque()
        """Of the last second, or since the measurement began; the first is just before it."""
        self._losses = Repeats()

    @property
    def may_be_live(self) -> bool:
        """Whether the reader should keep up: the stream is live, or not yet known not to be, but was waited for."""
        return self.is_live or (self._has_waited and not self._is_fast)

    def blocks(self, arrivals: Iterable[Arrival], has_more: Callable[[float], bool] | None = None) -> Iterator[Block]:
        """The same samples, with their times.

        Args:
            has_more: whether more can be read, now or within a number of seconds. None: nobody knows.

        Raises:
            TaggerError: `arrivals` raised it; all that came before was given.
        """
        if self._start_time is not None:
            yield from _from_start(arrivals, self._start_time)
            return
        held: list[Arrival] = []
        error: TaggerError | None = None
        try:
            for arrival in arrivals:
                self._note(arrival)
                held.append(arrival)
                patience_s = self._patience_s(held) if has_more is not None else 0.0
                if patience_s > 0 and has_more is not None:
                    if has_more(patience_s):
                        continue
                    self._decide(held, is_over=True)
                else:
                    self._decide(held, is_over=False)
                self._tell_if_ahead(_AHEAD_SECONDS)
                yield from self._dated(held)
                held = []
        except TaggerError as broken:
            error = broken
        if held:
            self._decide(held, is_over=self._is_stalled)
            yield from self._dated(held)
        self._tell_if_ahead(_TOLERANCE_SECONDS)  # nothing comes any more by which it could turn out to be live
        if error is not None:
            raise error

    def _note(self, arrival: Arrival) -> None:
        """Learns from an arrival, before it is dated."""
        former, self._former = self._former, arrival
        before_s = arrival.start_s if former is None else former.newest_s
        if former is None:
            self._measure_from(arrival)
        elif arrival.waited:
            self._end_spell(arrival.steady_s, former)
            self._wait = arrival.steady_s, before_s
            if arrival.steady_s - former.steady_s >= _SPAN_SECONDS and not self._is_fast:
                self.is_live = True
        if self._began_s is None or not self.is_live:
            return
        late_s = arrival.delay_s - self._began_s
        may_be_late_s = _STALL_SECONDS + (arrival.newest_s - before_s) / 4
        if arrival.waited and not arrival.is_unknown and late_s > may_be_late_s and not self._tells_losses():
            self._is_stalled = True
        elif late_s < (0.0 if arrival.waited else -_TOLERANCE_SECONDS):
            self._began_s = arrival.delay_s

    def _measure_from(self, arrival: Arrival) -> None:
        """Measures the pace anew, from the end of this arrival on."""
        self._spells = deque([_Spell(0.0, arrival.newest_s, arrival.delay_s)])
        self._wait = arrival.steady_s, arrival.newest_s

    def _end_spell(self, now_s: float, last: Arrival) -> None:
        """The reader has waited again: measures the pace since earlier waits, and the least delay.

        Args:
            now_s: end of the wait, on the steady clock.
            last: what had come before it.
        """
        since_s, position_s = self._wait
        passed_s = min(now_s - since_s, 1.5 * (last.newest_s - position_s) + _TOLERANCE_SECONDS)
        until_s = self._spells[-1].until_s + passed_s
        self._spells.append(_Spell(until_s, last.newest_s, last.delay_s))
        while len(self._spells) > 1 and self._spells[1].until_s <= until_s - _SPAN_SECONDS:
            self._spells.popleft()
        first = self._spells[0]
        is_measured = until_s - first.until_s >= _SPAN_SECONDS
        pace = (last.newest_s - first.position_s) / (until_s - first.until_s) if is_measured else 0.0
        if is_measured and not self._is_certain:
            self.is_live = pace <= _FASTEST
            self._is_fast = not self.is_live
        if self._began_s is None or not self.is_live:
            return
        self._began_s = min(self._began_s, last.delay_s)
        if last.delay_s - self._began_s <= _SLOW_SECONDS:  # neither is the least of all
            self._late_since_s = None
            return
        if self._late_since_s is None:
            self._late_since_s = now_s
        if self._tells_losses() and now_s - self._late_since_s < _LATE_SECONDS:
            return
        least_s = min(spell.delay_s for spell in list(self._spells)[1:]) if is_measured else self._began_s
        late_s = least_s - self._began_s
        if late_s > _SLOW_SECONDS and pace <= _CATCHING_UP:
            self._began_s, self._late_since_s = least_s, None
            if late_s > _STALL_SECONDS:
                self._lose(late_s)

    def _patience_s(self, held: Sequence[Arrival]) -> float:
        """For how long to wait for more before what is held is dated, seconds; 0: it can be."""
        passed_s, held_s = held[-1].steady_s - held[0].steady_s, held[-1].newest_s - held[0].start_s
        if passed_s >= _HOLD_SECONDS or held_s >= _HOLD_AUDIO_SECONDS or held[-1].is_unknown:
            return 0.0
        if self._began_s is None:
            return 0.0 if self._is_certain else _BURST_SECONDS
        is_late = self._is_stalled and held[-1].delay_s - self._began_s > _TOLERANCE_SECONDS
        return max(_HOLD_SECONDS - passed_s, _HOLD_SECONDS / 2) if is_late else 0.0

    def _decide(self, held: Sequence[Arrival], is_over: bool) -> None:
        """Settles when the stream began, from what is held.

        Args:
            is_over: whether no more can be read for now.
        """
        first, last = held[0], held[-1]
        if self._began_s is None:
            self._wall.read(first.steady_s, first.wall)
            is_at_pace = is_over or self._is_certain or _pace(held) <= _FASTEST
            self._began_s = last.delay_s if is_at_pace else first.steady_s - first.start_s
            self._has_waited |= is_at_pace
            self._measure_from(last)
        elif any(each.is_unknown for each in held):
            self._began_s = last.delay_s
        elif self._is_stalled:
            late_s = last.delay_s - self._began_s
            if late_s > _TOLERANCE_SECONDS and (is_over or _pace(held) <= _FASTEST):
                self._lose(late_s)
                self._began_s = last.delay_s
            self._measure_from(last)
        self._is_stalled = False

    def _tell_if_ahead(self, least_s: float) -> None:
        """Tells, once, that the newest sample of a stream that is not live lies this far in the future, seconds."""
        newest = self._former
        if self.is_live or self._on_ahead is None or self._began_s is None or newest is None:
            return
        if newest.newest_s + self._began_s - newest.steady_s > least_s:
            on_ahead, self._on_ahead = self._on_ahead, None
            on_ahead()

    def _lose(self, seconds: float) -> None:
        self._gap = True
        if self._losses.add():
            log.warning("%s: %.1f s of sound did not come; a gap (%d so far)", self._name, seconds, self._losses.count)

    def _dated(self, held: Sequence[Arrival]) -> Iterator[Block]:
        assert self._began_s is not None, "not decided yet"
        for each in held:
            if self.is_live:
                self._wall.read(each.steady_s, each.wall)
            gap, self._gap = self._gap or each.gap, False
            if each.samples.size:
                yield Block(each.samples, self._wall.time(self._began_s + each.start_s), gap)
            else:
                self._gap = gap


class Workload:
    """How far a reader is behind because of what it does between two blocks: as if each came when it has sounded.

    What comes later than it sounded does not count, nor does the pause of a stream: that is not the reader's doing.
    """

    def __init__(self, rate_hz: int, now: Callable[[], float] = steady) -> None:
        self._rate_hz, self._now = rate_hz, now
        self._owed_s = 0.0
        """By how much the reader was behind at the last block, seconds."""
        self._given: float | None = None
        """When the reader got the block in hand. None: it waits for the next one."""

    def follow(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Passes blocks on, and measures how long the reader takes for each. Long ones are cut."""
        for block in blocks:
            for piece in _cut(block, self._rate_hz, _PIECE_SECONDS):
                self._given = self._now()
                yield piece
                busy_s, self._given = self._now() - self._given, None
                self._owed_s = max(0.0, self._owed_s + busy_s - len(piece.samples) / self._rate_hz)

    def behind_s(self) -> float:
        """Seconds of sound that would wait."""
        return self._owed_s + (self._now() - self._given if self._given is not None else 0.0)


def _from_start(arrivals: Iterable[Arrival], start_time: float) -> Iterator[Block]:
    """Blocks of a recording that began at this time, seconds since the epoch."""
    gap = False
    for arrival in arrivals:
        gap |= arrival.gap
        if arrival.samples.size:
            yield Block(arrival.samples, start_time + arrival.start_s, gap)
            gap = False


def _cut(block: Block, rate_hz: int, longest_s: float) -> Iterator[Block]:
    """The block in pieces of at most `longest_s`."""
    size = max(1, round(longest_s * rate_hz))
    for start in range(0, len(block.samples), size):
        samples, time_of_first = block.samples[start : start + size], block.time + start / rate_hz
        yield Block(samples, time_of_first, block.gap and start == 0)


def _pace(held: Sequence[Arrival]) -> float:
    """Seconds of sound a second, over the newest part of what is held; infinite for a single arrival."""
    last = held[-1]
    recent = sum(each.steady_s >= last.steady_s - _HOLD_SECONDS / 2 for each in held)
    first = held[-max(recent, 2) :][0]
    passed_s = last.steady_s - first.steady_s
    return (last.newest_s - first.newest_s) / passed_s if passed_s > 0 else float("inf")
