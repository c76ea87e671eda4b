"""The other nodes of a broker: who is there, since when, and how their sources are.

They are learned by a connection of its own. Some brokers hang up on who subscribes to what their access list does not
allow; events must not wait for that. Anybody may publish anything, so all that is kept is bounded, and nothing is
believed that is not as a node writes it (`node_stats.py`).
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from tagger.errors import UserError
from tagger.mqtt.connection import Connection
from tagger.mqtt.node_stats import MOST_BYTES, MOST_SOURCES, is_name, read_stats, shown_text
from tagger.settings import MqttSettings
from tagger.sinks import SourceState
from tagger.times import rfc3339

MOST_NODES = 64
"""Most nodes that are kept; those that come first."""
_AS_TOLD: Mapping[SourceState, str] = {"online": "hearing", "offline": "offline", "disabled": "off"}
"""State of a source whose topics alone are known."""
_TOLD_BY: Mapping[str, SourceState] = {"hearing": "online", "silent": "online", "off": "disabled"}
"""What a source's topic says in a state; in others it says `offline`."""


@dataclass
class _Told:
    """What the retained topics of a source say."""

    state: SourceState | None = None
    detail: str = ""
    at: float = 0.0
    """When it was told, seconds since the epoch."""


@dataclass
class _Node:
    """What is known of a node."""

    online: bool | None = None
    """None: it has not said."""
    is_confirmed: bool = False
    """Whether `online` was told since this connection to the broker began."""
    since: float | None = None
    """When it came or went, seconds since the epoch. None: before we listened."""
    heard: float | None = None
    """When its last message on `stats` came."""
    stats: bytes = b""
    """That message."""
    read: Mapping[str, Any] | None = None
    """What `said` found in it. None: nobody has asked."""
    sources: dict[str, _Told] = field(default_factory=dict)
    has_more: bool = False
    """Whether sources were left out."""

    def said(self) -> Mapping[str, Any]:
        """What the last message on `stats` says. It is read when somebody asks, so that a flood costs little."""
        if self.read is None:
            self.read = read_stats(self.stats)
        return self.read

    def is_known(self) -> bool:
        """Whether something was said that a node would say."""
        return bool(self.online is not None or self.sources or self.said())


class Nodes:
    """Learns of other nodes for as long as it runs. Any thread calls its methods."""

    def __init__(
        self,
        settings: Callable[[], MqttSettings | None],
        wall: Callable[[], float] = time.time,
        connect: Callable[[MqttSettings], Connection] = lambda settings: Connection(settings, None, quiet=True),
    ) -> None:
        """
        Args:
            settings: the broker that is in force. None: there is none.
            wall: the wall clock.
            connect: makes a connection, which is not started yet; raises UserError.
        """
        self._wanted, self._wall, self._connect = settings, wall, connect
        self._settings: MqttSettings | None = None
        self._connection: Connection | None = None
        self._problem = ""
        self._nodes: dict[str, _Node] = {}
        self._left_out = False
        self._lock = threading.Lock()
        self._changing = threading.Lock()

    def follow(self) -> None:
        """Connects to the broker that is in force, unless that was done."""
        with self._changing:
            wanted = self._wanted()
            if wanted == self._settings:
                return
            self._stop()
            self._settings, self._problem = wanted, ""
            if wanted is None:
                return
            try:
                connection = self._connect(wanted)
            except UserError as error:
                self._problem = str(error)
                return
            connection.on_connected = lambda: self._connected(connection, wanted)
            connection.on_message = self.note
            self._connection = connection
            connection.start()

    def close(self) -> None:
        with self._changing:
            self._stop()

    def _stop(self) -> None:
        if self._connection is not None:
            self._connection.stop()
            self._connection = None
        with self._lock:
            self._nodes.clear()
            self._left_out = False

    def _connected(self, connection: Connection, settings: MqttSettings) -> None:
        with self._lock:
            self._left_out = False
            for each in self._nodes.values():
                each.is_confirmed = False
        _subscribe(connection, settings.prefix)

    def note(self, topic: str, payload: bytes, retained: bool) -> None:
        """Takes a message. What no node would publish changes nothing."""
        settings = self._settings
        if settings is None:
            return
        name, *rest = topic.removeprefix(f"{settings.prefix}/").split("/")
        if name == settings.node or not is_name(name):
            return
        with self._lock:
            match rest:
                case ["status"]:
                    self._note_status(name, payload, retained)
                case ["stats"]:
                    self._note_stats(name, payload)
                case [source, "status"] if is_name(source):
                    self._note_source(name, source, payload)
                case [source, "status", "detail"] if is_name(source):
                    if (told := self._told(name, source, is_new=bool(payload))) is not None:
                        told.detail = shown_text(payload.decode(errors="replace"))

    def to_json(self) -> dict[str, Any]:
        """The answer to `/api/nodes`."""
        self.follow()
        settings, connection = self._settings, self._connection
        with self._lock:
            found = [_node_json(name, each) for name, each in sorted(self._nodes.items()) if each.is_known()]
            left_out = self._left_out
        is_connected = connection is not None and connection.is_connected
        trouble = self._problem or (connection.trouble if connection is not None else "")
        return {
            "broker": None if settings is None else settings.url,
            "connected": is_connected,
            "trouble": None if is_connected or settings is None else trouble or "connecting",
            "more": left_out,
            "nodes": found,
        }

    # --- with the lock ---

    def _node(self, name: str, is_online: bool = False) -> _Node | None:
        """The node of this name. None: there are too many already.

        Args:
            is_online: it has just said so; then one that is gone, or has said nothing that a node says, makes room.
        """
        if name not in self._nodes and len(self._nodes) >= MOST_NODES:
            self._left_out = True
            gone = (each for each, node in self._nodes.items() if node.online is False or not node.is_known())
            if not is_online or (out := next(gone, None)) is None:
                return None
            del self._nodes[out]
        return self._nodes.setdefault(name, _Node())

    def _note_status(self, name: str, payload: bytes, retained: bool) -> None:
        is_online = payload == b"online"
        if not payload:  # the node was removed from the broker
            self._nodes.pop(name, None)
            if self._left_out and self._connection is not None and self._settings is not None:
                self._left_out = False  # there is room: the broker says again what it retains
                _subscribe(self._connection, self._settings.prefix)
        elif payload in (b"online", b"offline") and (node := self._node(name, is_online)) is not None:
            if node.online is not is_online:
                node.since = None if retained else self._wall()
            node.online, node.is_confirmed = is_online, True

    def _note_stats(self, name: str, payload: bytes) -> None:
        if (node := self._node(name)) is not None:
            node.has_more = len(payload) > MOST_BYTES
            if not node.has_more:
                node.stats, node.read, node.heard = payload, None, self._wall()

    def _note_source(self, name: str, source: str, payload: bytes) -> None:
        state = payload.decode(errors="replace")
        if not payload:
            if name in self._nodes and self._nodes[name].sources.pop(source, None) is not None:
                self._nodes[name].has_more = False
        elif state in get_args(SourceState) and (told := self._told(name, source)) is not None:
            told.state, told.at = state, self._wall()  # type: ignore[assignment]

    def _told(self, name: str, source: str, is_new: bool = True) -> _Told | None:
        if (node := self._node(name) if is_new else self._nodes.get(name)) is None:
            return None
        if source not in node.sources and (len(node.sources) >= MOST_SOURCES or not is_new):
            node.has_more |= is_new
            return None
        return node.sources.setdefault(source, _Told())


def _subscribe(connection: Connection, prefix: str) -> None:
    connection.subscribe([f"{prefix}/+/{each}" for each in ("status", "stats", "+/status", "+/status/detail")])


def _node_json(name: str, node: _Node) -> dict[str, Any]:
    read = node.said()
    online = node.online if node.is_confirmed else None
    since = node.since
    if since is None and online and node.heard is not None and read.get("uptime_s") is not None:
        since = node.heard - read["uptime_s"]
    known: Mapping[str, Mapping[str, Any]] = read.get("sources", {})
    names = sorted(known.keys() | {each for each, told in node.sources.items() if told.state is not None})
    return {
        "node": name,
        "online": online,
        "since": None if since is None else rfc3339(since),
        "heard": None if node.heard is None else rfc3339(node.heard),
        "version": read.get("version"),
        "verdict": read.get("verdict") if online else None,
        "problems": list(read.get("problems", ())) if online else [],
        "sources": [
            _source_json(each, known.get(each), node.sources.get(each), node.heard, online is not False)
            for each in names[:MOST_SOURCES]
        ],
        "more": node.has_more or len(names) > MOST_SOURCES or bool(read.get("more")),
    }


def _source_json(
    name: str, known: Mapping[str, Any] | None, told: _Told | None, heard: float | None, is_up: bool
) -> dict[str, Any]:
    """A source by the last `stats`, unless its topics have said something else since."""
    if not is_up:
        return {"source": name, "state": "offline", "reason": "", "detail": "", "since": None}
    if told is not None and told.state is not None:
        is_newer = heard is None or told.at > heard
        if known is None or (is_newer and _TOLD_BY.get(known["state"], "offline") != told.state):
            detail = "" if told.detail == told.state else told.detail
            return {"source": name, "state": _AS_TOLD[told.state], "reason": "", "detail": detail, "since": None}
    assert known is not None
    return {"source": name, **known}
