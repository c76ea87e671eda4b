"""Columns of a network's lower part that are kept from window to window, against those of each window alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.audio.window import SlidingWindows
from tagger.checkpoints.store import BUNDLED
from tagger.engine.columns import Columns
from tagger.engine.runtime import open_model
from tagger.events import Block, Window
from tagger.features.config import MelConfig
from tagger.features.frames import FrontEnd
from tagger.features.incremental import Incremental
from tests.engine.test_joint import sound
from tests.features.test_incremental import windows_of

MEL = MelConfig(sample_rate_hz=8_000, f_max_hz=4_000.0, n_mels=4, n_fft=64, window_samples=50, hop_samples=20)


class Lower:
    """Sums of the frames within the reach of each column, each with its weight; counts the frames it is given."""

    def __init__(self, frames: int, reach: int) -> None:
        self.frames, self.reach, self.given = frames, reach, 0

    def __call__(self, features: np.ndarray) -> np.ndarray:
        self.given += features.shape[3]
        padded = np.pad(features, ((0, 0), (0, 0), (0, 0), (self.reach, self.reach)))
        weights = np.linspace(1, 2, 2 * self.reach + 1, dtype=np.float32)
        seen = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis=3)[..., :: self.frames, :]
        return (seen * weights).sum(-1)


def columns_of(lower: Lower, window: int, hop: int) -> Columns:
    return Columns(lower, Incremental(FrontEnd(MEL), window, hop), lower.frames, lower.reach, hop)


@settings(max_examples=150)
@given(st.data(), st.integers(1, 5), st.integers(0, 12), st.integers(0, 1000))
def test_every_window_has_the_columns_that_it_has_alone(data, frames, reach, seed):
    window = data.draw(st.integers(MEL.least_samples, 100 * MEL.hop_samples), "window")
    hops = st.integers(1, window) | st.integers(1, window // MEL.hop_samples).map(lambda n: n * MEL.hop_samples)
    hop = max(data.draw(hops, "hop"), window // 20)
    rng = np.random.default_rng(seed)
    samples = (0.3 * rng.standard_normal(data.draw(st.integers(0, 8), "hops") * hop + window)).astype(np.float32)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=4), "cuts"))
    gaps = data.draw(st.sets(st.integers(0, 4), max_size=2), "gaps")
    late = data.draw(st.sets(st.integers(0, 10), max_size=3), "windows that are skipped")
    lower, front_end = Lower(frames, reach), FrontEnd(MEL)
    columns = columns_of(lower, window, hop)
    for number, each in enumerate(windows_of(samples, window, hop, cuts, gaps)):
        if number in late:
            continue
        found, expected = columns(each), lower(front_end(each.samples[None]))
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-3 * reach + 1e-4, rtol=1e-5)
        assert columns.kept <= frames


@pytest.mark.parametrize(("hop_frames", "before"), [(20, 1), (10, 2), (5, 4), (40, 1)])
def test_new_columns_and_those_at_the_ends_are_computed(hop_frames, before):
    """A hop that is no multiple of a column continues an earlier window than the last."""
    lower, hop = Lower(4, 9), hop_frames * MEL.hop_samples
    columns = columns_of(lower, 4_000, hop)
    samples = np.random.default_rng(0).standard_normal(4_000 + 12 * hop).astype(np.float32)
    given = []
    for number in range(12):
        lower.given = 0
        columns(Window(samples[number * hop : number * hop + 4_000], number * hop, 4_000, 0.0))
        given.append(lower.given)
    assert given[:before] == [200] * before
    # 20 frames give the three columns at the left, 8 more the two at the right, and 12 are seen by the new ones.
    assert set(given[before:]) == {before * hop_frames + 20 + 8 + 12}


def test_where_most_is_new_the_whole_window_is_computed():
    lower = Lower(4, 9)
    columns = columns_of(lower, 4_000, 3_600)
    for start in (0, 3_600):
        lower.given = 0
        columns(Window(np.zeros(4_000, np.float32), start, 4_000, 0.0))
        assert lower.given == 200


@pytest.mark.parametrize("model", ["esc50", "esc50-crnn"])
@pytest.mark.parametrize(("window_s", "hop_s"), [(5.0, 1.0), (5.0, 0.5), (5.0, 0.25), (4.99, 2.0), (5.0, 0.333)])
def test_a_stream_has_the_scores_of_its_windows(model, window_s, hop_s):
    classifier = open_model(str(BUNDLED / f"{model}.safetensors"), "onnx")
    sliding = SlidingWindows.of_seconds(window_s, hop_s, 32_000)
    prepare = classifier.preparer(sliding.window_samples, sliding.hop_samples)
    windows = list(sliding.feed(Block(sound(window_s + 5 * hop_s), 0.0)))
    assert len(windows) == 6
    for window in windows:
        (found,) = classifier.scores_of([prepare(window)], [window])
        (expected,) = classifier.classify([window])
        np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
        np.testing.assert_allclose(found.activity, expected.activity, atol=1e-4)
