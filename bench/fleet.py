"""A fleet whose workers, nodes and coordinator are killed: who heard what, and when.

    python bench/fleet.py                         1,000 simulated streams on four nodes of two workers, ten minutes
    python bench/fleet.py --minutes 2 --streams 100

Every 20 s something dies, by turns: a worker (SIGKILL), a node (both of its workers), a worker that hangs for 25 s
(SIGSTOP), and the coordinator. Workers are processes; their streams are simulated by a network that only sleeps. Each
writes down what it hears, ten times a second, with the epoch of the lease; that is judged at the end.
"""

import contextlib
import fcntl
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))

from tagger.fleet.coordinator import Habits
from tagger.fleet.leases import now
from tagger.fleet.local import Client
from tagger.fleet.run import Fleet, FleetFolder
from tagger.fleet.worker import Figures, Permit, Worker
from tagger.stop import Stop

_BEAT_SECONDS = 0.5
"""Time between two notes of what is heard, seconds."""
_OPEN_SECONDS = 6.0
"""Time from the start of a stream until it is heard: a second to connect, and a window of five seconds."""


class Simulated:
    """Streams that sleep."""

    def __init__(self, notes: Path, capacity: float) -> None:
        self._file = notes.open("a", buffering=1)
        self._capacity = capacity
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

    def figures(self) -> Figures:
        return Figures(self._capacity, 0, {stream: {"state": "hearing"} for stream in list(self._streams)})

    def _hear(self) -> None:
        while True:
            time.sleep(_BEAT_SECONDS)
            with self._lock:
                heard = {}
                for stream, (permit, began) in self._streams.items():
                    epoch = permit.epoch
                    if now() - began >= _OPEN_SECONDS and epoch is not None and permit.may_hear():
                        heard[stream] = epoch
                self._file.write(json.dumps([now(), heard]) + "\n")


@click.group(invoke_without_command=True)
@click.option("--streams", default=1_000, show_default=True)
@click.option("--nodes", default=4, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Workers of each node.")
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--every", default=20.0, show_default=True, help="Seconds between two deaths.")
@click.option("--seed", default=1, show_default=True)
@click.pass_context
def main(ctx: click.Context, streams: int, nodes: int, workers: int, minutes: float, every: float, seed: int) -> None:
    """Prints who was killed, and what was heard."""
    if ctx.invoked_subcommand is None:
        with tempfile.TemporaryDirectory() as place:
            _Trial(Path(place), streams, nodes, workers, every, seed).run(minutes * 60)


@main.command()
@click.argument("folder", type=Path)
@click.argument("streams", type=int)
@click.argument("names", nargs=-1)
def coordinate(folder: Path, streams: int, names: tuple[str, ...]) -> None:
    """The process of the coordinator."""
    capacity = 2.0 * streams / len(names)

    def command(node: str, session: str) -> list[str]:
        return [sys.executable, __file__, "work", str(folder), node, session, str(capacity)]

    with Stop() as stop:
        sources = {f"mic{i:04}": f"mic{i:04}=demo" for i in range(streams)}
        Fleet(FleetFolder(folder), Habits(), names, command, lambda: sources).run(stop)


@main.command()
@click.argument("folder", type=Path)
@click.argument("node")
@click.argument("session")
@click.argument("capacity", type=float)
def work(folder: Path, node: str, session: str, capacity: float) -> None:
    """The process of a worker."""
    lock = (folder / f"{node}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as a worker's state folder
    except OSError:
        sys.exit(2)
    (folder / f"{session}.pid").write_text(str(os.getpid()))
    hearing = Simulated(folder / f"{session}.heard", capacity)
    worker = Worker(node, session, hearing, Client(folder).report, "here")
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()


class _Trial:
    def __init__(self, folder: Path, streams: int, nodes: int, workers: int, every_s: float, seed: int) -> None:
        self._folder, self._streams, self._every_s = folder, streams, every_s
        self._nodes = [[f"node{n}-{w}" for w in range(workers)] for n in range(nodes)]
        self._dice = random.Random(seed)
        self._coordinator = self._start()
        self._deaths: list[tuple[float, str, set[str]]] = []
        """When, what, and the sessions that could not hear any more."""

    def _start(self) -> "subprocess.Popen[bytes]":
        names = list(itertools.chain.from_iterable(self._nodes))
        command = [sys.executable, __file__, "coordinate", str(self._folder), str(self._streams), *names]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def run(self, seconds: float) -> None:
        while (self._status() or {}).get("heard", 0) < self._streams:
            time.sleep(0.5)
        time.sleep(2 * _OPEN_SECONDS)
        began = now()
        kinds = itertools.cycle(["worker", "node", "worker", "hang", "worker", "coordinator"])
        while now() - began < seconds:
            self._kill(next(kinds))
            time.sleep(self._every_s)
        time.sleep(40)
        ended = now()
        status = self._status() or {}
        print(f"moved, by the coordinator since its last start: {status.get('moved')}")
        self._coordinator.terminate()
        self._coordinator.wait()
        self._judge(began, ended)

    def _status(self) -> dict[str, object] | None:
        try:
            found: dict[str, object] = Client(self._folder).ask({"status": True})
        except OSError:
            return None
        return found

    def _kill(self, kind: str) -> None:
        status = self._status()
        if status is None:
            return
        sessions = {name: each["session"] for name, each in status["nodes"].items()}  # type: ignore[attr-defined]
        victims = (
            self._dice.choice(self._nodes) if kind == "node" else [self._dice.choice(self._dice.choice(self._nodes))]
        )
        gone = {sessions[name] for name in victims if name in sessions} if kind != "coordinator" else set()
        self._deaths.append((now(), kind, gone))
        if kind == "coordinator":
            self._coordinator.kill()
            self._coordinator.wait()
            time.sleep(1)
            self._coordinator = self._start()
            return
        for session in gone:
            pid = int((self._folder / f"{session}.pid").read_text())
            os.kill(pid, signal.SIGSTOP if kind == "hang" else signal.SIGKILL)
            if kind == "hang":
                threading.Timer(25, _wake, [pid]).start()

    def _judge(self, began: float, ended: float) -> None:
        heard = defaultdict[str, list[tuple[float, str, int]]](list)
        """Stream -> when, by which session, under which epoch."""
        for notes in self._folder.glob("*.heard"):
            for line in notes.read_text().splitlines():
                try:
                    at, streams = json.loads(line)
                except ValueError:  # killed while it wrote
                    continue
                for stream, epoch in streams.items():
                    heard[stream].append((at, notes.stem, epoch))
        doubles, longest, gaps = 0, 0.0, list[float]()
        after = defaultdict[int, list[float]](list)
        """Number of the last death before -> times unheard that have ended then."""
        moves: list[tuple[float, str]] = []
        """When, and from which session, a stream changed its owner."""
        for notes_of in heard.values():
            notes_of.sort()
            for (at, one, epoch), (later, other, next_epoch) in itertools.pairwise(notes_of):
                doubles += next_epoch < epoch or (one != other and next_epoch == epoch)
                if one != other:
                    moves.append((later, one))
                if later >= began and later - at > 2 * _BEAT_SECONDS + 1:
                    gaps.append(later - at)
                    after[self._before(later)].append(later - at)
        last = min(notes_of[-1][0] for notes_of in heard.values())
        longest = max(gaps, default=0.0)
        lost = set().union(*(gone for _, _, gone in self._deaths))
        healthy = [(at, session) for at, session in moves if at >= began and session not in lost]
        kinds = [kind for _, kind, _ in self._deaths]
        for number, (at, kind, _) in enumerate(self._deaths):
            moved = sum(self._before(when) == number for when, _ in healthy)
            print(f"{at - began:4.0f} s {kind:<11} {len(after[number]):>4} unheard for up to "
                  f"{max(after[number], default=0):4.1f} s; {moved} healthy moved")  # fmt: skip
        print(
            ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)), "in", f"{ended - began:.0f} s"
        )
        print(f"{len(heard)} streams, {sum(map(len, heard.values())):,} notes of what was heard")
        print(f"two owners at one moment: {doubles}")
        print(f"streams taken over: {len(gaps):,}; longest time unheard {longest:.1f} s; at the end all were heard "
              f"{max(0.0, ended - last):.1f} s ago")  # fmt: skip
        print(f"healthy streams moved: {len(healthy)} ({len(healthy) / self._streams:.1%} of all, in all of the time)")

    def _before(self, at: float) -> int:
        """Number of the last death before a time."""
        return sum(death <= at for death, _, _ in self._deaths) - 1


def _wake(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    main()
