"""AudioSet's classes as labels: of a model with a second opinion, those that a user names.

The untouched network's logits of all its classes are there in every window (`tagger.checkpoints.opinion`). A class has
the score 0.5 where its logit is `Threshold.logit`, which was chosen so that sounds that are none of it rarely reach
it: `docs/classes.md` says how rarely, and how often the sound itself does.
"""

import csv
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.checkpoints.info import CheckpointInfo
from tagger.errors import CheckpointError

if TYPE_CHECKING:  # what only describes a model needs no numpy
    import numpy as np
    from numpy.typing import NDArray

MODEL = "audioset"
"""What decides these labels, where messages name the model."""
THRESHOLD = 0.5
"""Score that begins an event."""
PER_HOUR = 0.1
"""False alarms an hour of each class, at which the thresholds aim."""


@dataclass(frozen=True)
class Threshold:
    """What was measured of a class by one network."""

    logit: float
    """Logit that has the score 0.5."""
    recall: float | None = None
    """Share of recordings of the sound in which it is announced, 0 to 1. None: no recordings were at hand."""
    recordings: int = 0
    """Number of these recordings."""


@dataclass(frozen=True)
class ClassesInfo:
    """Describes the second opinion of a model as a model of its own: the classes that were chosen are its labels."""

    of: CheckpointInfo
    """The model, which has a second opinion."""
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        return MODEL

    @property
    def thresholds(self) -> tuple[float, ...]:
        return (THRESHOLD,) * len(self.labels)

    @cached_property
    def _columns(self) -> list[int]:
        assert self.of.opinion is not None
        return [self.of.opinion.classes.index(label) for label in self.labels]

    @cached_property
    def _logits(self) -> "NDArray[np.float32]":
        import numpy as np

        measured = thresholds_of(self.of)
        return np.array([measured[label].logit if label in measured else 0.0 for label in self.labels], np.float32)

    def scores(self, audioset: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """[N, labels], 0 to 1. Input: [N, classes], the network's logits."""
        import numpy as np

        with np.errstate(over="ignore"):  # exp(-x) is infinite where the sigmoid is 0
            found: NDArray[np.float32] = 1 / (1 + np.exp(self._logits - audioset[:, self._columns]))
        return found


def classes_of(info: CheckpointInfo) -> tuple[str, ...]:
    """All classes of its second opinion. Empty: it has none."""
    return info.opinion.classes if info.opinion is not None else ()


def network_of(info: CheckpointInfo) -> str:
    """Name of the official network that is its second opinion. Empty: it is not known."""
    own = info.opinion.network if info.opinion is not None else ""
    start = info.training.get("backbone")
    return own or (str(start.get("name", "")) if isinstance(start, dict) else "")


def thresholds_of(info: CheckpointInfo) -> dict[str, Threshold]:
    """By class, what was measured of its second opinion. Empty: nothing was."""
    path = _table(network_of(info))
    return read_thresholds(path) if path.is_file() else {}


@cache
def read_thresholds(path: Path) -> dict[str, Threshold]:
    """By class, the rows of a CSV with the columns `class`, `logit`, `recall` and `recordings`.

    Raises:
        CheckpointError: it is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                row["class"]: Threshold(
                    float(row["logit"]), float(row["recall"]) if row["recall"] else None, int(row["recordings"] or 0)
                )
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise CheckpointError(
            f"{path}: needs the columns class, logit, recall and recordings ({error}); install tagger again"
        ) from None


def _table(network: str) -> Path:
    """The package's table of a network, whether there is one or not."""
    known = {path.stem.removeprefix("classes-"): path for path in Path(__file__).parent.glob("classes-*.csv")}
    return known.get(network, Path(__file__).with_name("classes-none"))
