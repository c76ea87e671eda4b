"""Takes the events of all nodes from a broker, and writes them to a database.

Nothing is lost on the way: the broker is told that a message has arrived once the database has it, and keeps it until
then, for this collector or for another of the same group. Nothing is written twice: events have ids.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tagger import unforeseen
from tagger.collect.message import NoEventError, merged, row_of
from tagger.errors import TaggerError, UserError
from tagger.history.log import EventRow
from tagger.history.postgres import PostgresLog, RowRefusedError
from tagger.mqtt.connection import Connection, Session
from tagger.printable import number_of, printable
from tagger.retry import Repeats, Retry
from tagger.settings import MqttSettings

log = logging.getLogger(__name__)

SESSION_SECONDS = 7 * 86_400
"""Time for which the broker keeps the events of a collector that is away, seconds."""
_MOST_HELD = 8_000
"""Largest number of messages between broker and database."""
_MOST_WAITING = 10_000
"""Events that wait for the database. Of more, those of earlier connections are left to the broker, which has them."""
_BATCH = 2_000
"""Largest number of events in one transaction."""
_LONGEST_SHOWN = 80
"""Longest topic in the log, characters."""


@dataclass
class Counts:
    """Totals since the start."""

    messages: int = 0
    """Messages that have arrived, those that came again included."""
    written: int = 0
    """Rows that were given to the database."""
    refused: int = 0
    """Messages that are no events, and events that the database cannot hold."""


@dataclass
class _Waiting:
    """An event on its way to the database."""

    row: EventRow
    held: list[int] = field(default_factory=list)
    """Numbers of its messages, to acknowledge; of the present connection."""


class Collector:
    """One collector. Any number may run with the same group; each needs a client id of its own, which stays."""

    def __init__(
        self,
        settings: MqttSettings,
        database: str,
        client_id: str,
        on_refused: Callable[[UserError], None],
        group: str | None,
        leaves: bool = False,
    ) -> None:
        """
        Args:
            database: URL of the database.
            client_id: the broker keeps this client's session under it.
            on_refused: called, in a thread, where the broker or the database refuses for good.
            group: collectors of one group share the events. None: this one takes all.
            leaves: take no new events; write what the broker holds for this client id, until `end_session`.

        Raises:
            UserError: a certificate file of the broker's cannot be used.
        """
        self.counts, self._refused = Counts(), Repeats()
        events = f"{settings.prefix}/+/+/event"
        self._topic = events if group is None else f"$share/{group}/{events}"
        self._database = database
        self._log: PostgresLog | None = None
        self._on_refused = on_refused
        self._lock = threading.Condition()
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._is_stopping = False
        session = Session(SESSION_SECONDS, _MOST_HELD)
        self._broker = Connection(replace(settings, version="5"), on_refused, client_id, session=session)
        if leaves:
            self._broker.on_connected = lambda: self._broker.unsubscribe([self._topic])
        else:
            self._broker.on_connected = lambda: self._broker.subscribe([self._topic])
        self._broker.on_subscribed = lambda: log.info("collecting %s", self._topic)
        self._broker.on_lost = self._lost
        self._broker.on_held = self._take
        self._writer = threading.Thread(target=self._write_all, name="collect", daemon=True)

    def start(self) -> None:
        """Returns at once. Asks the broker for events once the database is there."""
        self._writer.start()

    def stop(self, wait_s: float = 5.0) -> None:
        """Writes what has arrived, as far as that takes less than `wait_s`; the broker keeps the rest."""
        deadline = time.monotonic() + wait_s
        with self._lock:
            self._is_stopping = True
            self._lock.notify_all()
        self._writer.join(max(0.0, deadline - time.monotonic()))
        self._broker.stop()
        if not self._writer.is_alive() and self._log is not None:
            self._log.close()

    def end_session(self) -> None:
        """Makes the broker forget this client at `stop`: nothing waits any more."""
        self._broker.end_session()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the broker now."""
        return self._broker.is_connected

    @property
    def waiting(self) -> int:
        """Number of events that wait for the database."""
        return len(self._waiting)

    def _take(self, topic: str, payload: bytes, number: int) -> None:
        """In paho's thread."""
        self.counts.messages += 1
        try:
            row = row_of(topic, payload)
        except NoEventError as error:
            self._refuse(f"{printable(topic[:_LONGEST_SHOWN])}: a message {error}")
            self._broker.acknowledge([number])
            return
        except Exception as error:
            self._leave_out(error)
            self._broker.acknowledge([number])
            return
        with self._lock:
            there = self._waiting.get(row.id)
            if there is None:
                self._waiting[row.id] = _Waiting(row, [number])
            elif there.row.node == row.node:
                there.row = merged(there.row, row)
                there.held.append(number)
            else:  # another node's id; the database would leave it out as well
                self._broker.acknowledge([number])
            self._lock.notify_all()

    def _lost(self) -> None:
        """The broker sends again what was not acknowledged, with numbers of its own."""
        with self._lock:
            if len(self._waiting) > _MOST_WAITING:
                self._waiting.clear()
            for each in self._waiting.values():
                each.held.clear()

    def _write_all(self) -> None:
        meanwhile = "the broker keeps the events; trying again, every {longest:g} s at last"
        retry = Retry("collect", meanwhile)
        if not self._try(self._open, retry, is_first=True):
            return
        self._broker.start()
        while batch := self._next_batch():
            self._write(batch, retry)

    def _open(self) -> None:
        self._log = PostgresLog(self._database)

    def _next_batch(self) -> list[EventRow]:
        """The events that have waited longest; they stay until they are written. Empty: the end."""
        with self._lock:
            self._lock.wait_for(lambda: self._waiting or self._is_stopping)
            return [each.row for _, each in zip(range(_BATCH), self._waiting.values(), strict=False)]

    def _try(self, attempt: Callable[[], None], retry: Retry, is_first: bool = False) -> bool:
        """Tries until it works. False: the collector is to stop."""
        while True:
            try:
                attempt()
            except TaggerError as error:  # later also what the user can mend, such as a password that has changed
                if is_first and isinstance(error, UserError):
                    self._on_refused(error)
                    return False
                pause_s = retry.failed(str(error))
                with self._lock:
                    if self._lock.wait_for(lambda: self._is_stopping, pause_s):
                        return False
            else:
                retry.worked()
                return True

    def _write(self, batch: list[EventRow], retry: Retry) -> None:
        assert self._log is not None
        write = self._log.write
        try:
            is_written = self._try(lambda: write(batch), retry)
        except Exception as error:  # of one of the rows, which must not keep the others
            if len(batch) > 1:
                for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                    self._write(half, retry)
                return
            if isinstance(error, RowRefusedError):
                self._refuse(f"the database cannot hold event {batch[0].id}: {printable(str(error))}")
            else:
                self._leave_out(error)
        else:
            if not is_written:
                with self._lock:
                    self._waiting.clear()  # the broker keeps them
                return
            self.counts.written += len(batch)
        self._acknowledge(batch)

    def _refuse(self, what: str) -> None:
        self.counts.refused += 1
        if self._refused.add():
            log.warning("%s; left out (%s so far)", what, number_of(self.counts.refused, "message"))

    def _leave_out(self, error: Exception) -> None:
        self.counts.refused += 1
        unforeseen.tell("collect: an event, which is left out", error)

    def _acknowledge(self, batch: list[EventRow]) -> None:
        with self._lock:
            numbers: list[int] = []
            for row in batch:
                there = self._waiting.get(row.id)
                if there is not None and there.row == row:  # else more of it has come meanwhile
                    numbers += self._waiting.pop(row.id).held
            self._broker.acknowledge(numbers)  # under the lock: on this connection, or on none
