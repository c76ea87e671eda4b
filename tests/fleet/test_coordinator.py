"""The coordinator, with workers whose clock is an argument."""

from collections import Counter
from typing import Any

import pytest

from tagger.fleet.coordinator import Coordinator, Habits
from tagger.fleet.leases import Holding, Terms
from tagger.fleet.messages import Orders, Report

HABITS = Habits(Terms(12, 3), settle_s=60, gather_s=20)


class Workers:
    """Workers that obey at once, and ask once a second."""

    def __init__(self, streams: int, nodes: int, capacity: float = 200) -> None:
        self.at = 0.0
        self.capacity = capacity
        self.has_coordinator = True
        self.coordinator = Coordinator(HABITS, 1, self.at, expected=nodes, is_first=True)
        self.coordinator.sources = {f"mic{i}": f"mic{i}=demo" for i in range(streams)}
        self.holdings: dict[str, Holding] = {}
        self.unheard: dict[str, float] = {}
        """Stream -> when it was last heard."""
        self.longest: Counter[str] = Counter()
        """Longest time for which a stream was not heard, seconds."""
        for i in range(nodes):
            self.come(f"node{i}")

    def come(self, node: str) -> None:
        self.holdings[node] = Holding(f"{node}#{self.at}")

    def die(self, node: str, is_known: bool = False) -> None:
        session = self.holdings.pop(node).session
        if is_known:
            self.coordinator.lose(session, self.at)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.at += 1
            for node, holding in self.holdings.items():
                self._ask(node, holding)
            heard = Counter(stream for each in self.holdings.values() for stream in each.heard)
            assert max(heard.values(), default=0) <= 1
            for stream in self.coordinator.sources:
                if stream in heard:
                    self.unheard[stream] = self.at
                elif stream in self.unheard:
                    self.longest[stream] = max(self.longest[stream], self.at - self.unheard[stream])

    def _ask(self, node: str, holding: Holding) -> None:
        for stream in holding.to_stop(self.at):
            holding.stopped(stream)
        request, unanswered = holding.request(self.at), holding.unanswered(self.at)
        report = Report(request, node, self.capacity, host=f"host-of-{node}", unanswered=unanswered)
        if not self.has_coordinator:
            return
        orders = self.coordinator.renew(report, self.at)
        assert orders is not None
        holding.take(orders.answer, self.at)
        for stream, epoch in holding.to_start(self.at).items():
            holding.started(stream, epoch)

    @property
    def owners(self) -> dict[str, str]:
        return {stream: node for node, holding in self.holdings.items() for stream in holding.heard}

    @property
    def loads(self) -> Counter[str]:
        return Counter(self.owners.values())

    @property
    def status(self) -> dict[str, Any]:
        return self.coordinator.status(self.at)


def test_every_stream_is_heard_once_the_workers_are_there() -> None:
    fleet = Workers(100, 4)
    fleet.run(3)
    assert fleet.loads == {"node0": 25, "node1": 25, "node2": 25, "node3": 25}
    assert fleet.status["without_owner"] == 0


@pytest.mark.parametrize(("is_known", "within_s"), [(False, 17), (True, 2)])
def test_a_dead_workers_streams_are_heard_by_others_and_no_other_moves(is_known: bool, within_s: int) -> None:
    fleet = Workers(100, 4)
    fleet.run(3)
    before = fleet.owners
    fleet.die("node1", is_known)
    fleet.run(30)
    assert len(fleet.owners) == 100
    assert max(fleet.longest.values(), default=0) <= within_s
    assert all(fleet.owners[stream] == node for stream, node in before.items() if node != "node1")
    assert fleet.status["moved"] == {"lost": 25}


def test_a_worker_that_hangs_is_given_nothing_of_one_that_dies() -> None:
    fleet = Workers(100, 4)
    fleet.run(3)
    hanging = fleet.holdings.pop("node1")
    fleet.run(5)
    fleet.die("node0", is_known=True)
    fleet.run(5)
    assert fleet.status["nodes"]["node1"]["wanted"] == 25
    assert set(fleet.loads) == {"node2", "node3"}
    fleet.holdings["node1"] = hanging
    fleet.run(2)
    assert fleet.loads["node1"] == 25


def test_a_worker_that_comes_is_filled_once_the_fleet_is_quiet_by_the_fewest_moves() -> None:
    fleet = Workers(100, 4)
    fleet.run(3)
    fleet.come("node4")
    fleet.run(50)
    assert fleet.loads["node4"] == 0
    fleet.run(50)
    assert set(fleet.loads.values()) == {20}
    assert fleet.status["moved"] == {"even": 20}
    assert max(fleet.longest.values(), default=0) <= 3


def test_a_worker_that_is_restarted_again_and_again_moves_no_healthy_stream() -> None:
    fleet = Workers(100, 4)
    fleet.run(3)
    for _ in range(10):
        fleet.die("node2", is_known=True)
        fleet.come("node2")
        fleet.run(20)
    assert set(fleet.status["moved"]) == {"lost"}


@pytest.mark.parametrize("drained", ["node3", "host-of-node3"])
def test_a_drained_node_or_machine_gives_its_streams_away_in_turn(drained: str) -> None:
    fleet = Workers(400, 4, capacity=200)
    fleet.run(3)
    fleet.coordinator.drained.add(drained)
    fleet.run(1)
    assert fleet.loads["node3"] >= 80
    fleet.run(30)
    assert fleet.loads["node3"] == 0
    assert len(fleet.owners) == 400
    assert fleet.status["moved"] == {"drained": 100}
    assert max(fleet.longest.values(), default=0) <= 3
    fleet.coordinator.drained.discard(drained)
    fleet.run(100)
    assert fleet.loads["node3"] == 100


def test_a_worker_that_can_carry_less_than_it_has_gives_some_away() -> None:
    fleet = Workers(100, 2)
    fleet.run(3)
    fleet.come("node2")
    fleet.run(1)
    fleet.capacity = 40
    fleet.run(20)
    assert max(fleet.loads.values()) <= 40
    assert fleet.status["moved"]["full"] == 20


def test_sources_come_and_go_while_it_runs() -> None:
    fleet = Workers(10, 2)
    fleet.run(3)
    before = fleet.owners
    fleet.coordinator.sources = {name: text for name, text in fleet.coordinator.sources.items() if name != "mic0"}
    fleet.coordinator.sources["garden"] = "garden=demo"
    fleet.run(3)
    assert fleet.owners.keys() == before.keys() - {"mic0"} | {"garden"}
    assert all(fleet.owners[name] == node for name, node in before.items() if name != "mic0")


def test_a_new_coordinator_moves_nothing() -> None:
    fleet = Workers(100, 4)
    fleet.run(3)
    before, sources = fleet.owners, fleet.coordinator.sources
    fleet.coordinator = Coordinator(HABITS, 2, fleet.at, expected=4)
    fleet.coordinator.sources = sources
    fleet.run(60)
    assert fleet.owners == before
    assert not fleet.longest


@pytest.mark.parametrize("away_s", [5, 40])
def test_a_coordinator_that_comes_back_when_all_leases_have_ended_gives_streams_to_who_heard_them(away_s: int) -> None:
    fleet = Workers(40, 4)
    fleet.run(3)
    fleet.die("node0", is_known=True)  # so shares are others than a first assignment's
    fleet.run(3)
    fleet.come("node0")
    fleet.run(80)
    before, sources = fleet.owners, fleet.coordinator.sources
    fleet.has_coordinator = False
    fleet.run(away_s)
    assert fleet.owners == (before if away_s < 12 else {})
    fleet.has_coordinator = True
    fleet.coordinator = Coordinator(HABITS, 2, fleet.at, expected=4)
    fleet.coordinator.sources = sources
    fleet.run(30)
    moved = [stream for stream, node in fleet.owners.items() if node != before[stream]]
    assert len(fleet.owners) == 40
    assert not moved


def test_streams_whose_worker_died_with_the_coordinator_are_heard_again_within_thirty_seconds() -> None:
    fleet = Workers(100, 4)
    fleet.run(3)
    sources = fleet.coordinator.sources
    fleet.die("node0")
    fleet.coordinator = Coordinator(HABITS, 2, fleet.at, expected=4)
    fleet.coordinator.sources = sources
    fleet.run(60)
    assert len(fleet.owners) == 100
    assert max(fleet.longest.values(), default=0) <= 22


def test_messages_survive_json() -> None:
    holding = Holding("s")
    report = Report(holding.request(1.0), "node0", 3.5, "here", 2, {"mic": {"state": "hearing"}}, "mqtt: gone")
    assert Report.from_json(report.to_json()) == report
    coordinator = Coordinator(HABITS, 1, 0, is_first=True)
    coordinator.sources = {"mic": "mic=demo"}
    orders = coordinator.renew(report, 0)
    assert orders is not None
    assert Orders.from_json(orders.to_json()) == orders
