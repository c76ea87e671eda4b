"""The messages of `open` (`tagger.fleet.journal`): what they say."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tagger.daemon.open_event import OpenEvent, is_time
from tagger.events import SCHEMA, Event, Stream

MOST_MESSAGE_BYTES = 1_000_000
"""Longest message that a worker writes: one of all 527 labels has 400,000 bytes."""
MOST_PACKET_BYTES = MOST_MESSAGE_BYTES + 66_000
"""Longest packet with such a message: its topic has 65,535 bytes at most."""


@dataclass(frozen=True)
class Record:
    """What a worker has open of a source, or what another has taken over of it."""

    fleet: str
    """Name of the fleet, by which its workers know each other's messages."""
    epoch: int
    """Of the lease of whoever wrote it."""
    writer: str
    """Session of the node itself, or name of the node that has taken over."""
    events: Sequence[tuple[OpenEvent, float]] = ()
    """With the time at which the worker that heard it is last known to have lived, seconds since the epoch."""
    taken: Sequence[str] | None = None
    """Ids of events that another node ends. None: this is the node's own message."""

    @property
    def ids(self) -> set[str]:
        """Of what is open."""
        return {event.begin.id for event, _ in self.events}

    def to_json(self) -> str:
        common = {"schema": SCHEMA, "fleet": self.fleet, "epoch": self.epoch}
        if self.taken is not None:
            return json.dumps({**common, "by": self.writer, "taken": self.taken})
        events = [{**event.to_json(), "alive": alive} for event, alive in self.events]
        return json.dumps({**common, "session": self.writer, "events": events})

    @classmethod
    def from_json(cls, payload: bytes, fleet: str, source: str) -> "Record | None":
        """
        Args:
            fleet: the reader's.
            source: of the topic. No message names events of another.

        Returns:
            None: no worker of this fleet writes such a message.
        """
        try:
            found: dict[str, Any] = json.loads(payload.decode())
            if found["fleet"] != fleet or not isinstance(found["epoch"], int):
                return None
            if "taken" in found:
                return cls(fleet, found["epoch"], str(found["by"]), taken=[str(each) for each in found["taken"]])
            if not all(is_time(each["alive"]) for each in found["events"]):
                return None
            events = [(OpenEvent.from_json(each), each["alive"]) for each in found["events"]]
            if any(event.stream.source != source for event, _ in events):
                return None
            return cls(fleet, found["epoch"], str(found["session"]), events)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


def read_end(topic: str, payload: str) -> tuple[OpenEvent, float] | None:
    """The event whose end is in a message on `event`, and when it ended, seconds since the epoch. None: it has none."""
    try:
        found = json.loads(payload)
        node, source, _ = topic.split("/")[-3:]
        stream = Stream(node, source, found["model"], (found["label"],))
        onset, offset = (datetime.fromisoformat(found[name]).timestamp() for name in ("onset", "offset"))
        begin = Event("begin", found["id"], found["label"], found["score"], found["peak_score"], onset)
        return OpenEvent(stream, begin, onset), offset
    except (ValueError, TypeError, KeyError, AttributeError):  # as one that was shortened for a broker
        return None


def is_taken(payload: bytes) -> bool:
    """Whether a message says what another node has taken over, without reading all of it."""
    return b'"taken": [' in payload  # no text can hold it: its quotes would be escaped


def is_of(payload: bytes, fleet: str) -> bool:
    """Whether a message can be one of this fleet's workers, without reading all of it."""
    return len(payload) <= MOST_MESSAGE_BYTES and f'"fleet": {json.dumps(fleet)}'.encode() in payload
