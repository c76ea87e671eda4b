"""The processes of a fleet whose streams sleep: the coordinator, and workers. `bench/fleet.py` starts and kills them.

    python bench/sleeping_fleet.py coordinate FOLDER STREAMS PORT NAME...
    python bench/sleeping_fleet.py work FOLDER NODE SESSION PLACE

A worker writes down what it hears, twice a second, with the epoch of the lease, in `FOLDER/SESSION.heard`, and
announces events over a broker.
"""

import fcntl
import itertools
import json
import os
import pickle
import random
import signal
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))

from tagger.fleet.coordinator import Habits
from tagger.fleet.leases import now
from tagger.fleet.local import Client
from tagger.fleet.machine import LocalStaff
from tagger.fleet.run import Fleet, FleetFolder
from tagger.fleet.worker import Figures, Permit, Worker
from tagger.stop import Stop

BEAT_SECONDS = 0.5
"""Time between two notes of what is heard, seconds."""
OPEN_SECONDS = 6.0
"""Time from the start of a stream until it is heard: a second to connect, and a window of five seconds."""
_EVENT_SECONDS = 3.0
"""Length of an event, seconds."""
_EVENTS_EVERY_SECONDS = 20.0
"""Time between the beginnings of a stream's events, seconds."""


class Announcer:
    """Publishes the events of a worker."""

    def __init__(self, node: str, session: str, port: int) -> None:
        from paho.mqtt.client import Client as MqttClient
        from paho.mqtt.enums import CallbackAPIVersion

        self._node, self._session, self._numbers = node, session, itertools.count()
        self._client = MqttClient(CallbackAPIVersion.VERSION2)
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        self._open: dict[str, tuple[str, float]] = {}
        """Stream -> id and end of its event."""
        self._heard: dict[str, float] = {}
        """Stream -> when it was heard last."""
        self._next: dict[str, float] = {}

    def announce(self, heard: Collection[str]) -> None:
        """Begins and ends events of the streams that are heard now."""
        at = now()
        for stream in [stream for stream, (_, until) in self._open.items() if at >= until or stream not in heard]:
            id, until = self._open.pop(stream)
            self._publish(stream, id, "end", min(until, at if stream in heard else self._heard[stream]))
        self._heard = dict.fromkeys(heard, at)
        for stream in heard:
            due = self._next.setdefault(stream, at + random.random() * _EVENTS_EVERY_SECONDS)
            if at >= due:
                self._next[stream] = at + _EVENTS_EVERY_SECONDS
                id = f"{self._session}/{next(self._numbers)}"
                self._open[stream] = id, at + _EVENT_SECONDS
                self._publish(stream, id, "begin", at)

    def _publish(self, stream: str, id: str, type: str, at: float) -> None:
        event = {"id": id, "type": type, "node": self._node, "source": stream, "at": at}
        self._client.publish(f"tagger/{self._node}/{stream}/event", json.dumps(event), qos=1)


class Simulated:
    """Streams that sleep."""

    def __init__(self, notes: Path, capacity: float, announcer: Announcer) -> None:
        self._file = notes.open("a", buffering=1)
        self._capacity, self._announcer = capacity, announcer
        self._streams: dict[str, tuple[Permit, float]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._hear, daemon=True).start()

    def start(self, stream: str, source: str, permit: Permit) -> None:
        with self._lock:
            self._streams[stream] = permit, now()

    def stop(self, streams: Collection[str]) -> None:
        with self._lock:
            for stream in streams:
                self._streams.pop(stream)
            self._note()

    def figures(self) -> Figures:
        return Figures(self._capacity, 0, {stream: {"state": "hearing"} for stream in list(self._streams)})

    def _hear(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            with self._lock:
                self._note()

    def _note(self) -> None:
        heard = {}
        for stream, (permit, began) in self._streams.items():
            epoch = permit.epoch
            if now() - began >= OPEN_SECONDS and epoch is not None and permit.may_hear():
                heard[stream] = epoch
        self._announcer.announce(heard)
        self._file.write(json.dumps([now(), heard]) + "\n")


@click.group()
def main() -> None:
    """One process of the fleet."""


@main.command()
@click.argument("folder", type=Path)
@click.argument("streams", type=int)
@click.argument("port", type=int)
@click.argument("names", nargs=-1)
@click.option("--ray", help="Address of a cluster.")
def coordinate(folder: Path, streams: int, port: int, names: tuple[str, ...], ray: str | None) -> None:
    """The process of the coordinator; with --ray, of the command."""
    given = pickle.dumps((str(folder), 2.0 * streams / len(names), port))
    sources = {f"mic{i:04}": f"mic{i:04}=demo" for i in range(streams)}

    def command(node: str, session: str) -> list[str]:
        return [sys.executable, __file__, "work", str(folder), node, session, ""]

    with Stop() as stop:
        if ray is None:
            Fleet(FleetFolder(folder), Habits(), LocalStaff(names, command, given), lambda: sources).run(stop)
            return
        from tagger.fleet.ray_coordinator import Plan
        from tagger.fleet.ray_driver import RayFleet
        from tagger.fleet.ray_post import FleetJob

        workers = len(names) // len({name.rpartition("-")[0] for name in names})
        plan = Plan(FleetJob(given, str(folder), (__file__, "work")), Habits(gather_s=60.0), "sim", workers, False)
        with RayFleet(ray, plan, lambda: sources) as fleet:
            fleet.run(stop)


@main.command()
@click.argument("folder", type=Path)
@click.argument("node")
@click.argument("session")
@click.argument("place")
def work(folder: Path, node: str, session: str, place: str) -> None:
    """The process of a worker."""
    given, capacity, port = pickle.load(sys.stdin.buffer)
    notes = Path(given)
    lock = (notes / f"{node}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as a worker's state folder
    except OSError:
        sys.exit(2)
    (notes / f"{session}.pid").write_text(str(os.getpid()))
    hearing = Simulated(notes / f"{session}.heard", capacity, Announcer(node, session, port))
    worker = Worker(node, session, hearing, Client(folder).report, "here")
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()


if __name__ == "__main__":
    main()
