"""Workers on a Ray cluster. Ray is 80 MB, so a few calls stand for it here; `bench/archive.py ray` has all of it."""

import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from tagger.archive import ray_pool
from tagger.archive.job import ShardDone
from tagger.archive.plan import RUN, Shard
from tagger.archive.pool import Died, Done, Failed, Heard, Message
from tagger.errors import TaggerError
from tests.archive.test_shard import job
from tests.programs import free_port, refused, run, write_wav

RESULT = ShardDone(1, 0, 5.0, 5, 0, None)


class RayActorError(Exception):
    """An actor died."""


class RayTaskError(Exception):
    """A method raised an exception."""


class Living:
    """An actor's process."""

    def __init__(self, cluster: "Cluster", made: Callable[[], Any]) -> None:
        self._cluster, self._made, self._it = cluster, made, None
        self.is_dead = cluster.are_born_dead

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: Answer(self, name, args))

    def call(self, name: str, args: tuple[Any, ...]) -> Any:
        if name == "work" and self._cluster.deaths:
            self._cluster.deaths -= 1
            self.is_dead = True
        if self.is_dead:
            raise RayActorError("it died\nits process was killed")
        self._it = self._it or self._made()
        return getattr(self._it, name)(*args)


@dataclass(eq=False)
class Answer:
    actor: Living
    name: str
    args: tuple[Any, ...]


@dataclass
class Cluster:
    """What stands for Ray: calls are answered one at a time, in order, when they are waited for."""

    resources: Mapping[str, float] = field(default_factory=lambda: {"CPU": 2.0})
    actors: list[Living] = field(default_factory=list)
    killed: list[Living] = field(default_factory=list)
    are_born_dead: bool = False
    deaths: int = 0
    """Times that an actor dies of a shard."""
    is_shut: bool = False

    def init(self, address: str, **_: object) -> None:
        if address == "nowhere":
            raise ConnectionError("Could not find any\nrunning Ray instance")

    def cluster_resources(self) -> Mapping[str, float]:
        return self.resources

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 1.0}}, {"Alive": True, "Resources": {}}]

    def remote(self, **options: object) -> Callable[[type], Any]:
        def decorated(kind: type) -> Any:
            def made(*args: object) -> Living:
                self.actors.append(Living(self, lambda: kind(*args)))
                return self.actors[-1]

            return SimpleNamespace(remote=made)

        return decorated

    def wait(self, answers: list[Answer], timeout: float) -> tuple[list[Answer], list[Answer]]:
        return answers[:1], answers[1:]

    def get(self, answer: Answer) -> Any:
        return answer.actor.call(answer.name, answer.args)

    def kill(self, actor: Living) -> None:
        self.killed.append(actor)

    def shutdown(self) -> None:
        self.is_shut = True


class Beside:
    """The worker beside an actor. A shard's source says what it does."""

    def __init__(self, *_: object) -> None:
        self._said: deque[list[Message]] = deque()

    def __enter__(self) -> "Beside":
        return self

    def no_more(self) -> None:
        pass

    def give(self, shard: Shard) -> None:
        crashed = [Died(shard, "SIGSEGV")] if shard.source == "crashes once" else []
        self._said.append([Heard(2.0)])
        self._said.append([*crashed, Heard(3.0), Done(shard, RESULT)])

    def wait(self, seconds: float) -> list[Message]:
        return self._said.popleft()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    ray = ModuleType("ray")
    for name in ("init", "cluster_resources", "nodes", "remote", "wait", "get", "kill", "shutdown"):
        setattr(ray, name, getattr(found, name))
    ray.util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.7")  # type: ignore[attr-defined]
    ray.exceptions = SimpleNamespace(RayActorError=RayActorError, RayTaskError=RayTaskError)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_pool, "LocalPool", Beside)
    monkeypatch.setattr(ray_pool, "TELL_SECONDS", 1000.0)
    return found


def pool(
    out: Path, address: str = "auto", most: int = 9, count: int | None = None, needed: tuple[str, ...] = ()
) -> Any:
    (out / RUN).parent.mkdir(exist_ok=True)
    (out / RUN).touch()
    return ray_pool.RayPool(job(out), address, most, count, needed)


def shards(*sources: str) -> list[Shard]:
    return [Shard(number, None, source, (("a.wav", None),)) for number, source in enumerate(sources)]


def told(pool: Any, count: int) -> list[Message]:
    """All that is said until this number of shards is over."""
    found: list[Message] = []
    for _ in range(100):
        found += pool.wait(0.0)
        if sum(isinstance(each, Done | Failed) for each in found) == count:
            return found
    raise AssertionError(found)


def failure(pool: Any) -> str:
    """Why no worker can work."""
    with pytest.raises(TaggerError) as error:
        told(pool, 1)
    return str(error.value)


def test_actors_do_the_shards_and_say_how_far_they_are(cluster: Cluster, tmp_path: Path) -> None:
    first, second, third = shards("x", "crashes once", "x")
    with pool(tmp_path) as workers:
        assert workers.room == 2
        for each in (first, second):
            workers.give(each)
        assert workers.room == 0
        found = told(workers, 2)
        assert workers.room == 2
        workers.give(third)
        found += told(workers, 1)
    assert [each.shard for each in found if isinstance(each, Done)] == [first, second, third]
    assert sum(each.seconds for each in found if isinstance(each, Heard)) == 15.0
    assert [each for each in found if isinstance(each, Died)] == [Died(second, "SIGSEGV")]
    assert len(cluster.actors) == 2, "the network is loaded once a worker"
    assert sorted(map(id, cluster.killed)) == sorted(map(id, cluster.actors))
    assert cluster.is_shut


def test_an_actor_that_dies_is_replaced_and_its_shard_begun_anew(cluster: Cluster, tmp_path: Path) -> None:
    (shard,) = shards("x")
    cluster.deaths = 1
    with pool(tmp_path, most=1) as workers:
        workers.give(shard)
        found = told(workers, 1)
    assert found == [Died(shard, "it was killed, or its node"), Heard(5.0), Done(shard, RESULT)]
    assert len(cluster.actors) == 2


def test_a_shard_of_which_five_actors_died_is_left_for_the_next_run(cluster: Cluster, tmp_path: Path) -> None:
    bad, good = shards("x", "x")
    cluster.deaths = 5
    with pool(tmp_path, most=1) as workers:
        workers.give(bad)
        found = told(workers, 1)
        workers.give(good)
        found += told(workers, 1)
    assert [type(each) for each in found] == [Died] * 4 + [Failed, Heard, Done]


def test_there_are_no_more_actors_than_shards_or_than_were_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    for most, count, expected in ((1, None, 1), (9, None, 2), (9, 4, 4), (3, 4, 3)):
        with pool(tmp_path, most=most, count=count) as workers:
            assert workers.room == expected


def test_what_is_wrong_on_a_node_is_said_with_its_address(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pool(tmp_path, needed=(str(tmp_path / "recordings"),)) as workers:
        problem = failure(workers)
    assert problem.endswith("/recordings: is not there on node 10.0.0.7; name a folder that all nodes share, or a URL")
    with pool(tmp_path) as workers:
        (tmp_path / RUN).unlink()
        assert "node 10.0.0.7 sees another folder" in failure(workers)
    with monkeypatch.context() as other:
        other.setattr(ray_pool, "__version__", "0")
        workers = pool(tmp_path)
    with workers:
        assert "not 0; install the same on all nodes" in failure(workers)


def test_actors_that_die_before_they_begin_are_an_error(cluster: Cluster, tmp_path: Path) -> None:
    cluster.are_born_dead = True
    with pool(tmp_path, most=1) as workers:
        assert failure(workers) == "workers on Ray end before they have begun (its process was killed)"


def test_a_cluster_that_does_not_answer_or_has_no_processor_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_wav(tmp_path / "in" / "a.wav", np.zeros(8000))
    archive = ("archive", tmp_path / "in", "--out", tmp_path / "out", "--ray")
    refused(
        run(*archive, "nowhere"), "--ray nowhere: no cluster answers", "Could not find any running Ray", "ray start"
    )
    refused(run(*archive, f"127.0.0.1:{free_port()}"), "no cluster answers", "Connection refused")
    cluster.resources = {}
    refused(run(*archive, "auto"), "--ray auto: the cluster has no CPU")


def test_without_ray_one_line_says_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(run("archive", tmp_path, "--out", tmp_path / "out", "--ray", "auto"), "needs ray", "setup cluster")
    assert not (tmp_path / "out").exists()
