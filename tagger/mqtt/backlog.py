"""Messages that the broker still needs, in the order of publishing.

First urgent messages, then events from the outbox, then retained topics, each with its present value only. So after an
outage no state arrives before its event, and none is outdated.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from tagger.mqtt.message import Outgoing
from tagger.mqtt.outbox import Outbox

_BATCH = 50
"""Number of events read from the outbox at a time."""


class Backlog:
    """Used by the delivery thread alone, once that runs."""

    def __init__(self, outbox: Outbox, expiry_s: int) -> None:
        """
        Args:
            outbox: where events wait.
            expiry_s: MQTT 5 message expiry interval of events, seconds.
        """
        self.outbox = outbox
        self.first_topics: Sequence[str] = ()
        """Retained topics that are published before any event after each connect."""
        self._expiry_s = expiry_s
        self._retained: dict[str, str] = {}
        """The present payload of each retained topic. An empty payload removes the message from the broker."""
        self._urgent: deque[Outgoing] = deque()
        """Messages that go before the events."""
        self._events: deque[Outgoing] = deque()
        """Events that were read from the outbox and not handed over yet."""
        self._last_read = 0
        """Outbox number of the last event read."""
        self._last_handed_over = 0
        """Outbox number of the last event handed over."""
        self._changed: dict[str, None] = {}
        """Retained topics to publish, in order."""
        self.is_held = False
        """Whether only urgent messages are given out at present."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing remains to be handed over, and the broker has acknowledged every event."""
        return not (self._urgent or self._changed or len(self.outbox))

    def start(self, retained: Mapping[str, str]) -> None:
        """Sets all retained topics. Topics at which an earlier run has left a message are emptied.

        Args:
            retained: topic -> payload.
        """
        obsolete = self.outbox.retained - retained.keys()
        self.outbox.add_retained(retained)
        self._retained = {**retained, **dict.fromkeys(sorted(obsolete), "")}

    def add_event(self, topic: str, payload: str, event_id: str, begins: bool) -> None:
        """Adds an event to the outbox (`Outbox.put`)."""
        self.outbox.put(topic, payload, event_id, begins, self._last_read)

    def add_response(self, topic: str, payload: str) -> None:
        """Adds a message that goes before the events. It is neither retained nor kept on disk."""
        self._urgent.append(Outgoing(topic, payload))

    def update_retained(self, payloads: Mapping[str, str]) -> None:
        """Changes retained topics (topic -> payload). Those that have this payload already are not published again."""
        changed = {topic: payload for topic, payload in payloads.items() if self._retained.get(topic) != payload}
        if unknown := changed.keys() - self._retained.keys():
            self.outbox.add_retained(unknown)
        self._retained.update(changed)
        self._changed.update(dict.fromkeys(changed))

    def republish_retained(self) -> None:
        """Publishes all retained topics again: `first_topics` before the events, all others after them."""
        self._urgent = deque(message for message in self._urgent if not message.retain)
        for topic in self.first_topics:
            self.publish_retained_first(topic)
        self._changed.update(dict.fromkeys(topic for topic in self._retained if topic not in self.first_topics))

    def publish_retained_first(self, topic: str, payload: str | None = None) -> None:
        """Publishes a retained topic before the events.

        Args:
            payload: sent this once instead of the topic's present payload. It is dropped if the connection is lost.
        """
        self._urgent.append(Outgoing(topic, self._retained[topic] if payload is None else payload, retain=True))

    def publish_retained_last(self, topic: str, payload: str) -> None:
        """Publishes a retained topic after everything else."""
        self._retained[topic] = payload
        self._changed.pop(topic, None)
        self._changed[topic] = None

    def retained_payload(self, topic: str) -> str:
        """The present payload of a retained topic."""
        return self._retained[topic]

    def next(self) -> Outgoing | None:
        """Removes and returns the message that the broker needs next. None: nothing waits.

        An event stays in the outbox until `acknowledge`.
        """
        if self._urgent:
            return self._urgent.popleft()
        if self.is_held:
            return None
        if not self._events:
            for each in self.outbox.read_after(self._last_read, _BATCH):
                self._last_read = each.number
                self._events.append(
                    Outgoing(each.topic, each.payload, expiry_s=self._expiry_s, outbox_number=each.number)
                )
        if self._events:
            message = self._events.popleft()
            self._last_handed_over = message.outbox_number or self._last_handed_over
            return message
        for topic in self._changed:
            del self._changed[topic]
            return Outgoing(topic, self._retained[topic], retain=True)
        return None

    def withdraw_end(self, event_id: str) -> None:
        """Forgets an event that somebody else has ended, unless its end was handed over."""
        self.forget_read_ahead()
        self.outbox.withdraw_end(event_id, self._last_handed_over)

    def forget_read_ahead(self) -> None:
        """Drops the events that were read and not handed over. They are read again: the outbox may drop some of them
        meanwhile.
        """
        self._events.clear()
        self._last_read = self._last_handed_over

    def acknowledge(self, message: Outgoing) -> None:
        """Records that the broker has this message, or has refused it for good."""
        if message.outbox_number is not None:
            self.outbox.acknowledge(message.outbox_number)
        elif message.retain and not message.payload:
            if message.topic in self._changed:
                return  # it has a new payload, or will be emptied once more
            self.outbox.remove_retained(message.topic)
            if not self._retained.get(message.topic):
                self._retained.pop(message.topic, None)
