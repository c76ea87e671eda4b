"""A thread that does the slow work of a sink, in order, so that the sources never wait."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """A bounded queue and the thread that handles its items, one after the other. If the queue is full, the oldest item
    is dropped.
    """

    def __init__(self, name: str, handle: Callable[[Item], None], limit: int) -> None:
        """
        Args:
            name: name of the thread.
            handle: called in the thread with each item. An exception ends the daemon.
            limit: largest number of items that wait.
        """
        self._handle, self._limit = handle, limit
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_busy, self._is_closed = False, False
        self.dropped = 0
        """Number of items that were dropped."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of items that are not handled yet, including the one that is being handled."""
        return len(self._items) + self._is_busy

    def wait_for_close(self, seconds: float) -> bool:
        """Waits for `close`, for at most `seconds`. For `handle`, between two tries.

        Returns:
            Whether `close` was called.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._is_closed, seconds)

    def put(self, item: Item) -> None:
        """Queues an item. From any thread."""
        with self._changed:
            if len(self._items) >= self._limit:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def close(self, wait_s: float) -> None:
        """Handles the items that wait, for at most `wait_s` seconds; drops those that remain then."""
        deadline = time.monotonic() + wait_s
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._items.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_closed)
                if not self._items:
                    return
                item = self._items.popleft()
                self._is_busy = True
            try:
                self._handle(item)
            finally:
                self._is_busy = False
