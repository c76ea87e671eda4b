"""File of a finished stage: predictions and learning curve, for `--resume` and the report."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tagger.files import replacing
from train.curve import Epoch
from train.data.dataset import Dataset
from train.evaluate.predictions import Predictions
from train.fit.trainer import Trained


def write_result(path: Path, predictions: Predictions | None, trained: Trained, marks: Sequence[str]) -> None:
    """Saves what `--resume` needs of a stage that is done."""
    document: dict[str, Any] = {
        "curve": [asdict(epoch) for epoch in trained.curve],
        "kept": trained.kept_epoch,
        "marks": list(marks),
    }
    arrays: dict[str, Any] = {}
    if predictions is not None:
        document["clips"] = list(predictions.clips)
        arrays = {"scores": predictions.scores, "targets": predictions.targets, "folds": predictions.folds}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, document=np.array(json.dumps(document)), **arrays)


def read_result(path: Path, dataset: Dataset) -> tuple[Predictions | None, list[Epoch], int, list[str]]:
    """A stage's predictions (None: nothing was held out), learning curve, kept epoch (0: none) and warnings."""
    with np.load(path, allow_pickle=False) as arrays:
        document = json.loads(str(arrays["document"]))
        predictions = None
        if "scores" in arrays:
            predictions = Predictions(
                dataset.labels, arrays["scores"], arrays["targets"], tuple(map(str, document["clips"])), arrays["folds"]
            )
    curve = [Epoch(**each) for each in document["curve"]]
    return predictions, curve, document["kept"] or 0, document.get("marks", [])
