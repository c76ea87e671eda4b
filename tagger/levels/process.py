"""A process that measures many streams: `python -m tagger.levels.process FD`.

A hundred threads that measure hand Python's lock to one another with every call of numpy, and with them those that run
the network. A process of its own has a lock of its own, and the threads of the streams only send it their sound.
"""

import logging
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from tagger.children import end, start_module
from tagger.events import Event, Samples
from tagger.levels.measure import Measured, Measurer, Wanted

MANY = 16
"""Number of streams from which this pays: the process has 37 MB of its own."""
_ANSWER_SECONDS = 30.0
"""Longest wait for an answer, which takes milliseconds."""
_END_SECONDS = 5.0
_AGAIN_SECONDS = 60.0
"""Time after which a process that is gone is started again, seconds."""
HERE = 0
"""Stands for this process where others have a number."""

log = logging.getLogger(__name__)


class MeasuringProcess:
    """Starts the process, and ends it with the context. `measurer` is for `SoundMonitor`.

    If the process dies, its streams are measured in this one until another is started, a minute later.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start_at = math.inf
        """When it is started again, on the monotonic clock."""
        self.run = HERE
        """Number of the process in which streams are measured at present, or HERE."""
        self._runs = HERE
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._count = 0
        """Streams so far."""

    def __enter__(self) -> "MeasuringProcess":
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._start_at, self.run = math.inf, HERE
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            end(self._process, _END_SECONDS)

    @property
    def pid(self) -> int | None:
        """Of the process, while it measures."""
        return self._process.pid if self._process is not None and self._connection is not None else None

    def measurer(self, wanted: Wanted) -> "_Elsewhere":
        """What measures one more stream."""
        self._count += 1
        return _Elsewhere(self, self._count, wanted)

    def ask(self, *request: Any) -> Any:
        """The answer to a request. None: the process is gone. One thread at a time may call it: whoever has
        `tagger.levels.monitor.turn`.
        """
        if self._connection is None and self._now() >= self._start_at:
            self._start()
        if self._connection is None:
            return None
        try:
            self._connection.send(request)
            if not self._connection.poll(_ANSWER_SECONDS):
                raise TimeoutError(f"it did not answer for {_ANSWER_SECONDS:g} s")
            return self._connection.recv()
        except (OSError, EOFError) as error:
            self._lose(error)
            return None

    def _start(self) -> None:
        try:
            self._process, ours = start_module(
                "tagger.levels.process", socket.SOCK_STREAM, {"OPENBLAS_NUM_THREADS": "1"}
            )
        except OSError as error:
            self._lose(error)
        else:
            self._connection = Connection(ours.detach())
            self._runs += 1
            self.run = self._runs

    def _lose(self, error: Exception) -> None:
        self.run, self._start_at = HERE, self._now() + _AGAIN_SECONDS
        log.warning(
            "the process that measures levels is gone (%s): the daemon measures them itself, with more work; "
            "another is started in %.0f s",
            *(str(error) or "it ended", _AGAIN_SECONDS),
        )
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class _Elsewhere:
    """Measures a stream in the process, or in this one while that is gone. Events that were open where it was measured
    before then end.
    """

    def __init__(self, process: MeasuringProcess, number: int, wanted: Wanted) -> None:
        self._process, self._number, self._wanted = process, number, wanted
        self._open: dict[str, Event] = {}
        self._until = 0.0
        """End of the last piece, seconds since the epoch."""
        self._run = process.run
        """Where it was measured last."""
        self._here = Measurer(wanted) if self._run == HERE else None

    def measure(self, samples: Samples, end: float) -> Measured:
        measured: Measured | None = self._process.ask("measure", self._number, self._wanted, samples, end)
        ends = self._move()
        if self._here is not None:
            measured = self._here.measure(samples, end)
        assert measured is not None
        self._follow(measured.events)
        self._until = end
        return measured._replace(events=ends + measured.events)

    def interrupt(self) -> list[Event]:
        events: list[Event] | None = self._process.ask("interrupt", self._number)
        ends = self._move()
        if self._here is not None:
            events = self._here.interrupt()
        assert events is not None
        self._follow(events)
        return ends + events

    def _follow(self, events: list[Event]) -> None:
        for event in events:
            if event.type == "begin":
                self._open[event.id] = event
            else:
                self._open.pop(event.id, None)

    def _move(self) -> list[Event]:
        """Goes on where the process is now. Returns the ends of what was open elsewhere."""
        if self._run == self._process.run:
            return []
        self._run = self._process.run
        self._here = Measurer(self._wanted) if self._run == HERE else None
        ends = [replace(event, type="end", offset=max(event.onset, self._until)) for event in self._open.values()]
        self._open = {}
        return ends


def serve(connection: Connection) -> None:
    """Measures what is asked for, until the other end is closed, however the daemon died."""
    measurers: dict[int, Measurer] = {}
    while True:
        try:
            what, number, *details = connection.recv()
        except (EOFError, OSError):
            return
        answer: Measured | list[Event] = []
        if what == "measure":
            wanted, samples, end = details
            if number not in measurers:
                measurers[number] = Measurer(wanted)
            answer = measurers[number].measure(samples, end)
        elif number in measurers:
            answer = measurers[number].interrupt()
        connection.send(answer)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
