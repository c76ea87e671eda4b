"""Many streams through one network: the thread that finds it free runs it for all that wait.

There is no thread and no timer of the engine's own. A thread hands over a window. If the network is free, it leads: it
prepares the window and runs the network itself, at once; so a stream alone pays nothing. Else it waits, in the order in
which windows are due. Who has led a batch wakes the first that waits, to lead the next batch, and those whose scores it
has; nobody else. Waiting threads have nothing to do, so that no more threads work than there are batches at once: many
would take the interpreter's lock from each other at every step.
"""

import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from tagger.engine.cost import BatchCost
from tagger.events import Scores, Window

log = logging.getLogger(__name__)

_LATEST_SHARE = 0.25
"""Lag up to which a window is not late, hops, however slow the network is: else it would be asked for nothing."""
_BATCH_SHARE = 0.25
"""Longest time of a batch of several windows, hops: the next in line waits as long."""
_GROW_SECONDS = 3_600.0
"""Time after which larger batches are tried again that did not fit the memory, seconds."""
_MOST_FAVOURS = 8
"""Most windows left out in turn that move a lane forward."""


class Network(Protocol):
    """What runs a batch; `tagger.engine.scores.WindowClassifier`."""

    def scores_of(self, prepared: Sequence[Any], windows: Sequence[Window]) -> list[Scores]:
        """Called by several threads at once, up to the number of batches that run at once."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether a batch of fewer windows could go well where this was raised."""


class Lane:
    """One stream's way through the network. One thread calls `scores`; any calls `close`."""

    def __init__(
        self,
        engine: "Engine",
        prepare: Callable[[Window], Any],
        hop_s: float = math.inf,
        behind: Callable[[], float] | None = None,
        on_late: Callable[[Window], None] = lambda window: None,
        smooth: Callable[[Sequence[Scores]], list[Scores]] = list,
    ) -> None:
        """
        Args:
            prepare: the stream's own part of the work. Whoever leads the batch calls it, for one window of the stream
                at a time.
            hop_s: distance of the windows. A window is late when its scores could not be there within that time.
            behind: seconds of sound that wait to be read. Any thread calls it. None: no window is ever late.
            on_late: called with a window that is left out because it is late.
            smooth: what becomes of the scores in the stream; called with those of each window once, in their order.
        """
        self.hop_s, self.behind, self.on_late = hop_s, behind, on_late
        self.missed = 0
        """Windows that were left out, one after the other."""
        self.is_closed = False
        self._engine, self._prepare, self._smooth = engine, prepare, smooth

    def scores(self, windows: Sequence[Window]) -> list[Scores]:
        """Scores of each window, in order, but for those that are late, or were closed upon.

        Args:
            windows: all of one length; together they are one batch, or a part of one.

        Raises:
            Exception: what the network raised.
        """
        if not windows or self.is_closed:
            return []
        found = None
        if not self._engine.is_late(self):
            found = self._engine.answer(_Request(self, self._prepare, windows))
        if found is not None:
            self.missed = 0
            return self._smooth(found)
        if not self.is_closed:
            self.missed += 1
            for window in windows:
                self.on_late(window)
        return []

    def close(self) -> None:
        """Answers what waits, with nothing, and all that comes."""
        self._engine.close_lane(self)


class _Request:
    """Windows of a lane that wait for their scores."""

    def __init__(self, lane: Lane, prepare: Callable[[Window], Any], windows: Sequence[Window]) -> None:
        self.lane, self.prepare, self.windows = lane, prepare, windows
        self.scores: list[Scores] | None = None
        """None: not yet, or never."""
        self.error: BaseException | None = None
        self.leads = False
        """Whether its thread is to lead a batch."""
        self.waits = False
        """Whether it is in line."""
        self.gate = threading.Lock()
        """Released to let its thread go on."""
        self.gate.acquire()

    @property
    def shape(self) -> int:
        """Requests of one shape fit one batch."""
        return len(self.windows[0].samples)


class Engine:
    """Runs a network for lanes in any number of threads."""

    def __init__(
        self,
        network: Network,
        batches: int = 1,
        most_windows: int = 8,
        linger_s: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            batches: number of batches that may run at once, each in a thread.
            most_windows: most windows in a batch of several lanes.
            linger_s: longest time that a batch waits for more windows, where several came together before, seconds.
        """
        self._network, self._most, self._linger_s, self._now = network, most_windows, linger_s, now
        self._wanted, self._grow_at = most_windows, 0.0
        """Most windows of a batch where memory suffices; and when more are tried again after it did not."""
        self._lock = threading.Lock()
        self._free = self._batches = batches
        self._line: list[tuple[float, int, _Request]] = []
        """Heap of what waits: when it is due, on the monotonic clock; a number to make entries differ; the request."""
        self._numbers = itertools.count()
        self._cost = BatchCost()
        self._last = 1
        """Windows of the latest batch."""
        self._lingering: threading.Event | None = None
        """Set when a batch that waits for more has enough."""
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Number of lanes that wait for a batch."""
        return len(self._line)

    @property
    def most_windows(self) -> int:
        """Most windows of several lanes in a batch at present: fewer than were wanted where memory did not suffice."""
        return self._most

    @property
    def windows_per_s(self) -> float:
        """Number of windows that it can classify in a second, by the batches that it has run; 0 before the first."""
        with self._lock:
            seconds = self._cost.mean_s(self._last)
            return self._batches * self._last / seconds if seconds else 0.0

    def is_late(self, lane: Lane, windows: int = 1) -> bool:
        """Whether a window of this lane could not be in time if it were taken now, in a batch of so many."""
        if lane.behind is None:
            return False
        behind_s = lane.behind()
        return behind_s > lane.hop_s * _LATEST_SHARE and behind_s + self._cost.most_s(windows) > lane.hop_s

    def answer(self, request: _Request) -> list[Scores] | None:
        """Waits for a request's scores, and may lead batches meanwhile. None: it was late, or closed upon.

        Raises:
            Exception: what the network raised.
        """
        self._enter(request)
        if not request.leads:
            try:
                request.gate.acquire()
            except BaseException:
                self._withdraw(request)
                raise
        if request.leads:
            self._lead(request)
        if request.error is not None:
            raise request.error
        return request.scores

    def close(self) -> None:
        """Answers all that wait, with nothing, and all that comes. Batches that run are finished."""
        with self._lock:
            self._is_closed = True
            line, self._line = self._line, []
            for _, _, request in line:
                self._let_go(request)

    def close_lane(self, lane: Lane) -> None:
        with self._lock:
            lane.is_closed = True
            for *_, request in self._line:
                if request.lane is lane:
                    self._take_out(request)
                    self._let_go(request)
                    return

    def _enter(self, request: _Request) -> None:
        """Makes its thread lead, or puts it into the line."""
        lane = request.lane
        with self._lock:
            if self._is_closed or lane.is_closed:
                self._let_go(request)
                return
            if self._free and self._lingering is None:
                self._free -= 1
                request.leads = True
                return
            due = math.inf
            if lane.behind is not None:
                # A lane that was left out comes before those that were not.
                due = self._now() - lane.behind() + lane.hop_s * (1 - min(lane.missed, _MOST_FAVOURS))
            self._put(due, request)
            if self._lingering is not None and len(self._line) + 1 >= self._most:
                self._lingering.set()

    def _lead(self, request: _Request) -> None:
        """Runs a batch in which its request is, if that is still in time, and wakes the leader of the next."""
        batch: list[_Request] = []
        try:
            self._linger(request)
            with self._lock:
                batch = self._batch(request)
            if batch:
                self._run(batch)
        except Exception as error:
            for each in batch or [request]:
                each.error = error
        except BaseException as interrupt:  # of this thread alone: the others go on
            request.error = interrupt
            with self._lock:
                for each in batch[1:]:
                    self._put(-math.inf, each)
                batch = []
        with self._lock:
            self._pass_on()
        for each in batch[1:]:
            each.gate.release()

    def _linger(self, request: _Request) -> None:
        """Waits for more windows, if the batch before had several: a few milliseconds, but none is made late."""
        if not self._linger_s or self._last == 1 or self._most == 1:
            return
        lane = request.lane
        spare_s = math.inf
        if lane.behind is not None:
            spare_s = lane.hop_s - lane.behind() - self._cost.most_s(self._last)
        with self._lock:
            if self._lingering is not None or len(self._line) + 1 >= self._most:
                return
            enough = self._lingering = threading.Event()
        try:
            enough.wait(max(0.0, min(self._linger_s, spare_s)))
        finally:
            with self._lock:
                self._lingering = None

    def _batch(self, first: _Request) -> list[_Request]:
        """The request and the next in line that fit one batch with it. Those that are late are let go; if this one is,
        there is no batch. Called with the lock.
        """
        if self._is_closed or first.lane.is_closed or self.is_late(first.lane, len(first.windows)):
            return []
        if self._most < self._wanted and self._now() >= self._grow_at:
            self._most, self._grow_at = min(2 * self._most, self._wanted), self._now() + _GROW_SECONDS
        batch, count, limit_s = [first], len(first.windows), _longest_s(first.lane)
        others = []
        while self._line:
            entry = heappop(self._line)
            request = entry[2]
            size = count + len(request.windows)
            if self.is_late(request.lane):
                self._let_go(request)
                continue
            longest_s = min(limit_s, _longest_s(request.lane))
            if request.shape == first.shape and size <= self._most and self._cost.most_s(size) <= longest_s:
                request.waits = False
                batch.append(request)
                count, limit_s = size, longest_s
            else:
                others.append(entry)
                if request.shape == first.shape:
                    break
        for entry in others:
            heappush(self._line, entry)
        return batch

    def _run(self, batch: Sequence[_Request]) -> None:
        """Gives the requests their scores."""
        windows = [window for request in batch for window in request.windows]
        began = self._now()
        prepared = [request.prepare(window) for request in batch for window in request.windows]
        scores = self._scores(prepared, windows)
        with self._lock:
            self._cost.learn(len(windows), self._now() - began)
            self._last = len(windows)
        for request in batch:
            request.scores, scores = scores[: len(request.windows)], scores[len(request.windows) :]

    def _scores(self, prepared: Sequence[Any], windows: Sequence[Window]) -> list[Scores]:
        """Scores of a batch; where memory does not suffice, of one half after the other."""
        try:
            return self._network.scores_of(prepared, windows)
        except Exception as error:
            if len(windows) == 1 or not self._network.is_out_of_memory(error):
                raise
        half = len(windows) // 2
        with self._lock:
            if self._most > half:
                self._most, self._grow_at = half, self._now() + _GROW_SECONDS
                log.warning("a batch of %d is too large for the memory: going on with %d at once", len(windows), half)
        return self._scores(prepared[:half], windows[:half]) + self._scores(prepared[half:], windows[half:])

    def _pass_on(self) -> None:
        """Wakes the first in line that is not late, to lead. If there is none, one more batch may run."""
        while self._line:
            request = heappop(self._line)[2]
            request.waits = False
            if self.is_late(request.lane, len(request.windows)):
                request.gate.release()
                continue
            request.leads = True
            request.gate.release()
            return
        self._free += 1

    def _put(self, due: float, request: _Request) -> None:
        request.waits = True
        heappush(self._line, (due, next(self._numbers), request))

    def _take_out(self, request: _Request) -> None:
        """Takes a request out of the line. With the lock."""
        self._line = [entry for entry in self._line if entry[2] is not request]
        heapify(self._line)

    def _let_go(self, request: _Request) -> None:
        """Answers a request with nothing. With the lock."""
        request.waits = False
        request.gate.release()

    def _withdraw(self, request: _Request) -> None:
        """Its thread was interrupted while it waited, and cannot lead."""
        with self._lock:
            if request.waits:
                self._take_out(request)
            elif request.leads:
                self._pass_on()


def cores() -> int:
    """Number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _longest_s(lane: Lane) -> float:
    """Longest time of a batch with this lane and others, seconds."""
    if lane.behind is None:
        return math.inf
    return min(_BATCH_SHARE * lane.hop_s, lane.hop_s - lane.behind())
