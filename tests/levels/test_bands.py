"""Thirds of an octave beside a library that is independent of ours."""

import numpy as np
import pytest
from pyoctaveband import octavefilter

from tagger.levels.bands import Bands, Frames, centre_hz, nominal, response

RATE_HZ = 32_000


def measured(samples: np.ndarray, rate_hz: int = RATE_HZ, piece: int = 16_000) -> dict[str, float]:
    """Level of each band, dB."""
    frames = Frames(rate_hz)
    bands = Bands(rate_hz, frames)
    for at in range(0, len(samples), piece):
        part = samples[at : at + piece].astype(np.float32)
        bands.add_high(frames(part))
        bands.add_low(part)
    return dict(zip(bands.names, 10 * np.log10(np.maximum(bands.take(), 1e-12)), strict=True))


def test_pink_noise_is_within_two_tenths_of_a_decibel_of_the_reference() -> None:
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=20 * RATE_HZ))
    spectrum[1:] /= np.sqrt(np.fft.rfftfreq(20 * RATE_HZ, 1 / RATE_HZ)[1:])
    spectrum[0] = 0
    pink = np.fft.irfft(spectrum)
    pink *= 0.1 / pink.std()
    reference, centres = octavefilter(pink, RATE_HZ, 3, order=6, limits=[25, 14_000], dbfs=True)[:2]
    ours = measured(pink)
    assert [round(centre, 1) for centre in centres] == [round(centre_hz(n), 1) for n in range(-16, 12)]
    assert list(ours) == [nominal(n) for n in range(-16, 12)]
    assert list(ours.values()) == pytest.approx(list(reference), abs=0.2)


@pytest.mark.parametrize("number", [-16, -10, -4, -3, 0, 5, 11])
def test_a_tone_is_in_its_band_and_far_below_in_others(number: int) -> None:
    tone = 0.1 * np.sin(2 * np.pi * centre_hz(number) * np.arange(6 * RATE_HZ) / RATE_HZ)
    ours = measured(tone)
    own = ours.pop(nominal(number))
    assert own == pytest.approx(-23.01, abs=0.1)
    for other in (number - 1, number + 1):
        assert ours.pop(nominal(other), -200) < own - 25
    assert max(ours.values()) < own - 60


def test_power_at_the_edges_is_half() -> None:
    edges = centre_hz(0) * np.array([10**-0.05, 10**0.05])
    assert response(edges, 0) == pytest.approx([0.5, 0.5], abs=1e-9)


def test_bands_add_up_to_the_whole() -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, 8 * RATE_HZ)
    total = sum(10 ** (level / 10) for level in measured(noise).values())
    inside = (centre_hz(11) * 10**0.05 - centre_hz(-16) * 10**-0.05) / (RATE_HZ / 2)
    assert 10 * np.log10(total / (0.01 * inside)) == pytest.approx(0, abs=0.15)


def test_any_cut_gives_the_same_and_a_lower_rate_has_fewer_bands() -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, 3 * 16_000)
    one, other = measured(noise, 16_000), measured(noise, 16_000, piece=777)
    assert list(one)[-1] == "6300"
    assert list(one.values()) == pytest.approx(list(other.values()), abs=1e-3)
