"""A recording in several threads: the same scores, in order, whoever classifies its pieces."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from tagger.archive.together import Together
from tagger.engine.scores import BatchScores
from tagger.errors import AudioError
from tagger.events import Samples, Scores, Window
from tests.fakes import RATE_HZ, FakeClassifier


def windows(count: int, ends_badly: bool = False) -> Iterator[Window]:
    """Windows of a second, each a bit louder than the one before."""
    for number in range(count):
        samples = np.full(RATE_HZ, number / 1000, np.float32)
        yield Window(samples, number * RATE_HZ, RATE_HZ, float(number))
    if ends_badly:
        raise AudioError("it breaks off")


class Meeting(FakeClassifier):
    """Lets a batch begin when so many threads have one."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.batches = threads
        self.together = threading.Barrier(threads)
        self.engine = type(self.engine)(self, threads)

    def __call__(self, waveforms: Samples) -> BatchScores:
        if not self.together.broken and len(waveforms) == 8:
            self.together.wait(60)
        return super().__call__(waveforms)


def values(scores: list[Scores]) -> list[float]:
    return [float(each.values[0]) for each in scores]


def test_pieces_are_classified_at_once_and_their_scores_come_in_order() -> None:
    classifier = Meeting(2)
    together = Together(classifier, RATE_HZ, RATE_HZ)
    found = list(together.scores(windows(128), lambda: 2))
    assert not classifier.together.broken, "two threads had a batch at the same time, each time"
    assert values(found) == values(list(Together(FakeClassifier(), RATE_HZ, RATE_HZ).scores(windows(128), lambda: 1)))
    assert [each.time for each in found] == [float(number) for number in range(128)]


def test_threads_may_become_more_and_fewer_meanwhile() -> None:
    classifier = FakeClassifier()
    classifier.batches = 3
    counts = iter((1, 3, 2, 1, 0, 1, 3))
    found = Together(classifier, RATE_HZ, RATE_HZ).scores(windows(200), lambda: next(counts))
    assert [each.time for each in found] == [float(number) for number in range(200)]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_came_before_damage_is_given(threads: int) -> None:
    classifier = FakeClassifier()
    classifier.batches = 2
    scores = Together(classifier, RATE_HZ, RATE_HZ).scores(windows(40, ends_badly=True), lambda: threads)
    found = []
    with pytest.raises(AudioError, match="it breaks off"):
        found.extend(scores)
    assert len(found) == 40
