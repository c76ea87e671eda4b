import csv
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from train.evaluate import metrics
from train.evaluate.categories import ESC50_CATEGORIES, ESC50_LABELS, OWN_CATEGORY, categories
from train.evaluate.metrics import (
    accuracy,
    accuracy_interval,
    average_precision,
    calibration_error,
    mcnemar,
    per_label,
    reliability,
)
from train.evaluate.predictions import NO_LABEL, Predictions
from train.evaluate.temperature import fit_line, fit_temperature


def predictions(
    scores: Sequence[Sequence[float]] | NDArray[np.floating],
    targets: Sequence[int] | NDArray[np.integer],
    folds: Sequence[int] | None = None,
    labels: tuple[str, ...] | None = None,
    clips: Sequence[str] | None = None,
) -> Predictions:
    values = np.asarray(scores, np.float32)
    n = len(values)
    return Predictions(
        tuple(map(str, range(values.shape[1]))) if labels is None else labels,
        values,
        np.asarray(targets, np.int64),
        tuple(f"clip {i}" for i in range(n)) if clips is None else tuple(clips),
        np.ones(n, np.int64) if folds is None else np.asarray(folds),
    )


def said(truth: Sequence[int], answers: Sequence[int], labels: int = 3, **more) -> Predictions:
    """Predictions that say just that, with a score of 0.9."""
    scores = np.full((len(truth), labels), 0.05)
    scores[np.arange(len(truth)), answers] = 0.9
    return predictions(scores, truth, **more)


@st.composite
def any_predictions(draw, labelled: bool = True) -> Predictions:
    """Predictions with few labels, many equal scores, and background."""
    n, labels = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    score = st.one_of(st.integers(0, 15).map(lambda k: k / 15), st.floats(0, 1, width=32))
    scores = draw(st.lists(st.lists(score, min_size=labels, max_size=labels), min_size=n, max_size=n))
    targets = draw(st.lists(st.integers(NO_LABEL, labels - 1), min_size=n, max_size=n))
    if labelled:
        targets[0] = max(0, targets[0])
    return predictions(scores, targets, draw(st.lists(st.integers(1, 5), min_size=n, max_size=n)))


def softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


# The parts of the metrics


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": np.zeros((2, 2))},
        {"targets": np.zeros(2, int)},
        {"folds": np.zeros(4, int)},
        {"clips": ("a", "b")},
        {"targets": np.array([0, 1, 3])},
        {"targets": np.array([0, 1, -2])},
        {"scores": np.full((3, 3), 1.5)},
        {"scores": np.full((3, 3), -0.1)},
        {"scores": np.full((3, 3), np.nan)},
    ],
)
def test_predictions_that_do_not_fit(wrong):
    fine = {
        "labels": ("a", "b", "c"),
        "scores": np.zeros((3, 3), np.float32),
        "targets": np.zeros(3, int),
        "clips": ("x", "y", "z"),
        "folds": np.zeros(3, int),
    }
    Predictions(**fine)
    with pytest.raises(ValueError, match=r"must be|do not go with"):
        Predictions(**fine | wrong)


def test_no_labels():
    with pytest.raises(ValueError, match="labels"):
        predictions(np.zeros((1, 0)), [-1])


@given(any_predictions(), st.lists(st.integers(1, 5), max_size=3, unique=True))
def test_joined_folds_are_the_whole(p, apart):
    parts = [p.of_fold(fold) for fold in apart] + [p.only(~np.isin(p.folds, apart))]
    whole = Predictions.joined(parts)
    assert sorted(whole.clips) == sorted(p.clips)
    order = np.argsort([p.clips.index(clip) for clip in whole.clips])
    for field in ("scores", "targets", "folds"):
        assert np.array_equal(getattr(whole, field)[order], getattr(p, field))
    assert accuracy(whole) == pytest.approx(accuracy(p))


def test_only_the_same_labels_are_joined():
    with pytest.raises(ValueError, match="same labels"):
        Predictions.joined([said([0], [0], labels=2), said([0], [0], labels=3)])
    with pytest.raises(ValueError, match="same labels"):
        Predictions.joined([])


# Accuracy


def test_accuracy_by_hand():
    p = said([0, 0, 1, 2, NO_LABEL], [0, 1, 1, 2, 0], folds=[1, 1, 2, 2, 2])
    assert accuracy(p) == 0.75
    assert metrics.accuracy_by_fold(p) == {1: 0.5, 2: 1.0}
    assert metrics.mean_and_std([0.5, 1.0]) == (0.75, pytest.approx(0.125**0.5))


def test_a_fold_of_background_alone_has_no_accuracy():
    assert metrics.accuracy_by_fold(said([0, NO_LABEL], [0, 0], folds=[1, 2])) == {1: 1.0}


@pytest.mark.parametrize("function", [accuracy, calibration_error, reliability, accuracy_interval])
def test_nothing_to_average(function):
    with pytest.raises(ValueError, match="no clip of a label"):
        function(said([NO_LABEL], [0]))


# Confidence intervals


@given(any_predictions(), st.integers(0, 3))
def test_the_interval_holds_the_accuracy(p, seed):
    low, high = accuracy_interval(p, seed, draws=2000)
    assert 0 <= low <= accuracy(p) <= high <= 1
    assert accuracy_interval(p, seed, draws=2000) == (low, high)


def test_the_interval_of_independent_clips_is_the_binomial_one():
    p = said([0] * 400, [0] * 372 + [1] * 28)
    low, high = accuracy_interval(p)
    spread = 1.96 * (0.93 * 0.07 / 400) ** 0.5
    assert low == pytest.approx(0.93 - spread, abs=0.006)
    assert high == pytest.approx(0.93 + spread, abs=0.006)


def test_clips_of_one_recording_are_no_independent_evidence():
    answers = [0] * 300 + [1] * 100
    apart = accuracy_interval(said([0] * 400, answers, clips=[f"1-{i}-A-0.wav" for i in range(400)]))
    together = accuracy_interval(said([0] * 400, answers, clips=[f"1-{i // 4}-{'ABCD'[i % 4]}-0" for i in range(400)]))
    assert together[1] - together[0] == pytest.approx(2 * (apart[1] - apart[0]), rel=0.1)


@pytest.mark.parametrize("n", [1, 5, 100])
def test_a_few_clips_that_are_all_right_do_not_make_it_sure(n):
    low, high = accuracy_interval(said([0] * n, [0] * n))
    assert high == 1
    assert low**n == pytest.approx(0.025)  # a system at the lower limit has all n right in 2.5 % of cases
    assert accuracy_interval(said([0] * n, [1] * n)) == (0.0, pytest.approx(1 - low))


def test_the_interval_covers():
    """A system is right 80 % of the time. About 95 % of 200 samples give an interval that holds 0.8."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = accuracy_interval(said([0] * 150, (rng.random(150) > 0.8).astype(int)), draws=1000)
        covered += low <= 0.8 <= high
    assert 0.9 <= covered / 200 <= 0.99


# Calibration


def slow_calibration_error(p: Predictions, bins: int) -> float:
    """The formula in the paper: bins ((m - 1) / M, m / M]."""
    rows = [(float(max(row)), int(np.argmax(row)) == t) for row, t in zip(p.scores, p.targets, strict=True) if t >= 0]
    error = 0.0
    for m in range(1, bins + 1):
        inside = [(c, r) for c, r in rows if (m - 1) / bins < c <= m / bins or (m == 1 and c == 0)]
        if inside:
            error += abs(sum(r for _, r in inside) - sum(c for c, _ in inside)) / len(rows)
    return error


@given(any_predictions(), st.integers(1, 20))
def test_calibration_error_against_a_slow_one(p, bins):
    assert calibration_error(p, bins) == pytest.approx(slow_calibration_error(p, bins), abs=1e-9)


@given(any_predictions(), st.integers(1, 20))
def test_bins_hold_each_clip_once(p, bins):
    found = reliability(p, bins)
    n = len(p.known.clips)
    assert sum(each.count for each in found) == n
    assert sum(each.count * each.accuracy for each in found) / n == pytest.approx(accuracy(p))
    assert sum(each.count * each.confidence for each in found) / n == pytest.approx(float(p.known.confidence.mean()))
    for each in found:
        assert each.count > 0
        assert each.low <= each.confidence <= each.high + 1e-6
    assert [each.low for each in found] == sorted({each.low for each in found})


def test_of_what_is_as_often_right_as_it_says_the_error_is_0():
    confidences = [k / 20 for k in range(11, 20)]  # each by 20 clips, of which that share is right
    scores = [[c, 1 - c] for c in confidences for _ in range(20)]
    targets = [0 if i < round(20 * c) else 1 for c in confidences for i in range(20)]
    assert calibration_error(predictions(scores, targets)) == pytest.approx(0, abs=1e-6)


def test_always_sure_and_right_half_of_the_time():
    p = predictions([[1.0, 0.0]] * 10, [0, 1] * 5)
    assert calibration_error(p) == 0.5
    assert reliability(p) == (metrics.Bin(14 / 15, 1.0, 10, 1.0, 0.5),)


# Temperature


def drawn(n: int, temperature: float, activation: str, seed: int) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    """Logits, and targets drawn with the probabilities that these mean at a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 6))
    if activation == "softmax":
        share = softmax(logits / temperature)
        return logits, (share.cumsum(1) < rng.random((n, 1))).sum(1)
    logits += 2 - logits.max(1, keepdims=True) + rng.normal(0, 2, (n, 1))
    right = rng.random(n) < 1 / (1 + np.exp(-logits.max(1) / temperature))
    return logits, np.where(right, logits.argmax(1), logits.argmin(1))


@settings(max_examples=10)
@given(st.floats(0.3, 5), st.sampled_from(["softmax", "sigmoid"]), st.integers(0, 100))
def test_a_known_temperature_is_found(temperature, activation, seed):
    logits, targets = drawn(20_000, temperature, activation, seed)
    assert fit_temperature(logits, targets, activation) == pytest.approx(temperature, rel=0.12)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_calibration_is_better_at_the_temperature(activation):
    logits, targets = drawn(4000, 3.0, activation, 0)
    found = fit_temperature(logits, targets, activation)

    def error(temperature: float) -> float:
        z = logits / temperature
        return calibration_error(predictions(softmax(z) if activation == "softmax" else 1 / (1 + np.exp(-z)), targets))

    assert error(found) < 0.03
    assert error(1) > 0.1


def loss(logits, targets, activation, temperature):
    z = logits / temperature
    if activation == "softmax":
        return -np.log(softmax(z)[np.arange(len(z)), targets]).mean()
    score = 1 / (1 + np.exp(-z.max(1)))
    return -np.log(np.where(z.argmax(1) == targets, score, 1 - score)).mean()


@given(st.integers(0, 1000), st.sampled_from(["softmax", "sigmoid"]), st.floats(0.5, 10))
def test_no_other_temperature_is_better(seed, activation, other):
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(0, 2, (12, 3)), rng.integers(0, 3, 12)
    found = fit_temperature(logits, targets, activation)
    assert 0.05 - 1e-9 <= found <= 20 + 1e-9
    assert loss(logits, targets, activation, found) <= loss(logits, targets, activation, other) + 1e-9


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_background_does_not_move_the_temperature(activation):
    logits, targets = drawn(200, 2.0, activation, 1)
    more = np.concatenate([logits, np.full((50, 6), 9.0)]), np.concatenate([targets, np.full(50, NO_LABEL)])
    assert fit_temperature(*more, activation) == fit_temperature(logits, targets, activation)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_temperatures_are_bounded(activation):
    all_right, all_wrong = np.array([0, 0]), np.array([1, 1])
    logits = np.array([[4.0, 1.0], [9.0, 2.0]], np.float32)
    assert fit_temperature(logits, all_right, activation) == pytest.approx(0.05)
    assert fit_temperature(logits, all_wrong, activation) == pytest.approx(20)
    assert fit_temperature(np.zeros((2, 2)), all_right, activation) == 1  # where all are as good


def test_huge_logits_make_no_overflow():
    assert fit_temperature(np.array([[1e4, -1e4], [1e4, -1e4]]), np.array([0, 1]), "softmax") == pytest.approx(20)


def test_a_temperature_of_nothing():
    with pytest.raises(ValueError, match="clips of a label"):
        fit_temperature(np.zeros((2, 2)), np.array([NO_LABEL, NO_LABEL]), "softmax")


# Labels, categories, confusions


@given(any_predictions(labelled=False))
def test_confusion_sums(p):
    counts = metrics.confusion(p)
    assert counts.shape == (len(p.labels), len(p.labels))
    assert counts.sum(1).tolist() == [int((p.targets == i).sum()) for i in range(len(p.labels))]
    assert counts.trace() == p.right.sum()
    assert counts.sum() - counts.trace() == sum(each.count for each in metrics.most_confused(p, 100))


def test_per_label_by_hand():
    first, second, third, fourth = per_label(said([0, 0, 0, 1, NO_LABEL], [0, 0, 1, 1, 2], labels=4))
    assert (first.support, first.right, first.precision, first.recall) == (3, 2, 1.0, pytest.approx(2 / 3))
    assert first.f1 == pytest.approx(0.8)
    assert (second.support, second.right, second.precision, second.recall) == (1, 1, 0.5, 1.0)
    assert (third.precision, third.recall, third.f1, third.average_precision) == (None, None, None, None)
    assert (fourth.label, fourth.support) == ("3", 0)


@given(any_predictions())
def test_labels_agree_with_the_whole(p):
    found = per_label(p)
    assert sum(each.right for each in found) == p.right.sum()
    for each in found:
        assert (each.recall is None) == (each.average_precision is None) == (each.support == 0)
        if each.precision and each.recall:
            harmonic = 2 * each.precision * each.recall / (each.precision + each.recall)
            assert each.f1 == pytest.approx(harmonic)


def test_average_precision_by_hand():
    # Right, wrong, right, wrong: precision is 1 at the first that is right and 2/3 at the second.
    scores = np.array([0.9, 0.8, 0.7, 0.1], np.float32)
    assert average_precision(scores, np.array([True, False, True, False])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, np.array([False] * 4)) is None
    assert average_precision(np.full(4, 0.5, np.float32), np.array([True, False, False, False])) == 0.25


@given(any_predictions())
def test_average_precision_against_a_slow_one(p):
    scores, positive = p.scores[:, 0], p.targets == 0
    if not positive.any():
        return
    total = 0.0
    for score in scores[positive]:  # each positive finds those that score as much or more
        total += positive[scores >= score].sum() / (scores >= score).sum()
    assert average_precision(scores, positive) == pytest.approx(total / positive.sum())


def test_most_confused():
    p = said([0, 0, 1, 2, 2, 2], [1, 1, 2, 0, 0, 2], clips="abcdef")
    pairs = metrics.most_confused(p)
    assert pairs == (
        metrics.Confused("0", "1", 2, ("a", "b")),
        metrics.Confused("2", "0", 2, ("d", "e")),
        metrics.Confused("1", "2", 1, ("c",)),
    )
    assert metrics.most_confused(p, 1) == pairs[:1]
    assert metrics.most_confused(said([0], [0])) == ()


def test_categories():
    official = categories(ESC50_LABELS)
    assert [len(list(group)) for _, group in itertools.groupby(official)] == [10] * 5
    assert categories((*ESC50_LABELS, "doorbell")) == (*official, OWN_CATEGORY)
    assert categories(ESC50_LABELS[::-1]) == (OWN_CATEGORY,) * 50
    assert categories(("dog", "doorbell")) == (OWN_CATEGORY,) * 2


def test_the_official_labels(shared):
    with (shared / "data" / "esc50" / "meta" / "esc50.csv").open() as file:
        names = {int(row["target"]): row["category"] for row in csv.DictReader(file)}
    assert tuple(names[i] for i in range(50)) == ESC50_LABELS


def test_per_category_by_hand():
    # A dog is taken for a rooster (another animal), another one a siren; rain is right.
    siren, rain = ESC50_LABELS.index("siren"), ESC50_LABELS.index("rain")
    p = said([0, 0, rain, NO_LABEL], [1, siren, rain, 0], labels=50)
    p = Predictions(ESC50_LABELS, p.scores, p.targets, p.clips, p.folds)
    animals, nature = list(ESC50_CATEGORIES)[:2]
    assert metrics.per_category(p) == (
        metrics.Category(animals, 10, 2, 0.0, 0.5),
        metrics.Category(nature, 10, 1, 1.0, 1.0),
    )


# Two systems


def test_mcnemar_by_hand():
    # Eight clips that only the second has right, one that only the first has: 2 * (1 + 9) / 2**9.
    truth = [0] * 20
    p = said(truth, [1] * 8 + [0] + [0] * 11)
    q = said(truth, [0] * 8 + [1] + [0] * 11)
    assert mcnemar(p, q) == metrics.McNemar(1, 8, pytest.approx(20 / 512))
    assert mcnemar(q, p) == metrics.McNemar(8, 1, pytest.approx(20 / 512))
    assert mcnemar(p, p) == metrics.McNemar(0, 0, 1.0)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_a_probability(b, c):
    p = said([0] * 121, [0] * b + [1] * c + [0] * (121 - b - c))
    q = said([0] * 121, [1] * b + [0] * c + [0] * (121 - b - c))
    found = mcnemar(p, q)
    assert (found.only_first, found.only_second) == (b, c)
    assert 0 < found.p_value <= 1


def test_mcnemar_pairs_clips_by_name():
    p = said([0, 1, 2], [0, 0, 2], clips="abc")
    q = said([2, 1, 0], [2, 1, 1], clips="cba")
    assert mcnemar(p, q) == metrics.McNemar(1, 1, 1.0)


@pytest.mark.parametrize(
    "other",
    [
        said([0, 1], [0, 1], clips="ac"),
        said([0, 1, 1], [0, 1, 1], clips="abc"),
        said([0, 2], [0, 1], clips="ab"),
    ],
)
def test_mcnemar_of_other_clips(other):
    with pytest.raises(ValueError, match="same clips"):
        mcnemar(said([0, 1], [0, 1], clips="ab"), other)


def test_mcnemar_of_a_clip_twice():
    p = said([0, 0], [0, 1], clips="aa")
    with pytest.raises(ValueError, match="twice"):
        mcnemar(p, p)


def test_a_line_makes_modest_scores_as_often_right_as_they_say():
    rng = np.random.default_rng(3)
    top = rng.uniform(-4, 5, 20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-(0.6 * top + 1.5)))
    logits = np.full((20_000, 3), -20.0)
    logits[:, 0] = top
    targets = np.where(right, 0, 1)
    temperature, bias = fit_line(logits, targets)
    assert 1 / temperature == pytest.approx(0.6, abs=0.03)
    assert bias == pytest.approx(1.5, abs=0.06)


@pytest.mark.parametrize("right", [True, False])
def test_a_line_from_a_few_clips_changes_little(right):
    logits = np.array([[3.0, -3.0], [2.0, -2.0]])
    temperature, bias = fit_line(logits, np.array([0, 0] if right else [1, 1]))
    assert 0.3 < temperature < 20
    assert -2 < bias < 2


def test_a_line_needs_clips_of_a_label():
    with pytest.raises(ValueError, match="clips of a label"):
        fit_line(np.zeros((2, 3)), np.array([NO_LABEL] * 2))
