"""Several recordings at once give what one after the other gives, in the same order."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tagger.audio.window import SlidingWindows
from tagger.errors import AudioError, TaggerError
from tagger.events import Block, Scores, Window
from tagger.listen import follow
from tagger.tag import crew as crew_module
from tagger.tag.crew import Crew, InterruptedEarlyError
from tests.fakes import RATE_HZ, FakeClassifier
from tests.programs import LONG_S

WINDOW, HOP = RATE_HZ, RATE_HZ // 4


def stream(number: int, seconds: float) -> list[Block]:
    """Noise of a slowly changing level, with a gap in the middle."""
    samples = np.random.default_rng(number).uniform(-0.5, 0.5, round(seconds * RATE_HZ)).astype(np.float32)
    samples *= np.linspace(0.1, 1, len(samples), dtype=np.float32)
    middle = len(samples) // 2 + 1234
    return [Block(samples[:middle], 0.0), Block(samples[middle:], middle / RATE_HZ + 3, gap=True)]


def windows(blocks: list[Block]) -> Iterator[Window]:
    sliding = SlidingWindows(WINDOW, HOP, RATE_HZ, flush_at_gaps=True)
    for block in blocks:
        yield from sliding.feed(block)
    yield from sliding.flush()


def sliding() -> SlidingWindows:
    return SlidingWindows(WINDOW, HOP, RATE_HZ, flush_at_gaps=True)


def row(scores: Scores) -> tuple[float, ...]:
    return scores.time, scores.start_s, scores.end_s, float(scores.values[0]), float(scores.activity.sum())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_are_those_of_one_after_the_other_whatever_is_ready_first(threads: int) -> None:
    streams = [stream(number, seconds) for number, seconds in enumerate([30.0, 0.3, 1.0, 9.0, 0.5, 2.0, 8.25])]
    expected = [
        [row(each) for each in follow(blocks, FakeClassifier().lane(sliding()), sliding())] for blocks in streams
    ]

    def found_in(crew: Crew, number: int) -> Iterator[tuple[float, ...]]:
        return map(row, crew.scores(windows(streams[number])))

    with Crew(FakeClassifier(), WINDOW, HOP, len(streams), found_in, threads) as crew:
        assert [list(results) for results in crew.results()] == expected


def test_idle_threads_help_with_a_long_recording() -> None:
    workers = set()

    class Watched(FakeClassifier):
        def scores_of(self, prepared, windows):
            workers.add(threading.get_ident())
            return super().scores_of(prepared, windows)

    def until_two_work() -> Iterator[Window]:
        until = time.monotonic() + LONG_S
        while len(workers) < 2:
            assert time.monotonic() < until, "one thread works alone"
            yield from windows(stream(0, 10.0))

    with Crew(Watched(), WINDOW, HOP, 1, lambda crew, _: crew.scores(until_two_work()), 2) as crew:
        (results,) = crew.results()
        assert list(results)


def test_an_error_comes_behind_the_results_and_ends_only_its_own_recording() -> None:
    def broken(number: int) -> Iterator[Window]:
        yield from windows(stream(number, 12.0))
        if number == 1:
            raise AudioError("damaged")

    def found_in(crew: Crew, number: int) -> Iterator[float]:
        return (each.time for each in crew.scores(broken(number)))

    found: list[int] = []
    with Crew(FakeClassifier(), WINDOW, HOP, 3, found_in, 2) as crew:
        for number, results in enumerate(crew.results()):
            times = []
            if number == 1:
                with pytest.raises(AudioError, match="damaged"):
                    times += list(results)
            else:
                times += list(results)
            found.append(number)
    assert found == [0, 1, 2]


def test_an_error_of_the_classifier_reaches_the_reader() -> None:
    class Failing(FakeClassifier):
        def scores_of(self, prepared, windows):
            raise TaggerError("no memory left")

    def found_in(crew: Crew, number: int) -> Iterator[Scores]:
        return crew.scores(windows(stream(number, 40.0)))

    with Crew(Failing(), WINDOW, HOP, 2, found_in, 2) as crew:
        for results in crew.results():
            with pytest.raises(TaggerError, match="no memory left"):
                list(results)


def test_it_can_be_left_early_although_a_recording_has_no_end() -> None:
    def endless() -> Iterator[Window]:
        while True:
            yield from windows(stream(0, 8.0))

    def found_in(crew: Crew, number: int) -> Iterator[Scores]:
        return crew.scores(endless())

    with Crew(FakeClassifier(), WINDOW, HOP, 3, found_in, 2) as crew:
        results = next(crew.results())
        for _ in range(100):
            next(results)


def test_results_that_nobody_takes_wait_for_their_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "MOST_WAITING", 10)
    streams = [stream(number, 20.0) for number in range(3)]

    def found_in(crew: Crew, number: int) -> Iterator[float]:
        return (each.time for each in crew.scores(windows(streams[number])))

    with Crew(FakeClassifier(), WINDOW, HOP, 3, found_in, 3) as crew:
        lengths = [len(list(results)) for results in crew.results()]
    assert lengths == [len(list(windows(each))) for each in streams]


def test_an_interruption_is_noticed_while_there_is_nothing_to_give() -> None:
    def nothing(crew: Crew, number: int) -> Iterator[Scores]:
        for scores in crew.scores(endless()):
            if scores.time < 0:
                yield scores

    def endless() -> Iterator[Window]:
        while True:
            yield from windows(stream(0, 2.0))

    with Crew(FakeClassifier(), WINDOW, HOP, 1, nothing, 1) as crew:
        results = next(crew.results(lambda: True))
        with pytest.raises(InterruptedEarlyError):
            next(results)
