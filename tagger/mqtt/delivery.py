"""Delivers messages to a broker, from one thread, so that no event is lost or reordered.

A crash may repeat an event, with the same id and type. The delivery thread publishes events and retained topics, at
QoS 1; scores, levels and statistics go out at QoS 0, from the caller's thread. The delivery thread alone knows what
the broker has acknowledged and what it needs:

    sources' threads, paho's thread  ->  queue of steps  ->  delivery thread  ->  paho

`tagger.mqtt.backlog` decides what comes next. Nothing that the broker has acknowledged is sent again.
"""

import json
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tagger.errors import TaggerError, UserError
from tagger.mqtt.backlog import Backlog
from tagger.mqtt.connection import SHORT_SECONDS, Connection
from tagger.mqtt.limits import SizeLimits, TooLarge, identity, shorter
from tagger.mqtt.message import Outgoing
from tagger.mqtt.outbox import Outbox
from tagger.printable import number_of
from tagger.settings import MqttSettings

log = logging.getLogger(__name__)

_SHORT_CONNECTIONS = 3
"""Number of short connections in a row after which a message that is too large is looked for."""
_HOLD_SECONDS = SHORT_SECONDS + 0.5
"""Age that a connection must reach before anything is sent on it while a too large message is looked for, seconds. A
broker that hangs up sooner does not do so because of a message."""
_BLAME_SECONDS = 5.0
"""Longest time from sending a message to the broker's hanging up that is taken for its answer, seconds."""
_HANGUPS = 2
"""Number of times that the broker must hang up at one message, sent alone, before the message counts as too large."""
_LOOSE_HANGUPS = 3
"""The same for messages that are not acknowledged."""
_LOOSE_BLAME_SECONDS = 1.0
"""The same as `_BLAME_SECONDS` for messages that are not acknowledged: they are sent all the time, so whatever ends a
connection comes soon after one. A broker that takes no message of the size hangs up at once."""
_FIRST_CONNECTION_SECONDS = 1.0
"""Longest wait for the first connection, seconds. A broker that comes later is served from then on."""
_RETURN_SECONDS = 1.0
"""Time between two looks at an outbox that waits in memory for its disk, seconds."""
_EPHEMERAL_EXPIRY_SECONDS = 60
"""MQTT 5 message expiry interval of scores, levels and statistics, seconds."""


@dataclass(frozen=True)
class _Loose:
    """A message that the broker does not acknowledge (QoS 0), larger than all that it has accepted so far."""

    topic: str
    size: int
    at: float
    """When it was published, on the monotonic clock."""


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
        self.on_event_handed_over: Callable[[Outgoing], None] = _ignore
        self.on_event_acknowledged: Callable[[Outgoing], None] = _ignore
        """Both are called in the thread with an event that paho was given, and that the broker has."""
        self.takes_back = False
        """Whether what was in flight when a connection was lost is taken back from paho, and so can be withdrawn."""
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
        self._limits = SizeLimits()
        self._is_searching = False
        """Whether a message that is too large is looked for: one message is sent at a time."""
        self._hold_until = 0.0
        """Time before which nothing is sent, on the monotonic clock."""
        self._returned: deque[Outgoing] = deque()
        """Messages taken back from paho. They go before all others."""
        self._blamed: tuple[Outgoing | None, int] = (None, 0)
        """The last message, sent alone, at which the broker hung up; and how often."""
        self._sent_at = 0.0
        """When the newest message was handed to paho, on the monotonic clock."""
        self._loose: _Loose | None = None
        """The message at QoS 0 of which it is not known yet whether the broker accepts it."""
        self._loose_hangups = 0
        self._too_large = TooLarge(settings.url)
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
        if self.connection.is_connected and not self._is_searching:
            payload = json.dumps(message, allow_nan=False)
            loose = Outgoing(topic, payload, qos=0, expiry_s=_EPHEMERAL_EXPIRY_SECONDS)
            size = self.connection.packet_bytes(loose)
            if self._limits.allows(size):
                if self._loose is not None or size > self._limits.accepted:  # else the thread has nothing to note
                    now = time.monotonic()
                    self.enqueue(lambda: self._note_loose(_Loose(topic, size, now)))
                self.connection.publish(loose)
            else:
                self.enqueue(lambda: self._too_large.leave_out(topic, size))

    def withdraw_end(self, event_id: str) -> None:
        """Forgets an event that somebody else has ended, unless its end is on its way. In the thread."""
        for message in [each for each in self._returned if identity(each.payload)[:2] == (event_id, "end")]:
            self._returned.remove(message)
            self.backlog.acknowledge(message)
        self.backlog.withdraw_end(event_id)

    def counts(self) -> Mapping[str, int]:
        """Number of events that wait, number of events that were dropped or refused, number of reconnects."""
        return {
            "waiting": len(self.outbox),
            "dropped": self.outbox.dropped + self._refused_events + self._too_large.events,
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
        self.on_event_handed_over = self.on_event_acknowledged = _ignore
        self.on_connected = _ignore  # drops the reference to the sink, and so to paho and its sockets
        self.outbox.return_to_disk(at_once=True)
        undelivered, dropped = len(self.outbox), self.outbox.dropped
        url = self._settings.url
        fate = "kept on disk for the next start" if self.outbox.is_durable else "lost"
        self.outbox.close()
        if connection.refused:
            return
        if not connection.ever_connected:
            more = f"; {number_of(undelivered, 'event')}: {fate}" if undelivered else ""
            raise TaggerError(f"nothing was published: {url} could not be reached in time{more}")
        if undelivered:
            raise TaggerError(f"{number_of(undelivered, 'event was', 'events were')} not delivered to {url}; {fate}")
        if dropped:
            raise TaggerError(f"{number_of(dropped, 'event was', 'events were')} dropped: {url} was away for too long")

    # --- the delivery thread ---

    def _run(self) -> None:
        while (step := self._next_step()) is not None:
            step()
            self._send()

    def _next_step(self) -> Callable[[], None] | None:
        """The next step. Meanwhile an outbox in memory returns to a disk that works again, and a hold ends."""
        waits = []
        if self.outbox.is_displaced:
            self.outbox.return_to_disk()
            waits.append(_RETURN_SECONDS)
        if (hold_s := self._hold_until - time.monotonic()) > 0:
            waits.append(hold_s)
        try:
            return self._steps.get(timeout=min(waits, default=None))
        except queue.Empty:
            return _ignore

    def _send(self) -> None:
        """Hands as many messages to paho as may be in flight."""
        if time.monotonic() < self._hold_until:
            return
        if not self._is_resending or not self._in_flight:
            self._is_resending = False
            most = 1 if self._is_searching else self.connection.max_in_flight
            while len(self._in_flight) < most and self._hand_over():
                pass
        if not self._in_flight and not self._returned and self.backlog.is_empty:
            if self._served_connection == self._current_connection:
                self._is_searching = False
            if self.is_closing:
                self._drained.set()

    def _hand_over(self) -> bool:
        """Hands the next message to paho. Returns whether there was a message, and a connection for it."""
        with self._connection_lock:
            if not self._served_connection or self._served_connection != self._current_connection:
                self.backlog.forget_read_ahead()
                return False
            takes_returned = self._returned and not self.backlog.is_held
            message = self._returned.popleft() if takes_returned else self.backlog.next()
            if message is None:
                return False
            if (fitting := self._fit(message)) is not None:
                self._sent_at = time.monotonic()
                self._in_flight[self.connection.publish(fitting)] = fitting
            if message.outbox_number is not None:
                self.on_event_handed_over(message)
        return True

    def _fit(self, message: Outgoing) -> Outgoing | None:
        """The message in a form that the broker accepts. None: there is none; the message is left out, and the log
        names it.
        """
        limits, size = self._limits, self.connection.packet_bytes(message)
        if message.outbox_number is None:
            if limits.allows(size):
                return message
            self._too_large.leave_out(message.topic, size)
            return None
        if size <= limits.comfortable and not self._too_large.open_events:
            return message
        event_id, kind, label = identity(message.payload)
        if event_id not in self._too_large.open_events:
            short = message
            forms = (
                replace(message, payload=each, is_plain=True) for each in (message.payload, *shorter(message.payload))
            )
            while size > limits.comfortable and (form := next(forms, None)) is not None:
                short, size = form, self.connection.packet_bytes(form)
            if limits.allows(size):
                if short is not message:
                    self._too_large.shorten(size)
                return short
        self._too_large.leave_out_event(event_id, kind, label, message.topic, size)
        self.backlog.acknowledge(message)
        return None

    def _acknowledge(self, mid: int, refused: bool) -> None:
        message = self._in_flight.pop(mid, None)
        if message is not None:
            self._limits.accept(self.connection.packet_bytes(message))
            self.backlog.acknowledge(message)
            self._refused_events += refused and message.outbox_number is not None
            if message.outbox_number is not None:
                self.on_event_acknowledged(message)

    def _handle_connect(self, connection: int, has_other_limit: bool) -> None:
        """Publishes all retained topics, whatever the broker has forgotten meanwhile."""
        self._served_connection, self._is_resending = connection, bool(self._in_flight)
        self._loose = None
        if has_other_limit:
            self._too_large.begin_anew()
        if self._is_searching:
            self._hold_until = time.monotonic() + _HOLD_SECONDS
        self.on_connected()
        self.backlog.republish_retained()

    def _handle_disconnect(self) -> None:
        """Looks for a message that is too large, if the broker hangs up again and again.

        With MQTT 3.1.1 a broker cannot name its limit. Each connection must first last for a while with nothing sent on
        it; then one message is sent at a time. That at which the broker hangs up is too large.
        """
        now = time.monotonic()
        if self._loose is not None:
            is_answer = now - self._loose.at <= _LOOSE_BLAME_SECONDS
            self._loose_hangups = self._loose_hangups + 1 if is_answer else 0
            if self._loose_hangups >= _LOOSE_HANGUPS and not self._in_flight:
                self._limits.reject(self._loose.size)
                self._loose_hangups = 0
        self._loose = None
        if self._is_searching:
            if len(self._in_flight) == 1 and now - self._sent_at <= _BLAME_SECONDS:
                self._blame(next(iter(self._in_flight.values())))
        elif self.connection.short_connections < _SHORT_CONNECTIONS or not self._in_flight:
            if self.takes_back:
                self._take_back()
            return
        self._is_searching = self._take_back() or self._is_searching

    def _take_back(self) -> bool:
        """Takes back from paho what was in flight. Returns whether it could: there is no connection yet."""
        with self._connection_lock:
            if self._current_connection:
                return False  # paho has sent them again already
            self.connection.discard_unacknowledged()
            self._returned.extendleft(reversed(self._in_flight.values()))
            self._in_flight = {}
        return True

    def _blame(self, message: Outgoing) -> None:
        """Notes that the broker has hung up at this message."""
        before, times = self._blamed
        self._blamed = (message, times + 1 if message == before else 1)
        if self._blamed[1] >= _HANGUPS:
            self._blamed = (None, 0)
            self._limits.reject(self.connection.packet_bytes(message))

    def _note_loose(self, loose: _Loose) -> None:
        """Notes a message that was published at QoS 0. It was accepted if the connection outlives it by a while."""
        if self._loose is not None and loose.at - self._loose.at > _LOOSE_BLAME_SECONDS:
            self._limits.accept(self._loose.size)
            self._loose, self._loose_hangups = None, 0
        if self._loose is None and loose.size > self._limits.accepted:
            self._loose = loose

    def _begin_closing(self, topic: str, payload: str) -> None:
        self.is_closing = True
        self.backlog.publish_retained_last(topic, payload)

    # --- paho's thread ---

    def _on_connected(self) -> None:
        with self._connection_lock:
            has_other_limit = self._limits.connect(self.connection.max_packet_bytes or math.inf)
            self._connections_made += 1
            self._current_connection = connection = self._connections_made
        self.enqueue(lambda: self._handle_connect(connection, has_other_limit))

    def _on_lost(self) -> None:
        with self._connection_lock:
            self._current_connection = 0
        self.enqueue(self._handle_disconnect)


def _ignore(*_: object) -> None:
    """Callback where nobody listens."""
