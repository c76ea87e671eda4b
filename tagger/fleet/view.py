"""What the fleet's page shows: how all streams do, as the coordinator knows it, and what is heard, as MQTT tells it.

A page asks again each second for what it shows, at most some tens of streams, and for the numbers of all others.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tagger.errors import UserError
from tagger.fleet.figures import Status, fleet_problems
from tagger.fleet.opened import MOST_PACKET_BYTES, Record
from tagger.fleet.room import Room
from tagger.mqtt.connection import Connection
from tagger.names import is_topic
from tagger.settings import MqttSettings
from tagger.times import rfc3339, seconds
from tagger.web.asked import number, unknown

_KEPT_EVENTS = 30
_MOST_STREAMS = 200
"""Most streams in an answer."""
_STREAMS = 60
"""The same where a request does not say."""
_MOST_NODES = 200
_MOST_SOUNDS = 8
"""Most sounds of a stream that are named."""
_MOST_PROBLEMS = 20
_LONGEST_NAME = 200
_STATUS_SECONDS = 0.5
"""Age from which what the coordinator says is asked for again, seconds."""


@dataclass(frozen=True)
class _Wish:
    """Which streams are asked for."""

    words: Sequence[str]
    node: str
    is_amiss: bool
    is_sounding: bool
    limit: int

    @classmethod
    def of(cls, wanted: Mapping[str, str]) -> "_Wish":
        """
        Raises:
            UserError: a parameter is wrong.
        """
        unknown(wanted, {"find", "node", "amiss", "sounding", "limit"})
        limit = int(number(wanted, "limit", _STREAMS))
        if not 1 <= limit <= _MOST_STREAMS:
            raise UserError(f"limit: must be from 1 to {_MOST_STREAMS}")
        is_set = {name: wanted.get(name, "0") for name in ("amiss", "sounding")}
        if wrong := [name for name, value in is_set.items() if value not in ("0", "1")]:
            raise UserError(f"{wrong[0]}: must be 0 or 1")
        words = wanted.get("find", "").lower().split()
        return cls(words, wanted.get("node", ""), is_set["amiss"] == "1", is_set["sounding"] == "1", limit)

    def fits(self, stream: Mapping[str, Any]) -> bool:
        return (
            all(word in stream["name"].lower() for word in self.words)
            and (not self.node or stream["node"] == self.node)
            and (not self.is_amiss or stream["amiss"])
            and (not self.is_sounding or bool(stream["sounds"]))
        )


class View:
    """Follows the fleet at the broker between `start` and `close`. Any thread calls its methods."""

    def __init__(self, settings: MqttSettings, status: Callable[[], Status]) -> None:
        """
        Args:
            settings: the broker; its node is the fleet's name.
            status: what the coordinator says.

        Raises:
            UserError: a certificate file cannot be used.
        """
        self._settings, self._ask = settings, status
        self._lock = threading.Lock()
        self._status: Status = {}
        self._asked_at = -_STATUS_SECONDS
        self._open: dict[tuple[str, str], Sequence[Mapping[str, Any]]] = {}
        """Node and source -> the events that are open there."""
        self._room = Room("the fleet's page", "it does not show these sounds")
        self._online: dict[str, bool] = {}
        """What each node of the fleet has said of itself."""
        self._has_more_nodes = False
        """Whether some of them were left out."""
        self._events: dict[str, Mapping[str, Any]] = {}
        """The last events, by id, in the order in which they were first heard of."""
        self._connection = Connection(settings, None, quiet=True)
        self._connection.receive_up_to(MOST_PACKET_BYTES)
        self._connection.on_connected = self._subscribe
        self._connection.on_message = self.note

    def start(self) -> None:
        self._connection.start()

    def close(self) -> None:
        self._connection.stop()

    def _subscribe(self) -> None:
        with self._lock:
            for node, source in list(self._open):
                self._close(node, source)
            self._online.clear()
            self._has_more_nodes = False
        self._connection.subscribe([f"{self._settings.prefix}/+/{each}" for each in ("status", "+/open", "+/event")])

    def note(self, topic: str, payload: bytes, retained: bool) -> None:
        """Takes a message. What no worker of the fleet would publish changes nothing."""
        node, *rest = topic.removeprefix(f"{self._settings.prefix}/").split("/")
        if len(node) > _LONGEST_NAME or not is_topic(node) or (len(rest) == 2 and len(rest[0]) > _LONGEST_NAME):
            return
        with self._lock:
            match rest:
                case ["status"] if self._is_ours(node):
                    self._note_status(node, payload)
                case [source, "open"]:
                    self._note_open(node, source, payload)
                case [source, "event"] if self._is_ours(node):
                    self._note_event(node, source, payload)

    def _is_ours(self, node: str) -> bool:
        """Whether a node is named as a worker of this fleet."""
        return node.startswith(f"{self._settings.node}-")

    def _note_status(self, node: str, payload: bytes) -> None:
        """Notes what a node says of itself. Of more nodes than are kept, one that is gone makes room."""
        if not payload:  # it was removed from the broker
            self._online.pop(node, None)
            if self._has_more_nodes:
                self._has_more_nodes = False  # there is room: the broker says again what it retains
                self._connection.subscribe([f"{self._settings.prefix}/+/status"])
            return
        if node not in self._online and len(self._online) >= _MOST_NODES:
            gone = next((each for each, is_online in self._online.items() if not is_online), None)
            if gone is None:
                self._has_more_nodes = True
                return
            del self._online[gone]
        self._online[node] = payload == b"online"

    def _note_open(self, node: str, source: str, payload: bytes) -> None:
        found = Record.from_json(payload, self._settings.node, source) if payload else None
        events = [event.begin for event, _ in found.events[:_MOST_SOUNDS]] if found is not None else []
        rows = [
            {"id": each.id[:_LONGEST_NAME], "label": each.label[:_LONGEST_NAME], "onset": rfc3339(each.onset)}
            for each in events
        ]
        self._close(node, source)
        if rows and self._room.take(_size(rows)):
            self._open[node, source] = rows

    def _close(self, node: str, source: str) -> None:
        """Forgets what is open of a source."""
        if (rows := self._open.pop((node, source), None)) is not None:
            self._room.free(_size(rows))

    def _note_event(self, node: str, source: str, payload: bytes) -> None:
        row = _row(node, source, payload)
        if row is None:
            return
        before = self._events.get(row["id"])
        if before is not None and before["offset"] is not None:
            return  # the first end counts
        self._events[row["id"]] = row
        if len(self._events) > _KEPT_EVENTS:
            del self._events[next(iter(self._events))]

    def _left_out(self, status: Status) -> list[str]:
        """What the page does not show, for people."""
        has_more = self._has_more_nodes or len(status["nodes"]) > _MOST_NODES
        return [
            *([f"more than {_MOST_NODES} workers: the others are not listed"] if has_more else []),
            *(["more is open than is kept: some sounds are not shown"] if self._room.is_full else []),
        ]

    def to_json(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """The answer to `/api/fleet`.

        Args:
            wanted: the parameters of the request.

        Raises:
            UserError: a parameter is wrong.
        """
        wish = _Wish.of(wanted)
        with self._lock:
            now = time.monotonic()
            if now - self._asked_at >= _STATUS_SECONDS:
                self._status, self._asked_at = self._ask(), now
            status, online = self._status, dict(self._online)
            sounds: dict[str, list[Mapping[str, Any]]] = {}
            for (_, source), found in self._open.items():
                sounds.setdefault(source, []).extend(found)
            events, left_out = list(self._events.values()), self._left_out(status)
        streams = [_stream(name, each, sounds.get(name, ())) for name, each in status["streams"].items()]
        fitting = [each for each in streams if wish.fits(each)]
        fitting.sort(key=lambda each: (not each["amiss"], not each["sounds"], each["name"]))
        problems = [*left_out, *fleet_problems(status)]
        return {
            "fleet": self._settings.node,
            "time": rfc3339(time.time()),
            "broker": self._settings.url,
            "trouble": None if self._connection.is_connected else self._connection.trouble or "connecting",
            **{key: status[key] for key in ("sources", "heard", "without_owner", "capacity", "granting", "moved")},
            "amiss": sum(each["amiss"] for each in streams),
            "sounding": sum(bool(each["sounds"]) for each in streams),
            "problems": _shortened(problems),
            "nodes": _nodes(status, online),
            "found": len(fitting),
            "streams": fitting[: wish.limit],
            "events": events,
        }


def _size(rows: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of what is open of a source, about."""
    return sum(300 + 4 * (len(each["id"]) + len(each["label"])) for each in rows)


def _shortened(problems: Sequence[str]) -> list[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - _MOST_PROBLEMS
    return list(problems) if more <= 0 else [*problems[: _MOST_PROBLEMS - 1], f"{more + 1} more"]


def _stream(name: str, status: Mapping[str, Any], sounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    state = "offline" if status["node"] is None else status.get("state", "starting")
    return {
        "name": name,
        "node": status["node"],
        "state": state,
        "detail": status.get("detail", ""),
        "amiss": state not in ("hearing", "off"),
        "windows": status.get("windows"),
        "skipped": status.get("skipped"),
        "latency_s": status.get("latency_s"),
        "sounds": sorted(sounds, key=lambda each: each["onset"])[:_MOST_SOUNDS],
    }


def _nodes(status: Status, online: Mapping[str, bool]) -> list[dict[str, Any]]:
    """The workers, and nodes that have said something but are none at present."""
    found = [{"node": name, "online": online.get(name), **each} for name, each in status["nodes"].items()]
    gone = [{"node": name, "online": False} for name in online if name not in status["nodes"] and not online[name]]
    return sorted([*found, *gone], key=lambda each: each["node"])[:_MOST_NODES]


def _row(node: str, source: str, payload: bytes) -> dict[str, Any] | None:
    """An event for the page. None: it is none."""
    try:
        found = json.loads(payload)
        offset = None if found["type"] == "begin" else rfc3339(seconds(found["offset"]))
        onset = rfc3339(seconds(found["onset"]))
        duration_s = None if offset is None else max(0.0, float(found["duration_s"]))
        score = min(1.0, max(0.0, float(found["peak_score"])))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, AttributeError):
        return None
    return {
        "id": str(found.get("id"))[:_LONGEST_NAME],
        "label": str(found.get("label"))[:_LONGEST_NAME],
        "node": node,
        "source": source,
        "onset": onset,
        "offset": offset,
        "duration_s": duration_s,
        "peak_score": score,
        "cause": found.get("cause") if found.get("cause") in ("test", "restart", "takeover") else None,
    }
