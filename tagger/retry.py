"""What fails for the moment is said once, tried again less and less often, and said when it is over."""

import logging
import random
import time

log = logging.getLogger(__name__)

PAUSES = (1.0, 60.0)
"""Between tries, first and longest, seconds."""
_QUIET_SECONDS = 60.0
"""At least so long between two warnings, whatever happens."""
_REMIND_SECONDS = 3_600.0
"""After so long the same trouble is said again."""


class Retry:
    """Of one place that is written to. Not for several threads at once."""

    def __init__(self, where: str) -> None:
        """
        Args:
            where: as it may be shown to people.
        """
        self._where = where
        self._tries = 0
        self.why: str | None = None
        """Why it fails at present; None while it does not."""
        self._said: str | None = None
        self._said_at = -float("inf")

    def failed(self, why: str) -> float:
        """Returns how long to wait before the next try, seconds; drawn, so that many that failed together do not come
        back together.
        """
        first, longest = PAUSES
        pause_s = min(longest, first * 2.0 ** min(self._tries, 30)) * random.uniform(0.5, 1.0)
        self._tries += 1
        self.why = why
        quiet_s = time.monotonic() - self._said_at
        if quiet_s >= (_QUIET_SECONDS if why != self._said else _REMIND_SECONDS):
            log.warning("%s: %s; events wait, trying again, every %g s at last", self._where, why, longest)
            self._said, self._said_at = why, time.monotonic()
        return pause_s

    def worked(self) -> None:
        if self._said is not None:
            log.info("%s: works again", self._where)
        self._tries, self.why, self._said = 0, None, None
