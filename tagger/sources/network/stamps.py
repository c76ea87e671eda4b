"""Time stamps of a stream: what they say of lost sound, and whether they can be right."""

import math

_JUMP_SECONDS = 0.15
"""A time stamp that is this far from what the samples explain means that sound is missing, or that it is wrong."""
_WRONG_SECONDS = 1.0
"""From this size on, a jump that the arrival does not explain is told."""
_MOST_JUMPS = 3
"""Jumps within a minute after which the time stamps of a connection are not believed for a while."""
_DOUBT_SECONDS = 3_600.0
"""That while, seconds of sound: a camera may stay connected for years."""
_MINUTE_SECONDS = 60.0
_TOLD_SECONDS = 60.0
"""Time for which wrong time stamps stay the source's reason, seconds of sound."""


class Stamps:
    """Follows the time stamps of one connection. Between two jumps, time is what the samples say."""

    def __init__(self) -> None:
        self._anchor_s: float | None = None
        """Time stamp of the stream's beginning, as of now."""
        self._position_s = 0.0
        self._jumps: list[float] = []
        """Where in the sound time stamps have jumped, seconds."""
        self._doubted_until_s = 0.0
        self._told_until_s = -1.0
        self._detail = ""
        self._arrived = 0.0

    @property
    def trouble(self) -> str:
        """What is wrong with them; "" nothing."""
        return self._detail if self._position_s <= self._told_until_s else ""

    @property
    def are_believed(self) -> bool:
        """Whether the connection has time stamps that say what is missing."""
        return self._anchor_s is not None and not self.trouble

    def follow(self, stamp_s: float, length_s: float, now: float) -> float | None:
        """Takes the stamp and length of the next sound, and the moment that it came, on a steady clock, seconds.

        Returns:
            Sound that is missing before it, seconds. None: there is none. 0: it does not follow what came before, and
            nobody knows how much is missing.
        """
        arrived, self._arrived = self._arrived, now
        missing = self._missing(stamp_s, now - arrived)
        self._position_s += length_s
        return missing

    def _missing(self, stamp_s: float, passed_s: float) -> float | None:
        if math.isnan(stamp_s) or self._position_s < self._doubted_until_s:
            return None
        if self._anchor_s is None:
            self._anchor_s = stamp_s - self._position_s
            return None
        late_s = stamp_s - self._position_s - self._anchor_s
        if abs(late_s) <= _JUMP_SECONDS:
            return None
        self._anchor_s += late_s
        self._jumps = [each for each in self._jumps if self._position_s - each < _MINUTE_SECONDS]
        self._jumps.append(self._position_s)
        if len(self._jumps) > _MOST_JUMPS:
            self._anchor_s, self._jumps = None, []
            self._doubted_until_s = self._position_s + _DOUBT_SECONDS
            self._tell("its time stamps jump again and again", self._doubted_until_s)
            return None
        if 0 < late_s <= passed_s + _JUMP_SECONDS:
            return late_s
        if abs(late_s) >= _WRONG_SECONDS:
            self._tell(f"its time stamps jumped by {late_s:+.1f} s", self._position_s + _TOLD_SECONDS)
        return 0.0

    def _tell(self, what: str, until_s: float) -> None:
        self._detail, self._told_until_s = f"{what}, so its sound is dated by its arrival", until_s
