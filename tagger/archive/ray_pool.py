"""Workers of a Ray cluster: each is a Ray actor that has one of this machine's workers beside it, on whatever node.

So what is done when a recording ends its process is the same everywhere. An actor that dies, or its node, is replaced,
and its shard begun anew by another.
"""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tagger import __version__, cluster
from tagger.archive.job import Job
from tagger.archive.plan import RUN, Shard
from tagger.archive.pool import Died, Done, Failed, Heard, LocalPool, Message
from tagger.archive.stores import store_of
from tagger.errors import TaggerError, UserError
from tagger.printable import echo

TELL_SECONDS = 2.0
"""Interval at which an actor says how far it is."""
_MOST_DEATHS = 5
"""Times that a shard's actor may die; then it is left for the next run."""
_MOST_STARTS = 3
"""Actors in turn that may die before one has begun."""
_PATIENCE_SECONDS = 60.0
"""Time without any actor after which the user is told where to look."""


class Actor:
    """A worker on some node. Its methods return what went wrong, since an exception would arrive as Ray's."""

    def __init__(self, job: Job, version: str, needed: Sequence[str], threads: int, module: str | None) -> None:
        """
        Args:
            version: tagger's version on the machine that leads.
            needed: local paths that must be there on each node.
            threads: cores that it may use.
            module: what the worker beside it runs.
        """
        self._job, self._version, self._needed = job, version, needed
        self._pool = LocalPool(job, 1, threads, module)

    def begin(self) -> TaggerError | None:
        """Starts its worker. Returns why no shard can be done here."""
        node = cluster.library().util.get_node_ip_address()
        if self._version != __version__:
            return UserError(
                f"node {node} has tagger {__version__}, not {self._version}; install the same on all nodes"
            )
        for path in self._needed:
            if not Path(path).exists():
                return UserError(f"{path}: is not there on node {node}; name a folder that all nodes share, or a URL")
        try:
            if not store_of(self._job.out).has(RUN):
                return UserError(f"--out {self._job.out}: node {node} sees another folder; share it, or name a URL")
            self._pool.__enter__()
        except (TaggerError, OSError) as error:
            return TaggerError(f"node {node}: {error}")
        return None

    def work(self, shard: Shard | None) -> list[Message] | TaggerError:
        """What happened until the shard was done, or in the next two seconds.

        Args:
            shard: begins it. None: goes on with the one that was begun.
        """
        if shard is not None:
            self._pool.give(shard)
        self._pool.no_more()
        heard_s, found, until = 0.0, list[Message](), time.monotonic() + TELL_SECONDS
        while not any(isinstance(each, Done | Failed) for each in found) and (left_s := until - time.monotonic()) > 0:
            try:
                messages = self._pool.wait(left_s)
            except TaggerError as error:
                return error
            heard_s += sum(each.seconds for each in messages if isinstance(each, Heard))
            found += [each for each in messages if not isinstance(each, Heard)]
        return [Heard(heard_s), *found]


class RayPool:
    """Actors of a cluster: one for each processor core, or for each GPU where the network is to run on one.

    With fewer shards than cores, each has several cores of its node.
    """

    def __init__(
        self,
        job: Job,
        address: str,
        most: int,
        count: int | None,
        needed: Sequence[str] = (),
        module: str | None = None,
    ) -> None:
        """
        Args:
            address: of the cluster, as `ray.init` takes it: `auto` or `host:6379`.
            most: actors that have something to do.
            count: number of actors. None: as many as the cluster has processors or GPUs.
            needed: local paths that must be there on each node.
        """
        self._ray = cluster.library()
        self._address, self._most, self._asked = address, most, count
        self._is_gpu = job.device not in ("auto", "cpu")
        self._arguments: tuple[Any, ...] = (job, __version__, needed)
        self._module = module
        self._count = 0
        self._starting: dict[Any, Any] = {}
        """Actors that have not begun, by what they will say of it."""
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Shard]] = {}
        """Actor and shard, by what the actor will say next."""
        self._waiting: deque[Shard] = deque()
        """Shards that no actor has."""
        self._deaths: Counter[int] = Counter()
        """How often a shard's actor died."""
        self._failed_starts = 0
        self._patience = time.monotonic() + _PATIENCE_SECONDS

    def __enter__(self) -> Self:
        cluster.join(self._address)
        kind = "GPU" if self._is_gpu else "CPU"
        found = int(self._ray.cluster_resources().get(kind, 0))
        if not found:
            self._ray.shutdown()
            raise UserError(f"--ray {self._address}: the cluster has no {kind}")
        self._count = min(self._asked or found, self._most)
        threads = 1 if self._is_gpu or self._asked else self._cores_for_each(found)
        self._arguments += threads, self._module
        self._actor = self._ray.remote(num_cpus=threads, num_gpus=int(self._is_gpu), max_restarts=0)(Actor)
        for _ in range(self._count):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        busy = [actor for actor, _ in self._busy.values()]
        for actor in [*self._idle, *self._starting.values(), *busy]:
            with contextlib.suppress(Exception):  # it is dead, or its cluster is
                self._ray.kill(actor)
        self._ray.shutdown()

    @property
    def room(self) -> int:
        return self._count - len(self._busy) - len(self._waiting)

    def give(self, shard: Shard) -> None:
        self._waiting.append(shard)

    def no_more(self) -> None:
        pass  # each actor has its own cores

    def wait(self, seconds: float) -> list[Message]:
        while self._idle and self._waiting:
            self._ask(self._idle.pop(), self._waiting.popleft(), begin=True)
        found: list[Message] = []
        ready, _ = self._ray.wait([*self._starting, *self._busy], timeout=seconds)
        for answer in ready:
            if answer in self._starting:
                self._begun(self._starting.pop(answer), answer)
            else:
                found += self._said(*self._busy.pop(answer), answer)
        if not (self._idle or self._busy) and time.monotonic() > self._patience:
            self._patience = float("inf")
            echo(
                f"Warning: no worker has begun in {_PATIENCE_SECONDS:g} s; `ray status` says what is missing", err=True
            )
        return found

    def _cores_for_each(self, found: int) -> int:
        """Cores for each actor, so many that any node has them."""
        cores = [each["Resources"].get("CPU", 0) for each in self._ray.nodes() if each["Alive"]]
        return max(1, min(found // self._count, *(int(each) for each in cores if each)))

    def _start(self) -> None:
        actor = self._actor.remote(*self._arguments)
        self._starting[actor.begin.remote()] = actor

    def _ask(self, actor: Any, shard: Shard, begin: bool = False) -> None:
        self._busy[actor.work.remote(shard if begin else None)] = actor, shard

    def _begun(self, actor: Any, answer: Any) -> None:
        try:
            error = self._answered(answer)
        except _DeadError as death:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_STARTS:
                raise TaggerError(f"workers on Ray end before they have begun ({death})") from None
            self._start()
            return
        if error is not None:
            raise error
        self._failed_starts, self._patience = 0, float("inf")
        self._idle.append(actor)

    def _said(self, actor: Any, shard: Shard, answer: Any) -> list[Message]:
        try:
            messages: list[Message] | TaggerError = self._answered(answer)
        except _DeadError:
            self._start()
            self._deaths[shard.number] += 1
            if self._deaths[shard.number] >= _MOST_DEATHS:
                return [Failed(shard, f"its worker on Ray died {_MOST_DEATHS} times")]
            self._waiting.appendleft(shard)
            return [Died(shard, "it was killed, or its node")]
        if isinstance(messages, TaggerError):
            raise messages
        if any(isinstance(each, Done | Failed) for each in messages):
            self._idle.append(actor)
        else:
            self._ask(actor, shard)
        return messages

    def _answered(self, answer: Any) -> Any:
        """
        Raises:
            _DeadError: the actor died.
            TaggerError: it has a defect.
        """
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayActorError as error:
            raise _DeadError((str(error).strip().splitlines() or ["it died"])[-1][:300]) from None
        except self._ray.exceptions.RayTaskError as error:
            raise TaggerError(f"a worker on Ray failed: {error.cause!r}") from None


class _DeadError(Exception):
    """An actor died."""
