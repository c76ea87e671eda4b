"""Logistic regression: fits a linear head to frozen features exactly, one sigmoid for each label or one softmax."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.functional import cross_entropy as distribution_cross_entropy

_STEPS = 300
_START_L2 = 1e-3


@dataclass(frozen=True)
class LinearHead:
    """Weights of a last layer."""

    weight: Tensor
    """[labels, features], one row for each label."""
    bias: Tensor
    """[labels], added to the product."""

    def logits(self, features: Tensor) -> Tensor:
        """[N, features] to [N, labels]."""
        return features @ self.weight.T + self.bias

    def put_into(self, last_layer: nn.Linear) -> None:
        """Copies the weights into the layer."""
        with torch.no_grad():
            last_layer.weight.copy_(self.weight)
            last_layer.bias.copy_(self.bias)


def fit(features: Tensor, targets: Tensor, l2: float, activation: str = "sigmoid") -> LinearHead:
    """The head that minimises the mean cross-entropy plus `l2` times the squared weights (L-BFGS).

    Args:
        features: [N, F], float32. They are standardised inside; the result takes them as they are.
        targets: [N, labels], float32, 0 or 1; a row of zeros is a sound without a label.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-3
    standard = (features - mean) / spread
    weight = torch.zeros(targets.shape[1], features.shape[1], requires_grad=True)
    # The first bias gives each label its frequency.
    if activation == "sigmoid":
        bias = torch.logit(targets.mean(0).clamp(1e-4, 1 - 1e-4)).requires_grad_()
    else:
        bias = _whole(targets).mean(0).clamp(min=1e-4).log().requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = cross_entropy(standard @ weight.T + bias, targets, activation) + l2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        scaled = weight / spread
        return LinearHead(scaled, bias - scaled @ mean)


def fit_start(last_layer: nn.Linear, views: Iterable[tuple[Tensor, Tensor]], activation: str) -> None:
    """Fits a network's last layer, before training goes on from there.

    Args:
        views: features [N, F] and targets [N, labels] of each batch.
    """
    features, targets = zip(*views, strict=True)
    fit(torch.cat(features), torch.cat(targets), _START_L2, activation).put_into(last_layer)


def cross_entropy(logits: Tensor, targets: Tensor, activation: str = "sigmoid") -> Tensor:
    """Mean over rows of the cross-entropy: summed over labels for `sigmoid`, of the distribution for `softmax`.

    Args:
        logits, targets: [N, labels]. For `softmax`, targets are filled up to a sum of 1, evenly over all labels.
    """
    if activation == "sigmoid":
        return binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()
    return distribution_cross_entropy(logits, _whole(targets))


def accuracy(logits: Tensor, targets: Tensor) -> float | None:
    """Share of labelled rows, 0 to 1, whose highest logit is right. None: no row is labelled.

    Args:
        logits, targets: [N, labels].
    """
    labelled = targets.any(1)
    if not labelled.any():
        return None
    return float((logits[labelled].argmax(1) == targets[labelled].argmax(1)).float().mean())


def _whole(targets: Tensor) -> Tensor:
    """Fills up each row to a sum of 1, evenly over all labels."""
    return targets + (1 - targets.sum(1, keepdim=True)).clamp(min=0) / targets.shape[1]


def best_threshold(scores: Tensor, targets: Tensor) -> float:
    """The threshold, in steps of 0.01, with the highest F1 over all labels and rows. Of several, the middle one.

    Args:
        scores: [N, labels], 0 to 1.
        targets: [N, labels], 0 or 1.
    """
    candidates = torch.arange(5, 96) / 100
    announced = scores[None] >= candidates[:, None, None]
    right = (announced & (targets[None] > 0)).sum((1, 2))
    f1 = 2 * right / (announced.sum((1, 2)) + targets.sum())
    best = torch.nonzero(f1 == f1.max())[:, 0]
    return round(float(candidates[best[len(best) // 2]]), 2)
