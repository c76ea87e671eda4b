"""Base of sinks that write slowly, or whose destination may be unreachable for a while: events wait, in order."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Generic

from tagger.errors import TaggerError
from tagger.printable import number_of
from tagger.retry import Repeats, Retry
from tagger.sinks import Sink
from tagger.sinks.worker import Item, Worker

log = logging.getLogger(__name__)


class QueuedSink(Sink, Generic[Item]):
    """Subclasses implement `_deliver`, call `_start_worker` in `open`, and call `_enqueue` in `event`."""

    def __init__(self, name: str, where: str, limit: int) -> None:
        """
        Args:
            name: name of the worker's thread.
            where: the destination as shown to people, without secrets.
            limit: largest number of items that wait. Beyond it the oldest are dropped.
        """
        self._name, self._where, self._limit = name, where, limit
        self.retry = Retry(where)
        """Present failures, and the number of tries."""
        self._worker: Worker[Item] | None = None
        self._count_lock = threading.Lock()
        self._received, self._delivered, self._lost, self._overflowed = 0, 0, 0, Repeats()
        """Number of events that arrived, were delivered, were given up, and were dropped because the queue was full."""

    def _deliver(self, item: Item) -> None:
        """Delivers one item. Called in the worker's thread.

        Calls `_count_delivered` or `_count_lost` when it is done with the item; neither if time runs out after `close`.
        """
        raise NotImplementedError

    def _start_worker(self) -> None:
        self._worker = Worker(self._name, self._deliver, self._limit)

    def _enqueue(self, item: Item) -> None:
        assert self._worker is not None, "not open"
        with self._count_lock:
            self._received += 1
            self._worker.put(item)
            more = self._worker.dropped - self._overflowed.count
            is_news = more > 0 and self._overflowed.add(more)
        if is_news:
            log.warning(
                "%s: %s already; the oldest are dropped (%d so far)",
                *(self._where, number_of(self._limit, "event waits", "events wait"), self._overflowed.count),
            )

    def _retry_until_written(self, write: Callable[[], object], *errors: type[Exception]) -> bool:
        """Calls `write` until it raises none of `errors`. After `close`, calls it at most once more.

        Returns:
            Whether `write` has succeeded.
        """
        assert self._worker is not None
        is_last = False
        while True:
            try:
                write()
            except errors as error:
                if is_last:
                    return False
                why = getattr(error, "strerror", None) or str(error)
                is_last = self._worker.wait_for_close(self.retry.failed(why.removeprefix(f"{self._where}: ")))
            else:
                self.retry.worked()
                return True

    def _count_delivered(self, items: int = 1) -> None:
        with self._count_lock:
            self._delivered += items

    def _count_lost(self) -> None:
        with self._count_lock:
            self._lost += 1

    def counts(self) -> Mapping[str, int]:
        with self._count_lock:
            dropped = self._lost + self._overflowed.count
            return {"waiting": self._received - self._delivered - dropped, "dropped": dropped}

    def trouble(self) -> str | None:
        why = self.retry.why
        return None if why is None else f"{self._where}: {why}"

    def close(self, wait_s: float) -> None:
        """
        Raises:
            TaggerError: events were dropped, or could not be delivered in time.
        """
        if self._worker is None:
            return
        self._worker.close(wait_s)
        with self._count_lock:
            missing = self._received - self._delivered
        if missing:
            why = f" ({self.retry.why})" if self.retry.why else ""
            what = number_of(self._received, "event was", "events were")
            raise TaggerError(f"{missing} of {what} not delivered to {self._where}{why}")
