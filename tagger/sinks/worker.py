"""A thread that does what takes time for a sink, in order, and never makes the sources wait."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Does one item after the other. When too many wait, the oldest is dropped, and counted."""

    def __init__(self, name: str, do: Callable[[Item], None], limit: int) -> None:
        """
        Args:
            name: of the thread.
            do: what is to be done with an item, in this thread. What it raises ends the daemon.
            limit: so many items may wait.
        """
        self._do, self._limit = do, limit
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._busy, self._closed = False, False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that were not done, the one in hand included."""
        return len(self._items) + self._busy

    def rest(self, seconds: float) -> bool:
        """For `do`, before it tries again: waits, but not when the end is near. Returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, seconds)

    def put(self, item: Item) -> None:
        with self._changed:
            if len(self._items) >= self._limit:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def close(self, wait_s: float) -> None:
        """Does what waits, for at most `wait_s` seconds; what is left then is not done."""
        deadline = time.monotonic() + wait_s
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._items.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._closed)
                if not self._items:
                    return
                item = self._items.popleft()
                self._busy = True
            try:
                self._do(item)
            finally:
                self._busy = False
