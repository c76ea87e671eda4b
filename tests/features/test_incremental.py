"""Features of a stream's windows, of which only new frames are computed, against those of each window alone."""

import logging
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.audio.window import SlidingWindows
from tagger.events import Block, Samples, Window
from tagger.features import incremental
from tagger.features.config import FRONT_ENDS, MelConfig
from tagger.features.frames import FrontEnd
from tagger.features.incremental import Incremental, inner_frames

SMALL = {"sample_rate_hz": 8_000, "f_max_hz": 4_000.0, "n_mels": 20}
CONFIGS = [
    MelConfig(**SMALL, n_fft=64, window_samples=64, hop_samples=20),
    MelConfig(**SMALL, n_fft=64, window_samples=50, hop_samples=20, preemphasis=0.0),
    MelConfig(**SMALL, n_fft=128, window_samples=10, hop_samples=30),
    MelConfig(**SMALL, n_fft=64, window_samples=33, hop_samples=7, bandwidth_hz=2_000.0),
    MelConfig(**SMALL, n_fft=64, window_samples=1, hop_samples=1),
    MelConfig(**SMALL, n_fft=64, window_samples=64, hop_samples=100, periodic_window=True),
]


class Counting(FrontEnd):
    """A front end that counts the frames that it computes."""

    computed = 0

    def of_frames(self, frames: Samples) -> Samples:
        self.computed += len(frames)
        return super().of_frames(frames)


def windows_of(samples: np.ndarray, window: int, hop: int, cuts: list[int], gaps: set[int]) -> Iterator[Window]:
    """Windows of samples that come in blocks, cut at `cuts`; some blocks follow a gap."""
    sliding = SlidingWindows(window, hop, 8_000, flush_at_gaps=True)
    for number, block in enumerate(np.split(samples, cuts)):
        yield from sliding.feed(Block(block, 0.0, gap=number in gaps))
    yield from sliding.flush()


@settings(max_examples=150)
@given(st.data(), st.sampled_from([*CONFIGS, *FRONT_ENDS.values()]), st.integers(0, 1000))
def test_every_window_has_the_features_that_it_has_alone(data, config, seed):
    most = 30 * config.hop_samples + config.n_fft
    window = data.draw(st.integers(config.least_samples, most), "window")
    hops = st.integers(1, window) | st.integers(1, max(1, window // config.hop_samples)).map(
        lambda frames: min(window, frames * config.hop_samples)
    )
    hop = max(data.draw(hops, "hop"), window // 20)
    rng = np.random.default_rng(seed)
    samples = (0.3 * rng.standard_normal(data.draw(st.integers(0, 6), "hops") * hop + window)).astype(np.float32)
    samples[: len(samples) // 4] = 0
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=6), "cuts"))
    gaps = data.draw(st.sets(st.integers(0, 6), max_size=2), "gaps")
    late = data.draw(st.sets(st.integers(0, 10), max_size=3), "windows that are skipped")
    front_end = FrontEnd(config)
    features = Incremental(front_end, window, hop)
    for number, each in enumerate(windows_of(samples, window, hop, cuts, gaps)):
        if number in late:
            continue
        found, expected = features(each), front_end(each.samples[None])[0, 0]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_at_each_hop_the_new_frames_and_those_at_the_ends_are_computed(name):
    front_end = Counting(FRONT_ENDS[name])
    features = Incremental(front_end, 160_000, 32_000)
    inner = features.inner
    at_ends = front_end.config.frames(160_000) - len(inner)
    samples = np.zeros(160_000, np.float32)
    for start, new in ((0, len(inner)), (32_000, 100), (64_000, 100), (128_000, 200), (320_000, len(inner))):
        front_end.computed = 0
        features(Window(samples, start, 160_000, 0.0))
        assert front_end.computed == new + at_ends


def test_of_five_seconds_three_frames_touch_an_end():
    assert inner_frames(FrontEnd(MelConfig()), 160_000) == range(2, 499)


@given(st.sampled_from([*CONFIGS, *FRONT_ENDS.values()]), st.integers(0, 5_000), st.integers(0, 30))
def test_no_other_frame_changes_with_what_is_beyond_the_window(config, more, seed):
    samples = config.least_samples + more
    rng = np.random.default_rng(seed)
    sound = (0.3 * rng.standard_normal(samples + 2 * config.n_fft)).astype(np.float32)
    front_end = FrontEnd(config)
    inner = inner_frames(front_end, samples)
    offset = -(-config.n_fft // config.hop_samples)  # frames
    begin = offset * config.hop_samples
    longer = front_end(np.pad(sound, (config.hop_samples, config.hop_samples))[None])[0, 0]
    window = front_end(np.pad(sound, config.hop_samples)[None, begin : begin + samples])[0, 0]
    expected = longer[:, inner.start + offset : inner.stop + offset]
    np.testing.assert_allclose(window[:, inner.start : inner.stop], expected, atol=1e-5, rtol=0)


def test_where_nothing_can_be_kept_the_log_says_why_once(caplog):
    incremental.log_once.cache_clear()
    with caplog.at_level(logging.INFO):
        for hop_samples in (10_656, 10_656, 32_000, 160_000):
            Incremental(FrontEnd(MelConfig()), 160_000, hop_samples)
    (record,) = caplog.records
    assert "a hop of 0.333 s is no multiple of 0.01 s, the time from frame to frame" in record.getMessage()


def test_a_window_of_another_length_is_computed_whole():
    front_end = FrontEnd(MelConfig())
    features = Incremental(front_end, 64_000, 32_000)
    samples = np.random.default_rng(0).standard_normal(80_000).astype(np.float32)
    for start, length in ((0, 64_000), (3_200, 32_000), (6_400, 64_000), (9_600, 64_000)):
        window = Window(samples[start : start + length], start, length, 0.0)
        np.testing.assert_allclose(features(window), front_end(window.samples[None])[0, 0], atol=1e-5, rtol=0)
