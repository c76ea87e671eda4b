"""A worker: asks for its streams, hears what it is given, and gives up what it may not hear any more.

What hears is a `Hearing`: the daemon, or a simulation of it.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tagger import unforeseen
from tagger.fleet.leases import Holding, now
from tagger.fleet.messages import Orders, Report

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
"""Time between two questions to the coordinator, seconds."""
_CHECK_SECONDS = 0.2
"""Longest time for which a lease that has ended goes unnoticed, seconds."""

_STUCK_SECONDS = 10.0
"""Time without a sign of life of the loop after which its leases are left to end, seconds."""


@dataclass(frozen=True)
class Figures:
    """How a worker does."""

    capacity: float
    """Number of streams that it can carry."""
    waiting: int = 0
    """Events that the broker does not have yet."""
    streams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How each stream does, for people."""
    trouble: str | None = None
    """Why events do not reach the broker at present. None: they do."""


class Permit:
    """What a stream's lease allows now. From any thread."""

    def __init__(self, stream: str, holding: Holding, lock: threading.Lock) -> None:
        self._stream, self._holding, self._lock = stream, holding, lock

    @property
    def epoch(self) -> int | None:
        """The epoch of its lease. None: it is over."""
        return self._holding.heard.get(self._stream)

    def may_hear(self) -> bool:
        """Whether what is heard may be published."""
        with self._lock:
            return self._holding.may_hear(self._stream, now())

    def may_end(self) -> bool:
        """Whether the end of what has begun may be published. Else whoever hears the stream next does so."""
        with self._lock:
            return self._holding.may_end(self._stream, now())


class Hearing(Protocol):
    """Hears streams. One thread at a time calls it."""

    def start(self, stream: str, source: str, permit: Permit) -> None:
        """Begins to hear a stream. Returns at once; what cannot be heard is tried again, and shown in `figures`.

        Args:
            source: the text of the source.
            permit: asked before anything is published.
        """

    def stop(self, streams: Collection[str]) -> None:
        """Stops streams; returns when the last of them is published."""

    def figures(self) -> Figures:
        """How it does."""


class Worker:
    """The loop of a worker, in the thread that calls `run`; a second thread asks, so that a slow coordinator delays
    nothing.
    """

    def __init__(
        self,
        node: str,
        session: str,
        hearing: Hearing,
        ask: Callable[[Report], Orders | None],
        host: str = "",
        alone_s: float = 60.0,
    ) -> None:
        """
        Args:
            node: its name in topics.
            session: a name that no other run of any worker has.
            ask: asks the coordinator; may block for less than a lease's term. Raises OSError if it cannot be reached.
            alone_s: time without a coordinator after which the worker ends, seconds.
        """
        self._node, self._host = node, host
        self._holding = Holding(session)
        self._hearing, self._ask, self._alone_s = hearing, ask, alone_s
        self._lock = threading.Lock()
        """Held to use `_holding`."""
        self._texts: dict[str, str] = {}
        """What is listened to for each stream that is heard."""
        self._orders: Orders | None = None
        """The last ones that were taken."""
        self._moved_at = now()
        """When the loop gave its last sign of life."""
        self._woken = threading.Event()
        self._ask_now = threading.Event()
        self._stopping, self._is_leaving = threading.Event(), False

    def run(self) -> None:
        """Hears until `stop`, or until there has been no coordinator for a while."""
        asking = threading.Thread(target=self._ask_all, name="fleet", daemon=True)
        asking.start()
        try:
            while not self._stopping.is_set():
                self._moved_at = now()
                self._woken.wait(_CHECK_SECONDS)
                self._woken.clear()
                self._follow_orders()
        finally:
            self._stopping.set()
            self._ask_now.set()
            self._stop(list(self._texts))
            asking.join()
            with contextlib.suppress(OSError):  # who does not hear of it waits for the end of the lease
                self._ask(replace(self._report(), is_over=True))

    def leave(self) -> None:
        """Gives all streams to others, and then ends. From any thread."""
        self._is_leaving = True
        self._ask_now.set()

    def stop(self) -> None:
        """Makes `run` return soon. From any thread."""
        self._stopping.set()
        self._woken.set()

    def _ask_all(self) -> None:
        alone_since = now()
        while not self._stopping.is_set():
            self._ask_now.clear()
            if now() - self._moved_at > _STUCK_SECONDS:  # what cannot stop a stream must not keep one
                self._stopping.wait(ASK_SECONDS)
                continue
            try:
                report = self._report()
                if (orders := self._ask(report)) is not None:
                    self._take(orders)
            except Exception as error:
                if isinstance(error, OSError):
                    log.debug("the coordinator does not answer: %s", error)
                else:
                    unforeseen.tell("fleet: a word with the coordinator", error)
                if now() - alone_since > self._alone_s:
                    log.error("no coordinator for %g s; this worker ends", self._alone_s)
                    self.stop()
            else:
                alone_since = now()
                if orders is not None and orders.is_end:
                    self.stop()
                if self._is_leaving and not report.request.held and orders is not None and not orders.answer.streams:
                    self.stop()
            self._ask_now.wait(ASK_SECONDS)

    def _report(self) -> Report:
        figures = self._hearing.figures()
        with self._lock:
            request, unanswered = self._holding.request(now()), self._holding.unanswered(now())
        return Report(
            request,
            self._node,
            figures.capacity,
            self._host,
            figures.waiting,
            figures.streams,
            figures.trouble,
            self._is_leaving,
            unanswered,
        )

    def _take(self, orders: Orders) -> None:
        with self._lock:
            self._holding.take(orders.answer, now())
            self._orders = orders
        self._woken.set()

    def _follow_orders(self) -> None:
        with self._lock:
            orders, at = self._orders, now()
            to_stop = self._holding.to_stop(at)
        sources = orders.sources if orders is not None else {}
        changed = [each for each, text in self._texts.items() if each in sources and sources[each] != text]
        self._stop({*to_stop, *changed})
        with self._lock:
            to_start = self._holding.to_start(now())
        for stream, epoch in to_start.items():
            if stream not in sources:
                continue
            with self._lock:
                if stream not in self._holding.to_start(now()):
                    continue
                self._holding.started(stream, epoch)
            self._texts[stream] = sources[stream]
            self._hearing.start(stream, sources[stream], Permit(stream, self._holding, self._lock))
        if to_stop:
            self._ask_now.set()  # others wait for them

    def _stop(self, streams: Collection[str]) -> None:
        if heard := [stream for stream in streams if stream in self._texts]:
            self._hearing.stop(heard)
        for stream in streams:
            self._texts.pop(stream, None)
            with self._lock:
                self._holding.stopped(stream)
