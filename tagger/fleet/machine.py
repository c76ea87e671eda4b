"""The workers of one machine: processes whose end is known at once, and that are started again."""

import contextlib
import logging
import os
import secrets
import select
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.fleet.leases import now
from tagger.retry import pause_s

log = logging.getLogger(__name__)

GROUP_CORES = 4
"""Cores of a worker: more share one Python lock with little gain."""
_START_SECONDS = 120.0
"""Time that a process may take to load its model, seconds."""
_GPUS = Path("/proc/driver/nvidia/gpus")
_LIVED_SECONDS = 30.0
"""Age from which a worker's death is not the fault of its start, seconds."""
NOTICED_SECONDS = 3.0
"""Time in which workers that another process started say that they are there, seconds: until then none is started."""
_HUNG_SECONDS = 30.0
"""Time for which a worker whose leases have ended may stay silent before it is killed, seconds."""


class Processes:
    """Processes of this machine, whose end is known at once even if they are no children."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        """Session -> a file of the kernel's that can be read once the process has ended."""
        self._seen: dict[str, float] = {}
        """Session -> when the coordinator last knew it."""

    def note(self, session: str, pid: int) -> None:
        """Notes the process that has this session, unless it is this one."""
        if pid not in (0, os.getpid()) and session not in self._files and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # it has ended, or the kernel is too old: its lease ends
                self._files[session], self._seen[session] = os.pidfd_open(pid), now()

    @property
    def sessions(self) -> Collection[str]:
        """Those whose processes are noted."""
        return self._files.keys()

    def ended(self) -> list[str]:
        """Sessions whose process has ended; each is named once."""
        poll = select.poll()
        for file in self._files.values():
            poll.register(file, select.POLLIN)
        ready = {file for file, _ in poll.poll(0)}
        found = [session for session, file in self._files.items() if file in ready]
        for session in found:
            os.close(self._files.pop(session))
            del self._seen[session]
        return found

    def kill_lost(self, known: Collection[str], silent_s: float) -> None:
        """Kills processes that hang: the coordinator has not known their session for this time.

        Args:
            known: sessions that it knows now.
        """
        for session, file in self._files.items():
            if session in known:
                self._seen[session] = now()
            elif now() - self._seen[session] > silent_s:
                log.warning("worker %s has said nothing for too long; killing it", session.partition("#")[0])
                _kill(file)

    def kill(self) -> None:
        """Kills all that have not ended."""
        for file in self._files.values():
            _kill(file)

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def _kill(file: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(file, signal.SIGKILL)


@dataclass(frozen=True)
class Machine:
    """The workers of this machine."""

    places: Mapping[str, str]
    """Node -> where it computes: `gpu:0`, or numbers of the processor's cores with commas between; empty: anywhere."""

    @classmethod
    def of(cls, name: str, workers: int | None, device: str) -> "Machine":
        """
        Args:
            name: what the names of the nodes begin with.
            workers: number of workers. None: one for each GPU, if `device` is `cuda`, or else for each group of cores.
        """
        cores = _cores()
        gpus = len(os.listdir(_GPUS)) if device == "cuda" and _GPUS.is_dir() else 0  # noqa: PTH208
        count = workers or gpus or (1 if device.startswith("cuda") else max(1, len(cores) // GROUP_CORES))
        names = [f"{name}-{i + 1}" for i in range(count)]
        if gpus:
            return cls({each: f"gpu:{i % gpus}" for i, each in enumerate(names)})
        return cls({each: cores_of(i, count) for i, each in enumerate(names)})


def _cores() -> list[int]:
    """Numbers of the cores that this process may use. Empty: not known."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cores_of(number: int, count: int) -> str:
    """The place of a worker, one of `count` that share the cores of this machine. Empty where there are fewer cores."""
    cores = _cores()
    group = cores[number * len(cores) // count : (number + 1) * len(cores) // count]
    return "" if count > len(cores) else ",".join(map(str, group))


def take_place(place: str) -> None:
    """Makes this process compute at a place of `Machine`. Called before torch is imported."""
    if place.startswith("gpu:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = place.removeprefix("gpu:")
    elif place and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(each) for each in place.split(",")])


@dataclass
class _Child:
    process: "subprocess.Popen[bytes]"
    session: str
    began: float
    seen: float
    """When the coordinator last knew its session; `_START_SECONDS` after the start, if that is later."""


class Children:
    """Worker processes, one for each node name. One that ends is started again, later each time it ends at once."""

    def __init__(
        self,
        nodes: Sequence[str],
        command: Callable[[str, str], Sequence[str]],
        on_end: Callable[[str], None],
        given: bytes = b"",
    ) -> None:
        """
        Args:
            command: node and session -> the process to start.
            on_end: called with the session of a process that has ended.
            given: what each process reads from its standard input.
        """
        self._nodes, self._command, self._on_end, self._given = nodes, command, on_end, given
        self._running: dict[str, _Child] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        """Times in a row that a node's process ended at once, and when the next may start."""

    def tend(self, others: Collection[str] = ()) -> None:
        """Starts what does not run. Called about once a second.

        Args:
            others: nodes that have a worker which is no child of this process.
        """
        for node in self._nodes:
            child = self._running.get(node)
            if child is not None and child.process.poll() is not None:
                self._bury(node, child)
                child = None
            if child is None and node not in others and now() >= self._failures.get(node, (0, 0.0))[1]:
                session = f"{node}#{secrets.token_hex(6)}"
                try:
                    process = self._started(node, session)
                except OSError as error:  # no more memory or processes, at the moment
                    log.warning("worker %s cannot be started: %s", node, error.strerror or error)
                    self._failures[node] = self._failures.get(node, (0, 0.0))[0], now() + _LIVED_SECONDS
                    continue
                self._running[node] = _Child(process, session, now(), now() + _START_SECONDS)

    @property
    def troubles(self) -> list[str]:
        """Which end again and again, one line each."""
        return [
            f"{node}: its process ends at once; its log says why"
            for node, (times, _) in self._failures.items()
            if times > 1
        ]

    def kill_lost(self, known: Collection[str], silent_s: float) -> None:
        """Kills processes that hang before they are noted in `Processes`.

        Args:
            known: sessions that are noted there, or that the coordinator knows.
        """
        for node, child in self._running.items():
            if child.session in known:
                child.seen = max(child.seen, now())
            elif now() - child.seen > silent_s and child.process.poll() is None:
                log.warning("worker %s has said nothing for too long; killing it", node)
                child.process.kill()

    def _started(self, node: str, session: str) -> "subprocess.Popen[bytes]":
        with tempfile.TemporaryFile() as file:  # unlike a pipe, nobody waits until it is read
            file.write(self._given)
            file.seek(0)
            return subprocess.Popen(self._command(node, session), stdin=file, start_new_session=True)

    def end(self, wait_s: float) -> None:
        """Asks all to end, and kills those that have not done so after this time."""
        for child in self._running.values():
            child.process.terminate()
        until = now() + wait_s
        for child in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, until - now()))
            child.process.kill()
            child.process.wait()

    def _bury(self, node: str, child: _Child) -> None:
        del self._running[node]
        times = 0 if now() - child.began > _LIVED_SECONDS else self._failures.get(node, (0, 0.0))[0] + 1
        wait_s = 0.0 if times <= 1 else pause_s(times - 2)
        self._failures[node] = times, now() + wait_s
        log.warning("worker %s has ended (%s); starting another", node, child.process.returncode)
        self._on_end(child.session)


class LocalStaff:
    """The workers of this machine."""

    def __init__(self, nodes: Sequence[str], command: Callable[[str, str], Sequence[str]], given: bytes = b"") -> None:
        """
        Args:
            nodes: their names.
            command: node and session -> a worker's process.
            given: what each reads from its standard input.
        """
        self.nodes = nodes
        self._ended: list[str] = []
        self._children = Children(nodes, command, self._ended.append, given)
        self._processes = Processes()
        self._lock = threading.Lock()
        """Held to use `_processes`."""

    @property
    def troubles(self) -> list[str]:
        return self._children.troubles

    def note(self, session: str, pid: int) -> None:
        with self._lock:
            self._processes.note(session, pid)

    def tend(self, present: Collection[str], known: Collection[str], may_start: bool) -> list[str]:
        if may_start:
            self._children.tend(present)
        with self._lock:
            ended = self._processes.ended()
            self._processes.kill_lost(known, _HUNG_SECONDS)
            noted = {*known, *self._processes.sessions}
        self._children.kill_lost(noted, _HUNG_SECONDS)
        return [*ended, *self._taken()]

    def end(self) -> list[str]:
        self._children.end(2.0)
        with self._lock:
            self._processes.kill()  # those of a coordinator before that hang
            ended = self._processes.ended()
            self._processes.close()
        return [*ended, *self._taken()]

    def _taken(self) -> list[str]:
        ended = self._ended.copy()
        self._ended.clear()
        return ended
