"""A fleet on a Ray cluster. Ray is 80 MB, so a few calls stand for it here; `bench/fleet.py --ray` has all of it."""

import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tagger.errors import UserError
from tagger.fleet import ray_post, ray_staff
from tagger.fleet.coordinator import Habits
from tagger.fleet.leases import Holding, Terms
from tagger.fleet.messages import Orders, Report
from tagger.fleet.ray_coordinator import CoordinatorActor, Plan
from tagger.fleet.ray_driver import RayFleet
from tagger.fleet.ray_post import FleetJob, Post
from tagger.fleet.ray_staff import RayStaff, room_of
from tagger.stop import Stop
from tests.programs import free_port, refused, run, until

SOURCES = {"garden": "garden=demo"}


class RayError(Exception):
    """Any error of Ray's."""


class ActorDiedError(RayError):
    """An actor died."""


class FakePost:
    """A post without a worker."""

    refused: str | None = None

    def __init__(self, job: FleetJob, node: str, host: str, number: int, count: int) -> None:
        self.node, self.place = node, (number, count)

    def state(self) -> tuple[str | None, list[str]]:
        return self.refused, []

    def end(self) -> None:
        pass


@dataclass(eq=False)
class Actor:
    cluster: "Cluster"
    made: Any
    name: str
    at: str

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *args: (self, method, args))


@dataclass
class Cluster:
    """What stands for Ray: calls are answered when they are waited for."""

    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    actors: dict[str, Actor] = field(default_factory=dict)

    def add(self, id: str, host: str = "", alive: bool = True, **resources: float) -> None:
        self.machines[id] = {
            "NodeID": id,
            "Alive": alive,
            "NodeName": "10.0.0.7",
            "NodeManagerHostname": host or id,
            "NodeManagerAddress": "10.0.0.7",
            "Resources": resources or {"CPU": 8.0},
        }

    def die(self, id: str) -> None:
        """A node, as Ray sees it some time later."""
        self.machines[id]["Alive"] = False
        self.actors = {name: actor for name, actor in self.actors.items() if actor.at != id}

    @property
    def posts(self) -> list[str]:
        return sorted(actor.made.node for actor in self.actors.values() if isinstance(actor.made, FakePost))

    def init(self, address: str, **_: object) -> None:
        if address == "nowhere":
            raise ConnectionError("Could not find any\nrunning Ray instance")

    def nodes(self) -> list[dict[str, Any]]:
        return list(self.machines.values())

    def remote(self, *args: Any, **_: Any) -> Any:
        def decorated(kind: type) -> Any:
            def options(name: str, scheduling_strategy: str = "", get_if_exists: bool = False, **_: Any) -> Any:
                def made(*args: Any) -> Actor:
                    if get_if_exists and name in self.actors:
                        return self.actors[name]
                    self.actors[name] = Actor(self, kind(*args), name, scheduling_strategy)
                    return self.actors[name]

                return SimpleNamespace(remote=made)

            return SimpleNamespace(options=options)

        return decorated(args[0]) if args else decorated

    def wait(self, answers: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return answers, []

    def get(self, answer: Any, timeout: float = 0) -> Any:
        if isinstance(answer, list):
            return [self.get(each) for each in answer]
        actor, method, args = answer
        if actor not in self.actors.values():
            raise ActorDiedError("it died")
        return getattr(actor.made, method)(*args)

    def kill(self, actor: Actor, **_: bool) -> None:
        self.actors.pop(actor.name, None)

    def get_actor(self, name: str, namespace: str = "") -> Actor:
        if name not in self.actors:
            raise ValueError(name)
        return self.actors[name]

    def list_named_actors(self, all_namespaces: bool) -> list[dict[str, str]]:
        return [{"name": name, "namespace": ray_post.NAMESPACE} for name in self.actors]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    ray = ModuleType("ray")
    for name in ("init", "nodes", "remote", "wait", "get", "kill", "get_actor"):
        setattr(ray, name, getattr(found, name))
    ray.shutdown = lambda: None  # type: ignore[attr-defined]
    ray.get_runtime_context = lambda: SimpleNamespace(was_current_actor_reconstructed=False)  # type: ignore[attr-defined]
    ray.util = SimpleNamespace(  # type: ignore[attr-defined]
        list_named_actors=found.list_named_actors,
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda at, soft: at),
    )
    ray.exceptions = SimpleNamespace(  # type: ignore[attr-defined]
        RayError=RayError, ActorDiedError=ActorDiedError, RaySystemError=RayError
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_staff, "Post", FakePost)
    return found


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock of the staff, seconds."""
    clock = [1000.0]
    monkeypatch.setattr(ray_staff, "now", lambda: clock[0])
    return lambda seconds: clock.__setitem__(0, 1000.0 + seconds)


def staff(workers: int | None = None, is_gpu: bool = False) -> RayStaff:
    return RayStaff(FleetJob(b"", None), "city", workers, is_gpu)


def tend(staff: RayStaff) -> None:
    staff.tend((), (), True)


@pytest.mark.parametrize(
    ("resources", "workers", "is_gpu", "expected"),
    [
        ({"CPU": 16.0}, None, False, (4, 4.0)),
        ({"CPU": 2.0}, None, False, (1, 2.0)),
        ({"CPU": 1.0}, 2, False, (2, 0.5)),
        ({"CPU": 0.0}, 2, False, (0, 0.0)),
        ({}, None, False, (0, 0.0)),
        ({"CPU": 16.0, "GPU": 2.0}, None, True, (2, 4.0)),
        ({"CPU": 16.0, "GPU": 2.0}, None, False, (4, 4.0)),
        ({"CPU": 16.0, "GPU": 2.0}, 5, True, (2, 4.0)),
        ({"CPU": 16.0}, None, True, (0, 0.0)),
    ],
)
def test_a_node_has_room_for_a_worker_per_gpu_or_four_cores(
    resources: dict[str, float], workers: int | None, is_gpu: bool, expected: tuple[int, float]
) -> None:
    node = {"Resources": resources, "NodeName": "a b", "NodeManagerHostname": "vm", "NodeManagerAddress": "10.0.0.7"}
    room = room_of(node, workers, is_gpu)
    assert (room.workers, room.cores) == expected
    assert room.host == "a_b"


def test_each_node_gets_posts_also_one_that_comes(cluster: Cluster, at: Callable[[float], None]) -> None:
    cluster.add("a")
    cluster.add("head", CPU=0.0)
    workers = staff()
    assert len(workers.nodes) == 2, "what is to come is known before"
    tend(workers)
    assert cluster.posts == ["city-a-1", "city-a-2"] == sorted(workers.nodes)
    assert sorted(actor.made.place for actor in cluster.actors.values()) == [(0, 2), (1, 2)]
    cluster.add("b", CPU=1.0)
    at(2)
    tend(workers)
    assert cluster.posts == ["city-a-1", "city-a-2", "city-b-1"]


def test_a_post_that_dies_is_replaced_and_a_coordinator_that_is_started_again_finds_those_that_run(
    cluster: Cluster, at: Callable[[float], None]
) -> None:
    cluster.add("a")
    tend(staff())
    (first, second) = cluster.actors.values()
    workers = staff()
    cluster.kill(second)
    at(2)
    tend(workers)
    assert cluster.posts == ["city-a-1", "city-a-2"]
    assert first in cluster.actors.values()


def test_a_machine_that_was_restarted_gets_its_names_again_once_the_dead_node_is_known(
    cluster: Cluster, at: Callable[[float], None]
) -> None:
    cluster.add("old", host="rack")
    workers = staff()
    tend(workers)
    cluster.add("new", host="rack")
    at(5)
    tend(workers)
    assert {actor.at for actor in cluster.actors.values()} == {"old"}
    cluster.die("old")
    at(20)
    tend(workers)
    assert cluster.posts == ["city-rack-1", "city-rack-2"]
    assert {actor.at for actor in cluster.actors.values()} == {"new"}


def test_a_node_that_refuses_is_named_and_left_alone_for_a_while(
    cluster: Cluster, at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakePost, "refused", "has tagger 0, not 1; install the same on all nodes")
    cluster.add("a", CPU=1.0)
    workers = staff()
    for seconds in (0, 2, 4):
        at(seconds)
        tend(workers)
    assert workers.troubles == ["city-a-1: its node has tagger 0, not 1; install the same on all nodes"]
    assert cluster.posts == []
    monkeypatch.setattr(FakePost, "refused", None)
    for seconds in (70, 72):
        at(seconds)
        tend(workers)
    assert cluster.posts == ["city-a-1"]
    assert workers.troubles == []


def test_a_node_with_another_version_has_no_worker(cluster: Cluster, tmp_path: Path) -> None:
    post = Post(FleetJob(b"", str(tmp_path), version="0"), "city-a-1", "a", 0, 1)
    problem, _ = post.state()
    assert problem is not None
    assert "not 0; install the same on all nodes" in problem
    post.end()


WORKER = """
import sys
from pathlib import Path
from tagger.fleet.leases import Holding, now
from tagger.fleet.local import Client
from tagger.fleet.messages import Orders, Report
folder, node, session, place = sys.argv[1:]
holding = Holding(session)
Client(Path(folder)).report(Report(holding.request(now()), node, 3.0))
sys.exit(int(sys.stdin.read()))
"""


def test_a_post_passes_on_what_its_worker_asks_and_says_when_it_has_ended(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    class FakeLeader:
        def ask(self, method: str, message: dict[str, Any]) -> Any:
            asked.append(message)
            return None

    monkeypatch.setattr(ray_post, "Leader", FakeLeader)
    (tmp_path / "worker.py").write_text(WORKER)
    post = Post(FleetJob(b"3", str(tmp_path), (str(tmp_path / "worker.py"),)), "city-a-1", "a", 0, 1)
    until(lambda: any("ended" in each for each in asked), "its end is said")
    post.end()
    report = Report.from_json(next(each["report"] for each in asked if "report" in each))
    assert (report.node, report.host, report.capacity) == ("city-a-1", "a", 3.0)
    assert report.request.session in next(each["ended"] for each in asked if "ended" in each)


def plan(folder: Path) -> Plan:
    return Plan(FleetJob(b"", str(folder)), Habits(Terms(2.0, 0.5)), "city", None, False)


def test_a_cluster_has_one_fleet_which_goes_on_without_the_command(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add("a", CPU=1.0)
    coordinator = CoordinatorActor(plan(tmp_path))
    try:
        assert coordinator.lead("one", "here", None) is True
        assert coordinator.lead("one", "here", SOURCES) is False
        second = coordinator.lead("two", "there", SOURCES)
        assert isinstance(second, UserError)
        assert str(second) == "a fleet runs there already, led from here; a cluster has one"
        assert coordinator.is_led("two")
        until(lambda: coordinator.answer({"status": True})["granting"], "leases before it have ended")
        holding = Holding("s")
        orders = coordinator.answer({"report": Report(holding.request(0.0), "city-a-1", 9.0).to_json()})
        assert Orders.from_json(orders).sources == SOURCES
        monkeypatch.setattr("tagger.fleet.ray_coordinator.LED_SECONDS", 0.0)
        assert "nobody has read the sources" in coordinator.answer({"status": True})["troubles"][0]
        assert coordinator.lead("two", "there", None) is True, "another command may lead from now on"
    finally:
        assert coordinator.end() is None
    assert cluster.posts == []


def test_a_command_that_is_started_again_leads_once_the_one_before_is_silent_and_ends_the_fleet(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("ray_coordinator", "ray_driver"):
        monkeypatch.setattr(f"tagger.fleet.{module}.LED_SECONDS", 1.0)
    monkeypatch.setattr("tagger.fleet.ray_driver.TELL_SECONDS", 0.1)
    cluster.add("a", CPU=1.0)
    job = FleetJob(pickle.dumps("settings"), str(tmp_path))
    plan = Plan(job, Habits(Terms(2.0, 0.5)), "city", None, False)
    with RayFleet("auto", plan, lambda: SOURCES) as killed:
        before = dict(cluster.actors)
        with RayFleet("auto", plan, lambda: SOURCES) as second:
            assert cluster.actors.items() >= before.items(), "the same coordinator"
            assert second.answer({"status": True})["streams"].keys() == SOURCES.keys()
            with pytest.raises(UserError, match="a fleet runs there already"):
                killed.run(Stop())
            until(lambda: cluster.posts == ["city-a-1"], "the fleet has a worker")
            stop = Stop()
            stop.set()
            second.run(stop)
    assert cluster.actors == {}


def test_a_coordinator_that_is_started_again_knows_the_sources_and_waits_for_no_dead_worker(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add("a")
    first = CoordinatorActor(plan(tmp_path))
    first.lead("one", "here", SOURCES)
    first.end()
    monkeypatch.setattr(
        sys.modules["ray"], "get_runtime_context", lambda: SimpleNamespace(was_current_actor_reconstructed=True)
    )
    second = CoordinatorActor(plan(tmp_path))
    try:
        assert second.answer({"status": True})["streams"].keys() == SOURCES.keys()
        until(lambda: second.answer({"status": True})["granting"], "leases before it have ended")
        orders = second.answer({"report": Report(Holding("s").request(0.0), "city-a-1", 9.0).to_json()})
        assert Orders.from_json(orders).sources == SOURCES, "one of two workers is there"
        assert second.lead("one", "here", None) is True, "they may have changed meanwhile"
    finally:
        second.end()


def test_a_folder_that_another_coordinator_uses_is_said_to_the_command(cluster: Cluster, tmp_path: Path) -> None:
    first = CoordinatorActor(plan(tmp_path))
    second = CoordinatorActor(plan(tmp_path))
    first.lead("one", "here", SOURCES)
    refusal = second.lead("one", "here", SOURCES)
    assert isinstance(refusal, UserError)
    assert "is used by another tagger" in str(refusal)
    assert first.end() is None


def test_what_the_command_refuses_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    text = '[mqtt]\nurl = "mqtt://127.0.0.1"\nnode = "city"\n[[source]]\nname = "a"\nurl = "demo"\n'
    file.write_text(text)
    refused(run("fleet", file, "--ray", "nowhere"), "--ray nowhere: no cluster answers", "ray start --head")
    refused(run("fleet", file, "--ray", f"127.0.0.1:{free_port()}"), "no cluster answers", "Connection refused")
    cluster.add("head", CPU=0.0)
    refused(run("fleet", file, "--ray", "auto"), "--ray auto: the cluster has no CPU")
    refused(run("fleet", "status", "--ray", "auto"), "no fleet runs there", "tagger fleet FILE --ray auto")
    refused(run("fleet", "drain", "x", "--ray", "auto"), "no fleet runs there")


def test_without_ray_one_line_says_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for command in (("run", tmp_path / "fleet.toml"), ("status",), ("drain", "x")):
        refused(run("fleet", *command, "--ray", "auto"), "needs ray", "setup cluster")
