"""Failures that repeat: waits that grow between tries, and messages that become rarer."""

import logging
import random
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

PAUSES = (1.0, 60.0)
"""First and longest wait between tries, seconds."""
_QUIET_SECONDS = 60.0
"""Shortest time between two warnings of different reasons."""
_REMIND_SECONDS = 3_600.0
"""Time after which the same reason is logged again."""
_FORGOTTEN_SECONDS = 3_600.0
"""Time without a repetition after which the next is news again."""


def pause_s(tries: int, pauses: tuple[float, float] | None = None, jitter: tuple[float, float] = (0.5, 1.0)) -> float:
    """Wait after `tries` failed tries, seconds. Each is twice as long as the one before, up to a limit.

    Args:
        tries: failed before this one.
        pauses: first and longest wait, seconds. None: PAUSES.
        jitter: the wait is multiplied by a random number between these, so that many clients that failed together do
            not all come back together.
    """
    first, longest = pauses or PAUSES
    return min(longest, first * 2.0 ** min(tries, 30)) * random.uniform(*jitter)


class Retry:
    """Tries of one thing that fails for now: how long to wait, and what to log. One thread at a time may use it.

    A reason is logged once, and again after an hour; so is the end of the trouble.
    """

    def __init__(self, where: str, meanwhile: str = "events wait, trying again, every {longest:g} s at last") -> None:
        """
        Args:
            where: what is tried, for people.
            meanwhile: what happens until it works, for people; `{first}` and `{longest}` are the waits, seconds.
        """
        self.where, self._meanwhile = where, meanwhile
        self.tries = 0
        """Failed tries since it last worked."""
        self.why: str | None = None
        """Why it fails at present; None while it does not."""
        self._logged: str | None = None
        """The reason that was logged last; None after it worked."""
        self._logged_at = -float("inf")

    def failed(self, why: str) -> float:
        """Notes a failure, and logs it unless that was done.

        Returns:
            The wait before the next try, seconds.
        """
        self.why = why
        quiet_s = time.monotonic() - self._logged_at
        if quiet_s >= (_QUIET_SECONDS if why != self._logged else _REMIND_SECONDS):
            first, longest = PAUSES
            log.warning("%s: %s; %s", self.where, why, self._meanwhile.format(first=first, longest=longest))
            self._logged, self._logged_at = why, time.monotonic()
        self.tries += 1
        return pause_s(self.tries - 1)

    def worked(self, is_settled: bool = True) -> None:
        """Notes that it works; the next failure is a new one.

        Args:
            is_settled: whether the next waits begin with the shortest. If not, `settled` says so later.
        """
        if self._logged is not None:
            log.info("%s: works again", self.where)
        self.why, self._logged = None, None
        if is_settled:
            self.settled()

    def settled(self) -> None:
        """Notes that it has worked for a while."""
        self.tries = 0


class Repeats:
    """Counts what repeats, and says when to log it: the 1st, 2nd, 4th, 8th time, so that there is never a flood. After
    an hour without, it begins anew: else a daemon that has run for years would say nothing. For one thread at a time.

    >>> repeats = Repeats()
    >>> [count for count in range(1, 20) if repeats.add()]
    [1, 2, 4, 8, 16]
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        """Times in all."""
        self._now, self._last, self._lately = now, now(), 0

    def add(self, times: int = 1) -> bool:
        """Counts some more. Returns whether to log it."""
        if self._now() - self._last >= _FORGOTTEN_SECONDS:
            self.begin_anew()
        self._last = self._now()
        before, self._lately = self._lately, self._lately + times
        self.count += times
        return self._lately.bit_length() > before.bit_length()

    def begins(self) -> bool:
        """Counts one more. Returns whether it is the first for an hour, or of all."""
        self.add()
        return self._lately == 1

    def begin_anew(self) -> None:
        """The next time is logged."""
        self._lately = 0
