"""Rooms, microphones and telephones: how they change tones, noise and impulses."""

import numpy as np
import pytest

from train.augment import channel

RATE_HZ = 32_000
TIME = np.arange(RATE_HZ) / RATE_HZ


def tone(hertz: float, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32)


def level_db(sound: np.ndarray) -> float:
    middle = sound[len(sound) // 4 : -len(sound) // 4]
    return float(20 * np.log10(np.sqrt(np.mean(middle**2)) + 1e-12))


def snr_db(changed: np.ndarray, sound: np.ndarray) -> float:
    return level_db(sound) - level_db(changed - sound)


def test_an_equaliser_raises_the_octave_that_it_should() -> None:
    gains = np.array([0, 0, 0, 0, 6, 0, -12, 0], float)  # 1 kHz, 4 kHz
    assert level_db(channel.equalised(tone(1_000), RATE_HZ, gains)) - level_db(tone(1_000)) == pytest.approx(6, abs=0.1)
    assert level_db(channel.equalised(tone(4_000), RATE_HZ, gains)) - level_db(tone(4_000)) == pytest.approx(
        -12, abs=0.1
    )
    assert channel.equalised(tone(440), RATE_HZ, np.zeros(8)) == pytest.approx(tone(440), abs=1e-5)


@pytest.mark.parametrize("rt60_s", [0.2, 0.6])
def test_a_room_decays_by_60_db_in_its_time(rt60_s: float) -> None:
    impulse = np.zeros(RATE_HZ, np.float32)
    impulse[0] = 1.0
    tail = channel.distant(impulse, RATE_HZ, rt60_s, 0.0, np.random.default_rng(0))
    assert np.sum(tail[1:] ** 2) / tail[0] ** 2 == pytest.approx(1, rel=0.02)  # direct_db is 0
    left = 10 * np.log10(np.cumsum(tail[:0:-1] ** 2)[::-1])  # Schroeder's integral
    early, late = (np.flatnonzero(left < left[0] - db)[0] / RATE_HZ for db in (5, 25))
    assert 3 * (late - early) == pytest.approx(rt60_s, rel=0.15)


def test_a_room_keeps_level_and_length() -> None:
    far = channel.distant(tone(500), RATE_HZ, 0.5, -6.0, np.random.default_rng(1))
    assert far.shape == TIME.shape
    assert np.sqrt(np.mean(far**2)) == pytest.approx(np.sqrt(np.mean(tone(500) ** 2)), rel=1e-3)


def test_automatic_gain_brings_quiet_and_loud_sounds_to_its_target() -> None:
    for peak in (0.02, 1.0):
        steady = np.tile(tone(500, peak), 4)
        assert level_db(channel.levelled(steady, RATE_HZ)[-RATE_HZ:]) == pytest.approx(-20, abs=0.5)


def test_automatic_gain_has_a_limit_and_rises_slowly() -> None:
    faint = np.tile(tone(500, 1e-4), 4)
    raised = channel.levelled(faint, RATE_HZ, most_db=30)
    assert level_db(raised[-RATE_HZ // 2 :]) - level_db(faint[-RATE_HZ // 2 :]) == pytest.approx(30, abs=0.1)
    first = slice(round(0.48 * RATE_HZ), round(0.52 * RATE_HZ))
    assert level_db(raised[first]) - level_db(faint[first]) == pytest.approx(10, abs=1)  # 20 dB a second


def test_clipping_cuts_what_is_beyond_full_scale() -> None:
    cut = channel.clipped(tone(500, 0.1), 6.0)
    assert np.abs(cut).max() == 1
    assert np.mean(np.abs(cut) == 1) == pytest.approx(2 / 3, abs=0.02)  # |sin| > 10**(-6/20)


@pytest.mark.parametrize("law", ["mu", "a"])
def test_a_telephone_has_38_db_over_its_noise_and_nothing_above_4_khz(law: channel.Law) -> None:
    for peak in (0.05, 0.5):
        sound = tone(1_013, peak)
        assert snr_db(channel.companded(sound, RATE_HZ, law), sound) == pytest.approx(38, abs=2)
    assert level_db(channel.companded(tone(6_000), RATE_HZ, law)) < -50


def test_what_is_drawn_is_the_same_again_and_differs_by_the_seed() -> None:
    noise = (0.1 * np.random.default_rng(3).standard_normal(RATE_HZ)).astype(np.float32)
    heard = [channel.through(noise, RATE_HZ, np.random.default_rng(seed)) for seed in (0, 0, 1, 2, 3, 4)]
    assert np.array_equal(heard[0], heard[1])
    assert len({each.tobytes() for each in heard}) > 3
    assert all(each.dtype == np.float32 and len(each) == RATE_HZ and np.isfinite(each).all() for each in heard)


def test_silence_stays_silence() -> None:
    silence = np.zeros(RATE_HZ, np.float32)
    for seed in range(8):
        assert np.abs(channel.through(silence, RATE_HZ, np.random.default_rng(seed))).max() < 1e-3


def test_a_room_is_the_same_whatever_the_length_of_its_transform() -> None:
    sound = np.random.default_rng(1).standard_normal(9_973).astype(np.float32)  # a prime
    wet = channel.distant(sound, 1_000, 0.5, 3.0, np.random.default_rng(2))
    longer = channel.distant(np.pad(sound, (0, 1_000)), 1_000, 0.5, 3.0, np.random.default_rng(2))
    scale = np.dot(wet, longer[: len(wet)]) / np.dot(wet, wet)
    np.testing.assert_allclose(longer[: len(wet)] / scale, wet, atol=1e-5)
