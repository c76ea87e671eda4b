"""Events over MQTT. The topics and payloads are a contract that other people's automations hang on: see README.

What is published at QoS 1 goes through one thread, which alone knows what the broker has and what it still needs:

    sources' threads, paho's  ->  steps, in a queue  ->  this thread  ->  paho

Events come first, in order, from an outbox on disk; then retained topics, each with its present value only. So after an
outage no state runs ahead of its event, none is old, and nothing that the broker has acknowledged is sent again.
"""

import json
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tagger.errors import TaggerError, UserError
from tagger.events import Event, Level, Report, Stream
from tagger.mqtt.connection import Connection, Outgoing
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.requests import Requests
from tagger.mqtt.topics import ANY, Topics, label_levels
from tagger.settings import MqttSettings
from tagger.sinks import Sink, SourceState

log = logging.getLogger(__name__)

_BATCH = 50
"""So many waiting events are read from disk at a time."""
_LARGE_BYTES = 4_000
"""No event is as large. What Home Assistant is told is, and brokers may have a limit ..."""
_HANG_UPS = 3
"""... of which MQTT 3.1.1 knows nothing: they hang up, again and again."""
_FAREWELL_SECONDS = 10
"""Home Assistant has met by then what it is told to remove. It drops parts of a message that comes while it is busy."""
_MOMENT_SECONDS = 60
"""MQTT 5: scores and levels are worth nothing after so long."""


@dataclass(frozen=True)
class Home:
    """How the node is announced in Home Assistant."""

    topic: str
    """Where, retained."""
    birth: str
    """Where Home Assistant says `online` when it has started: then all is said again."""
    message: Callable[[Sequence[Stream], Mapping[str, str]], dict[str, Any]]
    """The message of these streams, and of components (id -> platform) that were announced once and may be gone."""
    components: Callable[[Mapping[str, Any]], dict[str, str]]
    """The components of a message."""
    farewell: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The message, with what is gone described once more: only what Home Assistant has met since it started goes."""


@dataclass
class _Source:
    """What is known of one source."""

    levels: dict[str, str]
    """Topic level of each label."""
    open: dict[str, str] = field(default_factory=dict)
    """Events that have begun: id -> label."""


class MqttSink(Sink):
    """Publishes to one broker. Its last will says `offline` if this process dies."""

    def __init__(
        self,
        settings: MqttSettings,
        on_refused: Callable[[UserError], None] | None,
        outbox: Outbox | None = None,
        client_id: str = "",
        paused: Collection[str] = (),
        requests: Requests | None = None,
        home: Home | None = None,
    ) -> None:
        """
        Args:
            on_refused: called, from paho's thread, when the broker refuses the very first connection for good. None: it
                is tried again all the same.
            outbox: where events wait, closed by this sink. None: in memory.
            client_id: the same at every start. Empty: another each time.
            paused: sources that are paused.
            requests: obeys what is asked over MQTT.
            home: None: not announced in Home Assistant; what an earlier run announced there is removed.

        Raises:
            UserError: a certificate file cannot be used.
        """
        self._settings, self._requests, self._home = settings, requests, home
        self._outbox = Outbox(None, settings.queue_events) if outbox is None else outbox
        self._topics = Topics(settings.prefix, settings.node)
        self._paused = frozenset(paused)
        self._connection = Connection(settings, on_refused, settings.client_id or client_id)
        self._connection.on_connected = self._on_connected
        self._connection.on_lost = self._on_lost
        self._connection.on_published = lambda mid, refused: self._do(lambda: self._acknowledged(mid, refused))
        self._connection.on_message = lambda topic, payload, retained: self._do(
            lambda: self._received(topic, payload, retained)
        )
        self._gate = threading.Lock()
        """Held while a message is handed to paho, and while the connection comes or goes."""
        self._generation = 0
        """Which connection this is; 0: none."""
        self._connections = 0

        # All below belongs to the sink's own thread, once that runs.
        self._steps: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._sources: dict[str, _Source] = {}
        self._retained: dict[str, str] = {}
        """The present payload of each retained topic; empty: there must be none."""
        self._urgent: deque[Outgoing] = deque()
        """What goes before the events: presence, what Home Assistant is told, answers."""
        self._ready: deque[Outgoing] = deque()
        """Events read from the outbox."""
        self._read = 0
        """Number of the last of them."""
        self._handed_over = 0
        """Number of the last that paho was given."""
        self._stale: dict[str, None] = {}
        """Retained topics to be published, in order."""
        self._on_way: dict[int, Outgoing] = {}
        """What paho has and the broker has not acknowledged, by paho's number."""
        self._refused = 0
        """Events that the broker will not have. MQTT 5 alone tells."""
        self._accepted = 0
        """The connection that messages may be handed to."""
        self._settling = False
        """Connected anew: paho sends again what was on its way. Until that is acknowledged nothing may overtake it."""
        self._farewell = ""
        """What Home Assistant is told once, when it starts next, before it is told what is gone."""
        self._most_bytes: float = math.inf
        """What is larger had the broker hang up."""
        self._left_out: set[str] = set()
        """Topics of what was too large: it was said."""
        self._closing = False
        self._drained = threading.Event()
        """Closing, and the broker has everything."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def open(self, streams: Sequence[Stream]) -> None:
        topics, said = self._topics, self._retained
        said[topics.node_status] = "online"
        if self._home is not None:
            known = self._outbox.components
            message = self._home.message(streams, known)
            self._outbox.remember(self._home.components(message))
            said[self._home.topic] = json.dumps(message, ensure_ascii=False)
            if (last := self._home.farewell(message)) != message:
                self._farewell = json.dumps(last, ensure_ascii=False)
        else:
            self._outbox.forget_components()
        for stream in streams:
            source = self._sources[stream.source] = _Source(label_levels(stream.labels))
            said[topics.source_status(stream.source)] = "offline"
            said[topics.source_detail(stream.source)] = "starting"
            said[topics.enabled(stream.source)] = "OFF" if stream.source in self._paused else "ON"
            for level in (*source.levels.values(), ANY):
                said[topics.state(stream.source, level)] = "OFF"
        gone = self._outbox.retained - said.keys()
        self._outbox.retain(said)
        said.update(dict.fromkeys(sorted(gone), ""))
        self._connection.will(topics.node_status, "offline")
        self._thread.start()
        self._connection.start()

    def resume(self, stream: Stream, state: SourceState, detail: str, events: Sequence[Event]) -> None:
        self.status(stream, state, detail)
        for event in events:
            if self._outbox.is_durable:
                self.event(stream, event)  # it knows whether the broker was told
            else:
                self._do(lambda event=event: self._take_over(stream, event))  # type: ignore[misc]

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        topics = self._topics
        said = {topics.source_status(stream.source): state, topics.source_detail(stream.source): detail or state}
        if state != "offline":
            said[topics.enabled(stream.source)] = "OFF" if state == "disabled" else "ON"
        self._do(lambda: self._say(said))

    def event(self, stream: Stream, event: Event) -> None:
        payload = json.dumps(event.to_json(stream, time.time()), allow_nan=False)
        self._do(lambda: self._take(stream, event, payload))

    def report(self, stream: Stream, report: Report) -> None:
        self._moment(self._topics.scores(stream.source), report.to_json(stream))

    def audio(self, stream: Stream, level: Level) -> None:
        self._moment(self._topics.audio(stream.source), level.to_json(stream))

    def stats(self, message: Mapping[str, Any]) -> None:
        self._moment(self._topics.stats, message)

    def counts(self) -> Mapping[str, int]:
        return {
            "waiting": len(self._outbox),
            "dropped": self._outbox.dropped + self._refused,
            "reconnects": self._connection.reconnects,
        }

    def close(self, wait_s: float) -> None:
        """
        Raises:
            TaggerError: messages could not be delivered in time.
        """
        connection, deadline = self._connection, time.monotonic() + wait_s
        connection.ready.wait(wait_s)
        self._do(self._finish)
        if not connection.refused:
            self._drained.wait(max(0.0, deadline - time.monotonic()))
        connection.stop()
        self._steps.put(None)
        self._thread.join()
        left, dropped = len(self._outbox), self._outbox.dropped
        self._outbox.close()
        if connection.refused:
            return
        url, kept = (
            self._settings.url,
            "they wait on disk for the next start" if self._outbox.is_durable else "they are lost",
        )
        if not connection.ever_connected:
            more = f"; of {left} events, {kept}" if left else ""
            raise TaggerError(f"nothing was published: {url} could not be reached in time{more}")
        if left:
            raise TaggerError(f"{left} events were not delivered to {url}; {kept}")
        if dropped:
            raise TaggerError(f"{dropped} events were dropped: {url} was away for too long")

    def _moment(self, topic: str, message: Mapping[str, Any]) -> None:
        """Worth something now or never: not kept for a broker that is away."""
        if self._connection.is_up:
            payload = json.dumps(message, allow_nan=False)
            self._connection.publish(Outgoing(topic, payload, qos=0, expiry_s=_MOMENT_SECONDS))

    # --- paho's thread ---

    def _on_connected(self) -> None:
        with self._gate:
            self._connections += 1
            self._generation = connection = self._connections
        self._do(lambda: self._welcome(connection))

    def _on_lost(self) -> None:
        with self._gate:
            self._generation = 0
        self._do(self._parted)

    # --- the sink's own thread ---

    def _do(self, step: Callable[[], None]) -> None:
        self._steps.put(step)

    def _run(self) -> None:
        while (step := self._steps.get()) is not None:
            step()
            self._send()

    def _welcome(self, connection: int) -> None:
        """What subscribers must find, whatever the broker forgot meanwhile."""
        self._accepted, self._settling = connection, bool(self._on_way)
        self._connection.subscribe([self._topics.node_status, *self._listens_to()])
        self._say_again()

    def _parted(self) -> None:
        """A broker that hangs up each time that it is given something large is not given that again: events wait."""
        largest = max((message.most_bytes for message in self._on_way.values()), default=0)
        if self._connection.short < _HANG_UPS or largest < _LARGE_BYTES:
            return
        with self._gate:
            if self._generation:
                return
            self._most_bytes = largest - 1
            self._connection.take_back()
            messages, self._on_way = self._on_way.values(), {}
            for message in messages:
                if self._fits(message):
                    self._on_way[self._connection.publish(message)] = message

    def _fits(self, message: Outgoing) -> bool:
        """Whether the broker takes it; if not, it is left out, and said."""
        limit = min(self._most_bytes, self._connection.most_bytes or math.inf)
        if message.number is not None or message.most_bytes <= limit:
            return True
        if message.topic not in self._left_out:
            self._left_out.add(message.topic)
            log.warning(
                "MQTT: %s takes no message as large as the one on %s (%d bytes), which is left out; raise its limit, "
                "such as max_packet_size of Mosquitto",
                *(self._settings.url, message.topic, len(message.payload.encode())),
            )
        return False

    def _listens_to(self) -> list[str]:
        topics = [self._home.birth] if self._home is not None else []
        return topics + ([self._topics.request("+"), self._topics.enabled_set("+")] if self._requests else [])

    def _say_again(self) -> None:
        first = [self._topics.node_status, *([self._home.topic] if self._home is not None else [])]
        self._urgent = deque(message for message in self._urgent if not message.retain)
        self._urgent.extend(self._retaining(topic) for topic in first)
        self._stale.update(dict.fromkeys(topic for topic in self._retained if topic not in first))

    def _retaining(self, topic: str) -> Outgoing:
        return Outgoing(topic, self._retained[topic], retain=True)

    def _say(self, said: Mapping[str, str]) -> None:
        """Changes retained topics."""
        changed = {topic: payload for topic, payload in said.items() if self._retained.get(topic) != payload}
        if unknown := changed.keys() - self._retained.keys():
            self._outbox.retain(unknown)
        self._retained.update(changed)
        self._stale.update(dict.fromkeys(changed))

    def _take(self, stream: Stream, event: Event, payload: str) -> None:
        topic = Topics(self._settings.prefix, stream.node).event(stream.source)
        self._outbox.put(topic, payload, event.id, event.type == "begin", self._read)
        self._follow(stream, event)

    def _take_over(self, stream: Stream, event: Event) -> None:
        """The sink before this one has said that it began."""
        self._outbox.begun(event.id)
        self._follow(stream, event)

    def _follow(self, stream: Stream, event: Event) -> None:
        """The states of an event."""
        source = self._sources.get(stream.source)
        if source is None or stream.node != self._settings.node or event.label not in source.levels:
            return  # of an earlier life: its states are gone, or were said to be OFF at the start
        if event.type == "begin":
            source.open[event.id] = event.label
        else:
            source.open.pop(event.id, None)
        is_on = {source.levels[event.label]: event.label in source.open.values(), ANY: bool(source.open)}
        self._say({self._topics.state(stream.source, level): "ON" if on else "OFF" for level, on in is_on.items()})

    def _received(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.node_status:
            if payload == b"offline" and not retained and not self._closing:  # the will of an earlier connection, late
                self._urgent.append(self._retaining(topic))
        elif self._home is not None and topic == self._home.birth:
            if payload == b"online":
                self._born(self._home)
        elif self._requests is not None and not retained:  # a request is for now, not for whoever comes later
            self._ask(self._requests, topic.removeprefix(f"{self._topics.base}/"), payload)

    def _born(self, home: Home) -> None:
        """Home Assistant has started."""
        if not self._farewell:
            self._say_again()
            return
        self._urgent.append(Outgoing(home.topic, self._farewell, retain=True))
        self._farewell = ""
        timer = threading.Timer(_FAREWELL_SECONDS, lambda: self._do(lambda: self._part(home)))
        timer.daemon = True
        timer.start()

    def _part(self, home: Home) -> None:
        """It has met what is gone: now it removes that, and need not be told again after the next start."""
        self._say_again()
        self._outbox.forget_components()
        self._outbox.remember(home.components(json.loads(self._retained[home.topic])))

    def _ask(self, requests: Requests, place: str, payload: bytes) -> None:
        first, _, rest = place.partition("/")
        if first != "request":
            if (enabled := requests.enable(first, payload)) is not None:
                self._say({self._topics.enabled(first): "ON" if enabled else "OFF"})
            return
        answer = requests.answer(rest, payload)
        if answer is not None:
            data = answer.get("data", {})
            if "enabled" in data:
                self._say({self._topics.enabled(each): "ON" if data["enabled"] else "OFF" for each in data["sources"]})
            self._urgent.append(Outgoing(self._topics.response(rest), json.dumps(answer)))

    def _acknowledged(self, mid: int, refused: bool) -> None:
        message = self._on_way.pop(mid, None)
        if message is not None and message.number is not None:
            self._outbox.done(message.number)
            self._refused += refused
        elif message is not None and message.retain and not message.payload:
            if message.topic in self._stale:
                return  # said anew meanwhile: forgotten when that has arrived
            self._outbox.forget(message.topic)
            if not self._retained.get(message.topic):
                self._retained.pop(message.topic, None)

    def _send(self) -> None:
        """Hands to paho as much as may be on its way at once."""
        if not self._settling or not self._on_way:
            self._settling = False
            while len(self._on_way) < self._connection.window and self._hand_over():
                pass
        if self._closing and not (self._on_way or self._urgent or self._stale or len(self._outbox)):
            self._drained.set()

    def _hand_over(self) -> bool:
        """Gives the next message to paho. Returns whether there was one, and a connection for it."""
        with self._gate:
            if not self._accepted or self._accepted != self._generation:
                self._ready.clear()
                self._read = self._handed_over
                return False
            message = self._next()
            if message is None:
                return False
            if self._fits(message):
                self._on_way[self._connection.publish(message)] = message
        self._handed_over = message.number or self._handed_over
        return True

    def _next(self) -> Outgoing | None:
        if self._urgent:
            return self._urgent.popleft()
        if not self._ready:
            for each in self._outbox.after(self._read, _BATCH):
                self._read = each.number
                self._ready.append(
                    Outgoing(each.topic, each.payload, expiry_s=self._settings.expiry_s, number=each.number)
                )
        if self._ready:
            return self._ready.popleft()
        for topic in self._stale:
            del self._stale[topic]
            return self._retaining(topic)
        return None

    def _finish(self) -> None:
        self._closing = True
        self._retained[self._topics.node_status] = "offline"
        self._stale.pop(self._topics.node_status, None)
        self._stale[self._topics.node_status] = None  # after everything else
