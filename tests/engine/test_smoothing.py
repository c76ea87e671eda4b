"""What a second opinion adds to a window's scores is, for a share, what it added in the second before."""

from dataclasses import replace

import numpy as np
import pytest

from tagger.audio.decode import decode
from tagger.audio.window import SlidingWindows
from tagger.checkpoints.info import CheckpointInfo, read_info
from tagger.checkpoints.joint import JointInfo
from tagger.checkpoints.store import BUNDLED
from tagger.engine.runtime import open_model
from tagger.engine.scores import WindowClassifier
from tagger.engine.smoothing import Smoothing, shares_of, smoother
from tagger.events import Block, Samples, Scores
from tagger.listen import follow
from tagger.sources.file import DEMO
from tagger.tag.crew import Crew
from tests.fakes import FakeClassifier

LENGTH_S, HOP_S = 5.0, 0.5


def sigmoid(logits: list[float]) -> Samples:
    return (1 / (1 + np.exp(-np.array(logits)))).astype(np.float32)


def window(start_s: float, own: float, added: float, length_s: float = LENGTH_S) -> Scores:
    """A window of two labels with the labels' network's logit and what the opinion adds; the second label has none."""
    values, opinion = sigmoid([own + added, 1.0]), np.array([added, 0.0], np.float32)
    return Scores(values, start_s, start_s + length_s, start_s, np.zeros((2, 1), np.float32), 1.0, added=opinion)


def smoothed(windows: list[Scores], share: float = 0.5) -> list[float]:
    """Logits of the first label."""
    values = np.array([float(each.values[0]) for each in Smoothing(np.array([share, 0.0], np.float32))(windows)])
    return list(np.log(values / (1 - values)))


def near(*logits: float) -> object:
    return pytest.approx(logits, abs=1e-4)


def test_a_share_of_what_is_added_is_the_mean_of_the_second_before() -> None:
    heard = [window(0, 1, -4), window(0.5, 1, -2), window(1, 2, 0), window(1.5, 1, -3), window(2, 1, -3)]
    assert smoothed(heard) == near(-3, 1 - (2 + 4) / 2, 2 - (0 + 3) / 2, 1 - (3 + 1) / 2, 1 - (3 + 1.5) / 2)


def test_the_labels_networks_own_part_comes_at_once() -> None:
    assert smoothed([window(0, -6, -1), window(0.5, 3, -1)]) == near(-7, 2)


def test_windows_left_out_do_not_count() -> None:
    assert smoothed([window(0, 1, -4), window(1, 1, -2)]) == near(-3, 1 - 3)
    assert smoothed([window(0, 1, -4), window(1.5, 1, -2)]) == near(-3, -1)


def test_it_begins_anew_where_windows_share_no_sound() -> None:
    """After a gap the next window begins, in samples, where the one before ended."""
    assert smoothed([window(0, 1, -4, 1.0), window(1, 1, -2, 1.0)]) == near(-3, -1)


def test_a_stream_that_begins_again_remembers_nothing() -> None:
    assert smoothed([window(9, 1, -4), window(0, 1, -2)]) == near(-3, -1)


def test_labels_without_a_share_keep_their_scores_to_the_last_bit() -> None:
    heard = [window(0, 1, -4), window(0.5, 1, -2)]
    found = Smoothing(np.array([0.5, 0.0], np.float32))(heard)
    assert [each.values[1] for each in found] == [each.values[1] for each in heard]


def test_a_score_that_is_no_number_spoils_no_other() -> None:
    broken = replace(window(0.5, 1, -2), values=np.full(2, np.nan, np.float32), added=np.full(2, np.nan, np.float32))
    assert smoothed([window(0, 1, -4), broken, window(1, 1, -2)])[::2] == near(-3, 1 - 3)


def test_scores_without_an_opinion_pass_unchanged() -> None:
    plain = replace(window(0, 1, -4), added=None)
    assert Smoothing(np.ones(2, np.float32))([plain, plain]) == [plain, plain]
    assert smoother(FakeClassifier().info)([plain]) == [plain]


def test_certain_scores_stay_numbers() -> None:
    sure = [window(0.5 * row, 90.0 * (-1) ** row, 90.0 * (-1) ** row) for row in range(4)]
    found = np.array([each.values for each in Smoothing(np.array([0.5, 0.0], np.float32))(sure)])
    assert ((found >= 0) & (found <= 1)).all()


def test_what_was_added_to_a_certain_score_is_known() -> None:
    """Scores of 1 do not tell: their logits are lost."""
    _, found = Smoothing(np.array([0.5, 0.0], np.float32))([window(0, 40, -4), window(0.5, 1, -2)])
    assert found.values[0] == pytest.approx(sigmoid([1 - (2 + 4) / 2])[0], abs=1e-6)


def info(smoothing: float) -> CheckpointInfo:
    own = read_info(BUNDLED / "esc50.safetensors")
    assert own.opinion is not None
    return replace(own, opinion=replace(own.opinion, smoothing=smoothing))


def test_each_label_has_the_share_of_its_model() -> None:
    other = replace(info(0.5), name="other", labels=("dog", *(f"own {number}" for number in range(49))))
    assert shares_of(JointInfo((info(0.25), other))).tolist() == [0.25] * 50 + [0.5] * 49
    assert not shares_of(info(0.0)).any()
    assert not shares_of(FakeClassifier().info).any()


@pytest.fixture(scope="module")
def classifier() -> WindowClassifier:
    """The bundled model, much smoothed."""
    found = open_model("esc50")
    found.info = info(0.8)
    return found


def sliding(classifier: WindowClassifier) -> SlidingWindows:
    return SlidingWindows.of_seconds(LENGTH_S, HOP_S, classifier.info.mel.sample_rate_hz, flush_at_gaps=True)


def values(scores: list[Scores]) -> Samples:
    return np.stack([each.values for each in scores])


def test_a_recording_has_one_set_of_scores_however_it_is_cut(
    classifier: WindowClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate_hz = classifier.info.mel.sample_rate_hz
    samples = np.concatenate(list(decode(DEMO, rate_hz)))[: 14 * rate_hz]
    blocks = [Block(samples[at : at + 7777], at / rate_hz) for at in range(0, len(samples), 7777)]
    by_itself = values(classifier.classify(list(sliding(classifier).cut([Block(samples, 0.0)]))))
    expected = values(list(follow(blocks, classifier.lane(sliding(classifier)), sliding(classifier))))
    assert np.array_equal(by_itself[0], expected[0]) or np.allclose(by_itself[0], expected[0], atol=2e-6)
    assert np.abs(by_itself - expected).max() > 0.05
    together = values(list(follow([Block(samples, 0.0)], classifier.lane(sliding(classifier)), sliding(classifier), 8)))
    np.testing.assert_allclose(together, expected, atol=2e-5)
    monkeypatch.setattr("tagger.tag.pieces.PIECE_WINDOWS", 3)
    window_samples, hop_samples = sliding(classifier).window_samples, sliding(classifier).hop_samples
    cut = sliding(classifier).cut([Block(samples, 0.0)])
    with Crew(classifier, window_samples, hop_samples, 1, lambda crew, _: crew.scores(cut), 2) as crew:
        (found,) = [list(results) for results in crew.results()]
    np.testing.assert_allclose(values(found), expected, atol=2e-5)
