"""Keeps a live source going: opens it when it is wanted, again when it broke, and knows how it is.

All kinds of live sources heal here, and nowhere else: microphones, FIFOs, streams by URL.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np

from tagger.condition import Condition, Reason, State, reason_of
from tagger.errors import TaggerError
from tagger.events import Block, Samples
from tagger.retry import Retry
from tagger.sources import Source
from tagger.sources.clock import steady
from tagger.sources.schedule import ALWAYS, Schedule
from tagger.stream_clock import SET_SECONDS

log = logging.getLogger(__name__)

_WAITING = "trying again in {first:g} s, then less often, up to every {longest:g} s"
"""Warning about a live source that is away."""
PROMPT_SECONDS, LONG_AWAY_SECONDS = 5.0, 600.0
"""Longest wait between tries, until a source has been away for so long: most come back within minutes, and audio should
be back soon after. A try may last 6 s itself."""
SETTLED_SECONDS = 30.0
"""Sound after which a source counts as well again: the next waits begin with the shortest."""
ZEROS_SECONDS = 5.0
"""Time of the same value in all samples that is told. No microphone is so still: it is muted."""
_STEP = 1.01 / 32_768
"""Largest difference of samples that are the same value, full scale 1: the step of 16 bits."""
QUIET_SECONDS = 60.0
_SPARSE = 32
"""Of so many samples one is looked at first: it tells that a usual block is not odd. Looking at all samples of every
block of a hundred sources would take a sixth of the time in which they have Python's lock."""
_QUIET_MEAN_SQUARE = 10 ** (-75 / 10)
"""Level of a block that is softer than any room through any microphone: -75 dB of full scale."""


class Healing:
    """One source, for as long as the daemon runs. One thread takes its blocks; any may ask for its condition."""

    def __init__(
        self,
        source: Source,
        name: str,
        rate_hz: int,
        on_lost: Callable[[str], None],
        wait: Callable[[float], None],
        is_stopping: Callable[[], bool],
        schedule: Schedule = ALWAYS,
        gain: float = 1.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            name: of the source, for people.
            rate_hz: rate of its blocks.
            on_lost: called when the source is gone, or outside its schedule, with the reason in words.
            wait: waits for some seconds, or until somebody wants something.
            schedule: when it is wanted.
            gain: what samples are multiplied by.
            wall: the wall clock.
        """
        self._source, self._rate_hz = source, rate_hz
        self._on_lost, self._wait, self._is_stopping = on_lost, wait, is_stopping
        self._schedule, self._gain, self._wall = schedule, np.float32(gain), wall
        self._retry = Retry(name, _WAITING)
        self._noted = Condition(since=wall()), steady()
        """The condition, and since when it is this one on a clock that nobody sets."""
        self._heard_at: float | None = None
        """When the newest audio came, on the monotonic clock. None: none has come."""
        self._lost_at: float | None = None
        """When it broke, on the monotonic clock. None: it has flowed for a while since."""
        self._flowing_s = 0.0
        """Sound since the source was opened, seconds."""
        self._has_heard = False
        """Whether sound has come before: what comes once the source is open again does not follow it."""
        self._same, self._quiet = _Spell(ZEROS_SECONDS), _Spell(QUIET_SECONDS)

    @property
    def condition(self) -> Condition:
        """How the source is now. From any thread."""
        at, (condition, steady_s) = self._heard_at, self._noted
        if abs((since := self._wall() - (steady() - steady_s)) - condition.since) > SET_SECONDS:  # the clock was set
            condition = replace(condition, since=since)
        return replace(condition, last_audio_s=None if at is None else max(0.0, time.monotonic() - at))

    @property
    def detail(self) -> str:
        """That of the condition. It is asked of every block."""
        return self._noted[0].detail

    def blocks(self) -> Iterator[Block]:
        """The source's blocks, from each time that it is open.

        Raises:
            TaggerError: a source that is not live broke.
        """
        while not self._is_stopping():
            if not self._schedule.is_active(self._wall()):
                self._rest()
                continue
            try:
                yield from self._opened()
                if self._schedule.is_active(self._wall()) or self._is_stopping():
                    self._set("ended")
                    return
            except TaggerError as error:
                if not self._source.live:
                    self._set("ended", "failed", str(error))
                    raise
                self._lose(error)

    def fell_silent(self, why: str) -> None:
        """Notes that nothing comes, though the source has not ended. It may go on by itself."""
        self._set("retrying", "no_bytes", why)

    def _opened(self) -> Iterator[Block]:
        """Blocks until the source ends or breaks, or its schedule does. The first does not follow what came before."""
        self._flowing_s, is_interrupted = 0.0, self._has_heard
        self._same, self._quiet = _Spell(ZEROS_SECONDS), _Spell(QUIET_SECONDS)
        with closing(self._source.blocks()) as blocks:  # type: ignore[type-var]  # a generator, which closes the device
            for block in blocks:
                self._note(block)
                self._has_heard = True
                if is_interrupted and not block.gap:
                    block = replace(block, gap=True)  # noqa: PLW2901
                is_interrupted = False
                yield block if self._gain == 1 else replace(block, samples=block.samples * self._gain)
                if not self._schedule.is_active(self._wall()):
                    return

    def _note(self, block: Block) -> None:
        """Learns from a block how the source is."""
        length_s = len(block.samples) / self._rate_hz
        self._heard_at = time.monotonic()
        before_s, self._flowing_s = self._flowing_s, self._flowing_s + length_s
        if self._retry.why is not None:
            self._retry.worked(is_settled=False)
        if before_s < SETTLED_SECONDS <= self._flowing_s:
            self._retry.settled()
            self._lost_at = None
        self._set("hearing", *self._oddity(block, length_s))

    def _oddity(self, block: Block, length_s: float) -> tuple[Reason, str]:
        """What is odd about the sound of a live source."""
        if not self._source.live or not block.samples.size:
            return "", ""
        same, soft = _is_odd(block.samples)
        is_same, is_quiet = self._same.go_on(same, length_s), self._quiet.go_on(soft, length_s)
        trouble: tuple[Reason, str] | None = getattr(self._source, "trouble", None)
        if trouble is not None:
            return trouble
        if is_same:
            return "zeros", "nothing but digital silence comes: it may be muted"
        if is_quiet:
            return "quiet", "it is quieter than any room: the microphone may be off or turned down"
        return "", ""

    def _rest(self) -> None:
        """Waits until the schedule wants the source."""
        if self._noted[0].state != "off":
            why = f"off by its schedule ({self._schedule})"
            self._set("off", "schedule", why)
            self._on_lost(why)
        self._wait(self._schedule.wait_s(self._wall()))

    def _lose(self, error: TaggerError) -> None:
        wait_s = self._retry.failed(str(error))
        if self._lost_at is None:
            self._lost_at = time.monotonic()
        if time.monotonic() - self._lost_at < LONG_AWAY_SECONDS:
            wait_s = min(wait_s, PROMPT_SECONDS)
        self._set("retrying", reason_of(error), str(error))
        self._on_lost(str(error))
        deadline = time.monotonic() + wait_s
        while not self._is_stopping() and (left_s := deadline - time.monotonic()) > 0:
            self._wait(left_s)

    def _set(self, state: State, reason: Reason = "", detail: str = "") -> None:
        if state == "hearing" and reason == "zeros":
            state = "silent"
        now, since = self._noted
        if (state, reason) != (now.state, now.reason):
            if state in ("hearing", "silent") and reason != now.reason and reason:
                log.warning("%s: %s", self._retry.where, detail)
            self._noted = Condition(state, reason, detail, self._wall()), steady()
        elif detail != now.detail:
            self._noted = replace(now, detail=detail), since


def _is_odd(samples: Samples) -> tuple[bool, bool]:
    """Whether samples are all alike; and quieter than any room."""
    few = samples[::_SPARSE]
    low, high, energy = float(few.min()), float(few.max()), float(np.square(few).sum())
    if high - low > _STEP and energy >= _QUIET_MEAN_SQUARE * samples.size:  # all have at least the energy of some
        return False, False
    low, high = float(samples.min()), float(samples.max())
    is_soft = max(abs(low), abs(high)) < 0.1 and float(np.mean(np.square(samples))) < _QUIET_MEAN_SQUARE
    return high - low <= _STEP, is_soft


class _Spell:
    """For how long something has been so, by the sound and by the clock: a recording at full speed is no long spell."""

    def __init__(self, enough_s: float) -> None:
        self._enough_s, self._sound_s, self._since = enough_s, 0.0, 0.0

    def go_on(self, is_so: bool, length_s: float) -> bool:
        """Takes the next sound; returns whether it has been so for long enough."""
        if not is_so or not self._sound_s:
            self._sound_s, self._since = 0.0, time.monotonic()
        if is_so:
            self._sound_s += length_s
        return is_so and min(self._sound_s, time.monotonic() - self._since) >= self._enough_s
