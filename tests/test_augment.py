import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train import augment
from train.augment import Noise

RATE = 8_000
SAMPLES = 2 * RATE

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def noise() -> Noise:
    return Noise(SAMPLES, np.random.default_rng(0), pool=6)


def rms_db(samples: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(samples.astype(float) ** 2)) + 1e-12))


def burst(length: int, start: int = 0) -> np.ndarray:
    """A constant within silence: nothing in the noise looks like it."""
    clip = np.zeros(SAMPLES, np.float32)
    clip[start : start + length] = 0.5
    return clip


@given(seeds, st.integers(1, SAMPLES), st.integers(0, SAMPLES))
def test_a_placed_sound_stays_audible(noise, seed, length, start):
    start = min(start, SAMPLES - length)
    window = augment.placed(burst(length, start), noise, RATE, np.random.default_rng(seed))
    assert window.shape == (SAMPLES,)
    assert window.dtype == np.float32
    assert np.abs(window).max() <= 1
    # -12 dB of 0.5 is 0.125; the floor is at most -45 dBFS RMS, whose peaks stay well below 0.06.
    heard = np.flatnonzero(window > 0.06)
    least = min(length, max(RATE // 2, length // 2))
    assert len(heard) >= least
    assert heard[-1] - heard[0] + 1 <= length


@given(seeds, st.integers(1, SAMPLES))
def test_a_fragment_is_short_and_at_an_edge(noise, seed, length):
    window = augment.fragment(burst(length), noise, RATE, np.random.default_rng(seed))
    assert window.shape == (SAMPLES,)
    assert np.abs(window).max() <= 1
    heard = np.flatnonzero(window > 0.06)
    assert min(length, 0.03 * RATE - 1) <= len(heard) <= 0.3 * RATE
    assert heard[0] == 0 or heard[-1] == SAMPLES - 1
    assert heard[-1] - heard[0] + 1 == len(heard)


def test_the_sound_goes_everywhere(noise):
    rng = np.random.default_rng(0)
    windows = [augment.placed(burst(RATE // 2), noise, RATE, rng) for _ in range(300)]
    starts = np.array([np.flatnonzero(window > 0.06)[0] for window in windows])
    shares, _ = np.histogram(starts, 6, (0, SAMPLES - RATE // 2))
    assert shares.min() > 300 / 6 / 2


def test_a_long_sound_is_cut_at_either_end(noise):
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.5, 1, SAMPLES, dtype=np.float32)  # its level tells which part is there
    ends = [augment.placed(ramp, noise, RATE, rng)[[0, -1]] for _ in range(40)]
    assert any(first < 0.06 < last for first, last in ends)
    assert any(last < 0.06 < first for first, last in ends)


def test_silence_is_placed_too(noise):
    window = augment.placed(np.zeros(SAMPLES, np.float32), noise, RATE, np.random.default_rng(0))
    assert -86 < rms_db(window) < -44


def test_the_clip_is_left_as_it_is(noise):
    clip = burst(1000)
    before = clip.copy()
    augment.placed(clip, noise, RATE, np.random.default_rng(0))
    np.testing.assert_array_equal(clip, before)


@given(seeds)
def test_no_window_is_digital_silence(noise, seed):
    rng = np.random.default_rng(seed)
    for window in (augment.placed(burst(100), noise, RATE, rng), augment.background(noise, SAMPLES, RATE, rng)):
        assert (np.abs(window) > 0).mean() > 0.99


@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 500))
def test_trimming_takes_the_padding_and_no_more(before, length, after):
    sound = np.full(length, 0.01, np.float32)
    sound[1:-1] = 0  # silence within a sound belongs to it
    padded = np.concatenate([np.full(before, 5e-5, np.float32), sound, np.zeros(after, np.float32)])
    np.testing.assert_array_equal(augment.trimmed(padded), sound)


def test_trimming_leaves_silence():
    assert len(augment.trimmed(np.zeros(100, np.float32))) == 100


@given(seeds)
def test_backgrounds_have_a_rooms_level(noise, seed):
    window = augment.background(noise, SAMPLES, RATE, np.random.default_rng(seed))
    assert window.shape == (SAMPLES,)
    assert window.dtype == np.float32
    # -95 to -25 dBFS; the pool's pieces are up to some dB from its mean, and hum adds up to 8 tones of -40 dB.
    assert -105 < rms_db(window) < -20
    assert np.abs(window).max() <= 1


def test_some_backgrounds_hum(noise):
    rng = np.random.default_rng(0)
    hums = 0
    for _ in range(200):
        spectrum = np.abs(np.fft.rfft(augment.background(noise, SAMPLES, RATE, rng) * np.hanning(SAMPLES)))
        # 50 or 60 Hz and overtones stand out of what lies between them. Bins are 0.5 Hz wide.
        lines = [
            max(
                spectrum[2 * mains * k] / np.median(spectrum[2 * mains * k + 8 : 2 * mains * k + 40]) for k in (1, 2, 4)
            )
            for mains in (50, 60)
        ]
        hums += max(lines) > 30
    assert 10 < hums < 90


@pytest.mark.parametrize(("exponent", "db_a_octave"), [(-1, 3), (0, 0), (1, -3), (2, -6)])
def test_colours_of_noise(exponent, db_a_octave):
    samples = augment.coloured(1 << 17, exponent, np.random.default_rng(0))
    assert samples.dtype == np.float32
    assert np.sqrt(np.mean(samples.astype(float) ** 2)) == pytest.approx(1, abs=1e-4)
    power = np.abs(np.fft.rfft(samples)) ** 2
    octaves = [10 * np.log10(power[first : 2 * first].mean()) for first in (1 << 10, 1 << 11, 1 << 12, 1 << 13)]
    np.testing.assert_allclose(np.diff(octaves), db_a_octave, atol=0.5)


def test_seeds_repeat_and_differ():
    def draw(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        noise = Noise(SAMPLES, rng, pool=2)
        return np.concatenate(
            [
                noise.draw(rng),
                augment.placed(burst(500), noise, RATE, rng),
                augment.background(noise, SAMPLES, RATE, rng),
            ]
        )

    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


def test_the_pool_is_not_changed_by_those_who_draw(noise):
    first = noise.draw(np.random.default_rng(3)).copy()
    for seed in range(50):
        augment.placed(burst(500), noise, RATE, np.random.default_rng(seed))
        augment.background(noise, SAMPLES, RATE, np.random.default_rng(seed))
    np.testing.assert_array_equal(noise.draw(np.random.default_rng(3)), first)
