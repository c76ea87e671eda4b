"""Report of a training or an evaluation: JSON and CSV for machines; Markdown and pictures for people.

The text is written in `markdown`, the pictures are drawn in `plots`, the measures are computed in `metrics`.
"""

import csv
import json
import math
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tagger
from tagger.errors import to_install
from tagger.files import replacing
from train.curve import Epoch
from train.evaluate import metrics, plots
from train.evaluate.markdown import markdown_of
from train.evaluate.metrics import Label
from train.evaluate.predictions import NO_LABEL, Predictions

REPORT_FORMAT = 1
"""Version of report.json."""


def circumstances() -> dict[str, Any]:
    """The command line and the versions, for every report."""
    versions = {"tagger": tagger.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"command": shlex.join(["tagger", *sys.argv[1:]]), "versions": versions}


def write(
    folder: Path,
    title: str,
    predictions: Predictions | None,
    curves: Mapping[str, Sequence[Epoch]],
    facts: Mapping[str, Any],
    marks: Sequence[str],
    chosen: Mapping[str, int] | None = None,
) -> None:
    """Writes report.json, report.md, predictions.csv and pictures; replaces or removes an older report's files.

    Without matplotlib it writes no pictures, and report.md says so.

    Args:
        predictions: for test clips. None: the report covers the training alone.
        curves: epochs by name, such as `fold 1`.
        facts: recipe, seed, data, command line, ...
        marks: warnings; they come first.
        chosen: each curve's kept epoch. A curve that is not there kept its last.
    """
    curves = {name: tuple(epochs) for name, epochs in curves.items() if epochs}
    chosen = dict(chosen or {})
    marks = (*marks, *_broken(curves))
    results = None if predictions is None else _results(predictions)
    document = {
        "format": REPORT_FORMAT,
        "title": title,
        "marks": marks,
        "facts": facts,
        "results": results,
        "curves": {name: {"chosen_epoch": chosen.get(name), "epochs": each} for name, each in curves.items()},
    }
    with replacing(folder / "report.json") as partial:
        partial.write_text(json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    if predictions is None:
        (folder / "predictions.csv").unlink(missing_ok=True)
    else:
        _write_table(folder / "predictions.csv", predictions)
    no_pictures = None
    for name in plots.NAMES:
        (folder / name).unlink(missing_ok=True)
    try:
        pictures = plots.write(folder, predictions, curves, chosen)
    except ImportError as error:
        pictures, no_pictures = (), f"No pictures: {error}. What draws them: {to_install('train')}."
    lines = markdown_of(title, predictions, results, curves, _plain(facts), marks, chosen, pictures, no_pictures)
    with replacing(folder / "report.md") as partial:
        partial.write_text("\n".join(lines) + "\n", "utf-8")


def _results(p: Predictions) -> dict[str, Any]:
    known = p.known
    results: dict[str, Any] = {"clips": len(known.clips), "background": len(p.clips) - len(known.clips)}
    if not known.clips:
        return results
    by_fold = metrics.accuracy_by_fold(p)
    mean, std = metrics.mean_and_std(list(by_fold.values()))
    labels = metrics.per_label(p)
    return results | {
        "right": int(known.right.sum()),
        "accuracy": metrics.accuracy(p),
        "accuracy_interval_95": metrics.accuracy_interval(p),
        "recordings": len({metrics.recording(clip) for clip in known.clips}),
        "accuracy_by_fold": by_fold,
        "accuracy_mean": mean,
        "accuracy_std": std,
        "calibration_error": metrics.calibration_error(p),
        "mean_confidence": float(known.confidence.mean()),
        "mean_average_precision": _mean_average_precision(labels),
        "reliability": metrics.reliability(p),
        "labels": labels,
        "categories": metrics.per_category(p),
        "most_confused": metrics.most_confused(p, len(known.clips)),
        "confusion": metrics.confusion(p),
    }


def _mean_average_precision(labels: Iterable[Label]) -> float:
    """Mean over the labels that have clips."""
    found = [label.average_precision for label in labels if label.average_precision is not None]
    return sum(found) / len(found)


def _write_table(path: Path, p: Predictions) -> None:
    """Writes a row for each clip. Background has no truth and is neither right nor wrong."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip", "fold", "truth", "said", "score", "right"])
        columns = (p.clips, p.folds.tolist(), p.targets.tolist(), p.said.tolist(), p.scores.max(1), p.right.tolist())
        for clip, fold, target, said, score, right in zip(*columns, strict=True):
            truth = ["", ""] if target == NO_LABEL else [p.labels[target], int(right)]
            writer.writerow([clip, fold, truth[0], p.labels[said], str(score), truth[1]])


def _broken(curves: Mapping[str, Sequence[Epoch]]) -> Iterator[str]:
    """A warning for each curve with a loss that is not a number."""
    for name, epochs in curves.items():
        for each in epochs:
            measured = (each.train_loss, each.inner_loss, each.ema_loss)
            if any(loss is not None and not math.isfinite(loss) for loss in measured):
                yield f"DIVERGED: the loss of {name} is not a number in epoch {each.epoch}"
                break


def _plain(value: Any) -> Any:
    """The value as JSON has it. NaN and infinite numbers become null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=str)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
