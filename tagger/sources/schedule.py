"""Hours of the day in which a source is wanted: `22:00-06:00`."""

import re
from dataclasses import dataclass
from datetime import datetime

from tagger.errors import SettingError

_SPAN = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)-([01]?\d|2[0-4]):([0-5]\d)")
_DAY_MINUTES = 24 * 60
_LONGEST_WAIT_SECONDS = 30.0
"""Longest time between two looks at the clock, which may be set, and whose hours may change."""


@dataclass(frozen=True)
class Schedule:
    """Spans of the day, local time, each from and to a minute of the day. None: always."""

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """
        Args:
            text: spans with `+` between. One that ends before it begins goes over midnight.

        Raises:
            SettingError: it is something else.

        >>> str(Schedule.parse("22:00-6:00+12:00-13:30"))
        '22:00-06:00+12:00-13:30'
        """
        spans = []
        for part in text.split("+"):
            found = _SPAN.fullmatch(part.strip())
            numbers = [int(each) for each in found.groups()] if found else []
            begin, end = (60 * numbers[0] + numbers[1], 60 * numbers[2] + numbers[3]) if numbers else (0, 0)
            if begin == end or max(begin, end) > _DAY_MINUTES:
                raise SettingError(
                    "active", "must be hours of the day such as 22:00-06:00, or 6:00-8:00+17:00-22:00", text
                )
            spans.append((begin, end))
        return cls(tuple(spans))

    def __str__(self) -> str:
        return "+".join(f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}" for a, b in self.spans) or "always"

    def is_active(self, time_s: float) -> bool:
        """Whether the source is wanted at a time, seconds since the epoch."""
        if not self.spans:
            return True
        local = datetime.fromtimestamp(time_s)
        minute = 60 * local.hour + local.minute
        return any(a <= minute < b if a < b else minute >= a or minute < b for a, b in self.spans)

    def wait_s(self, time_s: float) -> float:
        """For how long to wait before looking again, seconds: to the next minute, at the latest."""
        return min(_LONGEST_WAIT_SECONDS, 60.0 - datetime.fromtimestamp(time_s).second)


ALWAYS = Schedule()
