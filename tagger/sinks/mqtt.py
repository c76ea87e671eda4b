"""Events over MQTT. The topics and payloads are a contract that other people's automations hang on: see README.

The only module that imports paho. Its network thread connects, reconnects with backoff, and delivers; `publish` only
puts a message into paho's queue.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from tagger.errors import TaggerError, UserError
from tagger.events import Event, Report, Stream
from tagger.mqtt.topics import ANY, Topics, label_levels
from tagger.settings import MqttSettings
from tagger.sinks import Sink, SourceState

log = logging.getLogger(__name__)

_KEEPALIVE_SECONDS = 30
_RETRY_SECONDS = (1, 60)
"""First and longest wait between attempts to connect; each is twice the one before."""
_QUEUE_MESSAGES = 10_000
"""While there is no connection, so many wait; further ones are dropped, and said."""
# What a broker answers when trying again cannot help: wrong user or password, not authorised, banned, client id.
_FINAL_REFUSALS = {"Bad user name or password", "Not authorized", "Banned", "Client identifier not valid"}


class MqttSink(Sink):
    """Publishes to one broker. Its last will says `offline` if this process dies."""

    def __init__(self, settings: MqttSettings, on_refused: Callable[[UserError], None]) -> None:
        """
        Args:
            on_refused: called, from paho's thread, when the broker refuses the very first connection for good.
        """
        self._settings, self._on_refused = settings, on_refused
        self._topics = Topics(settings.prefix, settings.node)
        self._levels: dict[str, dict[str, str]] = {}
        """Topic level of each label, of each source."""
        self._retained: dict[str, str] = {}
        """The present payload of each retained topic, published again at every connect."""
        self._on: dict[str, set[str]] = {}
        """Labels whose event is open, of each source."""
        self._lock = threading.Lock()
        """Held while a retained topic is published, so that an older payload never follows a newer one."""
        self._dropped = 0
        self._stale = False
        """Retained topics may be wrong at the broker, and are published again behind whatever waits."""
        self._connection = Connection(settings, self._connected, self._refused)

    def open(self, streams: Sequence[Stream]) -> None:
        for stream in streams:
            self._levels[stream.source] = label_levels(stream.labels)
            self._on[stream.source] = set()
            self._retained[self._topics.source_status(stream.source)] = "offline"
            self._retained[self._topics.source_detail(stream.source)] = "starting"
            for level in (*self._levels[stream.source].values(), ANY):
                self._retained[self._topics.state(stream.source, level)] = "OFF"
        self._connection.client.will_set(self._topics.node_status, "offline", qos=1, retain=True)
        self._connection.start()

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        self._retain(self._topics.source_status(stream.source), state)
        self._retain(self._topics.source_detail(stream.source), detail)

    def event(self, stream: Stream, event: Event) -> None:
        self._publish(
            self._topics.event(stream.source), json.dumps(event.to_json(stream, time.time()), allow_nan=False), qos=1
        )
        level, began, on = self._levels[stream.source][event.label], event.type == "begin", self._on[stream.source]
        (on.add if began else on.discard)(event.label)
        self._retain(self._topics.state(stream.source, level), "ON" if began else "OFF")
        self._retain(self._topics.state(stream.source, ANY), "ON" if on else "OFF")

    def report(self, stream: Stream, report: Report) -> None:
        if self._connection.client.is_connected():  # worth something now or never: not kept for a broker that is away
            self._repair()
            self._publish(
                self._topics.scores(stream.source), json.dumps(report.to_json(stream), allow_nan=False), qos=0
            )

    def close(self, wait_s: float) -> None:
        """
        Raises:
            TaggerError: messages could not be delivered in time.
        """
        connection, deadline = self._connection, time.monotonic() + wait_s
        connection.ready.wait(wait_s)
        self._repair()
        self._retain(self._topics.node_status, "offline")
        while connection.pending() and not connection.refused and time.monotonic() < deadline:
            time.sleep(0.005)
        lost = connection.pending() + self._dropped
        connection.stop()
        if connection.refused:
            return
        if not connection.ever_connected:
            raise TaggerError(f"nothing was published: {self._settings.url} could not be reached in time")
        if lost:
            raise TaggerError(f"{lost} messages were not delivered to {self._settings.url}")

    def _retain(self, topic: str, payload: str) -> None:
        with self._lock:
            changed = self._retained.get(topic) != payload
            self._retained[topic] = payload
            if changed and self._connection.ever_connected:  # else the first connect publishes it
                self._publish(topic, payload, qos=1, retain=True)

    def _publish(self, topic: str, payload: str, qos: int, retain: bool = False) -> None:
        info = self._connection.client.publish(topic, payload, qos, retain)
        if info.rc == paho.MQTT_ERR_QUEUE_SIZE:
            self._dropped += 1
            self._stale |= retain
            if self._dropped == 1:
                log.warning("MQTT: %d messages wait for the broker already; further ones are lost", _QUEUE_MESSAGES)

    def _connected(self, client: paho.Client) -> None:
        """What subscribers must find, whatever the broker forgot meanwhile.

        After an outage older states wait in paho's queue, and what is published here overtakes them: then only the
        presence is said, and all the rest once more behind them.
        """
        with self._lock:
            self._retained[self._topics.node_status] = "online"
            self._stale = self._connection.ever_connected and self._connection.pending() > 0
            if self._stale:
                self._publish(self._topics.node_status, "online", qos=1, retain=True)
            else:
                self._publish_retained()
            self._connection.ever_connected = True  # within the lock: from here on, `_retain` publishes

    def _repair(self) -> None:
        if self._stale and self._connection.pending() < _QUEUE_MESSAGES // 2:
            with self._lock:
                self._stale = False
                self._publish_retained()

    def _publish_retained(self) -> None:
        for topic, payload in self._retained.items():
            self._publish(topic, payload, qos=1, retain=True)

    def _refused(self, reason: str) -> None:
        self._on_refused(
            UserError(f"the broker at {self._settings.url} refuses: {reason}; check user and password in --mqtt")
        )


class Connection:
    """A paho client that says what happens to its connection, in one line each."""

    def __init__(
        self,
        settings: MqttSettings,
        on_connected: Callable[[paho.Client], None],
        on_refused: Callable[[str], None],
        quiet: bool = False,
    ) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self.ready = threading.Event()
        """Set while connected, and when refused for good."""
        self.ever_connected = False
        self.refused = False
        self._settings, self._tell_connected, self._tell_refused = settings, on_connected, on_refused
        self._quiet = quiet
        self._stopping = False
        if settings.user is not None:
            self.client.username_pw_set(settings.user, settings.password)
        if settings.tls:
            self.client.tls_set()
        self.client.reconnect_delay_set(*_RETRY_SECONDS)
        self.client.max_queued_messages_set(_QUEUE_MESSAGES)
        self.client.max_inflight_messages_set(100)
        self.client.on_connect = self._on_connect
        self.client.on_connect_fail = self._on_connect_fail
        self.client.on_disconnect = self._on_disconnect

    def start(self) -> None:
        self.client.connect_async(self._settings.host, self._settings.port, _KEEPALIVE_SECONDS)
        self.client.loop_start()

    def stop(self) -> None:
        self._stopping = True
        self.client.disconnect()
        self.client.loop_stop()

    def pending(self) -> int:
        """Messages that wait for the broker, or for its acknowledgement."""
        return len(self.client._out_messages) + len(self.client._out_packet)

    def _say(self, level: int, text: str, *values: object) -> None:
        if not self._quiet:
            log.log(level, text, *values)

    def _on_connect(self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            if not self.ever_connected and str(reason) in _FINAL_REFUSALS:
                self.refused = True
                self.ready.set()
                self._tell_refused(str(reason))
                client.disconnect()
            else:
                self._say(logging.WARNING, "MQTT: %s refuses (%s); trying again", self._settings.url, reason)
            return
        self._say(logging.INFO, "MQTT: connected to %s", self._settings.url)
        self._tell_connected(client)
        self.ever_connected = True
        self.ready.set()

    def _on_connect_fail(self, client: paho.Client, userdata: Any) -> None:
        # paho calls this while it handles the exception, and tells the reason nowhere else.
        reason = sys.exception()
        first, longest = _RETRY_SECONDS
        self._say(
            logging.WARNING,
            "MQTT: cannot reach %s (%s); trying again, every %d s at first, then less often, up to %d s",
            *(self._settings.url, _words(reason), first, longest),
        )

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        self.ready.clear()
        if self.refused:
            self.ready.set()
        elif not self.ever_connected:
            self._say(logging.WARNING, "MQTT: %s does not answer (%s); trying again", self._settings.url, reason)
        elif not self._stopping:
            self._say(logging.WARNING, "MQTT: lost %s (%s); reconnecting, events wait", self._settings.url, reason)


def _words(error: BaseException | None) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
