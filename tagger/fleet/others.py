"""What others have said of what is open. Anybody may publish anything, so the bytes of what is kept are bounded."""

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tagger.fleet.opened import Record
from tagger.fleet.room import Room

log = logging.getLogger(__name__)

_FATE = "what a worker leaves open there when it dies may stay open"
MOST_TOLD = 10_000
"""Most messages to other nodes that are kept until they answer."""


class Messages:
    """The last message of each source of one node."""

    def __init__(self, node: str) -> None:
        self._room = Room(node, _FATE)
        self._found: dict[str, bytes] = {}

    def note(self, source: str, payload: bytes) -> None:
        """Takes a message. An empty one says that there is none any more."""
        if (before := self._found.pop(source, None)) is not None:
            self._room.free(len(before))
        if payload and self._room.take(len(payload)):
            self._found[source] = payload

    def take_all(self) -> list[tuple[str, bytes]]:
        """Source and message of each; none is kept any more."""
        found = list(self._found.items())
        for source, _ in found:
            self.note(source, b"")
        return found


@dataclass(frozen=True)
class Said:
    """A message of another node."""

    payload: bytes
    came: float
    """When it came, on the monotonic clock. -inf: before this connection, or the broker retained it."""
    is_seen: bool = True
    """Whether it has come on this connection."""


class Others:
    """The messages of other nodes, and what they are told. They are read when somebody asks."""

    def __init__(self, fleet: str) -> None:
        """
        Args:
            fleet: name of the reader's.
        """
        self._fleet = fleet
        self._room = Room("other workers", _FATE)
        self._found: dict[str, dict[str, Said]] = {}
        """By source, then by node."""
        self._told: OrderedDict[tuple[str, str], str] = OrderedDict()
        """Node and source -> what was told to that node, which has not answered: a broker may forget it."""

    def note(self, node: str, source: str, payload: bytes, retained: bool) -> bytes | None:
        """Takes a message. An empty one says that there is none any more.

        Returns:
            What the node said before this connection, if a later run of it does not know of it: a broker has forgotten
            it. The caller publishes it again. None: there is nothing of that kind.
        """
        lost = self._lost(node, source, payload)
        self.drop(node, source)
        if payload and self._room.take(len(payload)):
            came = -math.inf if retained else time.monotonic()
            self._found.setdefault(source, {})[node] = Said(payload, came)
        return lost

    def forgotten(self) -> Iterator[tuple[str, str, bytes]]:
        """Node, source and message of what is open and has not come on this connection. Each is named once."""
        for source, nodes in list(self._found.items()):
            for node, said in list(nodes.items()):
                if not said.is_seen:
                    nodes[node] = replace(said, is_seen=True)
                    if (found := Record.from_json(said.payload, self._fleet, source)) is not None and found.events:
                        yield node, source, said.payload

    def _lost(self, node: str, source: str, payload: bytes) -> bytes | None:
        said = self._found.get(source, {}).get(node)
        if said is None or said.is_seen or not payload or said.payload == payload:
            return None
        old, new = (Record.from_json(each, self._fleet, source) for each in (said.payload, payload))
        if old is None or new is None or old.writer == new.writer or old.epoch >= new.epoch:
            return None
        return None if old.ids <= new.ids else said.payload

    def drop(self, node: str, source: str) -> None:
        nodes = self._found.get(source, {})
        if node in nodes:
            self._room.free(len(nodes.pop(node).payload))
            if not nodes:
                del self._found[source]

    def of(self, source: str) -> Iterator[tuple[str, float, bytes]]:
        """Node, time (-inf: before this connection) and message of each. They may be dropped meanwhile."""
        return ((node, said.came, said.payload) for node, said in list(self._found.get(source, {}).items()))

    def has(self, node: str, source: str) -> bool:
        return node in self._found.get(source, {})

    def has_later(self, source: str, epoch: int) -> bool:
        """Whether a node has written under a later lease."""
        found = (Record.from_json(payload, self._fleet, source) for _, _, payload in self.of(source))
        return any(each is not None and each.epoch > epoch for each in found)

    def begin(self) -> None:
        """A connection begins."""
        for nodes in self._found.values():
            for node, said in nodes.items():
                nodes[node] = replace(said, came=-math.inf, is_seen=False)

    def drop_unseen(self) -> None:
        """Drops what has not come again on this connection: it has ended meanwhile."""
        for source, nodes in list(self._found.items()):
            for node, said in list(nodes.items()):
                if not said.is_seen:
                    self.drop(node, source)

    # --- what they are told ---

    def tell(self, node: str, source: str, message: str) -> None:
        """Keeps what a node is told until it answers; those that were told longest ago are forgotten first."""
        self._told.pop((node, source), None)
        self._told[node, source] = message
        if len(self._told) > MOST_TOLD:
            (forgotten, of), _ = self._told.popitem(last=False)
            log.debug("%s: what it was told of %s is not repeated any more", forgotten, of)

    def told(self, node: str, source: str) -> str:
        """What a node was told and has not answered. Empty: nothing."""
        return self._told.get((node, source), "")

    def answered(self, node: str, source: str) -> None:
        self._told.pop((node, source), None)

    def untold(self) -> Iterator[tuple[str, str, str]]:
        """Node, source and what it was told, where the broker retains nothing of it: it has forgotten it."""
        return ((*key, message) for key, message in list(self._told.items()) if not self.has(*key))
