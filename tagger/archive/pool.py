"""Workers of this machine: processes, each with a network of its own.

One that dies is replaced, and its shard begun anew.
"""

import contextlib
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Protocol, Self

from tagger.archive.job import Job, ShardDone
from tagger.archive.plan import Shard
from tagger.children import end, start_module
from tagger.errors import TaggerError

WORKER = "tagger.archive.worker"
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")
"""Signals by which a process ends through its own fault."""
_MOST_CRASHES = 2
"""Times that a recording may crash its worker; then it is a bad one."""
_MOST_DEATHS = 5
"""Times that a recording's worker may be killed, as when memory runs out."""
_MOST_STARTS = 3
"""Workers in turn that may die before one was ready."""
_END_SECONDS = 2.0
"""Time that workers have to end."""
_ONE_THREAD: Mapping[str, str] = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Heard:
    """So much more sound was heard, seconds."""

    seconds: float


@dataclass(frozen=True)
class Done:
    """A shard is done."""

    shard: Shard
    result: ShardDone


@dataclass(frozen=True)
class Failed:
    """A shard could not be done."""

    shard: Shard
    reason: str


@dataclass(frozen=True)
class Died:
    """A worker died while it had this shard, which another has now."""

    shard: Shard
    reason: str


Message = Heard | Done | Failed | Died


class Pool(Protocol):
    """Workers, as a context manager. Leaving it ends them at once: what is not done is nowhere."""

    @property
    def room(self) -> int:
        """Number of shards that can be given now."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def give(self, shard: Shard) -> None:
        """Has a shard done."""

    def no_more(self) -> None:
        """Lets workers that have nothing to do help the others: no more shards will be given."""

    def wait(self, seconds: float) -> list[Message]:
        """What the workers say, as soon as one does; nothing after this time.

        Raises:
            TaggerError: no worker can work.
        """


class _Worker:
    """A process, and what it has to do."""

    def __init__(self, job: Job, module: str) -> None:
        self.process, ours = start_module(module, socket.SOCK_STREAM, _ONE_THREAD)
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        self.is_ready = False
        self.shard: Shard | None = None
        self.file = -1
        """Number of the recording that it reads."""
        self.threads = 1
        """Threads that it may use."""
        self.connection.send(job)

    def end(self) -> str:
        """Ends it. Returns why it has ended by itself."""
        self.connection.close()
        try:
            code: int | None = self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        end(self.process, 0)
        if code is None:
            return "it hung"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class LocalPool:
    """Processes of this machine."""

    def __init__(self, job: Job, count: int, threads: int | None = None, module: str | None = None) -> None:
        """
        Args:
            threads: threads of all workers together. None: one for each.
            module: what a worker runs. None: `WORKER`.
        """
        self._job, self._module = job, module or WORKER
        self._count, self._threads = count, threads or count
        self._workers: list[_Worker] = []
        self._deaths: Counter[tuple[int, int, bool]] = Counter()
        """How often a shard's recording ended its worker, and whether by a crash."""
        self._skipped: dict[int, dict[int, str]] = {}
        """Recordings that are left alone, by shard and number, and why."""
        self._failed_starts = 0

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._workers.append(_Worker(self._job, self._module))
        except OSError as error:
            self.__exit__()
            raise TaggerError(f"no worker can be started: {error.strerror or error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.end()
        self._workers = []

    @property
    def room(self) -> int:
        return sum(worker.shard is None for worker in self._workers)

    @property
    def processes(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers]

    def give(self, shard: Shard) -> None:
        self._give(next(worker for worker in self._workers if worker.shard is None), shard)

    def no_more(self) -> None:
        busy = [worker for worker in self._workers if worker.shard is not None]
        for number, worker in enumerate(busy):
            threads = self._threads // len(busy) + (number < self._threads % len(busy))
            if worker.threads != threads:
                worker.threads = threads
                with contextlib.suppress(OSError):  # as above
                    worker.connection.send(("threads", threads))

    def wait(self, seconds: float) -> list[Message]:
        found: list[Message] = []
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), seconds):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                self._take(worker, worker.connection.recv(), found.append)
            except (EOFError, OSError):
                self._replace(worker, found.append)
        return found

    def _give(self, worker: _Worker, shard: Shard) -> None:
        worker.shard, worker.file = shard, -1
        with contextlib.suppress(OSError):  # it is dead, which `wait` will find
            worker.connection.send(("shard", (shard, self._skipped.get(shard.number, {}))))

    def _take(self, worker: _Worker, message: tuple[str, Any], tell: Callable[[Message], None]) -> None:
        kind, value = message
        if kind == "ready":
            worker.is_ready, self._failed_starts = True, 0
        elif kind == "refused":
            raise value
        elif kind == "begun":
            worker.file = value
        elif kind == "heard":
            tell(Heard(value))
        elif worker.shard is not None:
            shard, worker.shard = worker.shard, None
            self._skipped.pop(shard.number, None)
            tell(Done(shard, value) if kind == "done" else Failed(shard, value))

    def _replace(self, worker: _Worker, tell: Callable[[Message], None]) -> None:
        """Starts another worker for one that died, and gives it the same shard."""
        reason = worker.end()
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_STARTS:
                raise TaggerError(f"workers end before they are ready ({reason})")
        other = _Worker(self._job, self._module)
        self._workers[self._workers.index(worker)] = other
        if (shard := worker.shard) is None:
            return
        if worker.is_ready:
            self._blame(shard, worker.file, reason)
        tell(Died(shard, reason))
        self._give(other, shard)

    def _blame(self, shard: Shard, file: int, reason: str) -> None:
        """Leaves a recording alone that ended its worker again and again."""
        crashed = reason in _CRASHES
        self._deaths[shard.number, file, crashed] += 1
        if self._deaths[shard.number, file, crashed] < (_MOST_CRASHES if crashed else _MOST_DEATHS):
            return
        if file < 0:
            raise TaggerError(f"shard {shard.number:06d}: its worker ended again and again ({reason})")
        why = f"the process that read it ended {_MOST_CRASHES if crashed else _MOST_DEATHS} times ({reason})"
        self._skipped.setdefault(shard.number, {})[file] = why
