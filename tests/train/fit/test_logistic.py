import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from train.fit.logistic import LinearHead, best_threshold, cross_entropy, fit, fit_start


def clusters(labels: int, each: int = 20, features: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Well-separated groups of points, one a label, and one more that is none of them."""
    generator = torch.Generator().manual_seed(seed)
    centres = 20 * torch.randn(labels + 1, features, generator=generator)
    numbers = torch.arange(labels + 1).repeat_interleave(each)
    points = centres[numbers] + torch.randn(len(numbers), features, generator=generator)
    return points, torch.nn.functional.one_hot(numbers, labels + 1)[:, :labels].float()


def overlapping(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points that no plane separates, in features of very different scales."""
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(80, 2, generator=generator) < 0.3).float()
    points = torch.randn(80, 4, generator=generator)
    points[:, :2] += targets
    return points * torch.tensor([1.0, 100.0, 0.01, 1.0]) + torch.tensor([0.0, 500.0, 3.0, -7.0]), targets


def objective(head: LinearHead, features: Tensor, targets: Tensor, l2: float, activation: str) -> float:
    """The loss that `fit` minimises, in double precision, at the head that it returned."""
    spread = features.double().std(0) + 1e-3
    logits = LinearHead(head.weight.double(), head.bias.double()).logits(features.double())
    data = cross_entropy(logits, targets.double(), activation)
    return float(data + l2 * (head.weight.double() * spread).square().sum())


def scores(logits: Tensor, activation: str) -> Tensor:
    return logits.softmax(1) if activation == "softmax" else logits.sigmoid()


@pytest.mark.parametrize("labels", [1, 3, 10])
def test_separable_data_is_separated(labels):
    features, targets = clusters(labels)
    announced = fit(features, targets, 1e-4).logits(features) > 0
    assert torch.equal(announced, targets > 0)


@pytest.mark.parametrize("labels", [2, 3, 10])
def test_one_distribution_over_all_labels_separates_too(labels):
    features, targets = clusters(labels)
    found = fit(features, targets, 1e-4, "softmax").logits(features).softmax(1)
    labelled = targets.any(1)
    assert torch.equal(found[labelled].argmax(1), targets[labelled].argmax(1))
    assert found[labelled].amax(1).min() > 0.5


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_points_of_no_label_are_announced_as_none(activation):
    features, targets = clusters(4)
    found = scores(fit(features, targets, 1e-4, activation).logits(features), activation)
    assert found[targets.sum(1) == 0].max() < 0.5


def exclusive(seed: int) -> tuple[Tensor, Tensor]:
    """`overlapping`, each point of one label or of none: what a distribution can say."""
    features, targets = overlapping(seed)
    targets[targets.sum(1) > 1, 1] = 0
    return features, targets


@settings(max_examples=10)
@given(st.integers(0, 100), st.sampled_from([1e-3, 1e-2, 1e-1]), st.sampled_from(["sigmoid", "softmax"]))
def test_no_small_step_from_the_minimum_is_better(seed, l2, activation):
    features, targets = exclusive(seed) if activation == "softmax" else overlapping(seed)
    head = fit(features, targets, l2, activation)
    least = objective(head, features, targets, l2, activation)
    generator = torch.Generator().manual_seed(seed)
    spread = features.std(0) + 1e-3
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(20):
            weight = head.weight + size * torch.randn(head.weight.shape, generator=generator) / spread
            # A step in a weight moves the plane about the data's middle; the bias takes that back, then has its own.
            moved = head.bias - (weight - head.weight) @ features.mean(0)
            bias = moved + size * torch.randn(head.bias.shape, generator=generator)
            assert objective(LinearHead(weight, bias), features, targets, l2, activation) >= least - 1e-6


def test_scale_and_origin_of_the_features_do_not_matter():
    """So standardisation was folded in right: other units give other weights and the same logits."""
    features, targets = overlapping()
    features = (features - features.mean(0)) / features.std(0) * 10  # far above the 1e-3 that guards constants
    scale, origin = torch.tensor([1.0, 10.0, 3.0, 50.0]), torch.tensor([0.0, 100.0, -20.0, 7.0])
    plain = fit(features, targets, 1e-2).logits(features)
    scaled = fit(features * scale + origin, targets, 1e-2).logits(features * scale + origin)
    torch.testing.assert_close(plain, scaled, atol=5e-3, rtol=0)


def test_a_constant_feature_does_no_harm():
    features, targets = overlapping()
    constant = torch.cat([features, torch.full((len(features), 1), 3.0)], 1)
    ours, theirs = fit(constant, targets, 1e-2), fit(features, targets, 1e-2)
    torch.testing.assert_close(ours.logits(constant), theirs.logits(features), atol=5e-3, rtol=0)
    assert ours.weight.isfinite().all()


def test_much_regularisation_gives_each_label_its_frequency():
    features, targets = overlapping()
    found = fit(features, targets, 1e6).logits(features).sigmoid()
    torch.testing.assert_close(found, targets.mean(0).expand_as(found), atol=1e-3, rtol=0)


def test_much_regularisation_of_a_distribution_spreads_what_has_no_label():
    features, targets = exclusive(0)
    found = fit(features, targets, 1e6, "softmax").logits(features).softmax(1)
    expected = targets.mean(0) + (1 - targets.sum(1)).mean() / 2
    torch.testing.assert_close(found, expected.expand_as(found), atol=1e-3, rtol=0)


def test_labels_do_not_touch_each_other():
    features, targets = overlapping()
    both = fit(features, targets, 1e-2)
    first = fit(features, targets[:, :1], 1e-2)
    torch.testing.assert_close(both.logits(features)[:, :1], first.logits(features), atol=5e-3, rtol=0)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_fit_repeats(activation):
    features, targets = exclusive(0)
    first, second = fit(features, targets, 1e-2, activation), fit(features, targets, 1e-2, activation)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_start_is_a_head_on_all_views_in_the_last_layer(activation):
    features, targets = clusters(3)
    layer = torch.nn.Linear(features.shape[1], 3)
    halves = zip(torch.split(features, 33), torch.split(targets, 33), strict=True)
    fit_start(layer, halves, activation)
    labelled = targets.any(1)
    assert torch.equal(layer(features)[labelled].argmax(1), targets[labelled].argmax(1))
    assert layer.weight.requires_grad


def test_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0], [100.0, -100.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert cross_entropy(logits, targets).item() == pytest.approx(2 * 0.693147 / 2, abs=1e-5)


def test_cross_entropy_of_a_distribution_by_hand():
    logits = torch.tensor([[0.0, 0.0], [3.0, 3.0 + math.log(3)]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = (math.log(2) + math.log(4 / 3)) / 2
    assert cross_entropy(logits, targets, "softmax").item() == pytest.approx(expected, abs=1e-6)


def test_what_a_distribution_lacks_is_spread_over_all_labels():
    logits = torch.tensor([[1.0, -1.0, 0.5, 0.0]])
    nothing, evenly = torch.zeros(1, 4), torch.full((1, 4), 0.25)
    assert torch.equal(cross_entropy(logits, nothing, "softmax"), cross_entropy(logits, evenly, "softmax"))
    smoothed, spread = torch.tensor([[0.8, 0.0, 0.0, 0.0]]), torch.tensor([[0.85, 0.05, 0.05, 0.05]])
    torch.testing.assert_close(cross_entropy(logits, smoothed, "softmax"), cross_entropy(logits, spread, "softmax"))


def test_of_no_label_all_alike_is_the_best_that_a_distribution_can_say():
    nothing = torch.zeros(1, 3)
    alike = cross_entropy(torch.zeros(1, 3), nothing, "softmax")
    assert alike.item() == pytest.approx(math.log(3), abs=1e-6)
    assert cross_entropy(torch.tensor([[2.0, 0.0, 0.0]]), nothing, "softmax") > alike


def test_a_distribution_does_not_change_when_all_logits_do():
    logits, targets = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3)[[0, 1, 2, 0, 1]]
    moved = cross_entropy(logits + 7, targets, "softmax")
    torch.testing.assert_close(moved, cross_entropy(logits, targets, "softmax"))
    assert not torch.isclose(cross_entropy(logits + 7, targets), cross_entropy(logits, targets))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_half_a_label_each_is_best_said_so(activation):
    """Mixed targets: the least loss is where the scores are the targets."""
    targets = torch.tensor([[0.5, 0.5, 0.0]])
    as_they_are = torch.tensor([[0.0, 0.0, -20.0]])
    least = cross_entropy(as_they_are, targets, activation)
    for other in ([1.0, 0.0, -20.0], [1.0, 1.0, 0.0], [-1.0, -1.0, 1.0]):
        assert cross_entropy(torch.tensor([other]), targets, activation) > least


def test_best_threshold_by_hand():
    # Three sounds score 0.9, 0.8 and 0.6; silence scores up to 0.55. From 0.56 to 0.6 all are right (F1 = 1).
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.3], [0.55, 0.4]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert best_threshold(scores, targets) == 0.58  # the middle


def test_best_threshold_weighs_misses_against_false_alarms():
    # At most 0.3: 3 right, 1 false, F1 = 6/7. Above 0.3: 2 right, 1 missed, none false, F1 = 4/5.
    scores = torch.tensor([[0.9], [0.8], [0.3], [0.3]])
    targets = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    assert best_threshold(scores, targets) <= 0.3


@pytest.mark.parametrize("scores", [0.0, 1.0])
def test_best_threshold_stays_within_bounds(scores):
    assert 0.05 <= best_threshold(torch.full((4, 2), scores), torch.ones(4, 2)) <= 0.95
