"""Scores and truth of clips. What they are worth: `metrics`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_LABEL = -1
"""Target of a clip without a label."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores and truth of clips: everything that a report is made from."""

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    """[N, labels], each 0 to 1, after activation and temperature."""
    targets: NDArray[np.int64]
    """[N], index of the true label, or `NO_LABEL`."""
    clips: tuple[str, ...]
    """N names."""
    folds: NDArray[np.int64]
    """[N], the fold in which each clip was scored."""

    def __post_init__(self) -> None:
        n = len(self.clips)
        if self.scores.shape != (n, len(self.labels)) or self.targets.shape != (n,) or self.folds.shape != (n,):
            raise ValueError(
                f"{n} clips and {len(self.labels)} labels do not go with scores {self.scores.shape}, "
                f"targets {self.targets.shape} and folds {self.folds.shape}"
            )
        if not self.labels or not ((self.scores >= 0) & (self.scores <= 1 + 1e-6)).all():
            raise ValueError("there must be labels, and scores must be numbers from 0 to 1")
        if not ((self.targets >= NO_LABEL) & (self.targets < len(self.labels))).all():
            raise ValueError(f"targets must be {NO_LABEL} to {len(self.labels) - 1}")

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """All clips of the parts, in order: for example of five folds, each scored by its own network.

        Raises:
            ValueError: there are no parts, or their labels differ.
        """
        if len({part.labels for part in parts}) != 1:
            raise ValueError("predictions can be joined only where all have the same labels")
        return cls(
            parts[0].labels,
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.targets for part in parts]),
            tuple(clip for part in parts for clip in part.clips),
            np.concatenate([part.folds for part in parts]),
        )

    @property
    def said(self) -> NDArray[np.intp]:
        """[N], index of the highest score; the first of equal ones."""
        best: NDArray[np.intp] = self.scores.argmax(1)
        return best

    @property
    def confidence(self) -> NDArray[np.float64]:
        """[N], the highest score."""
        highest: NDArray[np.float64] = self.scores.max(1).astype(np.float64)
        return highest

    @property
    def right(self) -> NDArray[np.bool_]:
        """[N], whether the highest score is the true label's. Never for background."""
        found: NDArray[np.bool_] = self.said == self.targets
        return found

    @property
    def known(self) -> "Predictions":
        """The clips with a label, without background. Only average precision is computed on others, too."""
        return self.only(self.targets != NO_LABEL)

    def of_fold(self, fold: int) -> "Predictions":
        return self.only(self.folds == fold)

    def only(self, chosen: NDArray[np.bool_]) -> "Predictions":
        """
        Args:
            chosen: [N], whether to keep each clip.
        """
        clips = tuple(clip for clip, keep in zip(self.clips, chosen, strict=True) if keep)
        return Predictions(self.labels, self.scores[chosen], self.targets[chosen], clips, self.folds[chosen])
