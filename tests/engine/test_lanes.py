"""Real networks behind the engine: many streams at once get what a recording alone gets, on every runtime."""

import threading

import numpy as np
import pytest

from tagger.audio.decode import decode_blocks
from tagger.audio.window import SlidingWindows
from tagger.engine.runtime import RUNTIMES, open_model
from tagger.engine.scores import WindowClassifier
from tagger.errors import TaggerError
from tagger.events import Event, Scores
from tagger.listen import follow
from tagger.policy import policy
from tagger.sources.file import DEMO
from tagger.tag import recording as tag
from tests.programs import LONG_S

LANES, HOP_S = 16, 2.5


def opened(runtime: str, model: str = "esc50") -> WindowClassifier:
    if not RUNTIMES[runtime].is_installed:
        pytest.skip(f"{RUNTIMES[runtime].package} is not installed")
    try:
        return open_model(model, runtime, "cpu" if not RUNTIMES[runtime].needs_graph else "auto")
    except TaggerError as error:
        pytest.skip(str(error))


def events(scores: list[Scores], classifier: WindowClassifier) -> list[Event]:
    info = classifier.info
    return list(tag.events(scores, policy(info.labels, info.thresholds, info.window_seconds, HOP_S)))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_sixteen_streams_at_once_have_the_events_of_a_recording(runtime: str) -> None:
    classifier = opened(runtime)
    info = classifier.info
    blocks = list(decode_blocks(DEMO, info.mel.sample_rate_hz))
    alone = list(tag.tag(DEMO, classifier, info.window_seconds, HOP_S))
    heard: dict[int, list[Scores]] = {}

    def listen(number: int) -> None:
        sliding = SlidingWindows.of_seconds(info.window_seconds, HOP_S, info.mel.sample_rate_hz, flush_at_gaps=True)
        heard[number] = list(follow(blocks, classifier.lane(sliding), sliding))

    threads = [threading.Thread(target=listen, args=[number]) for number in range(LANES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    expected = events(alone, classifier)
    assert len(expected) > 3
    assert len(heard) == LANES
    for scores in heard.values():
        assert len(scores) == len(alone)
        for one, other in zip(alone, scores, strict=True):
            assert (one.start_s, one.end_s) == (other.start_s, other.end_s)
            np.testing.assert_allclose(one.values, other.values, atol=2e-6)
            np.testing.assert_allclose(one.activity, other.activity, atol=2e-6)
        for event, same in zip(expected, events(scores, classifier), strict=True):
            assert event.label == same.label
            found, wanted = ((e.onset, e.offset, e.score, e.peak_score) for e in (same, event))
            assert found == pytest.approx(wanted, abs=2e-6, rel=0)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_window_scores_the_same_alone_and_in_a_batch(runtime: str) -> None:
    classifier = opened(runtime)
    scores = list(tag.tag(DEMO, classifier, 5.0, 5.0))
    sliding = SlidingWindows.of_seconds(5.0, 5.0, classifier.info.mel.sample_rate_hz)
    alone = list(follow(decode_blocks(DEMO, classifier.info.mel.sample_rate_hz), classifier.lane(sliding), sliding))
    for one, other in zip(alone, scores, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-6)
        np.testing.assert_allclose(one.activity, other.activity, atol=2e-6)
