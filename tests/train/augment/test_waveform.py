import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.augment import waveform
from train.augment.waveform import Noise

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
    window = waveform.placed(burst(length, start), noise, RATE, np.random.default_rng(seed))
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
    window = waveform.fragment(burst(length), noise, RATE, np.random.default_rng(seed))
    assert window.shape == (SAMPLES,)
    assert np.abs(window).max() <= 1
    heard = np.flatnonzero(window > 0.06)
    assert min(length, 0.03 * RATE - 1) <= len(heard) <= 0.3 * RATE
    assert heard[0] == 0 or heard[-1] == SAMPLES - 1
    assert heard[-1] - heard[0] + 1 == len(heard)


def test_the_sound_goes_everywhere(noise):
    rng = np.random.default_rng(0)
    windows = [waveform.placed(burst(RATE // 2), noise, RATE, rng) for _ in range(300)]
    starts = np.array([np.flatnonzero(window > 0.06)[0] for window in windows])
    shares, _ = np.histogram(starts, 6, (0, SAMPLES - RATE // 2))
    assert shares.min() > 300 / 6 / 2


def test_a_long_sound_is_cut_at_either_end(noise):
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.5, 1, SAMPLES, dtype=np.float32)  # its level tells which part is there
    ends = [waveform.placed(ramp, noise, RATE, rng)[[0, -1]] for _ in range(40)]
    assert any(first < 0.06 < last for first, last in ends)
    assert any(last < 0.06 < first for first, last in ends)


def test_silence_is_placed_too(noise):
    window = waveform.placed(np.zeros(SAMPLES, np.float32), noise, RATE, np.random.default_rng(0))
    assert -86 < rms_db(window) < -44


def test_the_clip_is_left_as_it_is(noise):
    clip = burst(1000)
    before = clip.copy()
    waveform.placed(clip, noise, RATE, np.random.default_rng(0))
    np.testing.assert_array_equal(clip, before)


@given(seeds)
def test_no_window_is_digital_silence(noise, seed):
    rng = np.random.default_rng(seed)
    for window in (waveform.placed(burst(100), noise, RATE, rng), waveform.noise_window(noise, SAMPLES, RATE, rng)):
        assert (np.abs(window) > 0).mean() > 0.99


@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 500))
def test_trimming_takes_the_padding_and_no_more(before, length, after):
    sound = np.full(length, 0.01, np.float32)
    sound[1:-1] = 0  # silence within a sound belongs to it
    padded = np.concatenate([np.full(before, 5e-5, np.float32), sound, np.zeros(after, np.float32)])
    np.testing.assert_array_equal(waveform.trimmed(padded), sound)


def test_trimming_leaves_silence():
    assert len(waveform.trimmed(np.zeros(100, np.float32))) == 100


@given(seeds)
def test_backgrounds_have_a_rooms_level(noise, seed):
    window = waveform.noise_window(noise, SAMPLES, RATE, np.random.default_rng(seed))
    assert window.shape == (SAMPLES,)
    assert window.dtype == np.float32
    # -95 to -25 dBFS; the pool's pieces are up to some dB from its mean, and hum adds up to 8 tones of -40 dB.
    assert -105 < rms_db(window) < -20
    assert np.abs(window).max() <= 1


def test_some_backgrounds_hum(noise):
    rng = np.random.default_rng(0)
    hums = 0
    for _ in range(200):
        spectrum = np.abs(np.fft.rfft(waveform.noise_window(noise, SAMPLES, RATE, rng) * np.hanning(SAMPLES)))
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
    samples = waveform.coloured(1 << 17, exponent, np.random.default_rng(0))
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
                waveform.placed(burst(500), noise, RATE, rng),
                waveform.noise_window(noise, SAMPLES, RATE, rng),
            ]
        )

    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


def test_the_pool_is_not_changed_by_those_who_draw(noise):
    first = noise.draw(np.random.default_rng(3)).copy()
    for seed in range(50):
        waveform.placed(burst(500), noise, RATE, np.random.default_rng(seed))
        waveform.noise_window(noise, SAMPLES, RATE, np.random.default_rng(seed))
    np.testing.assert_array_equal(noise.draw(np.random.default_rng(3)), first)


def with_noise_at(level_db: float, seed: int = 5) -> np.ndarray:
    samples = waveform.coloured(SAMPLES, 0.0, np.random.default_rng(seed))
    return (samples * 10 ** (level_db / 20)).astype(np.float32)


def share_of(part: np.ndarray, whole: np.ndarray) -> float:
    """The factor with which `part` is in `whole`, if nothing else in it is like `part`."""
    return float(part.astype(float) @ whole.astype(float) / (part.astype(float) @ part.astype(float)))


def tone(hertz: float, level: float) -> np.ndarray:
    """Whole periods: tones of different frequencies have nothing in common."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(SAMPLES) / RATE)).astype(np.float32)


@given(st.floats(0.3, 0.7), st.floats(0.01, 0.3), st.floats(0.01, 0.3))
def test_of_two_sounds_at_once_the_share_is_what_is_heard_of_the_first(share, one_level, other_level):
    one, other = tone(500, one_level), tone(700, other_level)
    both = waveform.mixed(one, other, share)
    assert both.dtype == np.float32
    heard = share_of(one, both) * one_level, share_of(other, both) * other_level  # amplitudes
    assert heard[0] / sum(heard) == pytest.approx(share, abs=1e-3)


@given(st.floats(0.3, 0.7), st.floats(0.01, 0.3))
def test_two_sounds_at_once_are_about_as_loud_as_each(share, level):
    both = waveform.mixed(tone(500, level), tone(700, level), share)
    assert rms_db(both) == pytest.approx(rms_db(tone(500, level)), abs=0.01)


def test_a_sound_and_silence_at_once_are_the_sound():
    one = tone(500, 0.1)
    both = waveform.mixed(one, np.zeros(SAMPLES, np.float32), 0.5)
    assert share_of(one, both) > 0
    np.testing.assert_allclose(both, share_of(one, both) * one, atol=1e-7)


@given(seeds, st.floats(0, 1))
def test_two_sounds_at_once_stay_within_full_scale(seed, share):
    rng = np.random.default_rng(seed)
    one, other = (rng.uniform(-1, 1, SAMPLES).astype(np.float32) for _ in range(2))
    assert np.abs(waveform.mixed(one, other, share)).max() <= 1


@given(st.floats(-20, 60), st.floats(-60, -20), st.floats(-80, -10))
def test_what_is_under_a_sound_is_softer_by_so_much(snr_db, sound_db, floor_db):
    sound, floor = tone(500, 10 ** (sound_db / 20)), with_noise_at(floor_db)
    rest = waveform.over(sound, floor, snr_db).astype(float) - sound
    if np.abs(rest + sound).max() < 1:  # nothing was cut off
        assert rms_db(sound) - rms_db(rest) == pytest.approx(snr_db, abs=0.05)


@given(st.floats(-40, 40))
def test_what_is_under_a_sound_stays_within_full_scale(snr_db):
    both = waveform.over(tone(500, 1.0), with_noise_at(-10), snr_db)
    assert both.dtype == np.float32
    assert np.abs(both).max() <= 1


def test_digital_silence_under_a_sound_and_over_a_floor():
    silence, sound = np.zeros(SAMPLES, np.float32), tone(500, 0.1)
    np.testing.assert_array_equal(waveform.over(sound, silence, 0.0), sound)
    np.testing.assert_array_equal(waveform.over(silence, sound, 0.0), silence)


@given(seeds, st.floats(-70, -10))
def test_a_placed_sound_goes_over_the_floor_it_is_given(noise, seed, floor_db):
    floor = with_noise_at(floor_db)
    before = floor.copy()
    window = waveform.placed(np.zeros(SAMPLES, np.float32), noise, RATE, np.random.default_rng(seed), floor)
    np.testing.assert_array_equal(floor, before)
    assert window.dtype == np.float32
    assert -85.1 < rms_db(window) < -44.9  # at a floor's level, whatever its own was
    np.testing.assert_allclose(window, share_of(floor, window) * floor, atol=1e-7)


@given(seeds)
def test_a_sound_over_a_given_floor_stays_audible(noise, seed):
    window = waveform.placed(burst(RATE // 2), noise, RATE, np.random.default_rng(seed), with_noise_at(-10))
    assert (window > 0.06).sum() >= RATE // 2


def test_a_floor_of_digital_silence_does_no_harm(noise):
    silence = np.zeros(SAMPLES, np.float32)
    window = waveform.placed(burst(100), noise, RATE, np.random.default_rng(0), silence)
    assert np.isfinite(window).all()
    assert (window > 0.06).sum() >= 50


@given(seeds, st.integers(1, SAMPLES), st.integers(0, SAMPLES), st.integers(320, SAMPLES))
def test_a_piece_holds_some_of_the_sound(seed, length, start, samples):
    clip = burst(length, min(start, SAMPLES - length))
    piece = waveform.cropped(clip, samples, np.random.default_rng(seed))
    assert piece.shape == (samples,)
    assert piece.any()
    assert any(np.array_equal(clip[first : first + samples], piece) for first in range(SAMPLES - samples + 1))


def test_pieces_come_from_everywhere_in_a_steady_sound():
    ramp = np.linspace(0.5, 1, SAMPLES, dtype=np.float32)
    rng = np.random.default_rng(0)
    firsts = np.array([waveform.cropped(ramp, SAMPLES // 4, rng)[0] for _ in range(300)])
    shares, _ = np.histogram(firsts, 4, (0.5, 0.5 + 0.375 + 1e-3))
    assert shares.min() > 300 / 4 / 2


def test_a_piece_of_silence_is_silence():
    assert waveform.cropped(np.zeros(SAMPLES, np.float32), 1000, np.random.default_rng(0)).shape == (1000,)
