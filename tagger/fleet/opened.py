"""The messages of `open` (`tagger.fleet.journal`): what they say, and what other workers have said."""

import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tagger.daemon.open_event import OpenEvent, is_time
from tagger.events import SCHEMA, Event, Stream

log = logging.getLogger(__name__)

_MOST_BYTES = 64_000_000
"""Most bytes of other workers' messages that are kept."""
_ENTRY_BYTES = 500
"""What a message costs besides its own bytes."""
MOST_MESSAGE_BYTES = 1_000_000
"""Longest message that a worker writes: one of all 527 labels has 400,000 bytes."""


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


class Others:
    """The messages of other nodes. They are read when somebody asks, and their bytes are bounded."""

    def __init__(self, fleet: str) -> None:
        """
        Args:
            fleet: name of the reader's.
        """
        self._fleet = fleet
        self._found: dict[str, dict[str, tuple[float, bytes]]] = {}
        """Source -> node -> when it said so, on the monotonic clock, and the message. -inf: before this connection."""
        self._seen: set[tuple[str, str]] = set()
        """Messages that have come on this connection."""
        self._bytes = 0
        self._is_full = False

    def note(self, node: str, source: str, payload: bytes, retained: bool) -> bytes | None:
        """Takes a message. An empty one says that there is none any more.

        Returns:
            What the node said before this connection, if a later run of it does not know of it: a broker has forgotten
            it. The caller publishes it again. None: there is nothing of that kind.
        """
        lost = self._lost(node, source, payload)
        self.drop(node, source)
        if payload and self._bytes + len(payload) + _ENTRY_BYTES > _MOST_BYTES:
            if not self._is_full:
                log.warning("the broker retains more than %d MB of what is open; not all is kept", _MOST_BYTES // 10**6)
            self._is_full = True
        elif payload:
            self._seen.add((node, source))
            self._found.setdefault(source, {})[node] = -math.inf if retained else time.monotonic(), payload
            self._bytes += len(payload) + _ENTRY_BYTES
        return lost

    def forgotten(self) -> Iterator[tuple[str, str, bytes]]:
        """Node, source and message of what is open and has not come on this connection. Each is named once."""
        for source, nodes in list(self._found.items()):
            for node, (_, payload) in list(nodes.items()):
                if (node, source) not in self._seen:
                    self._seen.add((node, source))
                    if (found := Record.from_json(payload, self._fleet, source)) is not None and found.events:
                        yield node, source, payload

    def _lost(self, node: str, source: str, payload: bytes) -> bytes | None:
        _, before = self._found.get(source, {}).get(node, (0.0, b""))
        if not before or not payload or before == payload or (node, source) in self._seen:
            return None
        old, new = (Record.from_json(each, self._fleet, source) for each in (before, payload))
        if old is None or new is None or old.writer == new.writer or old.epoch >= new.epoch:
            return None
        return None if old.ids <= new.ids else before

    def drop(self, node: str, source: str) -> None:
        nodes = self._found.get(source, {})
        if node in nodes:
            self._bytes -= len(nodes.pop(node)[1]) + _ENTRY_BYTES
            if not nodes:
                del self._found[source]

    def of(self, source: str) -> Iterator[tuple[str, float, bytes]]:
        """Node, time (-inf: before this connection) and message of each. They may be dropped meanwhile."""
        return ((node, came, payload) for node, (came, payload) in list(self._found.get(source, {}).items()))

    def has(self, node: str, source: str) -> bool:
        return node in self._found.get(source, {})

    def begin(self) -> None:
        """A connection begins."""
        self._seen.clear()
        for source, nodes in self._found.items():
            self._found[source] = {node: (-math.inf, payload) for node, (_, payload) in nodes.items()}

    def drop_unseen(self) -> None:
        """Drops what has not come again on this connection: it has ended meanwhile."""
        for source, nodes in list(self._found.items()):
            for node in list(nodes):
                if (node, source) not in self._seen:
                    self.drop(node, source)
