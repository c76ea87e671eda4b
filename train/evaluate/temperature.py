"""Temperature and bias with which scores are as often right as they say. The error without: `metrics`. Pure numpy."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from train.evaluate.predictions import NO_LABEL

TEMPERATURES = (0.05, 20.0)
"""Range of `fit_temperature`."""


def fit_temperature(
    logits: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]], activation: Literal["softmax", "sigmoid"]
) -> float:
    """The divisor of logits with which the highest score is right as often as it says.

    Softmax: the minimum of the negative log-likelihood (Guo et al., 2017, section 4.2). Sigmoid: that of the binary log
    loss of the highest score against whether its label is the right one; its confidence is that score alone. Both
    losses are convex in the inverse of the temperature, so there is one minimum, and golden sections find it.

    Args:
        logits: [N, labels].
        targets: [N], index of the true label. Rows of `NO_LABEL` are left out.

    Returns:
        A number within `TEMPERATURES`; 1 if no other is better.

    Raises:
        ValueError: no row has a label.
    """
    rows = targets != NO_LABEL
    if not rows.any():
        raise ValueError("a temperature needs clips of a label")
    z, true = logits[rows].astype(np.float64), targets[rows]
    # Of softmax: how far each logit is above the true one. Of sigmoid: the highest logit, positive where it is wrong.
    above = z - np.take_along_axis(z, true[:, None], 1)
    highest = np.where(z.argmax(1) == true, -z.max(1), z.max(1))[:, None]

    def loss(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        if activation == "softmax":
            return float(np.logaddexp.reduce(above * inverse, axis=1).mean())
        return float(np.logaddexp(0, highest * inverse).mean())

    low, high = map(math.log, TEMPERATURES)
    found = _least(loss, low, high)
    return math.exp(min((0.0, found, low, high), key=loss))


def fit_line(logits: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """The divisor of logits and the number to add with which the highest sigmoid score is right as often as it says.

    Sigmoids that were also trained on windows without a label are too low for clips with one; a temperature alone
    cannot correct that. Platt, "Probabilistic Outputs for Support Vector Machines" (1999), with a prior of weight one
    on changing nothing, so that few clips, or clips that are all right, change little.

    Args:
        logits: [N, labels].
        targets: [N], index of the true label. Rows of `NO_LABEL` are left out.

    Returns:
        Temperature and bias: a score is sigmoid(logit / temperature + bias).

    Raises:
        ValueError: no row has a label.
    """
    rows = targets != NO_LABEL
    if not rows.any():
        raise ValueError("a calibration needs clips of a label")
    z = logits[rows].astype(np.float64)
    right = (z.argmax(1) == targets[rows]).astype(np.float64)
    inputs = np.stack([z.max(1), np.ones(len(z))], 1)
    prior = np.array([1.0, 0.0])
    line = prior.copy()
    for _ in range(100):  # Newton's method on a strictly convex loss
        said = 1 / (1 + np.exp(-inputs @ line))
        gradient = inputs.T @ (said - right) + (line - prior)
        curvature = (inputs * (said * (1 - said))[:, None]).T @ inputs + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        line = line - step * min(1.0, 1.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    if not TEMPERATURES[0] < 1 / max(line[0], 1e-9) < TEMPERATURES[1]:  # higher scores are not more often right
        return fit_temperature(logits, targets, "sigmoid"), 0.0
    return float(1 / line[0]), float(line[1])


def _least(function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-6) -> float:
    """Minimum of a function that has only one, by golden sections (Kiefer, 1953)."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > tolerance:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2
