"""When something is old enough to be deleted, although the wall clock may be wrong.

A clock that is years ahead would make everything old at once. So time is believed to pass no faster than the monotonic
clock, and at the start only as far as what is kept bears it out, without a gap longer than the time to keep.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

log = logging.getLogger(__name__)

_SLACK_SECONDS = 3_600.0
"""Difference of the clocks that is not worth a word."""
_REMIND_SECONDS = 86_400.0
"""Time after which the log says again what is kept because of the clock."""


class Retention:
    """Finds what is older than some number of days. Not for several threads at once.

    Things between which no time was longer than that make a stretch. Each stretch has a clock of its own, which begins
    at its last thing, for the newest one now. So a few things that an unset clock dated 1970, or an old recording, stop
    nothing, and what is before a jump of the clock goes only as time passes.
    """

    def __init__(self, keep_s: float, what: str) -> None:
        """
        Args:
            keep_s: age at which things are deleted, seconds.
            what: what is kept, for people, such as `events`.
        """
        self._keep_s, self._what = keep_s, what
        self._made = (time.time(), time.monotonic())
        self._stretches: list[tuple[float, float]] = []
        """When each begins, and the time that it is believed to be for it at `_found_at`. Empty: nothing was old."""
        self._found_at = 0.0
        """On the monotonic clock."""
        self._said_at = -float("inf")

    def old(self, times: Callable[[], Iterable[float]]) -> list[tuple[float, float]]:
        """What is to be deleted: from and before which times, in order. Never all at once because a clock jumped.

        Args:
            times: called for the times of all things, in order, seconds since the epoch.
        """
        wall, monotonic = time.time(), time.monotonic()
        oldest = next(iter(times()), None)
        if oldest is None or oldest >= wall - self._keep_s:
            return []
        if not self._stretches:
            self._stretches, self._found_at = self._found(times(), wall, monotonic), monotonic
        passed_s = monotonic - self._found_at
        nows = [min(wall, believed + passed_s) for _, believed in self._stretches]
        found = [(start, now - self._keep_s) for (start, _), now in zip(self._stretches, nows, strict=True)]
        if monotonic - self._said_at >= _REMIND_SECONDS:
            self._say(times(), wall, found, monotonic)
        return [(start, end) for start, end in found if start < end]

    def _found(self, times: Iterable[float], wall: float, monotonic: float) -> list[tuple[float, float]]:
        stretches: list[tuple[float, float]] = []
        last = -float("inf")
        for each in _until(times, wall):
            if each - last > self._keep_s:
                stretches.append((each, each))
            stretches[-1], last = (stretches[-1][0], each), each
        if wall - last <= self._keep_s:
            stretches[-1] = stretches[-1][0], wall
        made_wall, made_monotonic = self._made
        passed = made_wall + monotonic - made_monotonic  # at the start, the clock may not have been set yet
        return [(start, believed if passed < start else min(believed, passed)) for start, believed in stretches]

    def _say(self, times: Iterable[float], wall: float, found: Sequence[tuple[float, float]], monotonic: float) -> None:
        """Says what would be deleted, if the wall clock were believed.

        Args:
            found: begin of each stretch, and before when its things are old.
        """
        kept: list[float] = []
        most_s, old = 0.0, wall - self._keep_s
        left, end = deque(found), found[0][1]
        for each in _until(times, old):
            while left and each >= left[0][0]:
                _, end = left.popleft()
            if each >= end and old - end > _SLACK_SECONDS:
                kept.append(each)
                most_s = max(most_s, old - end)
        if not kept:
            return
        self._said_at = monotonic
        log.warning(
            "the clock says %s, %.1f days more than can be explained: %s that would be deleted are kept: %d, from %s "
            "to %s. They go as time passes; if the clock is right, delete them by hand",
            *(_day(wall), most_s / 86_400, self._what, len(kept), _day(kept[0]), _day(kept[-1])),
        )


def _until(times: Iterable[float], end: float) -> Iterable[float]:
    for each in times:
        if each > end:
            return
        yield each


def _day(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{at:g}"
