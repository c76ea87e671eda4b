"""The workers of a Ray cluster: posts on each of its nodes, wherever there is a processor or a GPU for one."""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tagger import cluster
from tagger.fleet.leases import now
from tagger.fleet.machine import GROUP_CORES
from tagger.fleet.ray_post import NAMESPACE, FleetJob, Post, short
from tagger.retry import pause_s

log = logging.getLogger("tagger.fleet")

_LOOK_SECONDS = 1.0
"""Time between two looks at the cluster, seconds."""
_ROOM_SECONDS = 60.0
"""Time without a beginning after which a post is said to wait for room, seconds."""
_SETTLED_SECONDS = 30.0
"""Time after which a node is another one than one of the same machine that is not yet known to be dead, seconds."""
_REFUSED_SECONDS = 60.0
"""Time until a node that has refused a post is asked again, seconds."""
_PREFIX = "post"


@dataclass(frozen=True)
class _Room:
    """What a node of the cluster has for workers."""

    host: str
    workers: int
    cores: float
    """For each worker."""
    gpus: int
    """For each worker."""


@dataclass
class _Post:
    actor: Any
    at: str
    """The node of the cluster."""
    answer: Any
    """What it will say next of its state."""
    began: float = field(default_factory=now)
    has_begun: bool = False
    troubles: Sequence[str] = ()


class RayStaff:
    """Starts a post for each worker that a node has room for, and others for those that die."""

    def __init__(self, job: FleetJob, name: str, workers: int | None, is_gpu: bool) -> None:
        """
        Args:
            name: what the names of the workers begin with.
            workers: workers of each node. None: one for each GPU, or for each four cores.
            is_gpu: whether each needs a GPU.
        """
        self._ray = cluster.library()
        self._job, self._name, self._workers, self._is_gpu = job, name, workers, is_gpu
        self._actor = self._ray.remote(max_restarts=0, max_concurrency=16)(Post)
        self._looked = 0.0
        self._since: dict[str, float] = {}
        """Node of the cluster -> when it was seen first."""
        self._failures: dict[str, tuple[int, float, str]] = {}
        """Worker -> times in a row that its post did not begin, when the next may start, and why."""
        self._posts = dict(self._found())
        self._rooms = self._look_around()

    @property
    def nodes(self) -> Collection[str]:
        """Workers that there are; before there is any, those that there will be."""
        if self._posts:
            return list(self._posts)
        return [f"{room.host}-{i}" for room in self._rooms.values() for i in range(room.workers)]

    @property
    def troubles(self) -> list[str]:
        found = [f"{worker}: {why}" for worker, (times, _, why) in sorted(self._failures.items()) if times and why]
        late = [name for name, post in self._posts.items() if not post.has_begun and now() - post.began > _ROOM_SECONDS]
        found += [f"{name}: waits for room on its node; see `ray status`" for name in sorted(late)]
        found += [trouble for post in self._posts.values() for trouble in post.troubles]
        return found

    def note(self, session: str, pid: int) -> None:
        pass  # its post does

    def tend(self, present: Collection[str], known: Collection[str], may_start: bool) -> list[str]:
        if now() - self._looked < _LOOK_SECONDS:
            return []
        self._looked = now()
        try:
            self._rooms = self._look_around()
            self._listen()
            for at, room in self._rooms.items():
                if self._is_alone(at, room.host) or now() - self._since[at] > _SETTLED_SECONDS:
                    self._fill(at, room)
        except (self._ray.exceptions.RaySystemError, RuntimeError, ValueError, OSError) as error:
            log.warning("the cluster does not answer: %s", short(error))
        return []  # posts say themselves what has ended

    def end(self) -> list[str]:
        waiting = [post.actor.end.remote() for post in self._posts.values() if post.has_begun]
        if waiting:
            self._ray.wait(waiting, num_returns=len(waiting), timeout=5.0)
        for post in self._posts.values():
            self._ray.kill(post.actor)
        self._posts.clear()
        return []

    def _look_around(self) -> Mapping[str, _Room]:
        """What each living node has room for."""
        nodes = [each for each in self._ray.nodes() if each["Alive"]]
        for each in nodes:
            self._since.setdefault(each["NodeID"], now())
        return {each["NodeID"]: room for each in nodes if (room := room_of(each, self._workers, self._is_gpu)).workers}

    def _is_alone(self, at: str, host: str) -> bool:
        return all(other == at or room.host != host for other, room in self._rooms.items())

    def _fill(self, at: str, room: _Room) -> None:
        count = sum(post.at == at for post in self._posts.values())
        number = 0
        while count < room.workers:
            number += 1
            name = f"{self._name}-{room.host}-{number}"
            if name in self._posts:
                continue
            count += 1
            if now() >= self._failures.get(name, (0, 0.0, ""))[1]:
                self._posts[name] = self._started(name, at, room, (number - 1) % room.workers)

    def _started(self, name: str, at: str, room: _Room, number: int) -> _Post:
        actor = self._actor.options(
            name=f"{_PREFIX}:{name}@{at}",
            namespace=NAMESPACE,
            lifetime="detached",  # the coordinator's death changes nothing
            num_cpus=room.cores,
            num_gpus=room.gpus,
            scheduling_strategy=self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(at, soft=False),
        ).remote(self._job, name, room.host, number, 0 if room.gpus else room.workers)
        return _Post(actor, at, actor.state.remote())

    def _found(self) -> Iterator[tuple[str, _Post]]:
        """Posts of a coordinator before, by worker."""
        for named in self._ray.util.list_named_actors(all_namespaces=True):
            kind, _, rest = named["name"].partition(":")
            if named["namespace"] == NAMESPACE and kind == _PREFIX:
                worker, _, at = rest.rpartition("@")
                try:
                    actor = self._ray.get_actor(named["name"], namespace=NAMESPACE)
                except ValueError:  # it has just died
                    continue
                yield worker, _Post(actor, at, actor.state.remote(), has_begun=True)

    def _listen(self) -> None:
        """Takes what posts have answered, asks again, and forgets those that are dead or cannot have a worker."""
        ready, _ = self._ray.wait([post.answer for post in self._posts.values()], num_returns=max(1, len(self._posts)),
                                  timeout=0) if self._posts else ([], [])  # fmt: skip
        answered = set(ready)
        for name, post in list(self._posts.items()):
            if post.answer not in answered:
                continue
            try:
                problem, post.troubles = self._ray.get(post.answer)
            except self._ray.exceptions.RayError as error:
                del self._posts[name]
                self._fail(name, "" if post.has_begun else f"ends before it has begun ({short(error)})")
                continue
            if problem is not None:
                self._ray.kill(post.actor)
                del self._posts[name]
                self._failures[name] = 1, now() + _REFUSED_SECONDS, f"its node {problem}"
                continue
            post.has_begun = True
            self._failures.pop(name, None)
            post.answer = post.actor.state.remote()

    def _fail(self, name: str, why: str) -> None:
        """Notes that a post has died. One that had begun is replaced at once."""
        times = self._failures.get(name, (0, 0.0, ""))[0] + 1 if why else 0
        self._failures[name] = times, now() + (pause_s(times - 1) if times else 0.0), why


def room_of(node: Mapping[str, Any], workers: int | None, is_gpu: bool) -> _Room:
    """What a node has room for.

    Args:
        node: as `ray.nodes()` names it.
        workers: workers of each node. None: one for each GPU, or for each four cores.
    """
    resources = node["Resources"]
    cores, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0)) if is_gpu else 0
    least = 1 if gpus or (cores >= 1 and not is_gpu) else 0
    count = least and (workers or gpus or max(1, int(cores) // GROUP_CORES))
    count = min(count, gpus) if is_gpu else count
    own = "" if node["NodeName"] in (node["NodeManagerAddress"], "") else node["NodeName"]
    host = re.sub(r"[^\w.-]", "_", own or node["NodeManagerHostname"], flags=re.ASCII)
    each = min(float(GROUP_CORES), cores / count) if count else 0.0
    return _Room(host, count, float(int(each)) if each >= 1 else round(each, 2), 1 if is_gpu else 0)
