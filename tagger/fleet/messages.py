"""What a worker and the coordinator tell each other, and its JSON."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tagger.fleet.leases import Answer, Request, Terms


@dataclass(frozen=True)
class Report:
    """What a worker asks, and how it does."""

    request: Request
    node: str
    """The worker's name in topics. It may come again with another session, once the earlier one has ended."""
    capacity: float
    """Number of streams that it can carry, as it has measured."""
    host: str = ""
    """The machine that it runs on."""
    waiting: int = 0
    """Events that the broker does not have yet."""
    streams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How each of its streams does, for people."""
    trouble: str | None = None
    """Why its events do not reach the broker at present. None: they do."""
    is_leaving: bool = False
    """Whether it wants its streams to go elsewhere, because it is about to end."""
    unanswered: Mapping[str, int] = field(default_factory=dict)
    """Streams that it does not hear any more because no coordinator answered, and the epoch of each one's lease."""
    is_over: bool = False
    """Whether this is its last word: it hears nothing any more."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "request": {**asdict(self.request), "ended": sorted(self.request.ended)}}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Report":
        """
        Raises:
            TypeError, KeyError: it is none.
        """
        request = found["request"]
        is_number = isinstance(found["capacity"], int | float) and math.isfinite(found["capacity"])
        if not is_number or not isinstance(found["node"], str) or not isinstance(request["session"], str):
            raise TypeError("no report")
        return cls(**{**found, "request": Request(**{**request, "ended": frozenset(request["ended"])})})


@dataclass(frozen=True)
class Orders:
    """What a worker is told."""

    answer: Answer
    sources: Mapping[str, str]
    """What to listen to, of each stream in the answer: the text of a source (`tagger.sources.spec`)."""
    is_end: bool = False
    """Whether the worker is to end."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Orders":
        """
        Raises:
            TypeError, KeyError: it is none.
        """
        answer = found["answer"]
        made = Answer(**{**answer, "terms": Terms(**answer["terms"])})
        return cls(made, found["sources"], found["is_end"])
