"""A second opinion: a network that was never trained on the labels says what else a window may hold.

The labels' network takes a blender for a vacuum cleaner. The AudioSet network that it was made of, left as it was,
knows `Blender`. What it says is turned into one number for each label, its doubt: how little it hears of the classes
that mean the label, and how much more surely it hears another one. `docs/trust.md` has what this gives.

A checkpoint's document carries it, if it has one, under the key `opinion`:

    classes   names of the AudioSet network's outputs, in their order
    means     for each label, names of the classes that mean it, one or more
    mean      the usual logit of each class
    spread    its standard deviation
    own, other, rank, common, bias   numbers: the fields of `Opinion`
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger.errors import CheckpointError

CLASSES = Path(__file__).with_suffix(".csv")
"""Which of AudioSet's classes mean which label: the columns `label` and `classes` (`a; b`)."""
CONSTANTS = Path(__file__).with_suffix(".json")
"""The weights; and for networks that were measured, the usual logits of their classes, and the bias."""
_LARGEST = 1e4
"""Greatest weight, bias, usual logit and deviation, either sign."""
_LEAST_SPREAD = 1e-3

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Opinion:
    """Two networks' logits to one logit a label."""

    classes: tuple[str, ...]
    """In the order of the AudioSet network's outputs."""
    means: tuple[tuple[str, ...], ...]
    """[labels], the classes that mean each label, one or more."""
    mean: tuple[float, ...]
    """[classes], usual logit: the mean over clips of many labels."""
    spread: tuple[float, ...]
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

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: lengths differ, a class is unknown, or a number cannot be used.
        """
        if not len(self.classes) == len(self.mean) == len(self.spread) == len(set(self.classes)):
            raise ValueError("opinion: one mean and one spread for each of its classes, all different")
        known = set(self.classes)
        for names in self.means:
            if not names or not known.issuperset(names):
                raise ValueError(f"opinion: {', '.join(map(str, names))[:80]!r} names none or unknown classes")
        weights = self.own, self.other, self.rank, self.common
        if not all(0 <= weight <= _LARGEST for weight in weights):
            raise ValueError(f"opinion: own, other, rank and common must be from 0 to {_LARGEST:g}")
        if not all(abs(each) <= _LARGEST for each in (self.bias, *self.mean)):
            raise ValueError(f"opinion: bias and mean must be at most {_LARGEST:g}")
        if not all(_LEAST_SPREAD <= each <= _LARGEST for each in self.spread):
            raise ValueError(f"opinion: spread must be from {_LEAST_SPREAD:g} to {_LARGEST:g}")

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Opinion":
        """
        Raises:
            ValueError, KeyError, TypeError: it cannot be used.
        """
        numbers = ("own", "other", "rank", "common", "bias")
        unknown = set(document) - {each.name for each in fields(cls)}
        if unknown:
            raise ValueError(f"opinion: unknown: {', '.join(sorted(unknown))[:80]}")
        return cls(
            classes=_names(document["classes"]),
            means=tuple(_names(each) for each in document["means"]),
            mean=tuple(map(float, document["mean"])),
            spread=tuple(map(float, document["spread"])),
            **{name: float(document[name]) for name in numbers if name in document},
        )

    @cached_property
    def _columns(self) -> NDArray[np.intp]:
        """[labels, most classes of a label], numbers of the classes that mean it; the last is repeated."""
        number = {name: column for column, name in enumerate(self.classes)}
        most = max(map(len, self.means))
        return np.array(
            [[number[name] for name in each] + [number[each[-1]]] * (most - len(each)) for each in self.means]
        )

    @cached_property
    def _usual(self) -> tuple[Array, Array]:
        return np.array(self.mean, np.float32), np.array(self.spread, np.float32)

    def surprise(self, audioset: Array) -> Array:
        """[N, classes], how far each logit is above its usual one, in spreads. Input: [N, classes], logits."""
        mean, spread = self._usual
        found: Array = (audioset - mean) / spread
        return found

    def doubt(self, audioset: Array) -> Array:
        """Doubt of each label, [N, labels]; lower is more doubtful. Input: [N, classes], logits."""
        surprise = self.surprise(audioset)
        heard = audioset[:, self._columns].max(2)
        expected = surprise[:, self._columns].max(2)
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

    def rather(self, audioset: Array) -> list[str]:
        """The most surprising class of each window."""
        return [self.classes[number] for number in self.surprise(audioset).argmax(1)]

    @cached_property
    def meant(self) -> Mapping[str, tuple[int, ...]]:
        """By class, the numbers of the labels that it means. Classes that mean none are left out."""
        found: dict[str, tuple[int, ...]] = {}
        for label, names in enumerate(self.means):
            for name in names:
                found[name] = (*found.get(name, ()), label)
        return found


def read_classes(path: Path = CLASSES) -> dict[str, tuple[str, ...]]:
    """By label, the classes that mean it, from a CSV with the columns `label` and `classes` (`a; b`).

    Raises:
        CheckpointError: it is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["label"]: tuple(map(str.strip, row["classes"].split(";"))) for row in csv.DictReader(file)}
    except (OSError, UnicodeError, KeyError, AttributeError, csv.Error) as error:
        raise CheckpointError(f"{path}: needs the columns label and classes ({error})") from None


def read_constants(path: Path = CONSTANTS) -> dict[str, Any]:
    """`weights`, fields of `Opinion`; and by the name of a network, its `usual` logits and spreads.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    return found


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _names(values: Sequence[Any]) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) and each for each in values):
        raise TypeError("opinion: classes and means must be lists of names")
    return tuple(values)
