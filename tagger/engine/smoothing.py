"""Smooths over time how a second opinion moves the scores: a little of it is what it was in the windows just before.

The labels' network hears a sound at once, and its own part of a score stays as it is; so hardly a sound comes later.
What the opinion makes of a quiet window changes from window to window, and only now and then lets one pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tagger.checkpoints.joint import JointInfo, ModelInfo, parts_of
from tagger.events import Samples, Scores

Smoother = Callable[[Sequence[Scores]], list[Scores]]
"""Takes the scores of one stream's windows, in their order, any number at a time."""

SPAN_SECONDS = 1.0
"""Longest time from the beginning of an earlier window that counts to that of this one, seconds. Both must share sound:
windows before a gap never do."""
_ROUNDING = 1e-6
"""Tolerance of comparisons, seconds."""
_FURTHEST = np.float32(60.0)
"""Largest change of a logit: float32 holds its power."""


def smoother(info: ModelInfo) -> Smoother:
    """For one stream of a model: `tagger.checkpoints.opinion.Opinion.smoothing` says how much."""
    shares = shares_of(info)
    return Smoothing(shares) if shares.any() else list


def shares_of(info: ModelInfo) -> Samples:
    """[labels], how much of the opinion's part is that of earlier windows, 0 to 1."""
    parts = parts_of(info)
    own = [np.full(len(each.labels), 0.0 if each.opinion is None else each.opinion.smoothing) for each in parts]
    if isinstance(info, JointInfo):
        own = [each[list(columns)] for each, columns in zip(own, info.columns, strict=True)]
    shares = np.concatenate(own).astype(np.float32)
    return np.pad(shares, (0, len(info.labels) - len(shares)))  # classes have no labels' network


class Smoothing:
    """A `Smoother` that keeps what the opinion made of the windows of the last second."""

    def __init__(self, shares: Samples) -> None:
        """
        Args:
            shares: as `shares_of` gives them.
        """
        self._shares = shares
        self._before: list[tuple[float, float, Samples]] = []
        """Of each earlier window that may count: begin and end, seconds; what the opinion added to the logits."""

    def __call__(self, scores: Sequence[Scores]) -> list[Scores]:
        return [self._smoothed(each) for each in scores]

    def _smoothed(self, scores: Scores) -> Scores:
        if scores.added is None:
            return scores
        start_s, first_s = scores.start_s, scores.start_s - SPAN_SECONDS - _ROUNDING
        before = self._before = [
            each for each in self._before if first_s <= each[0] < start_s and each[1] > start_s + _ROUNDING
        ]
        found = scores
        if before:
            change = self._shares * (np.mean([added for *_, added in before], axis=0) - scores.added)
            values = np.where(self._shares > 0, _moved(scores.values, change), scores.values)
            found = replace(scores, values=values)
        if np.isfinite(scores.added).all():
            before.append((start_s, scores.end_s, scores.added))
        return found


def _moved(scores: Samples, change: Samples) -> Samples:
    """Scores whose logits are changed so; without the logits, which float32 does not have of scores close to 1."""
    factor = np.exp(np.clip(change, -_FURTHEST, _FURTHEST))
    found: Samples = scores * factor / (1 - scores + scores * factor)
    return found
