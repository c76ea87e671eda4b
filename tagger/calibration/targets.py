"""Targets: the highest rates of false alarms that the user accepts, as numbers and as text."""

import math
import re
from dataclasses import dataclass

from tagger.errors import UserError

HOURS = {"hour": 1.0, "day": 24.0, "week": 168.0, "month": 730.0}


@dataclass(frozen=True)
class Wish:
    """Highest rate of false alarms."""

    count: float
    unit: str
    """A key of HOURS."""

    @classmethod
    def parse(cls, flag: str, text: str) -> "Wish":
        """
        Raises:
            UserError: `text` is not NUMBER/UNIT with a number above 0.
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(hour|day|week|month)\s*", text)
        if match is None or float(match[1]) == 0:
            raise UserError(
                f"{flag} {text}: must be a number above 0, `/`, and hour, day, week or month, such as 1/day"
            )
        return cls(float(match[1]), match[2])

    @property
    def per_hour(self) -> float:
        return self.count / HOURS[self.unit]

    def __str__(self) -> str:
        return f"{self.count:g}/{self.unit}"


@dataclass(frozen=True)
class Wishes:
    """Highest rates of each label and of all labels together; at least one is set."""

    each: Wish | None
    together: Wish | None
    sure: bool
    """Whether the rates must be met with 95 % confidence, not only on average."""

    @classmethod
    def parse(cls, each: str | None, together: str | None, sure: bool) -> "Wishes":
        """
        Raises:
            UserError: as `Wish.parse`.
        """
        own = Wish.parse("--wish", each or "1/day") if each or not together else None
        return cls(own, Wish.parse("--wish-all", together) if together else None, sure)

    @property
    def per_hour(self) -> tuple[float, float]:
        """Highest rates of each label and of all labels, events per hour."""
        each, together = (wish.per_hour if wish else math.inf for wish in (self.each, self.together))
        return each, together

    @property
    def rarest(self) -> Wish:
        return min((wish for wish in (self.each, self.together) if wish), key=lambda wish: wish.per_hour)

    @property
    def unit(self) -> str:
        """Unit in which rates are shown, such as a day."""
        wish = self.each or self.together
        assert wish is not None
        return wish.unit

    def __str__(self) -> str:
        wishes = [f"{self.each} for each label"] if self.each else []
        wishes += [f"{self.together} for all labels together"] if self.together else []
        return f"at most {' and '.join(wishes)}, {'95 % sure' if self.sure else 'expected'}"
