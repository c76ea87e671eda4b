"""A lock for threads that share a network."""

import itertools
import threading
from typing import Self


class Turns:
    """Lets one thread in at a time. Of those that wait, the one comes first whose last turn is longest ago.

    A plain lock lets the same few in again and again where all come at the same moments.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_taken = False
        self._gates: dict[int, threading.Lock] = {}
        """Thread that waits -> a lock that is released to let it in."""
        self._numbers = itertools.count(1)
        self._turns: dict[int, int] = {}
        """Thread -> number of its last turn."""

    def __enter__(self) -> Self:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return self
            gate = self._gates[threading.get_ident()] = threading.Lock()
            gate.acquire()
        gate.acquire()
        return self

    def count(self) -> None:
        """Counts as a turn of the thread that is in. Without it, the thread was in, but had no turn."""
        self._turns[threading.get_ident()] = next(self._numbers)

    @property
    def waiting(self) -> frozenset[int]:
        """Threads that wait."""
        return frozenset(self._gates)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._gates:
                first = min(self._gates, key=lambda thread: self._turns.get(thread, 0))
                self._gates.pop(first).release()
            else:
                self._is_taken = False
