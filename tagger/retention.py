"""When something is old enough to be deleted, although the wall clock may be wrong.

A clock that is years ahead would make everything old at once. So time is believed to pass no faster than the monotonic
clock, and at the start only as far as what is kept bears it out, without a gap longer than the time to keep.
"""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

log = logging.getLogger(__name__)

_SLACK_SECONDS = 3_600.0
"""Difference of the clocks that is not worth a word."""
_REMIND_SECONDS = 86_400.0
"""Time after which the log says again what is kept because of the clock."""


class Retention:
    """Finds what is older than some number of days. Not for several threads at once."""

    def __init__(self, keep_s: float, what: str) -> None:
        """
        Args:
            keep_s: age at which things are deleted, seconds.
            what: what is kept, for people, such as `events`.
        """
        self._keep_s, self._what = keep_s, what
        self._made = (time.time(), time.monotonic())
        self._anchor: tuple[float, float] | None = None
        """A wall time that is believed, and the same moment on the monotonic clock. None: nothing was old so far."""
        self._said_at = -float("inf")

    def cutoff(self, times: Callable[[], Iterable[float]]) -> float:
        """The time before which things are to be deleted: never so that all goes at once because a clock jumped.

        Args:
            times: called for the times of all things, in order, seconds since the epoch.
        """
        wall, monotonic = time.time(), time.monotonic()
        oldest = next(iter(times()), None)
        if oldest is None or oldest >= wall - self._keep_s:
            return -float("inf")
        if self._anchor is None:
            self._anchor = (self._believable(times(), oldest, wall, monotonic), monotonic)
        believed_wall, at = self._anchor
        now = min(wall, believed_wall + monotonic - at)
        if wall - now > _SLACK_SECONDS and monotonic - self._said_at >= _REMIND_SECONDS:
            self._say(times(), wall, now, monotonic)
        return now - self._keep_s

    def _believable(self, times: Iterable[float], oldest: float, wall: float, monotonic: float) -> float:
        """The latest time up to which there is no gap longer than the time to keep."""
        last = oldest
        for each in (*_until(times, wall), wall):
            if each - last > self._keep_s:
                break
            last = each
        made_wall, made_monotonic = self._made
        passed = made_wall + monotonic - made_monotonic
        return last if passed < oldest else min(last, passed)  # at the start, the clock may not have been set yet

    def _say(self, times: Iterable[float], wall: float, now: float, monotonic: float) -> None:
        kept = [each for each in _until(times, wall - self._keep_s) if each >= now - self._keep_s]
        if not kept:
            return
        self._said_at = monotonic
        log.warning(
            "the clock says %s, %.1f days more than can be explained: %s that would be deleted are kept: %d, from %s "
            "to %s. They go as time passes; if the clock is right, delete them by hand",
            *(_day(wall), (wall - now) / 86_400, self._what, len(kept), _day(kept[0]), _day(kept[-1])),
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
