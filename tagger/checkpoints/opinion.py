"""A second opinion: a network that was never trained on the labels says what else a window may hold.

The labels' network takes a blender for a vacuum cleaner. The AudioSet network that it was made of, left as it was,
knows `Blender`. What it says is turned into one number for each label, its doubt: how little it hears of the classes
that mean the label, and how much more surely it hears another one. `docs/trust.md` has what this gives.

A checkpoint's document carries it, if it has one, under the key `opinion`:

    classes   names of the AudioSet network's outputs, in their order
    means     for each label, names of the classes that mean it, one or more
    mean      the usual logit of each class
    spread    its standard deviation
    share, own, other, rank, common, strong, strong_from, beside, bias, smoothing   numbers: the fields of `Opinion`
    network   name of the AudioSet network; may be missing
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.errors import CheckpointError
from tagger.printable import number_of

if TYPE_CHECKING:  # what only describes a model needs no numpy
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.floating]

CLASSES = Path(__file__).with_suffix(".csv")
"""Which of AudioSet's classes mean which label: the columns `label` and `classes` (`a; b`)."""
CONSTANTS = Path(__file__).with_suffix(".json")
"""The weights; and for networks that were measured, the usual logits of their classes, and the bias."""
_LARGEST = 1e4
"""Greatest weight, bias, usual logit and deviation, either sign."""
_WEIGHTS = ("share", "own", "other", "rank", "common", "strong", "strong_from", "beside", "smoothing")
_LEAST_SPREAD = 1e-3


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
    share: float = 0.0
    """Weight, 0 to 1, of the logits that the second opinion's own last layer gives the labels; the rest is the labels'
    network's."""
    own: float = 1.0
    """Weight of the highest logit of the classes that mean a label."""
    other: float = 2.0
    """Weight of the distance between the most surprising class and the label's own, in spreads."""
    rank: float = 0.1
    """Share of a label's doubt that moves this label alone, and so may change which label is the highest."""
    common: float = 0.5
    """Share of the highest label's doubt that moves all labels, and so decides whether any is announced."""
    strong: float = 0.0
    """Weight of the surprise of a label's classes beyond `strong_from`: what is surely heard is believed."""
    strong_from: float = 0.0
    """In spreads."""
    beside: float = 0.0
    """Taken from the logits of all labels of a window but the highest: a second sound must be surer, since most are
    only like the first (rain and clapping, coughing and sneezing)."""
    bias: float | tuple[float, ...] = 0.0
    """Added to every logit; or [labels], to each label's."""
    smoothing: float = 0.0
    """Weight, 0 to 1, of what this opinion added to the logits in the windows of the second before, in what it adds
    (`tagger.engine.smoothing`). Windows by themselves are not changed."""
    network: str = ""
    """Name of the AudioSet network. Empty: the one that the checkpoint was trained from."""

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
        if not all(0 <= getattr(self, name) <= _LARGEST for name in _WEIGHTS):
            raise ValueError(f"opinion: {', '.join(_WEIGHTS)} must be from 0 to {_LARGEST:g}")
        if not (self.share <= 1 and self.smoothing <= 1):
            raise ValueError("opinion: share and smoothing must be at most 1")
        biases = self.bias if isinstance(self.bias, tuple) else (self.bias,) * len(self.means)
        if len(biases) != len(self.means):
            raise ValueError(
                f"opinion: {number_of(len(biases), 'bias', 'biases')} for {number_of(len(self.means), 'label')}"
            )
        if not all(abs(each) <= _LARGEST for each in (*biases, *self.mean)):
            raise ValueError(f"opinion: bias and mean must be at most {_LARGEST:g}")
        if not all(_LEAST_SPREAD <= each <= _LARGEST for each in self.spread):
            raise ValueError(f"opinion: spread must be from {_LEAST_SPREAD:g} to {_LARGEST:g}")

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            each.name: _plain(getattr(self, each.name))
            for each in fields(self)
            if each.name != "network" or self.network
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Opinion":
        """
        Raises:
            ValueError, KeyError, TypeError: it cannot be used.
        """
        bias = document.get("bias", 0.0)
        unknown = set(document) - {each.name for each in fields(cls)}
        if unknown:
            raise ValueError(f"opinion: unknown: {', '.join(sorted(unknown))[:80]}")
        return cls(
            classes=_names(document["classes"]),
            means=tuple(_names(each) for each in document["means"]),
            mean=tuple(map(float, document["mean"])),
            spread=tuple(map(float, document["spread"])),
            bias=tuple(map(float, bias)) if isinstance(bias, list) else float(bias),
            network=str(document.get("network", "")),
            **{name: float(document[name]) for name in _WEIGHTS if name in document},
        )

    @cached_property
    def _columns(self) -> "NDArray[np.intp]":
        """[labels, most classes of a label], numbers of the classes that mean it; the last is repeated."""
        import numpy as np

        number = {name: column for column, name in enumerate(self.classes)}
        most = max(map(len, self.means))
        return np.array(
            [[number[name] for name in each] + [number[each[-1]]] * (most - len(each)) for each in self.means]
        )

    @cached_property
    def _usual(self) -> "tuple[Array, Array]":
        import numpy as np

        return np.array(self.mean, np.float32), np.array(self.spread, np.float32)

    def surprise(self, audioset: "Array") -> "Array":
        """[N, classes], how far each logit is above its usual one, in spreads. Input: [N, classes], logits."""
        mean, spread = self._usual
        found: Array = (audioset - mean) / spread
        return found

    def doubt(self, audioset: "Array") -> "tuple[Array, Array]":
        """Doubt of each label, lower is more doubtful; and the highest surprise of its own classes: each [N, labels].
        Input: [N, classes], logits.
        """
        import numpy as np

        surprise = self.surprise(audioset)
        heard = audioset[:, self._columns].max(2)
        expected = surprise[:, self._columns].max(2)
        beyond = np.maximum(0, surprise.max(1, keepdims=True) - expected)
        return self.own * heard - self.other * beyond, expected

    def __call__(self, logits: "Array", audioset: "Array", second: "Array | None" = None) -> "Array":
        """
        Args:
            logits: [N, labels], calibrated: their sigmoid is the labels' network's score.
            audioset: [N, classes].
            second: [N, labels], calibrated logits of the AudioSet network's last layer for the labels. None: it has
                none.

        Returns:
            [N, labels]. A label's own classes raise it and other classes lower it, as long as the same label stays the
            highest; where another becomes the highest, all may jump.
        """
        import numpy as np

        doubt, expected = self.doubt(audioset)
        if second is not None:
            logits = (1 - self.share) * logits + self.share * second
        ranked = logits + self.rank * doubt + self.strong * np.maximum(0, expected - self.strong_from)
        highest = ranked.argmax(1)
        found: Array = ranked + self.common * np.take_along_axis(doubt, highest[:, None], 1)
        found -= np.where(np.arange(ranked.shape[1]) == highest[:, None], 0, self.beside).astype(found.dtype)
        found += np.asarray(self.bias, found.dtype)
        return found

    def rather(self, audioset: "Array", labels: Sequence[str]) -> tuple[str | tuple[str, ...], ...]:
        """[N], what each window holds rather than a label: its most surprising class, or the label that this means;
        where it means one, one for each label, empty for those that it means.
        """
        return tuple(self._rather(number, labels) for number in self.surprise(audioset).argmax(1))

    def _rather(self, number: int, labels: Sequence[str]) -> str | tuple[str, ...]:
        name = self.classes[number]
        meant = {label for label, names in zip(labels, self.means, strict=True) if name in names}
        instead = next((label for label in labels if label in meant), name)
        return tuple("" if label in meant else instead for label in labels) if meant else instead


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


def classes_for(labels: Sequence[str], classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """By label, the classes that mean it: the package's table, and classes of the same name. Others are left out."""
    known, same = set(classes), {name.lower().replace(" ", "_"): name for name in classes}
    named = {label: (same[label.lower()],) for label in labels if label.lower() in same}
    return named | {label: names for label, names in read_classes().items() if label in labels and known >= set(names)}


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
