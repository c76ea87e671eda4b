"""Many streams through one network: who is answered, with what, in which order."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.engine.cost import BatchCost
from tagger.engine.engine import Engine, Lane
from tagger.events import Scores, Window
from tests.programs import LONG_S, until


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class GatedNetwork:
    """Runs a batch when the test lets it. What it gives of a window is the window's number."""

    def __init__(self, clock: Clock | None = None, batch_s: float = 0.0) -> None:
        """
        Args:
            clock: goes forward by `batch_s` at the end of each batch.
        """
        self.batches: list[list[int]] = []
        """Numbers of the windows of each batch, in the order in which they began."""
        self.inside = self.most_inside = self.running = 0
        """Batches that run, the most so far, and windows in those that run."""
        self.errors: dict[int, BaseException] = {}
        """Window -> what a batch with it raises."""
        self.most_windows = 1000
        """Most windows for which there is memory."""
        self._clock, self._batch_s = clock, batch_s
        self._lock, self._permits = threading.Lock(), threading.Semaphore(0)
        self._let = 0

    def scores_of(self, prepared: Sequence[Any], windows: Sequence[Window]) -> list[Scores]:
        assert list(prepared) == [("prepared", window.start) for window in windows]
        if len(windows) > self.most_windows:
            raise MemoryError
        with self._lock:
            self.batches.append([window.start for window in windows])
            self.inside += 1
            self.running += len(windows)
            self.most_inside = max(self.most_inside, self.inside)
        assert self._permits.acquire(timeout=LONG_S), "the test let no batch through"
        with self._lock:
            self.inside -= 1
            self.running -= len(windows)
            self._let -= 1
            if self._clock is not None:
                self._clock.now += self._batch_s
        for window in windows:
            if window.start in self.errors:
                raise self.errors[window.start]
        return [scores(window.start) for window in windows]

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def let(self, batches: int = 1) -> None:
        with self._lock:
            self._let += batches
        self._permits.release(batches)

    def is_through(self) -> bool:
        """Whether all batches that were let through have run."""
        return self._let == 0


def scores(number: int) -> Scores:
    return Scores(np.array([number], np.float32), number, number + 1, 0.0, np.zeros((1, 1), np.float32), 1.0)


def window(number: int, samples: int = 4) -> Window:
    return Window(np.zeros(samples, np.float32), number, samples, 0.0)


class Stream:
    """A thread with a lane, which hands over windows when the test says so."""

    def __init__(
        self, engine: Engine, hop_s: float = 1.0, behind: Callable[[], float] | None = None, samples: int = 4
    ) -> None:
        self.late: list[int] = []
        self.given: list[int] = []
        self.errors: list[BaseException] = []
        self.asked = self.answered = 0
        self.lane = Lane(
            engine,
            lambda window: ("prepared", window.start),
            hop_s,
            behind,
            lambda window: self.late.append(window.start),
        )
        self._samples = samples
        self._numbers: queue.SimpleQueue[list[int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def ask(self, *numbers: int) -> None:
        self.asked += 1
        self._numbers.put(list(numbers))

    def _run(self) -> None:
        while (numbers := self._numbers.get(timeout=LONG_S)) is not None:
            try:
                found = self.lane.scores([window(number, self._samples) for number in numbers])
                self.given += [round(each.start_s) for each in found]
            except Exception as error:
                self.errors.append(error)
            self.answered += 1

    @property
    def is_idle(self) -> bool:
        return self.asked == self.answered

    def end(self) -> None:
        self._numbers.put(None)
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()


def settle(network: GatedNetwork, engine: Engine, streams: Sequence[Stream]) -> None:
    """Waits until each stream has its answer, is in a batch that runs, or waits for one."""
    soon(lambda: sum(not each.is_idle for each in streams) == network.running + engine.waiting)


def soon(true: Callable[[], object]) -> None:
    """`until`, for what takes less than a millisecond."""
    for _ in range(200):
        if true():
            return
        time.sleep(0.0002)
    until(true, "all have found their places")


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 5)),
        st.tuples(st.just("let"), st.just(0)),
        st.tuples(st.just("close"), st.integers(0, 5)),
    ),
    max_size=25,
)


@given(steps, st.integers(1, 3), st.integers(1, 4), st.integers(-1, 24))
def test_each_window_is_answered_once_by_its_own_lane_and_none_after_the_close(
    steps: list[tuple[str, int]], batches: int, most: int, close_at: int
) -> None:
    network = GatedNetwork()
    engine = Engine(network, batches, most)
    streams = [Stream(engine) for _ in range(6)]
    numbers, expected, refused = 0, [set[int]() for _ in streams], set[int]()
    for at, (step, which) in enumerate(steps):
        if at == close_at:
            engine.close()
        stream = streams[which]
        if step == "ask" and stream.is_idle:
            stream.ask(numbers)
            (refused if stream.lane.is_closed or 0 <= close_at <= at else expected[which]).add(numbers)
            numbers += 1
        elif step == "let" and network.inside:
            network.let()
            soon(network.is_through)
        elif step == "close":
            stream.lane.close()
        settle(network, engine, streams)
    while network.inside:
        network.let()
        soon(network.is_through)
        settle(network, engine, streams)
    assert all(stream.is_idle for stream in streams)
    for stream in streams:
        stream.end()
    ran = [number for batch in network.batches for number in batch]
    assert len(ran) == len(set(ran)), "no window is run twice"
    assert not refused & set(ran)
    for stream, mine in zip(streams, expected, strict=True):
        assert stream.given == sorted(stream.given)
        assert set(stream.given) == mine & set(ran)
        assert stream.lane.is_closed or close_at >= 0 or set(stream.given) == mine
        assert not stream.errors
        assert all(len(mine & set(batch)) <= 1 for batch in network.batches)
    assert network.most_inside <= batches
    assert all(len(batch) <= most for batch in network.batches)


def test_a_stream_alone_runs_the_network_in_its_own_thread() -> None:
    threads = []

    class Network(GatedNetwork):
        def scores_of(self, prepared: Sequence[Any], windows: Sequence[Window]) -> list[Scores]:
            threads.append(threading.current_thread())
            return super().scores_of(prepared, windows)

    network = Network()
    network.let(2)
    lane = Lane(Engine(network), lambda window: ("prepared", window.start))
    before = threading.active_count()
    assert [each.start_s for each in lane.scores([window(1), window(2)])] == [1, 2]
    assert lane.scores([]) == []
    assert (threads, threading.active_count()) == ([threading.current_thread()], before)


def test_windows_that_are_due_first_come_first() -> None:
    network, clock = GatedNetwork(), Clock()
    engine = Engine(network, batches=1, most_windows=2, now=clock)
    behind_s = [0.0, 0.1, 0.5, 0.3, 0.4]
    streams = [Stream(engine, 1.0, lambda late_s=late_s: late_s) for late_s in behind_s]  # type: ignore[misc]
    for number, stream in enumerate(streams):
        stream.ask(number)
        settle(network, engine, streams)
    while network.inside:
        network.let()
        soon(network.is_through)
        settle(network, engine, streams)
    for stream in streams:
        stream.end()
    assert network.batches == [[0], [2, 4], [3, 1]]


def test_a_lane_that_was_left_out_comes_before_the_others() -> None:
    network, clock, late_s = GatedNetwork(), Clock(), [2.0]
    engine = Engine(network, most_windows=1, now=clock)
    first, left_out = Stream(engine, 1.0, lambda: 0.2), Stream(engine, 1.0, lambda: late_s[0])
    holder = Stream(engine)
    left_out.ask(0)
    soon(lambda: left_out.is_idle)
    late_s[0] = 0.0
    for number, stream in enumerate([holder, first, left_out], 1):
        stream.ask(number)
        settle(network, engine, [holder, first, left_out])
    for _ in range(3):
        network.let()
        soon(network.is_through)
        settle(network, engine, [holder, first, left_out])
    for stream in (holder, first, left_out):
        stream.end()
    assert left_out.late == [0]
    assert network.batches == [[1], [3], [2]]


def test_a_window_that_cannot_be_in_time_is_left_out() -> None:
    """A batch takes 0.4 s. A window that is 0.5 s old is in time for a hop of 1 s; one of 0.7 s is not."""
    clock = Clock()
    network = GatedNetwork(clock, batch_s=0.4)
    engine = Engine(network, most_windows=1, now=clock)
    late_s = [0.0]
    stream = Stream(engine, 1.0, lambda: late_s[0])
    found = []
    for number, late_s[0] in enumerate([0.0, 0.5, 0.7, 0.55]):
        network.let()
        stream.ask(number)
        soon(lambda: stream.is_idle)
        found.append(stream.given[-1:] == [number])
    stream.end()
    assert found == [True, True, False, True]
    assert stream.late == [2]


def test_a_network_slower_than_the_hop_still_gets_windows() -> None:
    clock = Clock()
    network = GatedNetwork(clock, batch_s=3.0)
    late_s = [0.0]
    stream = Stream(Engine(network, now=clock), 1.0, lambda: late_s[0])
    for number, late_s[0] in enumerate([0.0, 0.2, 0.3, 0.2]):
        network.let()
        stream.ask(number)
        soon(lambda: stream.is_idle)
    stream.end()
    assert (stream.given, stream.late) == ([0, 1, 3], [2])


def test_a_window_that_becomes_late_in_the_line_is_left_out() -> None:
    network, late_s = GatedNetwork(), [0.0]
    engine = Engine(network)
    first, second = Stream(engine), Stream(engine, 1.0, lambda: late_s[0])
    first.ask(1)
    settle(network, engine, [first, second])
    second.ask(2)
    settle(network, engine, [first, second])
    late_s[0] = 2.0
    network.let()
    soon(lambda: first.is_idle and second.is_idle)
    for stream in (first, second):
        stream.end()
    assert (first.given, second.given, second.late) == ([1], [], [2])
    assert network.batches == [[1]]


def test_batches_stay_short_against_the_hop() -> None:
    """A window takes 0.1 s: two fit a quarter of a hop of 1 s, and a third does not."""
    clock = Clock()
    network = GatedNetwork()
    engine = Engine(network, most_windows=8, now=clock)
    streams = [Stream(engine, 1.0, lambda: 0.0) for _ in range(6)]
    streams[0].ask(0)
    settle(network, engine, streams)
    clock.now = 0.1
    network.let()
    soon(lambda: streams[0].is_idle)
    for number, stream in enumerate(streams):
        stream.ask(number)
        settle(network, engine, streams)
    while network.inside:
        clock.now += 0.1 * network.running
        network.let()
        soon(network.is_through)
        settle(network, engine, streams)
    for stream in streams:
        stream.end()
    assert [len(batch) for batch in network.batches] == [1, 1, 2, 2, 1]


def test_an_error_reaches_all_whose_windows_are_in_the_batch_and_nobody_else() -> None:
    network = GatedNetwork()
    engine = Engine(network, most_windows=2)
    streams = [Stream(engine) for _ in range(4)]
    network.errors = {1: RuntimeError("no")}
    for number, stream in enumerate(streams):
        stream.ask(number)
        settle(network, engine, streams)
    network.let(3)
    soon(lambda: all(stream.is_idle for stream in streams))
    for stream in streams:
        stream.end()
    assert network.batches == [[0], [1, 2], [3]]
    assert [[str(error) for error in stream.errors] for stream in streams] == [[], ["no"], ["no"], []]
    assert [stream.given for stream in streams] == [[0], [], [], [3]]


def test_where_memory_does_not_suffice_a_batch_is_halved_and_the_next_are_smaller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = GatedNetwork()
    network.most_windows = 3
    network.let(100)
    engine = Engine(network, most_windows=8)
    lane = Lane(engine, lambda window: ("prepared", window.start))
    assert [each.start_s for each in lane.scores([window(number) for number in range(8)])] == list(range(8))
    assert [len(batch) for batch in network.batches] == [2, 2, 2, 2]
    assert caplog.messages == [
        "a batch of 8 is too large for the memory: going on with 4 at once",
        "a batch of 4 is too large for the memory: going on with 2 at once",
    ]
    network.most_windows = 0
    with pytest.raises(MemoryError):
        lane.scores([window(1)])


def test_windows_of_other_lengths_are_in_other_batches() -> None:
    network = GatedNetwork()
    engine = Engine(network)
    streams = [Stream(engine, samples=4 if number % 2 else 8) for number in range(5)]
    for number, stream in enumerate(streams):
        stream.ask(number)
        settle(network, engine, streams)
    network.let(3)
    soon(lambda: all(stream.is_idle for stream in streams))
    for stream in streams:
        stream.end()
    assert network.batches == [[0], [1, 3], [2, 4]]


def test_an_interrupt_is_of_its_own_thread_alone() -> None:
    """The leader of a batch is interrupted: the others in it get their scores from another batch."""
    network = GatedNetwork()
    engine = Engine(network)
    streams = [Stream(engine) for _ in range(3)]
    streams[0].ask(0)
    settle(network, engine, streams)
    network.errors = {1: KeyboardInterrupt()}
    lane = Lane(engine, lambda window: ("prepared", window.start))
    interrupted: list[bool] = []

    def call() -> None:
        try:
            lane.scores([window(1)])
        except KeyboardInterrupt:
            interrupted.append(True)

    thread = threading.Thread(target=call)
    thread.start()
    soon(lambda: engine.waiting == 1)
    for number in (1, 2):
        streams[number].ask(number + 1)
        soon(lambda number=number: engine.waiting == number + 1)  # type: ignore[misc]
    network.let(3)
    thread.join(LONG_S)
    soon(lambda: all(stream.is_idle for stream in streams))
    for stream in streams:
        stream.end()
    assert interrupted == [True]
    assert network.batches == [[0], [1, 2, 3], [2, 3]]
    assert [stream.given for stream in streams] == [[0], [2], [3]]


def test_a_busy_device_waits_a_moment_for_more_windows() -> None:
    """Not for a stream alone, and not where the next batch can be full at once."""
    network = GatedNetwork()
    engine = Engine(network, most_windows=3, linger_s=LONG_S)
    streams = [Stream(engine) for _ in range(4)]
    for number, stream in enumerate(streams[:3]):
        stream.ask(number)
        settle(network, engine, streams)
    network.let(2)
    soon(lambda: all(stream.is_idle for stream in streams))
    assert network.batches == [[0], [1, 2]], "the first did not wait, and the second had the first's size"
    streams[0].ask(3)
    streams[1].ask(4)
    soon(lambda: engine.waiting == 1)
    assert network.inside == 0
    streams[2].ask(5)
    network.let()
    soon(lambda: all(stream.is_idle for stream in streams))
    for stream in streams:
        stream.end()
    assert sorted(network.batches[2]) == [3, 4, 5]


@given(st.floats(0, 0.1), st.floats(1e-4, 0.1), st.lists(st.integers(1, 64), min_size=2, max_size=40))
def test_the_cost_of_a_batch_is_learned(start_s: float, window_s: float, sizes: list[int]) -> None:
    cost = BatchCost()
    for size in sizes:
        cost.learn(size, start_s + window_s * size)
    if len(set(sizes[-5:])) > 1:
        assert cost.mean_s(10) == pytest.approx(start_s + 10 * window_s, rel=0.02)
    assert cost.most_s(sizes[-1]) >= cost.mean_s(sizes[-1]) >= 0


def test_larger_batches_are_tried_again_when_memory_may_suffice_again() -> None:
    clock, network = Clock(), GatedNetwork()
    network.most_windows = 3
    network.let(100)
    engine = Engine(network, most_windows=8, now=clock)
    lane = Lane(engine, lambda window: ("prepared", window.start))
    windows = [window(number) for number in range(8)]
    lane.scores(windows)
    network.most_windows = 1000
    assert engine.most_windows == 2
    for passed_s, wanted in ((3_599, 2), (2, 4), (10, 4), (3_601, 8), (7_300, 8)):
        clock.now += passed_s
        lane.scores([window(1)])
        assert engine.most_windows == wanted
