"""What a broker is to be told, and what it has been: one thread delivers, in an order in which nothing is ever wrong.

Whatever is published at QoS 1 goes through this thread, which alone knows what the broker has and what it still needs:

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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tagger.errors import TaggerError, UserError
from tagger.mqtt.connection import Connection, Outgoing
from tagger.mqtt.outbox import Outbox
from tagger.settings import MqttSettings

log = logging.getLogger(__name__)

_BATCH = 50
"""So many waiting events are read from disk at a time."""
_LARGE_BYTES = 4_000
"""No event is as large. What Home Assistant is told is, and brokers may have a limit ..."""
_HANG_UPS = 3
"""... of which MQTT 3.1.1 knows nothing: they hang up, again and again."""
_FIRST_SECONDS = 1.0
"""So long is waited for the first connection; a broker that comes later is served from then on."""
_MOMENT_SECONDS = 60
"""MQTT 5: what is of the moment is worth nothing after so long."""


class Delivery:
    """To one broker. What is said of a thread is said of the delivery's own, in which `do` has things done."""

    def __init__(
        self,
        settings: MqttSettings,
        on_refused: Callable[[UserError], None] | None,
        outbox: Outbox | None,
        client_id: str,
    ) -> None:
        """
        Args:
            on_refused: called, from paho's thread, when the broker refuses the very first connection for good. None: it
                is tried again all the same.
            outbox: where events wait, closed by `close`. None: in memory.

        Raises:
            UserError: a certificate file cannot be used.
        """
        self.outbox = Outbox(None, settings.queue_events) if outbox is None else outbox
        self.connection = Connection(settings, on_refused, client_id)
        self.connection.on_connected = self._on_connected
        self.connection.on_lost = self._on_lost
        self.connection.on_acknowledged = lambda mid, refused: self.do(lambda: self._acknowledged(mid, refused))
        self.first: Sequence[str] = ()
        """Retained topics that are said before any event."""
        self.on_connected: Callable[[], None] = _nothing
        """Called in the thread, before anything is said."""
        self._settings = settings
        self._gate = threading.Lock()
        """Held while a message is handed to paho, and while the connection comes or goes."""
        self._generation = 0
        """Which connection this is; 0: none."""
        self._connections = 0
        self._steps: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

        # All below belongs to the thread, once that runs.
        self._retained: dict[str, str] = {}
        """The present payload of each retained topic; empty: there must be none."""
        self._urgent: deque[Outgoing] = deque()
        """What goes before the events."""
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
        self._most_bytes: float = math.inf
        """What is larger had the broker hang up."""
        self._left_out: set[str] = set()
        """Topics of what was too large: it was said."""
        self.closing = False
        self._drained = threading.Event()
        """Closing, and the broker has everything."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self, said: Mapping[str, str]) -> None:
        """Returns when there is a connection, or soon.

        Args:
            said: all retained topics. Others, at which an earlier run has left a message, are emptied.
        """
        gone = self.outbox.retained - said.keys()
        self.outbox.retain(said)
        self._retained = {**said, **dict.fromkeys(sorted(gone), "")}
        self._thread.start()
        self.connection.start()
        # A file at full speed is at its end soon: what is of the moment would be lost before there is a connection.
        self.connection.ready.wait(_FIRST_SECONDS)

    def do(self, step: Callable[[], None]) -> None:
        """Has something done in the thread, after all that was asked for before. From any thread."""
        self._steps.put(step)

    def say_now(self, topic: str, message: Mapping[str, Any]) -> None:
        """What is worth something now or never: not kept for a broker that is away. From any thread."""
        if self.connection.is_connected:
            payload = json.dumps(message, allow_nan=False)
            self.connection.publish(Outgoing(topic, payload, qos=0, expiry_s=_MOMENT_SECONDS))

    def counts(self) -> Mapping[str, int]:
        return {
            "waiting": len(self.outbox),
            "dropped": self.outbox.dropped + self._refused,
            "reconnects": self.connection.reconnects,
        }

    def close(self, wait_s: float, topic: str, payload: str) -> None:
        """
        Args:
            topic, payload: what is said, retained, after everything else.

        Raises:
            TaggerError: messages could not be delivered in time.
        """
        connection, deadline = self.connection, time.monotonic() + wait_s
        connection.ready.wait(wait_s)
        self.do(lambda: self._finish(topic, payload))
        if not connection.refused:
            self._drained.wait(max(0.0, deadline - time.monotonic()))
        connection.stop()
        self._steps.put(None)
        self._thread.join()
        self.on_connected = _nothing  # lets go of the sink, and so of paho and its sockets
        left, dropped = len(self.outbox), self.outbox.dropped
        url = self._settings.url
        kept = "they wait on disk for the next start" if self.outbox.is_durable else "they are lost"
        self.outbox.close()
        if connection.refused:
            return
        if not connection.ever_connected:
            more = f"; of {left} events, {kept}" if left else ""
            raise TaggerError(f"nothing was published: {url} could not be reached in time{more}")
        if left:
            raise TaggerError(f"{left} events were not delivered to {url}; {kept}")
        if dropped:
            raise TaggerError(f"{dropped} events were dropped: {url} was away for too long")

    # --- for the thread alone ---

    def say(self, said: Mapping[str, str]) -> None:
        """Changes retained topics."""
        changed = {topic: payload for topic, payload in said.items() if self._retained.get(topic) != payload}
        if unknown := changed.keys() - self._retained.keys():
            self.outbox.retain(unknown)
        self._retained.update(changed)
        self._stale.update(dict.fromkeys(changed))

    def say_again(self) -> None:
        """All retained topics."""
        self._urgent = deque(message for message in self._urgent if not message.retain)
        for topic in self.first:
            self.say_first(topic)
        self._stale.update(dict.fromkeys(topic for topic in self._retained if topic not in self.first))

    def say_first(self, topic: str, payload: str | None = None) -> None:
        """A retained topic, before the events.

        Args:
            payload: for once, instead of what the topic says.
        """
        self._urgent.append(Outgoing(topic, self._retained[topic] if payload is None else payload, retain=True))

    def answer(self, topic: str, payload: str) -> None:
        """Before the events; not retained, and not kept on disk."""
        self._urgent.append(Outgoing(topic, payload))

    def event(self, topic: str, payload: str, event_id: str, begins: bool) -> None:
        """As `Outbox.put`."""
        self.outbox.put(topic, payload, event_id, begins, self._read)

    def retained(self, topic: str) -> str:
        """What it says at present."""
        return self._retained[topic]

    def _run(self) -> None:
        while (step := self._steps.get()) is not None:
            step()
            self._send()

    def _welcome(self, connection: int) -> None:
        """What subscribers must find, whatever the broker forgot meanwhile."""
        self._accepted, self._settling = connection, bool(self._on_way)
        self.on_connected()
        self.say_again()

    def _parted(self) -> None:
        """A broker that hangs up each time that it is given something large is not given that again: events wait."""
        largest = max((message.max_bytes for message in self._on_way.values()), default=0)
        if self.connection.short_connections < _HANG_UPS or largest < _LARGE_BYTES:
            return
        with self._gate:
            if self._generation:
                return
            self._most_bytes = largest - 1
            self.connection.discard_unacknowledged()
            messages, self._on_way = self._on_way.values(), {}
            for message in messages:
                if self._fits(message):
                    self._on_way[self.connection.publish(message)] = message

    def _fits(self, message: Outgoing) -> bool:
        """Whether the broker takes it; if not, it is left out, and said."""
        limit = min(self._most_bytes, self.connection.max_packet_bytes or math.inf)
        if message.outbox_number is not None or message.max_bytes <= limit:
            return True
        if message.topic not in self._left_out:
            self._left_out.add(message.topic)
            log.warning(
                "MQTT: %s takes no message as large as the one on %s (%d bytes), which is left out; raise its limit, "
                "such as max_packet_size of Mosquitto",
                *(self._settings.url, message.topic, len(message.payload.encode())),
            )
        return False

    def _acknowledged(self, mid: int, refused: bool) -> None:
        message = self._on_way.pop(mid, None)
        if message is not None and message.outbox_number is not None:
            self.outbox.done(message.outbox_number)
            self._refused += refused
        elif message is not None and message.retain and not message.payload:
            if message.topic in self._stale:
                return  # said anew meanwhile: forgotten when that has arrived
            self.outbox.forget(message.topic)
            if not self._retained.get(message.topic):
                self._retained.pop(message.topic, None)

    def _send(self) -> None:
        """Hands to paho as much as may be on its way at once."""
        if not self._settling or not self._on_way:
            self._settling = False
            while len(self._on_way) < self.connection.max_in_flight and self._hand_over():
                pass
        if self.closing and not (self._on_way or self._urgent or self._stale or len(self.outbox)):
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
                self._on_way[self.connection.publish(message)] = message
        self._handed_over = message.outbox_number or self._handed_over
        return True

    def _next(self) -> Outgoing | None:
        if self._urgent:
            return self._urgent.popleft()
        if not self._ready:
            for each in self.outbox.after(self._read, _BATCH):
                self._read = each.number
                self._ready.append(
                    Outgoing(each.topic, each.payload, expiry_s=self._settings.expiry_s, outbox_number=each.number)
                )
        if self._ready:
            return self._ready.popleft()
        for topic in self._stale:
            del self._stale[topic]
            return Outgoing(topic, self._retained[topic], retain=True)
        return None

    def _finish(self, topic: str, payload: str) -> None:
        self.closing = True
        self._retained[topic] = payload
        self._stale.pop(topic, None)
        self._stale[topic] = None  # after everything else

    # --- paho's thread ---

    def _on_connected(self) -> None:
        with self._gate:
            self._connections += 1
            self._generation = connection = self._connections
        self.do(lambda: self._welcome(connection))

    def _on_lost(self) -> None:
        with self._gate:
            self._generation = 0
        self.do(self._parted)


def _nothing() -> None:
    """Nobody listens."""
