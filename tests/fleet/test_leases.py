"""Leases under everything that can go wrong: kills, frozen workers, lost, late and reordered messages, clocks that
disagree, coordinators that are restarted.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tagger.fleet.leases import Answer, Holding, Leases, Request, Terms

TERMS = Terms(term_s=12, margin_s=3)
STREAMS = [f"mic{i}" for i in range(8)]


class Clock:
    """A clock that begins anywhere and runs up to 2 % too fast or too slow."""

    def __init__(self, dice: random.Random) -> None:
        self._offset_s, self._rate = dice.uniform(-1e6, 1e6), dice.uniform(0.98, 1.02)

    def at(self, real_s: float) -> float:
        return self._offset_s + self._rate * real_s


@dataclass
class Published:
    at: float
    stream: str
    session: str
    epoch: int


class World:
    """Real time, and what happens in it."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.published: list[Published] = []
        self.counts = dict.fromkeys(("kills", "freezes", "cuts", "restarts", "lapses"), 0)
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.generation = 1
        self.coordinator: Leases | None = None
        self.clock = Clock(self.dice)
        self.wanted: dict[str, str] = {}
        self.workers: list[Worker] = []
        self.start_coordinator(is_first=True)

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._order), what))

    def run(self, until: float) -> None:
        while self._due and self._due[0][0] < until:
            self.now, _, what = heapq.heappop(self._due)
            what()

    def start_coordinator(self, is_first: bool = False) -> None:
        self.clock = Clock(self.dice)
        self.coordinator = Leases(TERMS, self.generation, self.clock.at(self.now), is_first)
        self.generation += 1

    def send(self, what: Callable[[], None]) -> None:
        """A message: most are quick, some are late, some come after everything has changed, some never."""
        kind = self.dice.random()
        if kind > 0.1:
            self.after(self.dice.uniform(0.001, 0.3) if kind > 0.2 else self.dice.uniform(0.3, 40), what)

    def ask(self, request: Request, back: Callable[[Answer], None]) -> None:
        if self.coordinator is None:
            return
        at = self.clock.at(self.now)
        self.counts["lapses"] += len(self.coordinator.lapse(at))
        own = [stream for stream, session in self.wanted.items() if session == request.session]
        answer = self.coordinator.answer(request, own, at)
        if answer is not None:
            self.send(lambda: back(answer))

    def stir(self) -> None:
        """Something happens."""
        self.after(self.dice.expovariate(1 / 3), self.stir)
        living = [worker for worker in self.workers if worker.is_alive]
        for stream in self.dice.sample(STREAMS, self.dice.randint(0, 3)):
            self.wanted[stream] = self.dice.choice(living).holding.session
        kind = self.dice.random()
        if kind < 0.4:
            self.dice.choice(living).is_alive = False
            self.counts["kills"] += 1
            Worker(self)
        elif kind < 0.6:
            worker = self.dice.choice(living)
            worker.is_frozen = True
            self.counts["freezes"] += 1
            self.after(self.dice.uniform(1, 40), worker.thaw)
        elif kind < 0.8:
            worker = self.dice.choice(living)
            worker.cut_off_until = self.now + self.dice.uniform(1, 40)
            self.counts["cuts"] += 1
        elif kind < 0.88 and self.coordinator is not None:
            self.coordinator = None
            self.counts["restarts"] += 1
            self.after(self.dice.uniform(0, 20), self.start_coordinator)


@dataclass
class Worker:
    """Asks once a second, and takes up to 1.2 s to stop a stream."""

    world: World
    is_alive: bool = True
    is_frozen: bool = False
    cut_off_until: float = 0.0
    """Until then the network carries nothing between it and the coordinator."""
    late: list[Callable[[], None]] = field(default_factory=list)
    """What arrived while it was frozen."""
    stopping: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.clock = Clock(self.world.dice)
        self.holding = Holding(f"s{len(self.world.workers)}")
        self.world.workers.append(self)
        self.world.after(0, self.ask)
        self.world.after(0, self.tick)

    @property
    def at(self) -> float:
        return self.clock.at(self.world.now)

    def does(self, what: Callable[[], None]) -> None:
        if self.is_frozen:
            self.late.append(what)
        elif self.is_alive:
            what()

    def thaw(self) -> None:
        self.is_frozen = False
        late, self.late = self.late, []
        for what in late:
            self.does(what)

    def ask(self) -> None:
        request = self.holding.request(self.at)
        if self.world.now >= self.cut_off_until:
            self.world.send(lambda: self.world.ask(request, self.hear_answer))
        self.world.after(1, lambda: self.does(self.ask))

    def hear_answer(self, answer: Answer) -> None:
        self.does(lambda: self.holding.take(answer, self.at))

    def tick(self) -> None:
        self.world.after(0.25, lambda: self.does(self.tick))
        for stream, epoch in self.holding.heard.items():
            if self.holding.may_hear(stream, self.at):
                self.world.published.append(Published(self.world.now, stream, self.holding.session, epoch))
        for stream in self.holding.to_stop(self.at):
            if stream not in self.stopping:
                self.stopping.add(stream)
                self.world.after(self.world.dice.uniform(0, 1.2), lambda stream=stream: self.stop(stream))  # type: ignore[misc]
        for stream, epoch in self.holding.to_start(self.at).items():
            self.holding.started(stream, epoch)

    def stop(self, stream: str) -> None:
        def end() -> None:
            self.stopping.discard(stream)
            self.holding.stopped(stream)

        self.does(end)


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_never_has_two_owners(seed: int) -> None:
    world = World(seed)
    for _ in range(4):
        Worker(world)
    world.after(5, world.stir)
    world.run(400)
    assert world.counts["kills"] > 20
    assert world.counts["restarts"] > 2
    assert world.counts["lapses"] > 10
    _check(world.published)


def _check(published: list[Published]) -> None:
    owners: dict[tuple[str, int], str] = {}
    newest = dict.fromkeys(STREAMS, 0)
    for each in sorted(published, key=lambda each: each.at):
        assert owners.setdefault((each.stream, each.epoch), each.session) == each.session
        assert each.epoch >= newest[each.stream], "an owner published after its successor"
        newest[each.stream] = each.epoch
    assert all(newest.values()), "every stream was heard"


def test_a_stream_of_a_dead_worker_is_free_after_the_term_and_the_margin() -> None:
    leases = Leases(TERMS, 1, at=0, is_first=True)
    leases.answer(Request("one", 1, {}), ["mic"], at=0)
    other = leases.answer(Request("two", 1, {}), ["mic"], at=14.9)
    assert other is not None
    assert other.streams == {}
    last = leases.answer(Request("two", 2, {}), ["mic"], at=15)
    assert last is not None
    assert list(last.streams) == ["mic"]


def test_a_stream_of_a_worker_that_is_known_to_be_dead_is_free_at_once() -> None:
    leases = Leases(TERMS, 1, at=0, is_first=True)
    leases.answer(Request("one", 1, {}), ["mic"], at=0)
    leases.end("one")
    other = leases.answer(Request("two", 1, {}), ["mic"], at=0.1)
    assert other is not None
    assert list(other.streams) == ["mic"]


def test_a_stream_moves_when_its_owner_has_stopped_it() -> None:
    leases = Leases(TERMS, 1, at=0, is_first=True)
    one, two = Holding("one"), Holding("two")

    def ask(holding: Holding, wanted: list[str], at: float) -> None:
        answer = leases.answer(holding.request(at), wanted, at)
        assert answer is not None
        holding.take(answer, at)

    ask(one, ["mic"], 0)
    (epoch,) = one.to_start(0).values()
    one.started("mic", epoch)
    assert one.may_hear("mic", 1)
    ask(one, [], 1)
    assert one.to_stop(1) == ["mic"]
    ask(two, ["mic"], 1)
    assert two.to_start(1) == {}
    one.stopped("mic")
    ask(one, [], 2)
    ask(two, ["mic"], 2)
    assert two.to_start(2)["mic"] > epoch


def test_a_new_coordinator_leaves_streams_where_they_are() -> None:
    old = Leases(TERMS, 1, at=0, is_first=True)
    worker, other = Holding("one"), Holding("two")
    answer = old.answer(worker.request(0), ["mic"], 0)
    assert answer is not None
    worker.take(answer, 0)
    worker.started("mic", worker.to_start(0)["mic"])

    new = Leases(TERMS, 2, at=1_000)
    early = new.answer(other.request(0), ["mic"], 1_001)
    assert early is not None
    assert early.streams == {}
    answer = new.answer(worker.request(5), ["mic"], 1_002)
    assert answer is not None
    worker.take(answer, 5)
    assert worker.may_hear("mic", 15)
    assert new.owner("mic") == "one"


def test_a_worker_without_answers_gives_up_by_itself() -> None:
    leases, worker = Leases(TERMS, 1, at=0, is_first=True), Holding("one")
    answer = leases.answer(worker.request(0), ["mic"], 0)
    assert answer is not None
    worker.take(answer, 0)
    worker.started("mic", worker.to_start(0)["mic"])
    worker.request(6)
    assert worker.may_hear("mic", 11.9)
    assert worker.to_stop(12) == ["mic"]
