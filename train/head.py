"""A linear head on frozen features: one logistic regression a label, fitted exactly."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

_STEPS = 300


@dataclass(frozen=True)
class Head:
    weight: Tensor
    """[labels, features]"""
    bias: Tensor
    """[labels]"""

    def logits(self, features: Tensor) -> Tensor:
        """[N, features] to [N, labels]."""
        return features @ self.weight.T + self.bias


def fit(features: Tensor, targets: Tensor, l2: float) -> Head:
    """The minimum of the mean cross-entropy, summed over labels, plus `l2` times the squared weights (L-BFGS).

    Args:
        features: [N, F], float32. They are standardised inside; the head that comes back takes them as they are.
        targets: [N, labels], float32, 0 or 1; a row of zeros is a sound that is none of them.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-3
    standard = (features - mean) / spread
    weight = torch.zeros(targets.shape[1], features.shape[1], requires_grad=True)
    # Each label starts at its frequency.
    bias = torch.logit(targets.mean(0).clamp(1e-4, 1 - 1e-4)).requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = cross_entropy(standard @ weight.T + bias, targets) + l2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        scaled = weight / spread
        return Head(scaled, bias - scaled @ mean)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, summed over labels, mean over rows."""
    return binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def best_threshold(scores: Tensor, targets: Tensor) -> float:
    """The one score, in steps of 0.01, from which announcing a label gives the highest F1 over all labels and rows.

    Args:
        scores: [N, labels], 0 to 1.
        targets: [N, labels], 0 or 1.
    """
    candidates = torch.arange(5, 96) / 100
    announced = scores[None] >= candidates[:, None, None]
    right = (announced & (targets[None] > 0)).sum((1, 2))
    f1 = 2 * right / (announced.sum((1, 2)) + targets.sum())
    return round(float(candidates[int(f1.argmax())]), 2)
