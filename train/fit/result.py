"""Result of a finished stage: its file, for `--resume` and the report, and what is said of it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagger.files import replacing
from train.curve import Epoch
from train.damage import made_again_if_deleted
from train.data.dataset import Dataset
from train.evaluate.announcements import Announced
from train.evaluate.metrics import accuracy, accuracy_by_fold, calibration_error, mean_and_std
from train.evaluate.predictions import Predictions
from train.fit.trainer import Trained

_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True)
class Result:
    """What is known of a stage that is done."""

    predictions: Predictions | None
    """None: nothing was held out."""
    curve: list[Epoch]
    kept_epoch: int
    """0: there were no epochs."""
    marks: list[str]
    """Warnings."""
    found: tuple[int, int] | None = None
    """Clips held out whose label's score reaches its threshold, and all of them. None: nothing was held out."""
    announced: tuple[Announced, ...] = ()


def write_result(
    path: Path,
    predictions: Predictions | None,
    trained: Trained,
    marks: Sequence[str],
    found: tuple[int, int] | None,
    announced: Sequence[Announced],
) -> None:
    """Saves what `--resume` needs of a stage that is done."""
    document: dict[str, Any] = {
        "curve": [asdict(epoch) for epoch in trained.curve],
        "kept": trained.kept_epoch,
        "marks": list(marks),
        "found": found,
        "announced": [each.to_document() for each in announced],
    }
    arrays: dict[str, Any] = {}
    if predictions is not None:
        document["clips"] = list(predictions.clips)
        arrays = {"scores": predictions.scores, "targets": predictions.targets, "folds": predictions.folds}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, document=np.array(json.dumps(document)), **arrays)


def read_result(path: Path, dataset: Dataset) -> Result:
    """Reads what `write_result` wrote.

    Raises:
        UserError: it is damaged.
    """
    with made_again_if_deleted(path):
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            document = json.loads(str(arrays["document"]))
            predictions = None
            if "scores" in arrays:
                clips = tuple(map(str, document["clips"]))
                predictions = Predictions(dataset.labels, arrays["scores"], arrays["targets"], clips, arrays["folds"])
        curve = [Epoch(**each) for each in document["curve"]]
        found = tuple(document["found"]) if document.get("found") else None  # earlier versions wrote none
        announced = tuple(map(Announced.from_document, document.get("announced", ())))
        return Result(predictions, curve, document["kept"] or 0, document.get("marks", []), found, announced)


def in_words(result: Result) -> str:
    """A fold's result: its accuracy; where there is one label, the number of clips that reach the threshold."""
    assert result.predictions is not None
    if len(result.predictions.labels) == 1 and result.found is not None:
        return "{} of {} clips reach the threshold".format(*result.found)
    return _percent(accuracy(result.predictions))


def mean_in_words(joint: Predictions) -> str:
    """The mean over folds."""
    mean, spread = mean_and_std(list(accuracy_by_fold(joint).values()))
    return (
        f"mean  : {_percent(mean)}   standard deviation {100 * (spread or 0):.2f}   "
        f"calibration error {_percent(calibration_error(joint))}"
    )


def metrics_of(folds: Sequence[Result]) -> dict[str, Any]:
    """Results of all folds, two or more, for the checkpoint from all clips."""
    name = f"{_NUMBERS[len(folds)]}_fold"
    joint = Predictions.joined([fold.predictions for fold in folds if fold.predictions is not None])
    if len(joint.labels) == 1:
        counts = [fold.found for fold in folds if fold.found is not None]
        return {f"{name}_found": sum(count for count, _ in counts) / max(1, sum(of for _, of in counts))}
    mean, spread = mean_and_std(list(accuracy_by_fold(joint).values()))
    return {f"{name}_accuracy": mean, f"{name}_std": spread, f"{name}_ece": calibration_error(joint)}


def announced_in(results: Iterable[Result]) -> list[Announced]:
    """Announcements where none of the labels sounds: in all folds' background together, and in ESC-50."""
    by_place: dict[str, list[Announced]] = {}
    for result in results:
        for each in result.announced:
            by_place.setdefault(each.where, []).append(each)
    return [Announced.joined(each) for each in by_place.values()]


def _percent(share: float) -> str:
    return f"{100 * share:6.2f} %"
