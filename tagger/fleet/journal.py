"""What is open, known outside of the machine that may die: retained messages, by which the next owner of a stream ends
what the one before it left open.

    tagger/<node>/<source>/open   {"epoch": ..., "session": ..., "events": [...]}  by the node itself: what is open
                                  {"epoch": ..., "by": ..., "taken": [...]}        by the next owner: what it ends

- A begin is published after the message that names it, an end before the message that no longer does. So what has begun
  and not ended for a subscriber is named, whenever the worker dies.
- Only the owner of a stream ends what others left open: leases with a lower epoch are over. It takes such an event into
  its own message first, and only then out of the other's. So if it dies as well, the next owner does the same.
- A worker that comes back, from a pause or with its disk, reads what was taken before it publishes anything, and
  forgets it. It waits for its own `online`, which a broker passes on after what it retains.
- Every worker remembers what the others have open, for a broker that forgets it when it is restarted.
"""

import logging
import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from tagger.daemon.open_event import Lasting, OpenEvent, is_level
from tagger.events import Event, Stream
from tagger.fleet.ledger import Kept, Ledger, Own
from tagger.fleet.opened import MOST_MESSAGE_BYTES, MOST_PACKET_BYTES, Record, is_of, is_taken, read_end
from tagger.fleet.others import Messages, Others
from tagger.mqtt.delivery import Delivery
from tagger.mqtt.limits import identity
from tagger.mqtt.message import Outgoing
from tagger.mqtt.sink import first_topics
from tagger.mqtt.topics import Topics
from tagger.retry import Repeats
from tagger.settings import MqttSettings
from tagger.unforeseen import contained

log = logging.getLogger(__name__)

ALIVE_SECONDS = 5.0
"""Time between two notes that an open event is still open, seconds."""
GRACE_SECONDS = 5.0
"""Time for which a worker that has given a stream up may still deliver its ends, seconds."""
RETURN_SHARE = 1.5
"""Time for which others may still be on their way back to a broker that was away, as a share of that time: each wait of
`tagger.mqtt.connection` is as long as all waits before it, and up to a quarter longer.
"""
_LONGEST_AWAY_SECONDS = 50.0
"""Time away above which that does not grow, as the longest of these waits is 75 s, seconds."""
ALONE_SECONDS = 20.0
"""Time after which a worker itself ends what an earlier run of it left open, if nobody else has the stream, seconds."""
_HOLD_SECONDS = 5.0
"""Longest wait for what the broker retains, seconds."""


class Journal:
    """The journal of one worker. Those methods may be called from any thread that say so; the others are called in the
    delivery thread.
    """

    def __init__(
        self,
        settings: MqttSettings,
        fleet: str,
        end: Callable[[Stream, Event], None],
        forget: Callable[[Event], None],
    ) -> None:
        """
        Args:
            fleet: its name, by which workers know each other's messages.
            end: publishes the end of an event.
            forget: called with the begin of an event that another worker has taken over.
        """
        self._node, self._prefix, self._fleet = settings.node, settings.prefix, fleet
        self._end, self._forget = end, forget
        self._session = secrets.token_hex(6)
        self._delivery: Delivery
        self._ledger = Ledger()
        self._others = Others(fleet)
        self._earlier = Messages(self._node)
        """What the broker retained for this node."""
        self._too_long = Repeats()
        self._is_current = self._is_remembered = self._has_begun = False
        self._connected_at = self._noted_at = self._lost_at = self._settled_at = time.monotonic()
        """When the connection began; when what is open was last noted; when there was last a connection; from when on
        what others said before this connection counts; on the monotonic clock.
        """

    # --- from any thread ---

    def hears(self, stream: Stream, epoch: int, may_hear: Callable[[], bool]) -> None:
        """Notes that a source is heard under this lease. Before anything is published of it."""
        self._delivery.enqueue(lambda: self._hear(stream, epoch, may_hear))

    def leaves(self, source: str) -> None:
        """Notes that a source is not heard any more. After all that was published of it."""
        self._delivery.enqueue(lambda: self._leave(source))

    def restore(self, stream: Stream, end: Event) -> None:
        """Notes an event that an earlier run of this worker left open.

        Args:
            end: with the time at which that run is last known to have lived.
        """
        self._delivery.enqueue(lambda: self._restore(stream, end))

    def tick(self) -> None:
        """Takes over what is left open. Called about once a second."""
        self._delivery.enqueue(self._try_tick)

    # --- the delivery thread ---

    @property
    def topics(self) -> Sequence[str]:
        return [self._topic("+", "+")]

    def attach(self, delivery: Delivery) -> None:
        self._delivery = delivery
        delivery.connection.receive_up_to(MOST_PACKET_BYTES)
        delivery.takes_back = True
        delivery.on_event_handed_over = self._handed_over
        delivery.on_event_acknowledged = self._acknowledged
        for topic, payload in delivery.outbox.ends():
            if (found := read_end(topic, payload)) is not None:
                event, offset = found
                self._ledger.keep(Kept(event, 0, Lasting.left(event, offset), is_ending=True))

    def connected(self) -> None:
        self._delivery.backlog.is_held = True
        self._is_current = self._is_remembered = False
        self._connected_at = now = time.monotonic()
        self._settled_at = now + GRACE_SECONDS + RETURN_SHARE * min(now - self._lost_at, _LONGEST_AWAY_SECONDS)
        self._others.begin()
        self._ledger.begin_connection()

    def caught_up(self) -> None:
        if self._is_current:
            return
        self._is_current = True
        if self._is_remembered:
            self._others.drop_unseen()
        for source, payload in self._earlier.take_all():
            self._read_own(source, payload)
        self._has_begun = True
        for source, own in self._ledger:
            self._inherit(own)
            self._publish(source)
        for node, source, told in self._others.untold():
            self._send(node, source, told)
        self._delivery.backlog.is_held = False

    def note(self, topic: str, payload: bytes, retained: bool) -> bool:
        node, *rest = topic.removeprefix(f"{self._prefix}/").split("/")
        if rest == ["status"]:
            self._is_remembered |= retained and node == self._node
        if len(rest) != 2 or rest[1] != "open" or not is_level(node) or not is_level(rest[0]):
            return False
        source = rest[0]
        said = payload if is_of(payload, self._fleet) else b""
        if node != self._node:
            if not is_taken(payload):
                self._others.answered(node, source)
            if (lost := self._others.note(node, source, b"" if is_taken(said) else said, retained)) is not None:
                self._send(node, source, lost.decode())  # the node takes it into its own message
        elif not self._is_current:
            self._earlier.note(source, said)
        elif not payload and (own := self._ledger.get(source)) is not None and own.is_earlier:
            own.is_earlier = False  # its next owner has removed it
            self._ledger.clean(source)
        elif (found := Record.from_json(said, self._fleet, source)) is not None and found.taken is not None:
            self._give(source, found.taken)
        elif found is not None and found.writer != self._session:
            self._learn(source, found)
        return True

    def event(self, stream: Stream, event: Event) -> None:
        if event.type == "begin":
            own = self._ledger.of(stream.source)
            self._ledger.keep(Kept(OpenEvent(stream, event, time.time()), own.epoch, Lasting(time.monotonic())))
            self._publish(stream.source)
        elif (kept := self._ledger.kept(event.id)) is not None:
            kept.is_ending = True

    def _hear(self, stream: Stream, epoch: int, may_hear: Callable[[], bool]) -> None:
        own = self._ledger.of(stream.source)
        own.hear(stream, epoch, may_hear)
        if self._is_current:
            self._inherit(own)
        own.alive = time.monotonic()
        self._publish(stream.source)

    def _leave(self, source: str) -> None:
        if (own := self._ledger.get(source)) is not None:
            own.leave()
            self._publish(source)
            self._ledger.clean(source)

    def _restore(self, stream: Stream, end: Event) -> None:
        assert end.offset is not None
        begin = replace(end, type="begin", offset=None, cause=None)
        if begin.id not in self._ledger.of(stream.source).events:
            self._keep_left(OpenEvent(stream, begin, begin.onset), 0, end.offset)

    def _keep_left(self, event: OpenEvent, epoch: int, alive: float) -> None:
        """Keeps an event that an earlier run of this worker left open."""
        is_ending = self._delivery.outbox.holds_end(event.begin.id)
        self._ledger.keep(Kept(event, epoch, Lasting.left(event, alive), is_ending=is_ending))

    def _read_own(self, source: str, payload: bytes) -> None:
        """Reads what the broker retained for this node when the connection began."""
        found = Record.from_json(payload, self._fleet, source)
        if found is None:
            return
        if found.taken is not None:
            self._give(source, found.taken)
        elif found.writer != self._session and not self._has_begun:
            own = self._ledger.of(source)
            own.epoch, own.is_earlier = max(own.epoch, found.epoch), own.may_hear is None
            for event, alive in found.events:
                if event.begin.id not in own.events:
                    self._keep_left(event, found.epoch, alive)

    def _learn(self, source: str, found: Record) -> None:
        """Takes what an earlier run of this worker left open and a broker has forgotten: others remember it."""
        own = self._ledger.get(source)
        if own is None or own.may_hear is None or found.epoch >= own.epoch:
            return  # somebody hears it under a later lease, or the next owner ends it
        for event, alive in found.events:
            if event.begin.id not in own.events and self._ledger.take(event.begin.id):
                self._keep_left(event, found.epoch, alive)
        self._publish(source)
        self._inherit(own)

    def _give(self, source: str, ids: Sequence[str]) -> None:
        """Leaves events to the worker that has taken them over."""
        for event_id in ids:
            self._delivery.withdraw_end(event_id)
            if (kept := self._ledger.kept(event_id)) is not None:
                self._ledger.remove(event_id)
                self._forget(kept.event.begin)
        if (own := self._ledger.get(source)) is not None:
            own.is_earlier = False
        self._publish(source)
        self._ledger.clean(source)

    def _inherit(self, own: Own) -> None:
        """Ends what earlier leases of this worker left open, now that the source is heard again."""
        if own.may_hear is not None:
            for kept in own.open:
                if kept.epoch != own.epoch:
                    self._finish(own, kept)

    def _finish(self, own: Own, kept: Kept) -> None:
        kept.is_ending, kept.epoch = True, own.epoch
        self._delivery.outbox.mark_begun(kept.event.begin.id)
        self._end(kept.event.stream, kept.event.end(own.alive_at(kept), "takeover"))

    def _try_tick(self) -> None:
        with contained("fleet: what others have left open"):
            self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        if not self._delivery.connection.is_connected:
            return
        self._lost_at = now
        if not self._is_current:
            if now - self._connected_at > _HOLD_SECONDS:
                log.debug("the broker passes on no status of this node; what it retains may not have come")
                self.caught_up()
            return
        if not self._is_remembered and now >= self._settled_at + GRACE_SECONDS:
            for node, source, payload in self._others.forgotten():  # for an owner that never knew of it
                self._send(node, source, payload.decode())
        is_noting = now - self._noted_at >= ALIVE_SECONDS
        if is_noting:
            self._noted_at = now
        for source, own in self._ledger:
            if own.may_hear is None:
                if now - own.since >= ALONE_SECONDS:
                    self._end_alone(source, own)
            elif own.may_hear():
                own.alive = time.monotonic()
                if is_noting and own.open:
                    self._publish(source)
                self._take_over(source, own, now)

    def _end_alone(self, source: str, own: Own) -> None:
        """Ends what nobody else will: the source is not heard any more."""
        if not self._others.has_later(source, own.epoch):
            own.is_earlier = False
            for kept in own.open:
                self._finish(own, kept)
            self._publish(source)
            self._ledger.clean(source)

    def _take_over(self, source: str, own: Own, now: float) -> None:
        """Takes over what workers before have left open."""
        for node, came, payload in self._others.of(source):
            if now < max(self._settled_at if came == -math.inf else came + GRACE_SECONDS, own.since + GRACE_SECONDS):
                continue
            found = Record.from_json(payload, self._fleet, source)
            if found is None or found.epoch < own.epoch:
                self._others.drop(node, source)
            if found is not None and found.epoch < own.epoch:
                self._take(source, own, node, found)

    def _take(self, source: str, own: Own, node: str, found: Record) -> None:
        new = [
            Kept(event, own.epoch, Lasting.left(event, alive))
            for event, alive in found.events
            if self._ledger.take(event.begin.id)
        ]
        for kept in new:
            self._ledger.keep(kept)
        self._publish(source)
        if ids := [event.begin.id for event, _ in found.events]:
            self._others.tell(node, source, Record(self._fleet, own.epoch, self._node, taken=ids).to_json())
        self._send(node, source, self._others.told(node, source))
        if new:
            log.info("%s: ends %d that %s left open", source, len(new), node)
            for kept in new:
                self._finish(own, kept)
        else:
            self._clear(node, source)

    def _handed_over(self, message: Outgoing) -> None:
        event_id, kind, _ = identity(message.payload)
        if kind == "end" and (kept := self._ledger.kept(event_id)) is not None:
            kept.is_sent = True
            self._clear(kept.event.stream.node, kept.event.stream.source)
            self._publish(kept.event.stream.source)

    def _acknowledged(self, message: Outgoing) -> None:
        event_id, kind, _ = identity(message.payload)
        if kind == "end" and (kept := self._ledger.kept(event_id)) is not None:
            self._ledger.remove(event_id)
            self._ledger.clean(kept.event.stream.source)

    def _clear(self, node: str, source: str) -> None:
        """Removes the states of another node, which does not hear the source any more."""
        own = self._ledger.get(source)
        is_heard_there = node == self._node or self._others.has(node, source)
        if own is not None and own.stream is not None and not is_heard_there:
            for topic in first_topics(self._prefix, replace(own.stream, node=node)):
                self._delivery.backlog.publish_retained_first(topic, "")

    def _publish(self, source: str) -> None:
        """Publishes what is open of a source, before any event that waits."""
        if not self._is_current:
            return  # it follows with all others
        own = self._ledger.get(source)
        record = None if own is None else own.record(self._fleet, self._session)
        if own is not None and own.is_earlier and (record is None or not record.events):
            return  # what the broker retains stays
        self._send(self._node, source, "" if record is None else record.to_json())

    def _send(self, node: str, source: str, payload: str) -> None:
        if len(payload) > MOST_MESSAGE_BYTES and self._too_long.add():  # JSON has one byte a letter
            log.warning(
                "%s: what is open has %.3g MB, more than other workers read (%d so far): if this worker dies, they do "
                "not end it",
                *(source, len(payload) / 1e6, self._too_long.count),
            )
        self._delivery.backlog.publish_retained_first(self._topic(node, source), payload)

    def _topic(self, node: str, source: str) -> str:
        return Topics(self._prefix, node).open(source)
