"""Publishes events, states and statistics over MQTT. The topics and payloads are a contract: see the README.

This module decides what is published under which topic; `tagger.mqtt.delivery` brings it to the broker.
"""

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tagger.errors import UserError
from tagger.events import Event, Level, Report, Stream
from tagger.mqtt.delivery import Delivery
from tagger.mqtt.inbox import Inbox
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.requests import Requests
from tagger.mqtt.topics import ANY_LEVEL, Topics, label_levels
from tagger.settings import MqttSettings
from tagger.sinks import Sink, SourceState
from tagger.unforeseen import contained

REMOVAL_SECONDS = 10
"""Wait between the two messages that remove entities, seconds. Home Assistant would ignore parts of the second while it
handles the first."""


@dataclass(frozen=True)
class Discovery:
    """Announcement of the node in Home Assistant, by MQTT discovery."""

    config_topic: str
    """Topic of the discovery message, which is retained."""
    birth_topic: str
    """Topic at which Home Assistant publishes `online` when it has started. Everything is then published again."""
    message: Callable[[Sequence[Stream], Mapping[str, str]], dict[str, Any]]
    """Makes the discovery message from the streams, and from the components that were ever announced (id ->
    platform): those that exist no more are named as removed."""
    components: Callable[[Mapping[str, Any]], dict[str, str]]
    """The components of a discovery message: id -> platform."""
    removal: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The discovery message with removed components described once more, because Home Assistant removes only what it
    has seen since it started."""


class Journal(Protocol):
    """Keeps what is open known to others, through the same broker. Its methods are called in the delivery thread."""

    @property
    def topics(self) -> Sequence[str]:
        """Topics to subscribe to."""

    def attach(self, delivery: Delivery) -> None:
        """Called once, before anything is connected."""

    def connected(self) -> None:
        """There is a connection. Nothing but the node's status is published on it until the journal lets go
        (`Backlog.is_held`).
        """

    def caught_up(self) -> None:
        """What the broker retains has come."""

    def note(self, topic: str, payload: bytes, retained: bool) -> bool:
        """Takes a message. Returns whether it was the journal's."""

    def event(self, stream: Stream, event: Event) -> None:
        """Called before an event is added to those that wait."""


@dataclass
class _SourceStates:
    """States of one source's labels."""

    levels: dict[str, str]
    """Topic level of each label."""
    open: dict[str, str] = field(default_factory=dict)
    """Events that have begun and not ended: id -> label."""


def first_topics(prefix: str, stream: Stream) -> list[str]:
    """The retained topics of a source: how it is, and the state of each label."""
    topics, source = Topics(prefix, stream.node), stream.source
    levels = (*label_levels(stream.labels).values(), ANY_LEVEL)
    own = [topics.source_status(source), topics.source_detail(source), topics.enabled(source)]
    return [*own, *(topics.state(source, level) for level in levels)]


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
        discovery: Discovery | None = None,
        journal: Journal | None = None,
    ) -> None:
        """
        Args:
            on_refused: called in paho's thread, when the broker refuses the very first connection for good. None: the
                connection is tried again even then.
            outbox: queue of events; `close` closes it. None: one in memory.
            client_id: the same at every start. Empty: another each time.
            paused: names of the sources that are paused.
            requests: answers requests over MQTT. None: requests are ignored.
            discovery: None: not announced in Home Assistant; what an earlier run announced there is removed.
            journal: None: what is open is known to this process alone.

        Raises:
            UserError: a certificate file cannot be used.
        """
        self.settings, self._requests, self._discovery, self._journal = settings, requests, discovery, journal
        self._topics = Topics(settings.prefix, settings.node)
        self._paused = frozenset(paused)
        self.delivery = Delivery(settings, on_refused, outbox, settings.client_id or client_id)
        self.delivery.on_connected = self._subscribe
        self._backlog = self.delivery.backlog
        if journal is not None:
            journal.attach(self.delivery)
        self.connection = self.delivery.connection
        self.connection.on_message = Inbox(self.delivery.enqueue, self.handle_message).receive

        # Used in the delivery thread alone, once that runs.
        self._sources: dict[str, _SourceStates] = {}
        self._removal = ""
        """Payload to publish once, at Home Assistant's next start, before the discovery message. Empty: none."""

    def open(self, streams: Sequence[Stream]) -> None:
        topics, retained = self._topics, {self._topics.node_status: "online"}
        if self._discovery is not None:
            retained[self._discovery.config_topic] = self._discovery_payload(self._discovery, streams)
        else:
            self.delivery.outbox.remove_components()
        self._backlog.first_topics = tuple(retained)
        for stream in streams:
            self._sources[stream.source] = _SourceStates(label_levels(stream.labels))
            retained |= self._first_states(stream)
        self.connection.set_will(topics.node_status, "offline")
        self.delivery.start(retained)

    def join(self, stream: Stream) -> None:
        def add() -> None:
            self._sources[stream.source] = _SourceStates(label_levels(stream.labels))
            self._backlog.update_retained(self._first_states(stream))

        self.delivery.enqueue(add)

    def leave(self, stream: Stream) -> None:
        def remove() -> None:
            self._backlog.update_retained(dict.fromkeys(self._first_states(stream), ""))
            self._sources.pop(stream.source, None)

        self.delivery.enqueue(remove)

    def _first_states(self, stream: Stream) -> dict[str, str]:
        """The retained topics of a source from which nothing has come as yet, and their payloads."""
        topics, source = self._topics, stream.source
        return {
            **dict.fromkeys(first_topics(self.settings.prefix, stream), "OFF"),
            topics.source_status(source): "offline",
            topics.source_detail(source): "starting",
            topics.enabled(source): "OFF" if source in self._paused else "ON",
        }

    def resume(self, stream: Stream, state: SourceState, detail: str, events: Sequence[Event]) -> None:
        self.status(stream, state, detail)
        for event in events:
            if self.delivery.outbox.is_durable:
                self.event(stream, event)  # the outbox knows whether the begin was published
            else:
                self.delivery.enqueue(lambda event=event: self._adopt_event(stream, event))  # type: ignore[misc]

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        topics = self._topics
        retained = {topics.source_status(stream.source): state, topics.source_detail(stream.source): detail or state}
        if state != "offline":
            retained[topics.enabled(stream.source)] = "OFF" if state == "disabled" else "ON"
        self.delivery.enqueue(lambda: self._backlog.update_retained(retained))

    def event(self, stream: Stream, event: Event) -> None:
        payload = json.dumps(event.to_json(stream, time.time()), allow_nan=False)
        self.delivery.enqueue(lambda: self._publish_event(stream, event, payload))

    def when_kept(self, step: Callable[[], None]) -> None:
        self.delivery.enqueue(step)  # after those that put the events into the outbox

    def report(self, stream: Stream, report: Report) -> None:
        self.delivery.publish_if_connected(self._topics.scores(stream.source), report.to_json(stream))

    def audio(self, stream: Stream, level: Level) -> None:
        self.delivery.publish_if_connected(self._topics.audio(stream.source), level.to_json(stream))

    def stats(self, message: Mapping[str, Any]) -> None:
        self.delivery.publish_if_connected(self._topics.stats, message)

    def counts(self) -> Mapping[str, int]:
        return self.delivery.counts()

    def trouble(self) -> str | None:
        if self.connection.is_connected:
            return None
        return f"no connection to {self.settings.url}: {self.connection.trouble or 'reconnecting'}"

    def close(self, wait_s: float) -> None:
        """
        Raises:
            TaggerError: messages could not be delivered in time.
        """
        self.delivery.close(wait_s, self._topics.node_status, "offline")

    # --- the delivery thread ---

    def _subscribe(self) -> None:
        topics = [self._topics.node_status]
        if self._discovery is not None:
            topics.append(self._discovery.birth_topic)
        if self._requests is not None:
            topics += [self._topics.request("+"), self._topics.enabled_set("+")]
        if self._journal is not None:
            self._journal.connected()
            topics += self._journal.topics
        self.connection.subscribe(topics)

    def _publish_event(self, stream: Stream, event: Event, payload: str) -> None:
        topic = Topics(self.settings.prefix, stream.node).event(stream.source)
        if self._journal is not None:
            self._journal.event(stream, event)
        self._backlog.add_event(topic, payload, event.id, event.type == "begin")
        self._update_states(stream, event)

    def _adopt_event(self, stream: Stream, event: Event) -> None:
        """Takes over an open event whose begin an earlier sink has published."""
        self.delivery.outbox.mark_begun(event.id)
        self._update_states(stream, event)

    def _update_states(self, stream: Stream, event: Event) -> None:
        """Publishes the states that this event changes: its label's, and that of ANY_LEVEL."""
        source = self._sources.get(stream.source)
        if source is None or stream.node != self.settings.node or event.label not in source.levels:
            return  # from an earlier run: its states were emptied, or set to OFF at the start
        if event.type == "begin":
            source.open[event.id] = event.label
        else:
            source.open.pop(event.id, None)
        is_on = {source.levels[event.label]: event.label in source.open.values(), ANY_LEVEL: bool(source.open)}
        self._backlog.update_retained(
            {self._topics.state(stream.source, level): "ON" if on else "OFF" for level, on in is_on.items()}
        )

    def handle_message(self, topic: str, payload: bytes, retained: bool) -> None:
        """Takes a message from the broker, which may be anything. Raises nothing."""
        with contained("MQTT: a message"):
            self._read_message(topic, payload, retained)

    def _read_message(self, topic: str, payload: bytes, retained: bool) -> None:
        if self._journal is not None and self._journal.note(topic, payload, retained):
            return
        if topic == self._topics.node_status:
            if self._journal is not None and payload == b"online" and not retained:
                self._journal.caught_up()  # a broker answers a subscription before it passes on what came later
            is_late_will = payload == b"offline" and not retained and not self.delivery.is_closing
            if is_late_will:
                # Of an earlier connection, which the broker believed alive for longer; or another daemon of this name
                # has ended, which has changed other topics too.
                self._backlog.republish_retained()
        elif self._discovery is not None and topic == self._discovery.birth_topic:
            if payload == b"online":
                self._handle_birth(self._discovery)
        elif self._requests is not None and not retained:  # a retained request would take effect at every start
            self._handle_request(self._requests, topic.removeprefix(f"{self._topics.base}/"), payload)

    def _handle_request(self, requests: Requests, subtopic: str, payload: bytes) -> None:
        """
        Args:
            subtopic: `request/KIND`, or `SOURCE/enabled/set`.
        """
        first, _, kind = subtopic.partition("/")
        if first != "request":
            if (enabled := requests.switch(first, payload)) is not None:
                self._publish_enabled([first], enabled)
            return
        answer = requests.answer(kind, payload)
        if answer is not None:
            data = answer.get("data", {})
            if "enabled" in data:
                self._publish_enabled(data["sources"], data["enabled"])
            self._backlog.add_response(self._topics.response(kind), json.dumps(answer))

    def _publish_enabled(self, sources: Sequence[str], enabled: bool) -> None:
        self._backlog.update_retained({self._topics.enabled(source): "ON" if enabled else "OFF" for source in sources})

    # --- Home Assistant ---

    def _discovery_payload(self, discovery: Discovery, streams: Sequence[Stream]) -> str:
        outbox = self.delivery.outbox
        message = discovery.message(streams, outbox.components)
        outbox.add_components(discovery.components(message))
        if (removal := discovery.removal(message)) != message:
            self._removal = json.dumps(removal, ensure_ascii=False)
        return json.dumps(message, ensure_ascii=False)

    def _handle_birth(self, discovery: Discovery) -> None:
        """Publishes everything again: Home Assistant has started."""
        if not self._removal:
            self._backlog.republish_retained()
            return
        self._backlog.publish_retained_first(discovery.config_topic, self._removal)
        self._removal = ""
        timer = threading.Timer(REMOVAL_SECONDS, lambda: self.delivery.enqueue(lambda: self._finish_removal(discovery)))
        timer.daemon = True
        timer.start()

    def _finish_removal(self, discovery: Discovery) -> None:
        """Publishes the discovery message, by which Home Assistant removes the components that it has now seen. They
        need not be named at its next start.
        """
        self._backlog.republish_retained()
        self.delivery.outbox.remove_components()
        message = json.loads(self._backlog.retained_payload(discovery.config_topic))
        self.delivery.outbox.add_components(discovery.components(message))
