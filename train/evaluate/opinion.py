"""A second opinion: a network that was never trained on the labels says what else a window may hold.

The labels' network takes a blender for a vacuum cleaner. The AudioSet network that it was made of, left as it was,
knows `Blender`. What it says is turned into one number for each label, its doubt: how little it hears of the classes
that mean the label, and how much more surely it hears another one.

`bench/opinion.py` measures this. No model uses it yet: docs/trust.md says what it gives, and what is missing.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagger.errors import UserError

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Opinion:
    """Two networks' logits to one logit a label."""

    means: NDArray[np.bool_]
    """[labels, classes], whether a class means a label; at least one for each label."""
    mean: Array
    """[classes], mean logit of each class over clips of all labels."""
    spread: Array
    """[classes], standard deviation of the same."""
    own: float = 1.0
    """Weight of the highest logit of the classes that mean a label."""
    other: float = 2.0
    """Weight of the distance between the most surprising class and the label's own, in spreads."""
    rank: float = 0.1
    """Share of a label's doubt that moves this label alone, and so may change which label is the highest."""
    common: float = 0.5
    """Share of the highest label's doubt that moves all labels, and so decides whether any is announced."""
    bias: float = 0.0
    """Added to every logit."""

    def doubt(self, audioset: Array) -> Array:
        """Doubt of each label, [N, labels]; lower is more doubtful. Input: [N, classes], logits."""
        surprise = (audioset - self.mean) / self.spread
        heard = np.stack([audioset[:, each].max(1) for each in self.means], 1)
        expected = np.stack([surprise[:, each].max(1) for each in self.means], 1)
        beyond = np.maximum(0, surprise.max(1, keepdims=True) - expected)
        found: Array = self.own * heard - self.other * beyond
        return found

    def __call__(self, logits: Array, audioset: Array) -> Array:
        """
        Args:
            logits: [N, labels], calibrated: their sigmoid is the labels' network's score.
            audioset: [N, classes].

        Returns:
            [N, labels]. A label's own classes raise it and other classes lower it, as long as the same label stays the
            highest; where another becomes the highest, all may jump.
        """
        doubt = self.doubt(audioset)
        ranked = logits + self.rank * doubt
        highest = ranked.argmax(1)
        found: Array = ranked + self.common * np.take_along_axis(doubt, highest[:, None], 1) + self.bias
        return found

    def rather(self, audioset: Array, classes: Sequence[str]) -> list[str]:
        """The most surprising class of each window."""
        surprise = (audioset - self.mean) / self.spread
        return [classes[number] for number in surprise.argmax(1)]


def read_classes(path: Path, labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.bool_]:
    """[labels, classes], which classes mean which label, from a CSV with the columns `label` and `classes` (`a; b`).

    Raises:
        UserError: a label has no classes there, or a class is none of AudioSet's.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = {row["label"]: [each.strip() for each in row["classes"].split(";")] for row in csv.DictReader(file)}
    except (OSError, UnicodeError, KeyError, AttributeError, csv.Error) as error:
        raise UserError(f"{path}: needs the columns label and classes ({error})") from None
    found = np.zeros((len(labels), len(classes)), bool)
    for number, label in enumerate(labels):
        if label not in rows:
            raise UserError(f"{path}: no classes for the label {label}")
        for name in rows[label]:
            if name not in classes:
                raise UserError(f"{path}: {name!r} is none of AudioSet's classes")
            found[number, classes.index(name)] = True
    return found
