from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tagger.audio.downmix import Downmix
from tagger.audio.resample import Resampler

TARGET = 32_000
RATES = [8_000, 11_025, 16_000, 32_000, 44_100, 48_000, 96_000, 192_000]


def resampled(frames: NDArray[np.float32], rate_hz: int, sizes: Sequence[int] = ()) -> NDArray[np.float32]:
    resampler, downmix = Resampler(rate_hz, TARGET), Downmix("x.wav")
    parts = np.split(frames, np.minimum(np.cumsum(sizes, dtype=int), len(frames)))
    return np.concatenate([*(resampler.feed(downmix.mean(part, rate_hz)) for part in parts), resampler.flush()])


def tone(hertz: float, rate_hz: int, seconds: float = 1.0, level: float = 0.5) -> NDArray[np.float32]:
    time = np.arange(int(rate_hz * seconds)) / rate_hz
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)[:, None]


def middle(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without the ends, where a tone is switched on and off."""
    return samples[len(samples) // 4 : -len(samples) // 4]


def rms_db(samples: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(samples.astype(float) ** 2) + 1e-30))


@given(
    st.sampled_from(RATES),
    st.sampled_from([1, 2, 6]),
    st.integers(0, 3000),
    st.lists(st.integers(0, 1500), max_size=8),
    st.integers(0, 2**32 - 1),
)
def test_any_chunking_gives_the_same_samples_bit_for_bit(rate_hz, channels, count, sizes, seed):
    noise = np.random.default_rng(seed).uniform(-1, 1, (count, channels)).astype(np.float32)
    np.testing.assert_array_equal(resampled(noise, rate_hz, sizes), resampled(noise, rate_hz))


@pytest.mark.parametrize("rate_hz", RATES)
def test_small_blocks_of_a_long_stream_change_nothing(rate_hz):
    noise = np.random.default_rng(1).uniform(-1, 1, (rate_hz * 2, 1)).astype(np.float32)
    sizes = [1, 7, 441, 4096, 3] * (len(noise) // 4548)
    np.testing.assert_array_equal(resampled(noise, rate_hz, sizes), resampled(noise, rate_hz))


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_tone_keeps_its_frequency_and_its_level(rate_hz):
    ours = middle(resampled(tone(1000, rate_hz), rate_hz))
    assert rms_db(ours) == pytest.approx(rms_db(tone(1000, rate_hz)), abs=0.1)
    spectrum = np.abs(np.fft.rfft(ours * np.hanning(len(ours)), 1 << 19))
    assert spectrum.argmax() * TARGET / (1 << 19) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize(
    ("rate_hz", "hertz"), [(44_100, 17_500), (48_000, 20_000), (96_000, 30_000), (192_000, 80_000)]
)
def test_a_tone_that_cannot_be_represented_dies(rate_hz, hertz):
    played = tone(hertz, rate_hz)
    assert rms_db(middle(resampled(played, rate_hz))) < rms_db(played) - 80


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("count", [0, 1, 100, 12_345])
def test_length(rate_hz, count):
    assert len(resampled(np.zeros((count, 1), np.float32), rate_hz)) == pytest.approx(count * TARGET / rate_hz, abs=1)


@pytest.mark.parametrize("rate_hz", RATES)
def test_an_impulse_stays_where_it_was(rate_hz):
    frames = np.zeros((rate_hz, 1), np.float32)
    frames[rate_hz // 2] = 1
    assert np.abs(resampled(frames, rate_hz)).argmax() == pytest.approx(TARGET / 2, abs=1)


@pytest.mark.parametrize("rate_hz", [32_000, 48_000])
def test_a_constant_stays_constant(rate_hz):
    np.testing.assert_allclose(middle(resampled(np.full((rate_hz, 1), 0.25, np.float32), rate_hz)), 0.25, atol=1e-5)


@pytest.mark.parametrize("rate_hz", [32_000, 48_000])
def test_six_channels_are_averaged(rate_hz):
    frames = np.concatenate([tone(200 * (1 + channel), rate_hz) for channel in range(6)], axis=1)
    mean = frames.mean(axis=1, keepdims=True, dtype=np.float32)
    np.testing.assert_allclose(resampled(frames, rate_hz), resampled(mean, rate_hz), atol=1e-6)


def test_opposite_channels_cancel():
    left = tone(440, 44_100)
    np.testing.assert_array_equal(resampled(np.concatenate([left, -left], axis=1), 44_100), 0)


def test_the_same_rate_is_left_as_it_is():
    frames = tone(440, TARGET)
    np.testing.assert_array_equal(resampled(frames, TARGET, [100, 0, 3]), frames[:, 0])
