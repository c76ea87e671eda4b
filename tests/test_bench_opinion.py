"""`bench/opinion.py`: what it makes of outputs that the test writes."""

from pathlib import Path

import numpy as np
import pytest

from bench import opinion as bench
from tagger.checkpoints.info import read_info
from tagger.checkpoints.release import audioset_labels
from tagger.errors import UserError
from tests.programs import ROOT
from train.evaluate.trust import Recording

LABELS = read_info(ROOT / "tagger" / "checkpoints" / "esc50.safetensors").labels
CLASSES = audioset_labels()


@pytest.fixture
def material() -> bench.Material:
    rng = np.random.default_rng(0)
    truth = np.arange(100) % 50
    clips = rng.normal(-4, 1, (100, 50))
    clips[np.arange(100), truth] = 3
    return bench.Material(LABELS, [], clips, rng.normal(-5, 1, (100, 527)), truth)


def outputs(label: str, heard: str, windows: int = 4) -> bench.Outputs:
    """Windows that the label network takes for `label`, and AudioSet's for `heard`."""
    logits, audioset = np.full((windows, 50), -4.0), np.full((windows, 527), -6.0)
    logits[:, LABELS.index(label)], audioset[:, CLASSES.index(heard)] = 2.0, 2.0
    steps = np.full((windows, 16, 50), -4.0)
    steps[:, :, LABELS.index(label)] = 4.0
    starts = 0.5 * np.arange(windows)
    return bench.Outputs(logits, steps, audioset, logits, np.stack([starts, starts + 5], 1))


def test_the_neutral_bias_keeps_the_median_of_the_clips_that_are_right(material: bench.Material):
    opinion = material.neutral(material.opinion(**bench.CHOSEN))
    assert material.accuracy(opinion) > 0.9
    rows = np.arange(100)
    before, after = (
        material.clips[rows, material.truth],
        opinion(material.clips, material.audioset)[rows, material.truth],
    )
    assert np.median(before - after) == pytest.approx(0, abs=0.1)


def test_a_blender_is_no_vacuum_cleaner_any_more(material: bench.Material):
    some = [
        (Recording(Path("a.wav"), "vacuum_cleaner"), outputs("vacuum_cleaner", "Vacuum cleaner")),
        (Recording(Path("b.wav"), "other_home"), outputs("vacuum_cleaner", "Blender")),
    ]
    (_, alone, usual), (_, both, chosen) = bench.systems(material, "esc50")
    rows = bench.heard(material, some, alone, "esc50", usual)
    assert [heard.events for _, heard in rows] == [("vacuum_cleaner",), ("vacuum_cleaner",)]
    rows = bench.heard(material, some, both, "esc50", chosen)
    assert [heard.events for _, heard in rows] == [("vacuum_cleaner",), ()]
    assert "alarmed 0.000  AUROC 1.000  passing 0 / 0 / 0 %" in bench.line(rows)


def test_what_was_never_heard_is_asked_for(tmp_path: Path):
    with pytest.raises(UserError, match="`hear` first"):
        bench.Outputs.read(tmp_path / "a.npz")


def test_a_mean_over_windows_is_of_scores_and_of_what_was_heard_so_far():
    heard = outputs("dog", "Dog", windows=3)
    heard.logits[:, 0] = [0.0, np.log(3), np.log(9)]  # scores of 0.5, 0.75 and 0.9
    found = bench.sigmoid(bench.lasting(bench.alone, 2)(heard))
    assert found[:, 0] == pytest.approx([0.5, 0.625, 0.825])
