"""A sink whose place takes time to write to, or may be away for a while: events wait for it, in order."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Generic

from tagger.errors import TaggerError
from tagger.retry import Retry, is_power_of_two
from tagger.sinks import Sink
from tagger.sinks.worker import Item, Worker

log = logging.getLogger(__name__)


class QueuedSink(Sink, Generic[Item]):
    """Subclasses write `_do`, call `_start` in `open` and `_put` in `event`."""

    def __init__(self, name: str, where: str, limit: int) -> None:
        """
        Args:
            name: of the thread.
            where: the place, as it may be shown to people.
            limit: so many items may wait; then the oldest are dropped.
        """
        self._name, self._where, self._limit = name, where, limit
        self._retry = Retry(where)
        self._worker: Worker[Item] | None = None
        self._counting = threading.Lock()
        self._given, self._done, self._lost, self._overflown = 0, 0, 0, 0

    def _do(self, item: Item) -> None:
        """In a thread of its own. Calls `_delivered` or `_lose` for what it was given, or, at the very end, neither."""
        raise NotImplementedError

    def _start(self) -> None:
        self._worker = Worker(self._name, self._do, self._limit)

    def _put(self, item: Item) -> None:
        assert self._worker is not None, "not open"
        with self._counting:
            self._given += 1
            self._worker.put(item)
            overflown, before = self._worker.dropped, self._overflown
            self._overflown = overflown
        if overflown > before and is_power_of_two(overflown):
            log.warning(
                "%s: %d events wait already; the oldest are dropped (%d so far)",
                *(self._where, self._limit, overflown),
            )

    def _persist(self, write: Callable[[], None], *errors: type[Exception]) -> bool:
        """Writes, again and again until it works; when the daemon wants to end, once more. Returns whether it did."""
        assert self._worker is not None
        is_last = False
        while True:
            try:
                write()
            except errors as error:
                if is_last:
                    return False
                why = getattr(error, "strerror", None) or str(error)
                is_last = self._worker.rest(self._retry.failed(why.removeprefix(f"{self._where}: ")))
            else:
                self._retry.worked()
                return True

    def _delivered(self, items: int = 1) -> None:
        with self._counting:
            self._done += items

    def _lose(self) -> None:
        with self._counting:
            self._lost += 1

    def counts(self) -> Mapping[str, int]:
        with self._counting:
            dropped = self._lost + self._overflown
            return {"waiting": self._given - self._done - dropped, "dropped": dropped}

    def close(self, wait_s: float) -> None:
        """
        Raises:
            TaggerError: events were dropped, or could not be delivered in time.
        """
        if self._worker is None:
            return
        self._worker.close(wait_s)
        with self._counting:
            missing = self._given - self._done
        if missing:
            why = f" ({self._retry.why})" if self._retry.why else ""
            raise TaggerError(f"{missing} of {self._given} events were not delivered to {self._where}{why}")
