"""Power spectra by matrix products, against numpy's transform in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.features.spectrum import PowerSpectrum


def powers_of(spectrum: PowerSpectrum, frames: np.ndarray, bins: int) -> np.ndarray:
    """[frames, bins], in the order of the frequencies."""
    padded = spectrum.frames(len(frames))
    padded[: len(frames), : frames.shape[1]] = frames
    return spectrum(padded)[: len(frames)] @ spectrum.of_bins(np.eye(bins))


@given(
    st.sampled_from([8, 64, 400, 512, 1018, 1024, 1200, 2048, 4096, 6000]),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    st.integers(1, 20),
    st.integers(0, 9),
)
def test_powers_are_those_of_numpys_transform(n_fft, share, heard, count, seed):
    samples, bins = max(1, round(share * n_fft)), max(1, round(heard * (n_fft // 2 + 1)))
    frames = np.random.default_rng(seed).standard_normal((count, samples)).astype(np.float32)
    expected = np.abs(np.fft.rfft(frames.astype(np.float64), n_fft)[:, :bins]) ** 2
    found = powers_of(PowerSpectrum(n_fft, samples, bins), frames, bins)
    assert np.abs(found - expected).max() < 1e-5 * samples


@pytest.mark.parametrize("level", [1.0, 1e-6, 1e6])
def test_a_tone_is_one_frequency_at_any_level(level):
    tone = np.float32(level) * np.cos(2 * np.pi * 100 / 1024 * np.arange(1024)).astype(np.float32)
    found = powers_of(PowerSpectrum(1024, 1024, 513), tone[None], 513)[0]
    assert found[100] == pytest.approx((512 * level) ** 2, rel=1e-5)
    assert np.delete(found, 100).max() < 1e-9 * found[100]


def test_a_frame_has_the_same_power_in_any_batch():
    """Of sound whose highs are loud, the lows are a small difference of large sums, which shows each other rounding."""
    frames = np.diff(np.random.default_rng(0).standard_normal((100, 801)), axis=1).astype(np.float32)
    spectrum = PowerSpectrum(1024, 800, 241)
    whole = powers_of(spectrum, frames, 241)
    for start, stop in ((0, 1), (3, 10), (17, 90), (99, 100)):
        part = powers_of(spectrum, frames[start:stop], 241)
        np.testing.assert_allclose(part, whole[start:stop], rtol=1e-6)
