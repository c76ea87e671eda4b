"""A fleet whose workers, nodes and coordinator are killed: who heard what, and when.

    python bench/fleet.py                         1,000 simulated streams on four nodes of two workers, ten minutes
    python bench/fleet.py --minutes 2 --streams 100
    python bench/fleet.py --ray                   the same on a Ray cluster of four nodes

Every 20 s something dies, by turns: a worker (SIGKILL), a node (both of its workers), a worker that hangs for 25 s
(SIGSTOP), and the coordinator; with --ray the actor beside a worker as well, and a node comes back as soon as Ray has
started it. Workers are processes; their streams are simulated by a network that only sleeps. Each writes down what it
hears, twice a second, with the epoch of the lease, and announces events over a broker (Mosquitto), a stream one every
20 s; both are judged at the end. Needs the extra `dev`.
"""

import contextlib
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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.clusters import added, cluster_of
from bench.sleeping_fleet import BEAT_SECONDS, OPEN_SECONDS
from tagger.fleet.leases import now
from tagger.fleet.local import Client

_QUIET: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
_PROCESSES = Path(__file__).with_name("sleeping_fleet.py")


@click.command()
@click.option("--streams", default=1_000, show_default=True)
@click.option("--nodes", default=4, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Workers of each node.")
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--every", default=20.0, show_default=True, help="Seconds between two deaths.")
@click.option("--seed", default=1, show_default=True)
@click.option("--ray", is_flag=True, help="On a Ray cluster of this machine.")
def main(streams: int, nodes: int, workers: int, minutes: float, every: float, seed: int, ray: bool) -> None:
    """Prints who was killed, and what was heard."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        trial = (RayTrial if ray else Trial)(Path(place), streams, nodes, workers, every, seed, stack)
        try:
            trial.run(minutes * 60)
        finally:
            trial.end()


class Trial:
    """A fleet on this machine."""

    kinds = ("worker", "node", "worker", "hang", "worker", "coordinator")
    """What dies, by turns."""

    def __init__(
        self, folder: Path, streams: int, nodes: int, workers: int, every_s: float, seed: int, stack: ExitStack
    ) -> None:
        """
        Args:
            stack: closed after `run`.
        """
        from tests.programs import Mosquitto, subscribed

        self._folder, self._streams, self._every_s = folder, streams, every_s
        self._names = [[self._name(n, w) for w in range(workers)] for n in range(nodes)]
        self._dice = random.Random(seed)
        (folder / "broker").mkdir()
        self._broker = stack.enter_context(Mosquitto(folder / "broker"))
        self._events = stack.enter_context(subscribed(self._broker.port, "tagger/+/+/event"))
        self._deaths: list[tuple[float, str, set[str]]] = []
        """When, what, and the sessions that could not hear any more."""
        self._prepare(stack)
        self._command = self._start()

    def _name(self, node: int, worker: int) -> str:
        return f"node{node}-{worker}"

    def _prepare(self, stack: ExitStack) -> None:
        pass

    def _start(self, *options: str) -> "subprocess.Popen[bytes]":
        names = itertools.chain.from_iterable(self._names)
        arguments = [str(self._folder), str(self._streams), str(self._broker.port), *names, *options]
        return subprocess.Popen([sys.executable, _PROCESSES, "coordinate", *arguments], **_QUIET)

    def run(self, seconds: float) -> None:
        while (self._status() or {}).get("heard", 0) < self._streams:
            time.sleep(0.5)
        time.sleep(2 * OPEN_SECONDS)
        began = now()
        kinds = itertools.cycle(self.kinds)
        for number in itertools.count(1):
            self._kill(next(kinds))
            time.sleep(max(5.0, began + number * self._every_s - now()))
            if now() - began >= seconds:
                break
        time.sleep(40)
        ended = now()
        status = self._status() or {}
        print(f"moved, by the coordinator since its last start: {status.get('moved')}")
        self.end()
        self._events.catch_up()
        self._judge(began, ended)
        self._judge_events([json.loads(message.payload) for _, message in self._events.messages])

    def end(self) -> None:
        """Ends the fleet."""
        self._command.terminate()
        self._command.wait()

    def _status(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = Client(self._folder).ask({"status": True})
        except OSError:
            return None
        return found

    def _kill(self, kind: str) -> None:
        status = self._status()
        if status is None:
            return
        sessions = {name: each["session"] for name, each in status["nodes"].items()}
        node = self._dice.randrange(len(self._names))
        names = self._names[node] if kind == "node" else [self._dice.choice(self._names[node])]
        gone = {sessions[name] for name in names if name in sessions}
        self._deaths.append((now(), kind, gone if kind in ("worker", "node", "hang") else set()))
        if kind == "coordinator":
            self._kill_coordinator(status["pid"])
            return
        pids = [int((self._folder / f"{session}.pid").read_text()) for session in gone]
        if kind == "node":
            self._kill_node(node, pids)
            return
        for pid in pids:
            if kind == "hang":
                os.kill(pid, signal.SIGSTOP)
                threading.Timer(25, _wake, [pid]).start()
            elif kind == "post":
                os.kill(_parent(pid), signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)

    def _kill_coordinator(self, pid: int) -> None:
        self._command.kill()
        self._command.wait()
        time.sleep(1)
        self._command = self._start()

    def _kill_node(self, node: int, pids: list[int]) -> None:
        """
        Args:
            pids: its workers, which are what a node is here.
        """
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

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
                if later >= began and later - at > 2 * BEAT_SECONDS + 1:
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

    def _judge_events(self, messages: list[dict[str, Any]]) -> None:
        ends = {each["id"]: each["at"] for each in messages if each["type"] == "end"}
        by_stream = defaultdict[str, dict[str, tuple[float, float, str]]](dict)
        """Stream -> id -> when the event began and ended, and the node that said so."""
        for each in messages:
            if each["type"] == "begin":
                by_stream[each["source"]][each["id"]] = each["at"], ends.get(each["id"], each["at"]), each["node"]
        doubles, count = 0, 0
        for events in by_stream.values():
            listed = sorted(events.values())
            count += len(listed)
            for (_, end, one), (begin, _, other) in itertools.pairwise(listed):
                doubles += one != other and begin < end + OPEN_SECONDS  # the other had to connect first
        nodes = {node for events in by_stream.values() for _, _, node in events.values()}
        print(f"{count:,} events of {len(by_stream)} streams by {len(nodes)} nodes; {count - len(ends):,} had no end, "
              f"since their worker died; of two nodes at one moment, by the events' node: {doubles}")  # fmt: skip

    def _before(self, at: float) -> int:
        """Number of the last death before a time."""
        return sum(death <= at for death, _, _ in self._deaths) - 1


class RayTrial(Trial):
    """A fleet on a Ray cluster of this machine."""

    kinds = ("worker", "node", "worker", "hang", "post", "node", "coordinator")

    def _name(self, node: int, worker: int) -> str:
        return f"sim-node{node}-{worker + 1}"

    def _prepare(self, stack: ExitStack) -> None:
        self._cluster = stack.enter_context(cluster_of(0))
        self._nodes = [added(self._cluster, f"node{node}") for node in range(len(self._names))]

    def _start(self, *options: str) -> "subprocess.Popen[bytes]":
        return super()._start("--ray", self._cluster.address)

    def _kill_coordinator(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def _kill_node(self, node: int, pids: list[int]) -> None:
        for pid in [
            *map(_parent, pids),
            *pids,
        ]:  # those who would tell of it first
            os.kill(pid, signal.SIGKILL)
        self._cluster.remove_node(self._nodes[node], allow_graceful=False)
        self._nodes[node] = added(self._cluster, f"node{node}")


def _parent(pid: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _wake(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    main()
