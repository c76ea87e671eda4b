"""Learning from spectrograms that were made once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tagger.features.config import FRONT_ENDS
from tagger.features.logmel import front_end
from tests.trainings import HERE, MEL, RECIPE, corpus
from train.fit.stored_spectrograms import Spectrograms, StoredBatches
from train.fit.trainer import TrainingStoppedError

STILL = replace(RECIPE, stored_views=2, gain_db=0.0, roll=0.0, placed=0.0, nothing=1.0, batch=48)
"""Clips as they are, and as many windows of nothing."""


def epoch(mel=MEL, recipe=STILL):
    data = corpus()
    spectrograms = Spectrograms(data, mel, 2, 0, HERE)
    rows = np.arange(len(data.waveforms))
    batches = StoredBatches(spectrograms, data, rows, recipe, 0, HERE)
    return data, spectrograms, *(np.concatenate(part) for part in zip(*batches.epoch(0), strict=True))


def test_clips_that_are_not_changed_are_their_spectrograms():
    data, _, found, targets = epoch()
    expected = front_end(MEL)(torch.from_numpy(data.waveforms.windows))[:24, 0].numpy()
    labelled = found[targets.any(1)]
    assert len(labelled) == len(expected) == 24
    for piece in labelled:
        assert min(np.abs(each - piece).max() for each in expected) < 0.01


def test_background_recordings_are_learnt_as_nothing():
    """Half of the windows of nothing, as where waveforms are learnt from."""
    _, spectrograms, found, targets = epoch()
    recordings = [spectrograms["plain", 0][row] for row in range(24, 28)]
    nothing = found[~targets.any(1)]
    is_recording = [min(np.abs(each - piece).max() for each in recordings) < 0.01 for piece in nothing]
    assert len(nothing) == 24
    assert 6 <= sum(is_recording) <= 18


def test_the_level_of_mfccs_stays_as_it_is():
    mel = replace(FRONT_ENDS["mfcc"], sample_rate_hz=8_000, f_max_hz=3_800.0)
    _, _, found, _ = epoch(mel, replace(STILL, gain_db=10.0))
    _, _, still, _ = epoch(mel, STILL)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, still)


def test_a_level_that_changes_changes_log_mels():
    _, _, found, _ = epoch(recipe=replace(STILL, gain_db=10.0))
    _, _, still, _ = epoch()
    assert np.abs(found - still).max() > 0.1


def test_the_second_run_makes_nothing(capsys):
    epoch()
    assert "spectrograms" in capsys.readouterr().err
    epoch()
    assert "spectrograms" not in capsys.readouterr().err


def test_a_gpu_that_holds_them_gives_the_same_batches(monkeypatch):
    """Its way of making them, on the processor: there is no GPU here."""
    recipe = replace(STILL, gain_db=10.0, roll=0.5, placed=0.5, nothing=0.5, crop_seconds=0.3)
    _, spectrograms, found, targets = epoch(recipe=recipe)
    whole = torch.from_numpy(np.stack([spectrograms[draw] for draw in spectrograms.every]))
    monkeypatch.setattr(Spectrograms, "held", property(lambda self: whole))
    _, _, held, same = epoch(recipe=recipe)
    np.testing.assert_allclose(held, found, atol=1e-5)
    np.testing.assert_array_equal(same, targets)


class Stopped:
    interrupted = True


def test_making_them_ends_when_someone_asks_for_it(home):
    with pytest.raises(TrainingStoppedError):
        Spectrograms(corpus(), MEL, 2, 0, HERE, Stopped())
    assert not list((home / "cache").iterdir())
