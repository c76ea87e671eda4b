import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.checkpoints.opinion import Opinion, read_classes, read_constants
from tagger.checkpoints.release import audioset_labels
from tagger.errors import CheckpointError

CLASSES = ("Dog", "Cat", "Meow", "Blender")
MEANS = (("Dog",), ("Cat", "Meow"))
"""Two labels; the last class means neither."""
OPINION = Opinion(CLASSES, MEANS, (-4.0, -4.0, -6.0, -5.0), (1.0, 2.0, 1.0, 1.0), own=1.0, other=2.0)


def test_a_doubt_is_what_is_heard_less_what_is_more_surprising():
    doubt, _ = OPINION.doubt(np.array([[-2.0, -4.0, -5.0, 0.0]]))  # in spreads from the mean: 2, 0, 1, 5
    np.testing.assert_allclose(doubt, [[-2 - 2 * (5 - 2), -4 - 2 * (5 - 1)]])


def test_nothing_is_more_surprising_than_a_label_that_is_surely_heard():
    np.testing.assert_allclose(OPINION.doubt(np.array([[3.0, -4.0, -6.0, -5.0]]))[0][:, 0], [3.0])


def test_the_highest_labels_doubt_moves_all_labels_and_each_its_own_a_little():
    logits, audioset = np.array([[1.0, 0.0]]), np.array([[-2.0, -4.0, -5.0, 0.0]])
    np.testing.assert_allclose(OPINION(logits, audioset), [[1 - 0.8 - 4, 0 - 1.2 - 4]])


def test_the_ranking_can_change():
    audioset = np.array([[-8.0, 2.0, -6.0, -5.0]])  # surely the second label's
    assert OPINION(np.array([[0.3, 0.0]]), audioset).argmax() == 1


def test_what_is_surely_heard_raises_its_label_alone():
    audioset = np.array([[-1.0, -4.0, -6.0, -5.0]])  # 3 spreads above the first label's mean
    sure = replace(OPINION, rank=0.0, common=0.0, strong=2.0, strong_from=1.0)
    np.testing.assert_allclose(sure(np.array([[0.5, 0.5]]), audioset), [[0.5 + 2 * (3 - 1), 0.5]])


def test_labels_beside_the_highest_must_be_surer():
    alone = replace(OPINION, rank=0.0, common=0.0, beside=1.5)
    logits = np.array([[0.5, 2.0], [0.4, 0.3]])
    np.testing.assert_allclose(alone(logits, np.zeros((2, 4))), [[-1.0, 2.0], [0.4, -1.2]])


def test_a_second_head_has_a_share_in_the_logits():
    half = replace(OPINION, rank=0.0, common=0.0, share=0.25)
    logits, second = np.array([[4.0, -2.0]]), np.array([[0.0, 6.0]])
    np.testing.assert_allclose(half(logits, np.zeros((1, 4)), second), [[3.0, 0.0]])


def test_a_bias_may_be_each_labels_own():
    plain = replace(OPINION, rank=0.0, common=0.0, bias=(1.0, -2.0))
    np.testing.assert_allclose(plain(np.zeros((1, 2)), np.zeros((1, 4))), [[1.0, -2.0]])
    assert Opinion.from_document(json.loads(json.dumps(plain.to_document()))) == plain


@pytest.mark.parametrize(("column", "sign"), [(0, 1), (3, -1)])
def test_own_classes_raise_a_label_and_others_lower_it(column: int, sign: int):
    audioset = np.full((20, 4), -5.0)
    audioset[:, column] = np.linspace(-8, 8, 20)
    scores = OPINION(np.tile([9.0, 0.0], (20, 1)), audioset)[:, 0]  # the first label stays the highest
    assert (sign * np.diff(scores) >= 0).all()
    assert sign * (scores[-1] - scores[0]) > 1


def test_the_most_surprising_class_is_named_unless_it_means_the_label_itself():
    windows = np.array([[-2.0, -4.0, -5.0, 0.0], [-2.0, 8.0, -6.0, -5.0]])
    assert OPINION.rather(windows, ("dog", "cat")) == ("Blender", ("cat", ""))


def test_it_is_the_same_after_a_journey_through_json():
    assert Opinion.from_document(json.loads(json.dumps(OPINION.to_document()))) == OPINION


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mean": (0.0,)}, "one mean and one spread"),
        ({"classes": ("Dog", "Cat", "Meow", "Dog")}, "all different"),
        ({"means": (("Dog",), ())}, "none or unknown"),
        ({"means": (("Dog",), ("Wolf",))}, "Wolf"),
        ({"own": -1.0}, "own"),
        ({"share": 1.5}, "share"),
        ({"smoothing": 1.5}, "smoothing"),
        ({"bias": 1e5}, "bias"),
        ({"bias": (1.0,)}, "1 bias for"),
        ({"mean": (0.0, float("nan"), 0.0, 0.0)}, "mean"),
        ({"spread": (1.0, 1.0, 1.0, 0.0)}, "spread"),
    ],
)
def test_what_cannot_be_used_is_refused(change: dict[str, Any], why: str):
    with pytest.raises(ValueError, match=why):
        replace(OPINION, **change)


def test_a_document_with_a_field_of_a_later_version_is_refused():
    with pytest.raises(ValueError, match="unknown: temper"):
        Opinion.from_document({**OPINION.to_document(), "temper": 1})


def test_every_label_of_the_table_has_classes_of_audioset():
    table = read_classes()
    assert len(table) == 50
    assert all(classes and set(classes) <= set(audioset_labels()) for classes in table.values())


def test_the_constants_fit_audioset():
    constants = read_constants()
    for usual in constants["usual"].values():
        Opinion(audioset_labels(), (("Dog",),), tuple(usual["mean"]), tuple(usual["spread"]), **constants["weights"])


def test_a_table_without_its_columns_is_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_text("sound,classes\ncat,Cat\n")
    with pytest.raises(CheckpointError, match="columns label and classes"):
        read_classes(tmp_path / "a.csv")
