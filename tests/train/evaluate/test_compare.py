import csv
import json

import numpy as np
import pytest

from train.evaluate import compare
from train.evaluate.predictions import Predictions

LABELS = ("dog", "rain", "bell")


def predictions(rights: list[bool], labels: tuple[str, ...] = LABELS, clips: list[str] | None = None) -> Predictions:
    """Clips of labels in turn, each right or wrong as it is said."""
    targets = np.arange(len(rights)) % len(LABELS)
    names = [LABELS[target] for target in targets]
    own = np.array([labels.index(name) for name in names])
    scores = np.full((len(rights), len(labels)), 0.1, np.float32)
    for row, right in enumerate(rights):
        scores[row, own[row] if right else (own[row] + 1) % len(labels)] = 0.9
    clips = clips or [f"{row}.wav" for row in range(len(rights))]
    return Predictions(labels, scores, own, tuple(clips), 1 + np.arange(len(rights)) % 2)


FIRST = [True] * 80 + [False] * 20
SECOND = [False] * 5 + [True] * 95


def test_a_difference_counts_only_the_clips_that_tell_the_models_apart():
    found = compare.difference(predictions(FIRST), predictions(SECOND))
    assert (found.only_first, found.only_second) == (5, 20)
    assert found.accuracy == pytest.approx(0.15)
    # Exact: 2 * sum of binomial(25, k) for k up to 5, over 2 ** 25.
    assert found.p_value == pytest.approx(0.0040773, rel=1e-4)
    low, high = found.interval
    # Of the normal approximation: 0.15 +- 1.96 * sqrt((0.25 - 0.0225) / 100).
    assert (low, high) == pytest.approx((0.0565, 0.2435), abs=0.015)


def test_clips_are_paired_by_name_whatever_their_order_and_the_labels_order():
    names = [f"{row}.wav" for row in range(100)]
    p, q = predictions(FIRST), predictions(SECOND, ("bell", "dog", "rain", "kettle"), names)
    shuffled = np.random.default_rng(0).permutation(100)
    mixed = Predictions(
        q.labels, q.scores[shuffled], q.targets[shuffled], tuple(names[i] for i in shuffled), q.folds[shuffled]
    )
    assert compare.difference(p, mixed) == compare.difference(p, predictions(SECOND))


def test_clips_of_one_recording_are_drawn_together():
    alone = compare.paired_interval(predictions(FIRST), predictions(SECOND))
    cut = [f"file{row // 5}.wav@{row % 5}" for row in range(100)]
    together = compare.paired_interval(predictions(FIRST, clips=cut), predictions(SECOND, clips=cut))
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


@pytest.mark.parametrize("count", [1, 5, 40])
def test_models_that_never_differ_may_differ_elsewhere(count):
    low, high = compare.paired_interval(predictions([True] * count), predictions([True] * count))
    assert -low == high == pytest.approx(1 - 0.025 ** (1 / count))


def test_models_that_always_differ_may_differ_less_elsewhere():
    low, high = compare.paired_interval(predictions([False] * 5), predictions([True] * 5))
    assert high == 1.0
    assert low == pytest.approx(1 - 2 * (1 - 0.025**0.2))


def test_the_table_has_a_row_for_each_model_and_files_have_the_rest(tmp_path):
    models = {"runs/a": predictions(FIRST), "runs/b": predictions(SECOND), "c|d": predictions(FIRST)}
    compare.write(tmp_path, "Comparison", models, ["a mark"], {"command": "tagger eval"})
    header, *rows = compare.rows(models)
    assert header[-1] == "against runs/a"
    assert [row[0] for row in rows] == list(models)
    assert [row[1] for row in rows] == ["80.00 %", "95.00 %", "80.00 %"]
    assert rows[0][-1] == ""
    assert rows[1][-1].startswith("+15.00 points (+")
    assert rows[1][-1].endswith("p 0.004: 20 clips gained, 5 lost")
    assert rows[2][-1].endswith("p 1.00: 0 clips gained, 0 lost")
    text = (tmp_path / "comparison.md").read_text("utf-8")
    assert "**WARNING: a mark**" in text
    assert "paired bootstrap over the 100 recordings" in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("| runs/")} == {6, 4}
    document = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    assert document["models"]["runs/b"]["against_first"]["only_second"] == 20
    assert document["models"]["runs/a"]["against_first"] is None
    with (tmp_path / "comparison.csv").open(newline="") as file:
        clips = list(csv.DictReader(file))
    assert len(clips) == 100
    assert sum(row["right: runs/b"] == "1" for row in clips) == 95
    assert [len(line) for line in compare.aligned([["a", "bb"], ["ccc", ""]])] == [8, 3]
