"""A fleet in this process: a coordinator in a folder, and workers in threads that hear nothing real."""

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tagger.fleet.coordinator import Habits
from tagger.fleet.leases import Terms
from tagger.fleet.local import Client
from tagger.fleet.machine import LocalStaff
from tagger.fleet.run import Fleet, FleetFolder
from tagger.fleet.worker import Figures, Permit, Worker
from tagger.stop import Stop
from tests.programs import LONG_S

HABITS = Habits(Terms(term_s=LONG_S, margin_s=1), settle_s=LONG_S, gather_s=LONG_S)
"""Leases that a slow machine does not let end."""


class FakeHearing:
    """Notes what it is asked to hear."""

    def __init__(self) -> None:
        self.heard: dict[str, str] = {}
        self.permits: dict[str, Permit] = {}
        self.capacity = 100.0

    def start(self, stream: str, source: str, permit: Permit) -> None:
        self.heard[stream] = source
        self.permits[stream] = permit

    def stop(self, streams: Collection[str]) -> None:
        for stream in streams:
            del self.heard[stream]

    def figures(self) -> Figures:
        return Figures(self.capacity, 0, {stream: {"state": "hearing"} for stream in list(self.heard)})


class RunningWorker:
    """A worker in a thread."""

    def __init__(self, folder: Path, node: str) -> None:
        self.hearing = FakeHearing()
        self._client = Client(folder)
        self.worker = Worker(node, f"{node}#{time.monotonic()}", self.hearing, self._client.report)
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()

    def stop(self) -> None:
        self.worker.stop()
        self.thread.join(LONG_S)
        self._client.close()


@contextmanager
def coordinator(folder: Path, sources: Mapping[str, str], others: int) -> Iterator[Fleet]:
    """A coordinator without workers of its own. `sources` may be changed while it runs.

    Args:
        others: number of workers that will come.
    """
    place, stop = FleetFolder(folder), Stop()
    staff = LocalStaff([], lambda node, session: [])
    fleet = Fleet(place, HABITS, staff, lambda: sources, every_s=0.1, others=others)
    thread = threading.Thread(target=fleet.run, args=[stop])
    thread.start()
    try:
        yield fleet
    finally:
        stop.set()
        thread.join(LONG_S)


@contextmanager
def workers(folder: Path, *nodes: str) -> Iterator[list[RunningWorker]]:
    found = [RunningWorker(folder, node) for node in nodes]
    try:
        yield found
    finally:
        for each in found:
            each.stop()
