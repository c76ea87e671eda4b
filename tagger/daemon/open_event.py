"""An event that has begun and not ended, as it is kept for whoever ends it if its daemon dies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tagger.events import Event, Stream
from tagger.names import is_topic

_LONGEST_TEXT = 5_000
"""Letters: a source may be a path."""
_RECORDED_SECONDS = 3_600.0
"""Age of an onset, when its event began, from which it is a recording's: when that sound ended is not known."""
_LATEST = 1e11
"""Latest time, seconds since the epoch: the year 5138."""


@dataclass(frozen=True)
class OpenEvent:
    """An open event."""

    stream: Stream
    begin: Event
    noted: float
    """When it was noted, seconds since the epoch."""

    def end(self, alive: float, cause: Literal["restart", "takeover"]) -> Event:
        """Its end; one of a recording from another time ends when it began.

        Args:
            alive: when its daemon is last known to have lived, seconds since the epoch.
        """
        onset = self.begin.onset
        offset = onset if self.noted - onset > _RECORDED_SECONDS else max(onset, alive)
        return replace(self.begin, type="end", offset=offset, cause=cause)

    def to_json(self) -> dict[str, Any]:
        """With all of its stream that concerns it."""
        label = self.begin.label
        models = (self.stream.model_of(label),) if self.stream.models else ()
        own = replace(self.stream, labels=(label,), models=models)
        return {"stream": vars(own), "event": vars(self.begin), "noted": self.noted}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "OpenEvent":
        """
        Raises:
            ValueError, TypeError, KeyError: not a stream and the begin of an event.
        """
        stream, event = Stream(**entry["stream"]), Event(**entry["event"])
        labels: object = entry["stream"]["labels"]
        models: object = entry["stream"].get("models", [])
        texts = [stream.node, stream.source, stream.model, *stream.labels, *stream.models, event.id, event.label]
        noted = entry.get("noted", event.onset)
        is_right = (
            isinstance(labels, list)
            and isinstance(models, list)
            and all(map(is_text, texts))
            and is_topic(stream.node)
            and is_level(stream.source)
            and (event.type, event.offset) == ("begin", None)
            and event.cause in (None, "test", "restart")
            and all(_is_number(score, 0, 1) for score in (event.score, event.peak_score))
            and is_time(event.onset)
            and (event.level_before is None or _is_number(event.level_before, -1_000, 1_000))
            and is_time(noted)
        )
        if not is_right:
            raise ValueError("no begin of an event")
        return cls(replace(stream, labels=tuple(stream.labels), models=tuple(stream.models)), event, noted)


@dataclass(frozen=True)
class Lasting:
    """For how long an event that was noted has been open. The wall clock may be set meanwhile."""

    since: float | None
    """When it was noted, on the monotonic clock. None: another process noted it, which is gone."""
    lasted_s: float = 0.0
    """For how long it was open, as that process has left it, seconds."""

    @classmethod
    def left(cls, event: OpenEvent, alive: float) -> "Lasting":
        """That of an event whose process is gone.

        Args:
            alive: when that is last known to have lived, seconds since the epoch.
        """
        return cls(None, max(0.0, alive - event.noted))

    def seconds(self, now: float) -> float:
        """For how long it has been open, seconds.

        Args:
            now: when its process is last known to have lived, on the monotonic clock.
        """
        return self.lasted_s if self.since is None else max(0.0, now - self.since)


def is_text(value: Any) -> bool:
    """Whether a value of a file or a message is a text that can be kept and sent."""
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and not re.search("[\ud800-\udfff]", value)


def is_level(value: Any) -> bool:
    """Whether it can be one level of a topic."""
    return isinstance(value, str) and is_topic(value) and "/" not in value


def is_time(value: Any) -> bool:
    """Whether it can be seconds since the epoch."""
    return _is_number(value, 0, _LATEST)


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
