from pathlib import Path

import numpy as np
import pytest

from tagger.checkpoints.release import audioset_labels
from tagger.errors import UserError
from tests.programs import ROOT
from train.evaluate.opinion import Opinion, read_classes

MEANS = np.array([[True, False, False, False], [False, True, True, False]])
"""Two labels, four classes; the last means neither."""
OPINION = Opinion(MEANS, np.array([-4.0, -4.0, -6.0, -5.0]), np.array([1.0, 2.0, 1.0, 1.0]), own=1.0, other=2.0)


def test_a_doubt_is_what_is_heard_less_what_is_more_surprising():
    doubt = OPINION.doubt(np.array([[-2.0, -4.0, -5.0, 0.0]]))  # in spreads from the mean: 2, 0, 1, 5
    np.testing.assert_allclose(doubt, [[-2 - 2 * (5 - 2), -4 - 2 * (5 - 1)]])


def test_nothing_is_more_surprising_than_a_label_that_is_surely_heard():
    np.testing.assert_allclose(OPINION.doubt(np.array([[3.0, -4.0, -6.0, -5.0]]))[:, 0], [3.0])


def test_the_highest_labels_doubt_moves_all_labels_and_each_its_own_a_little():
    logits, audioset = np.array([[1.0, 0.0]]), np.array([[-2.0, -4.0, -5.0, 0.0]])
    np.testing.assert_allclose(OPINION(logits, audioset), [[1 - 0.8 - 4, 0 - 1.2 - 4]])


def test_the_ranking_can_change():
    audioset = np.array([[-8.0, 2.0, -6.0, -5.0]])  # surely the second label's
    assert OPINION(np.array([[0.3, 0.0]]), audioset).argmax() == 1


@pytest.mark.parametrize(("column", "sign"), [(0, 1), (3, -1)])
def test_own_classes_raise_a_label_and_others_lower_it(column: int, sign: int):
    audioset = np.full((20, 4), -5.0)
    audioset[:, column] = np.linspace(-8, 8, 20)
    scores = OPINION(np.tile([9.0, 0.0], (20, 1)), audioset)[:, 0]  # the first label stays the highest
    assert (sign * np.diff(scores) >= 0).all()
    assert sign * (scores[-1] - scores[0]) > 1


def test_the_most_surprising_class_has_a_name():
    assert OPINION.rather(np.array([[-2.0, -4.0, -5.0, 0.0]]), ("a", "b", "c", "Blender")) == ["Blender"]


def test_every_label_of_the_table_has_classes_of_audioset():
    labels = [line.split(",")[0] for line in (ROOT / "bench" / "opinion.csv").read_text().splitlines()[1:]]
    means = read_classes(ROOT / "bench" / "opinion.csv", labels, audioset_labels())
    assert len(labels) == 50
    assert means.any(1).all()


@pytest.mark.parametrize(
    ("text", "why"), [("label,classes\ncat,Cat\n", "no classes"), ("label,classes\ndog,Wolf\n", "none of")]
)
def test_a_table_that_lacks_a_label_or_has_another_class_is_a_mistake(text: str, why: str, tmp_path: Path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=why):
        read_classes(tmp_path / "a.csv", ["dog"], ["Cat", "Dog"])
