"""Events of any sound above a level, whatever it is."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tagger.events import Event, new_id
from tagger.policy import LOUD

_QUIETER_DB = 3.0
"""Distance below the level from which it is quiet again."""
_MERGE_SECONDS = 2.0
"""Shortest quiet between two events, seconds."""


class LoudDetector:
    """An event from where the A and F weighted level reaches a limit until it is 3 dB below it for two seconds."""

    def __init__(self, limit_db: float, step_s: float) -> None:
        """
        Args:
            limit_db: in decibels of full scale: without the source's calibration.
            step_s: time from one level to the next, seconds.
        """
        self._begins, self._lasts = 10 ** (limit_db / 10), 10 ** ((limit_db - _QUIETER_DB) / 10)
        self._step_s = step_s
        self._open: Event | None = None
        self._until = 0.0
        """When it was last loud enough for the open event, seconds since the epoch."""

    def heard(self, power: NDArray[np.float64], time: float) -> list[Event]:
        """
        Args:
            power: [N], weighted with A and F.
            time: when the first of these steps ended, seconds since the epoch.

        Returns:
            Begins and ends, in order.
        """
        found: list[Event] = []
        if self._open is None and not power.max(initial=0.0) >= self._begins:  # as nearly always
            return found
        at = 0
        while at < len(power):
            if self._open is None:
                first = np.flatnonzero(power[at:] >= self._begins)
                if not first.size:
                    break
                at += int(first[0])
                onset = self._until = time + at * self._step_s
                self._open = Event("begin", new_id(onset), LOUD, 1.0, 1.0, onset)
                found.append(self._open)
            now = time + at * self._step_s
            lasting = np.flatnonzero(power[at:] >= self._lasts)
            next_at = at + int(lasting[0]) if lasting.size else len(power)
            if time + next_at * self._step_s - self._until > _MERGE_SECONDS:
                found += self.close()
                at = max(at, int(np.ceil((self._until + _MERGE_SECONDS - time) / self._step_s)))
                continue
            if not lasting.size:
                break
            breaks = np.flatnonzero(power[next_at:] < self._lasts)
            at = next_at + int(breaks[0]) if breaks.size else len(power)
            self._until = max(now, time + (at - 1) * self._step_s)
        return found

    def close(self) -> Sequence[Event]:
        """Ends the open event: the stream is over, or interrupted."""
        event, self._open = self._open, None
        return [] if event is None else [replace(event, type="end", offset=self._until)]
