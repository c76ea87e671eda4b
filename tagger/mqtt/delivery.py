"""Delivers messages to a broker, from one thread, so that nothing is lost, reordered or repeated.

The delivery thread publishes everything at QoS 1. It alone knows what the broker has acknowledged and what it needs:

    sources' threads, paho's thread  ->  queue of steps  ->  delivery thread  ->  paho

`tagger.mqtt.backlog` decides what comes next. Nothing that the broker has acknowledged is sent again.
"""

import json
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from tagger.errors import TaggerError, UserError
from tagger.mqtt.backlog import Backlog
from tagger.mqtt.connection import Connection
from tagger.mqtt.message import Outgoing
from tagger.mqtt.outbox import Outbox
from tagger.settings import MqttSettings

log = logging.getLogger(__name__)

_LARGE_BYTES = 4_000
"""Every event is smaller; the message for Home Assistant may be larger. With MQTT 3.1.1 a broker cannot name its
limit and hangs up, so a message of this size may be the cause."""
_SHORT_CONNECTIONS = 3
"""Number of short connections in a row after which the largest message in flight is taken for the cause."""
_FIRST_CONNECTION_SECONDS = 1.0
"""Longest wait for the first connection, seconds. A broker that comes later is served from then on."""
_RETURN_SECONDS = 1.0
"""Time between two looks at an outbox that waits in memory for its disk, seconds."""
_EPHEMERAL_EXPIRY_SECONDS = 60
"""MQTT 5 message expiry interval of scores, levels and statistics, seconds."""


class Delivery:
    """Delivery to one broker. "The thread" is the delivery thread; `enqueue(step)` queues a step for it."""

    def __init__(
        self,
        settings: MqttSettings,
        on_refused: Callable[[UserError], None] | None,
        outbox: Outbox | None,
        client_id: str,
    ) -> None:
        """
        Args:
            on_refused: called in paho's thread, when the broker refuses the very first connection for good. None: the
                connection is tried again even then.
            outbox: where events wait; `close` closes it. None: one in memory.

        Raises:
            UserError: a certificate file cannot be used.
        """
        self.outbox = Outbox(None, settings.queue_events) if outbox is None else outbox
        self.backlog = Backlog(self.outbox, settings.expiry_s)
        """Used in the thread alone, once that runs."""
        self.connection = Connection(settings, on_refused, client_id)
        self.connection.on_connected = self._on_connected
        self.connection.on_lost = self._on_lost
        self.connection.on_acknowledged = lambda mid, refused: self.enqueue(lambda: self._acknowledge(mid, refused))
        self.on_connected: Callable[[], None] = _ignore
        """Called in the thread after each connect, before anything is published."""
        self._settings = settings
        self._connection_lock = threading.Lock()
        """Held while a message is handed to paho, and while the connection begins or ends."""
        self._current_connection = 0
        """Number of the present connection; 0: none."""
        self._connections_made = 0
        self._steps: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

        # Everything below is used in the thread alone, once that runs.
        self._in_flight: dict[int, Outgoing] = {}
        """Messages that paho has and the broker has not acknowledged, by paho's number."""
        self._refused_events = 0
        """Number of events that the broker has refused for good. Only MQTT 5 reports this."""
        self._served_connection = 0
        """Number of the connection that messages may be handed to. Differs from `_current_connection` until the thread
        has handled a connect."""
        self._is_resending = False
        """Whether paho sends again, after a reconnect, what was in flight. Nothing may overtake these messages."""
        self._largest_accepted_bytes: float = math.inf
        """Messages above this size made the broker hang up."""
        self._too_large_topics: set[str] = set()
        """Topics of messages that were too large and are in the log."""
        self.is_closing = False
        self._drained = threading.Event()
        """Set when `close` was called and the broker has everything."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self, retained: Mapping[str, str]) -> None:
        """Connects. Returns when there is a connection, or after _FIRST_CONNECTION_SECONDS.

        Args:
            retained: all retained topics, topic -> payload. Others, at which an earlier run has left a message, are
                emptied.
        """
        self.backlog.start(retained)
        self._thread.start()
        self.connection.start()
        # A file that is read at full speed ends soon: its scores would be lost before there is a connection.
        self.connection.ready.wait(_FIRST_CONNECTION_SECONDS)

    def enqueue(self, step: Callable[[], None]) -> None:
        """Queues a step for the thread, which runs the steps in order. From any thread."""
        self._steps.put(step)

    def publish_if_connected(self, topic: str, message: Mapping[str, Any]) -> None:
        """Publishes at QoS 0. Without a connection the message is dropped. From any thread."""
        if self.connection.is_connected:
            payload = json.dumps(message, allow_nan=False)
            self.connection.publish(Outgoing(topic, payload, qos=0, expiry_s=_EPHEMERAL_EXPIRY_SECONDS))

    def counts(self) -> Mapping[str, int]:
        """Number of events that wait, number of events that were dropped or refused, number of reconnects."""
        return {
            "waiting": len(self.outbox),
            "dropped": self.outbox.dropped + self._refused_events,
            "reconnects": self.connection.reconnects,
        }

    def close(self, wait_s: float, topic: str, payload: str) -> None:
        """Delivers what waits, for at most `wait_s` seconds, then disconnects and closes the outbox.

        Args:
            topic, payload: retained message that is published after everything else.

        Raises:
            TaggerError: messages could not be delivered in time.
        """
        connection, deadline = self.connection, time.monotonic() + wait_s
        connection.ready.wait(wait_s)
        self.enqueue(lambda: self._begin_closing(topic, payload))
        if not connection.refused:
            self._drained.wait(max(0.0, deadline - time.monotonic()))
        connection.stop()
        self._steps.put(None)
        self._thread.join()
        self.on_connected = _ignore  # drops the reference to the sink, and so to paho and its sockets
        self.outbox.return_to_disk(at_once=True)
        undelivered, dropped = len(self.outbox), self.outbox.dropped
        url = self._settings.url
        fate = "they wait on disk for the next start" if self.outbox.is_durable else "they are lost"
        self.outbox.close()
        if connection.refused:
            return
        if not connection.ever_connected:
            more = f"; of {undelivered} events, {fate}" if undelivered else ""
            raise TaggerError(f"nothing was published: {url} could not be reached in time{more}")
        if undelivered:
            raise TaggerError(f"{undelivered} events were not delivered to {url}; {fate}")
        if dropped:
            raise TaggerError(f"{dropped} events were dropped: {url} was away for too long")

    # --- the delivery thread ---

    def _run(self) -> None:
        while (step := self._next_step()) is not None:
            step()
            self._send()

    def _next_step(self) -> Callable[[], None] | None:
        """The next step. Meanwhile an outbox in memory returns to a disk that works again."""
        while self.outbox.is_displaced:
            self.outbox.return_to_disk()
            with suppress(queue.Empty):
                return self._steps.get(timeout=_RETURN_SECONDS)
        return self._steps.get()

    def _send(self) -> None:
        """Hands as many messages to paho as may be in flight."""
        if not self._is_resending or not self._in_flight:
            self._is_resending = False
            while len(self._in_flight) < self.connection.max_in_flight and self._hand_over():
                pass
        if self.is_closing and not self._in_flight and self.backlog.is_empty:
            self._drained.set()

    def _hand_over(self) -> bool:
        """Hands the next message to paho. Returns whether there was a message, and a connection for it."""
        with self._connection_lock:
            if not self._served_connection or self._served_connection != self._current_connection:
                self.backlog.forget_read_ahead()
                return False
            message = self.backlog.next()
            if message is None:
                return False
            if self._fits(message):
                self._in_flight[self.connection.publish(message)] = message
        return True

    def _fits(self, message: Outgoing) -> bool:
        """Whether the broker accepts a message of this size. If not, the message is left out, and the log names it."""
        limit = min(self._largest_accepted_bytes, self.connection.max_packet_bytes or math.inf)
        if message.outbox_number is not None or message.max_bytes <= limit:
            return True
        if message.topic not in self._too_large_topics:
            self._too_large_topics.add(message.topic)
            log.warning(
                "MQTT: %s takes no message as large as the one on %s (%d bytes), which is left out; raise its limit, "
                "such as max_packet_size of Mosquitto",
                *(self._settings.url, message.topic, len(message.payload.encode())),
            )
        return False

    def _acknowledge(self, mid: int, refused: bool) -> None:
        message = self._in_flight.pop(mid, None)
        if message is not None:
            self.backlog.acknowledge(message)
            self._refused_events += refused and message.outbox_number is not None

    def _handle_connect(self, connection: int) -> None:
        """Publishes all retained topics, whatever the broker has forgotten meanwhile."""
        self._served_connection, self._is_resending = connection, bool(self._in_flight)
        self.on_connected()
        self.backlog.republish_retained()

    def _handle_disconnect(self) -> None:
        """Gives up the largest message in flight if the broker hangs up each time that it receives it. Events stay."""
        largest = max((message.max_bytes for message in self._in_flight.values()), default=0)
        if self.connection.short_connections < _SHORT_CONNECTIONS or largest < _LARGE_BYTES:
            return
        with self._connection_lock:
            if self._current_connection:
                return
            self._largest_accepted_bytes = largest - 1
            self.connection.discard_unacknowledged()
            messages, self._in_flight = self._in_flight.values(), {}
            for message in messages:
                if self._fits(message):
                    self._in_flight[self.connection.publish(message)] = message

    def _begin_closing(self, topic: str, payload: str) -> None:
        self.is_closing = True
        self.backlog.publish_retained_last(topic, payload)

    # --- paho's thread ---

    def _on_connected(self) -> None:
        with self._connection_lock:
            self._connections_made += 1
            self._current_connection = connection = self._connections_made
        self.enqueue(lambda: self._handle_connect(connection))

    def _on_lost(self) -> None:
        with self._connection_lock:
            self._current_connection = 0
        self.enqueue(self._handle_disconnect)


def _ignore() -> None:
    """Callback where nobody listens."""
