"""Columns of a spectrogram: what the network's front end makes of the same sound, whatever the blocks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tagger.events import Block
from tagger.features.config import FRONT_ENDS, MelConfig
from tagger.features.frames import FrontEnd
from tagger.web.columns import RANGE_DB, Columns, shown_config
from tests.web.pages import RATE_HZ, tone

NOISE = np.random.default_rng(1).normal(0, 0.1, 3 * RATE_HZ).astype(np.float32)


def blocks(samples: np.ndarray, size: int) -> list[Block]:
    return [Block(samples[at : at + size], 50 + at / RATE_HZ) for at in range(0, len(samples), size)]


@pytest.mark.parametrize("size", [137, 1_600, 20_000])
def test_columns_are_those_of_the_front_end_however_the_sound_was_cut(size: int) -> None:
    columns = Columns(MelConfig())
    strips = [strip for block in blocks(NOISE, size) if (strip := columns.add([block])) is not None]
    found = np.concatenate([strip.columns for strip in strips])
    config = shown_config(MelConfig())
    decibels = 10 / np.log(10) * (FrontEnd(config)(NOISE[None])[0, 0] - np.log(config.log_offset))
    wanted = np.clip(255 / RANGE_DB * decibels, 0, 255).T
    first = round((strips[0].time - 50) / columns.step_s)
    assert 0 < first < 3
    assert len(found) > 140
    assert np.abs(found - np.floor(wanted[first : first + len(found)])).max() <= 1
    for one, other in itertools.pairwise(strips):
        assert other.time == pytest.approx(one.time + len(one.columns) * columns.step_s, abs=1e-6)


def test_a_tone_is_in_its_band_and_at_its_time() -> None:
    columns = Columns(MelConfig())
    strip = columns.add([Block(np.zeros(RATE_HZ, np.float32), 10.0), tone(0.5, 2000, 11.0)])
    assert strip is not None
    assert abs(strip.columns[-1].argmax() - columns.config.band_at(2000)) <= 1
    heard = strip.columns.max(1) > 128
    assert strip.time + heard.argmax() * columns.step_s == pytest.approx(11.0, abs=0.04)


def test_nothing_is_joined_across_a_gap() -> None:
    columns = Columns(MelConfig())
    assert columns.add([tone(0.5, 300, 0.0)]) is not None
    strip = columns.add([replace(tone(0.5, 300, 60.0), gap=True)])
    assert strip is not None
    assert strip.time >= 60


def test_sound_that_comes_faster_than_it_is_shown_is_left_out() -> None:
    strip = Columns(MelConfig()).add([tone(1.0, 300, float(at)) for at in range(10)])
    assert strip is not None
    assert len(strip.columns) <= 100
    assert strip.time > 7.9


def test_coefficients_are_shown_as_the_spectrogram_they_are_made_of() -> None:
    columns = Columns(FRONT_ENDS["mfcc"])
    assert (type(columns.config), columns.bands) == (MelConfig, 128)


def test_bands_that_the_model_does_not_hear_are_left_out() -> None:
    columns = Columns(MelConfig(bandwidth_hz=8_000))
    strip = columns.add([tone(0.5, 7_000, 0.0)])
    assert strip is not None
    assert strip.columns.shape[1] == columns.bands < 128
    assert abs(int(strip.columns[-1].argmax()) - columns.config.band_at(7_000)) <= 1
