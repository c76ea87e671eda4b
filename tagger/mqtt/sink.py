"""Events over MQTT. The topics and payloads are a contract that other people's automations hang on: see README.

What is said, and where; how it reaches the broker is `tagger.mqtt.delivery`.
"""

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tagger.errors import UserError
from tagger.events import Event, Level, Report, Stream
from tagger.mqtt.delivery import Delivery
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.requests import Requests
from tagger.mqtt.topics import ANY, Topics, label_levels
from tagger.settings import MqttSettings
from tagger.sinks import Sink, SourceState

_FAREWELL_SECONDS = 10
"""Home Assistant has met by then what it is told to remove. It drops parts of a message that comes while it is busy."""


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
        self._topics = Topics(settings.prefix, settings.node)
        self._paused = frozenset(paused)
        self._delivery = Delivery(settings, on_refused, outbox, settings.client_id or client_id)
        self._delivery.on_connected = self._subscribe
        self._connection = self._delivery.connection
        self._connection.on_message = lambda topic, payload, retained: self._delivery.do(
            lambda: self._received(topic, payload, retained)
        )
        self._sources: dict[str, _Source] = {}
        """Belongs to the delivery's thread, once that runs; so does the next."""
        self._farewell = ""
        """What Home Assistant is told once, when it starts next, before it is told what is gone."""

    def open(self, streams: Sequence[Stream]) -> None:
        topics, said = self._topics, {self._topics.node_status: "online"}
        if self._home is not None:
            said[self._home.topic] = self._announcement(self._home, streams)
        else:
            self._delivery.outbox.forget_components()
        self._delivery.first = tuple(said)
        for stream in streams:
            source = self._sources[stream.source] = _Source(label_levels(stream.labels))
            said[topics.source_status(stream.source)] = "offline"
            said[topics.source_detail(stream.source)] = "starting"
            said[topics.enabled(stream.source)] = "OFF" if stream.source in self._paused else "ON"
            for level in (*source.levels.values(), ANY):
                said[topics.state(stream.source, level)] = "OFF"
        self._connection.set_will(topics.node_status, "offline")
        self._delivery.start(said)

    def resume(self, stream: Stream, state: SourceState, detail: str, events: Sequence[Event]) -> None:
        self.status(stream, state, detail)
        for event in events:
            if self._delivery.outbox.is_durable:
                self.event(stream, event)  # it knows whether the broker was told
            else:
                self._delivery.do(lambda event=event: self._take_over(stream, event))  # type: ignore[misc]

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        topics = self._topics
        said = {topics.source_status(stream.source): state, topics.source_detail(stream.source): detail or state}
        if state != "offline":
            said[topics.enabled(stream.source)] = "OFF" if state == "disabled" else "ON"
        self._delivery.do(lambda: self._delivery.say(said))

    def event(self, stream: Stream, event: Event) -> None:
        payload = json.dumps(event.to_json(stream, time.time()), allow_nan=False)
        self._delivery.do(lambda: self._take(stream, event, payload))

    def report(self, stream: Stream, report: Report) -> None:
        self._delivery.say_now(self._topics.scores(stream.source), report.to_json(stream))

    def audio(self, stream: Stream, level: Level) -> None:
        self._delivery.say_now(self._topics.audio(stream.source), level.to_json(stream))

    def stats(self, message: Mapping[str, Any]) -> None:
        self._delivery.say_now(self._topics.stats, message)

    def counts(self) -> Mapping[str, int]:
        return self._delivery.counts()

    def close(self, wait_s: float) -> None:
        """
        Raises:
            TaggerError: messages could not be delivered in time.
        """
        self._delivery.close(wait_s, self._topics.node_status, "offline")

    # --- the delivery's thread ---

    def _subscribe(self) -> None:
        topics = [self._topics.node_status]
        if self._home is not None:
            topics.append(self._home.birth)
        if self._requests is not None:
            topics += [self._topics.request("+"), self._topics.enabled_set("+")]
        self._connection.subscribe(topics)

    def _take(self, stream: Stream, event: Event, payload: str) -> None:
        topic = Topics(self._settings.prefix, stream.node).event(stream.source)
        self._delivery.event(topic, payload, event.id, event.type == "begin")
        self._follow(stream, event)

    def _take_over(self, stream: Stream, event: Event) -> None:
        """The sink before this one has said that it began."""
        self._delivery.outbox.begun(event.id)
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
        self._delivery.say(
            {self._topics.state(stream.source, level): "ON" if on else "OFF" for level, on in is_on.items()}
        )

    def _received(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.node_status:
            is_wrong = payload == b"offline" and not retained and not self._delivery.closing
            if is_wrong:  # the will of an earlier connection, late
                self._delivery.say_first(topic)
        elif self._home is not None and topic == self._home.birth:
            if payload == b"online":
                self._born(self._home)
        elif self._requests is not None and not retained:  # a request is for now, not for whoever comes later
            self._ask(self._requests, topic.removeprefix(f"{self._topics.base}/"), payload)

    def _ask(self, requests: Requests, place: str, payload: bytes) -> None:
        first, _, rest = place.partition("/")
        if first != "request":
            if (enabled := requests.enable(first, payload)) is not None:
                self._say_enabled([first], enabled)
            return
        answer = requests.answer(rest, payload)
        if answer is not None:
            data = answer.get("data", {})
            if "enabled" in data:
                self._say_enabled(data["sources"], data["enabled"])
            self._delivery.answer(self._topics.response(rest), json.dumps(answer))

    def _say_enabled(self, sources: Sequence[str], enabled: bool) -> None:
        self._delivery.say({self._topics.enabled(source): "ON" if enabled else "OFF" for source in sources})

    # --- Home Assistant ---

    def _announcement(self, home: Home, streams: Sequence[Stream]) -> str:
        outbox = self._delivery.outbox
        message = home.message(streams, outbox.components)
        outbox.remember(home.components(message))
        if (last := home.farewell(message)) != message:
            self._farewell = json.dumps(last, ensure_ascii=False)
        return json.dumps(message, ensure_ascii=False)

    def _born(self, home: Home) -> None:
        """Home Assistant has started."""
        if not self._farewell:
            self._delivery.say_again()
            return
        self._delivery.say_first(home.topic, self._farewell)
        self._farewell = ""
        timer = threading.Timer(_FAREWELL_SECONDS, lambda: self._delivery.do(lambda: self._part(home)))
        timer.daemon = True
        timer.start()

    def _part(self, home: Home) -> None:
        """It has met what is gone: now it removes that, and need not be told again after the next start."""
        self._delivery.say_again()
        self._delivery.outbox.forget_components()
        self._delivery.outbox.remember(home.components(json.loads(self._delivery.retained(home.topic))))
