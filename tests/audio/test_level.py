"""Levels of signals whose RMS and peak are known."""

import numpy as np
import pytest

from tagger.audio.level import LevelMeter
from tagger.events import SILENCE_DBFS, Block

RATE_HZ = 32_000


def level_of(samples, seconds=1.0, blocks=(1600,)):
    meter, found, at, i = LevelMeter(RATE_HZ, seconds), [], 0, 0
    while at < len(samples):
        size = blocks[i % len(blocks)]
        level = meter.feed(Block(samples[at : at + size].astype(np.float32), 100 + at / RATE_HZ))
        found += [level] if level is not None else []
        at, i = at + size, i + 1
    return found


def test_a_sine_is_3_db_below_its_peak():
    time_s = np.arange(RATE_HZ) / RATE_HZ
    (level,) = level_of(0.5 * np.sin(2 * np.pi * 1000 * time_s))
    assert level.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert level.rms_dbfs == pytest.approx(-9.03, abs=0.01)
    assert level.clipped == 0
    assert level.time == pytest.approx(101)


def test_a_square_wave_at_full_scale_is_0_db_and_clipped():
    (level,) = level_of(np.where(np.arange(RATE_HZ) % 32 < 16, 1.0, -1.0))
    assert (level.rms_dbfs, level.peak_dbfs, level.clipped) == (0, 0, RATE_HZ)


def test_silence_has_a_level_too():
    (level,) = level_of(np.zeros(RATE_HZ))
    assert (level.rms_dbfs, level.peak_dbfs, level.clipped) == (SILENCE_DBFS, SILENCE_DBFS, 0)


@pytest.mark.parametrize("blocks", [(1,), (7, 1600, 333), (16_000,)])
def test_it_does_not_matter_how_the_stream_is_cut(blocks):
    samples = np.random.default_rng(0).normal(0, 0.1, 3200)
    (one,), (other,) = level_of(samples, 0.1, (3200,)), level_of(samples, 0.1, blocks)[:1]
    if blocks == (1,):
        assert other.rms_dbfs == pytest.approx(one.rms_dbfs, abs=1e-4)
    assert other.peak_dbfs <= one.peak_dbfs + 1e-6 or blocks == (16_000,)


def test_a_level_comes_each_period():
    assert len(level_of(np.zeros(10 * RATE_HZ), 2.0)) == 5


@pytest.mark.parametrize("offset", [0.5, -0.25, 1e-3])
def test_a_constant_offset_is_no_level(offset):
    (silent,) = level_of(np.full(RATE_HZ, offset))
    assert (silent.rms_dbfs, silent.peak_dbfs) == (SILENCE_DBFS, SILENCE_DBFS)
    quiet = 1e-3 * np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ) / RATE_HZ)
    (level,) = level_of(quiet + offset)
    assert level.rms_dbfs == pytest.approx(-63.01, abs=0.05)
    assert level.peak_dbfs == pytest.approx(-60, abs=0.05)
