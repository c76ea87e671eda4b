"""A and F weighting beside a library that is independent of ours."""

import numpy as np
import pytest
from pyoctaveband import weighting_filter

from tagger.levels.weighting import STEP, AWeighting, FastWeighting, a_weighting

NOMINAL_A_DB = {31.5: -39.4, 63: -26.2, 125: -16.1, 250: -8.6, 500: -3.2, 1000: 0, 2000: 1.2, 4000: 1.0, 8000: -1.1}
"""IEC 61672-1:2013, table 3."""


def weighted(samples: np.ndarray, rate_hz: int, piece: int = 200) -> np.ndarray:
    """[steps], mean squares."""
    steps = samples[: samples.size // STEP * STEP].astype(np.float32).reshape(-1, STEP)
    a = AWeighting(rate_hz)
    return np.concatenate([a(steps[at : at + piece]) for at in range(0, len(steps), piece)])


@pytest.mark.parametrize(("frequency_hz", "wanted_db"), NOMINAL_A_DB.items())
def test_the_curve_is_that_of_the_standard(frequency_hz: float, wanted_db: float) -> None:
    exact = 1000 * 10 ** (round(10 * np.log10(frequency_hz / 1000)) / 10)
    assert 20 * np.log10(a_weighting(np.array([exact]))[0]) == pytest.approx(wanted_db, abs=0.06)


@pytest.mark.parametrize("rate_hz", [16_000, 32_000, 48_000])
def test_tones_pass_as_the_curve_says(rate_hz: int) -> None:
    for frequency_hz in (20.0, 31.5, 100.0, 1000.0, 5000.0, 0.43 * rate_hz):
        tone = np.sin(2 * np.pi * frequency_hz * np.arange(2 * rate_hz) / rate_hz)
        power = weighted(tone, rate_hz)[len(tone) // STEP // 2 :].mean()
        wanted = a_weighting(np.array([frequency_hz]))[0] ** 2 / 2
        assert 10 * np.log10(power / wanted) == pytest.approx(0, abs=0.03), frequency_hz


@pytest.mark.parametrize("colour", [0, 0.5, 1])
def test_noise_is_within_a_tenth_of_a_decibel_of_the_reference(colour: float) -> None:
    """White, pink and red noise. The reference is within 0.1 dB of the curve when it has twice the rate it needs."""
    rate_hz, seconds = 32_000, 8
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=seconds * 2 * rate_hz))
    frequencies = np.fft.rfftfreq(seconds * 2 * rate_hz, 1 / (2 * rate_hz))
    spectrum[1:] /= frequencies[1:] ** colour
    spectrum[(frequencies > 14_000) | (frequencies < 15)] = 0
    fine = np.fft.irfft(spectrum)
    fine *= 0.1 / fine.std()
    reference = weighting_filter(fine, 2 * rate_hz, "A")
    ours = weighted(fine[::2], rate_hz)
    assert 10 * np.log10(ours.mean() / np.square(reference).mean()) == pytest.approx(0, abs=0.1)


def test_any_cut_into_pieces_gives_the_same() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 20_000)
    whole = weighted(noise, 32_000, 256)
    for piece in (1, 2, 7, 16, 100):
        assert weighted(noise, 32_000, piece) == pytest.approx(whole, rel=1e-4)


def test_a_constant_is_silent_and_a_reset_forgets() -> None:
    a = AWeighting(32_000)
    for _ in range(8):
        last = a(np.full((250, STEP), 0.5, np.float32))[-1]
    assert 10 * np.log10(last + 1e-20) < -120
    a.reset()
    assert a(np.zeros((10, STEP), np.float32)).max() == 0


def test_fast_follows_a_step_with_its_time_constant() -> None:
    fast = FastWeighting(32_000)
    power = np.ones(256)
    found = fast(power)
    at = round(0.125 * 32_000 / STEP)
    assert found[at - 1] == pytest.approx(1 - np.exp(-at * STEP / 32_000 / 0.125), rel=1e-9)
    decay = fast(np.zeros(256))
    per_second_db = 10 * np.log10(decay[0] / decay[250]) / (250 * STEP / 32_000)
    assert per_second_db == pytest.approx(34.7, abs=0.1)
