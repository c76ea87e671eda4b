"""`tagger eval`: scores checkpoints on clips that they were not trained on; refuses others."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger.checkpoints import checkpoint, store
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.engine.runtime_torch import Classifier
from tagger.errors import UserError
from tagger.printable import number_of
from tagger.progress import counted
from train.data import waveforms
from train.data.corpus import Corpus
from train.data.dataset import FOLDS, Dataset, Rows, leak, leaks
from train.evaluate import compare, compare_streams, report, streams
from train.evaluate.announcements import ONE_LABEL, found
from train.evaluate.inputs import StreamOptions
from train.evaluate.metrics import accuracy, accuracy_by_fold, calibration_error, mean_and_std
from train.evaluate.predictions import NO_LABEL, Predictions
from train.messages import Say

_BATCH = 32
"""Clips in a batch."""
_MOST_DIFFERENCES = 5
"""Most settings that are named where two checkpoints differ."""


def predict(loaded: Checkpoint, corpus: Corpus, rows: Rows, device: str, shifts: int = 1) -> Predictions:
    """The checkpoint's scores of these clips, by the classifier that the daemon runs.

    Args:
        shifts: number of copies to average over, each shifted circularly by another part of the window.
    """
    classify = Classifier(loaded, device)
    labels = loaded.info.labels
    scores = np.empty((len(rows), len(labels)), np.float32)
    for first in counted(f"scoring, {loaded.info.name}", range(0, len(rows), _BATCH), "batches"):
        batch = corpus.waveforms.batch(int(row) for row in rows[first : first + _BATCH])
        scores[first : first + _BATCH] = _scores(classify, batch, shifts)
    clips = [corpus.dataset.clips[row] for row in rows]
    names = corpus.dataset.labels
    targets = [NO_LABEL if clip.label is None else labels.index(names[clip.label]) for clip in clips]
    titles = [clip.title for clip in clips]
    folds = np.array([clip.fold for clip in clips], np.int64)
    return Predictions(labels, scores, np.array(targets, np.int64), tuple(titles), folds)


def _scores(classify: Classifier, batch: NDArray[np.float32], shifts: int) -> NDArray[np.float32]:
    turned = [np.roll(batch, batch.shape[1] * shift // shifts, axis=1) for shift in range(shifts)]
    mean: NDArray[np.float32] = np.mean([classify(each).values for each in turned], axis=0, dtype=np.float32)
    return mean


def evaluate(
    dataset: Dataset,
    models: Sequence[str],
    folds: Sequence[int],
    output: Path,
    device: str,
    shifts: int,
    strict: bool,
    allow_leak: bool,
    say: Say,
    streamed: StreamOptions | None = None,
) -> None:
    """Writes a report.

    Args:
        models: checkpoints' names or paths, or folders that `tagger train` wrote, for their checkpoint of each fold.
            Checkpoints of different folds are one model; what has a fold in common is compared.
        folds: folds to score. Empty: the one that each checkpoint was not trained on.
        output: folder of the report.
        streamed: score in streams that are made from the clips. None: clip by clip.

    Raises:
        UserError: a checkpoint was trained on clips that it would be scored on, or has other labels.
    """
    if empty := [str(fold) for fold in folds if not len(dataset.held_out(fold))]:
        folds = [fold for fold in folds if str(fold) not in empty]
        message = f"no clip of a label is in fold {', '.join(empty)}"
        if not folds:
            raise UserError(f"{dataset.name}: {message}")
        say(f"{message}, which is left out")
    systems, is_comparison = _systems(models, folds, say)
    pairs = [pair for of in systems.values() for pair in of]
    if is_comparison and len(dataset.labels) == 1 and streamed is None:
        raise UserError(f"accuracy means nothing with one label, {dataset.labels[0]}: compare with --streamed")
    marks: list[str] = []
    for loaded, fold in pairs:
        if missing := [label for label in dataset.labels if label not in loaded.info.labels]:
            raise UserError(f"{loaded.info.name} does not know {len(missing)} of the labels: {', '.join(missing[:5])}")
        marks += _leak(loaded, dataset, fold, allow_leak)
    by_rate: dict[tuple[int, float], Corpus] = {}

    def corpora(loaded: Checkpoint) -> Corpus:
        key = loaded.info.mel.sample_rate_hz, loaded.info.window_seconds
        if key not in by_rate:
            by_rate[key] = Corpus.of(*waveforms.load(dataset, *key, strict, say))
        return by_rate[key]

    names = {model: {str(fold): loaded.info.name for loaded, fold in of} for model, of in systems.items()}
    facts: dict[str, Any] = {
        **report.circumstances(),
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "checkpoints": names if is_comparison else {fold: name for of in names.values() for fold, name in of.items()},
    }
    for mark in marks:
        say(mark)
    if streamed is not None and is_comparison:
        compare_streams.evaluate(systems, corpora, streamed, output, device, marks, facts, say)
        return
    if streamed is not None:
        streams.evaluate(pairs, corpora, streamed, output, device, marks, facts, say)
        return
    facts["test-time options"] = f"mean of {shifts} time shifts" if shifts > 1 else "none"
    scored = {model: _scored(of, corpora, device, shifts, say, is_comparison) for model, of in systems.items()}
    if not any(scored.values()):
        raise UserError(f"{dataset.name}: no clip of a label is left to score")
    if is_comparison:
        joined = {model: Predictions.joined(parts) for model, parts in scored.items()}
        _compare(joined, f"Comparison on {dataset.name}", output, marks, facts, say)
    else:
        _report(
            [part for of in scored.values() for part in of], f"Evaluation on {dataset.name}", output, marks, facts, say
        )


def _report(
    parts: Sequence[Predictions],
    title: str,
    output: Path,
    marks: Sequence[str],
    facts: Mapping[str, Any],
    say: Say,
) -> None:
    """Writes and prints the result of one model."""
    joint = Predictions.joined(parts)
    if len(parts) > 1 and len(joint.labels) > 1:
        mean, spread = mean_and_std(list(accuracy_by_fold(joint).values()))
        say(f"mean  : {100 * mean:6.2f} %   standard deviation {100 * (spread or 0):.2f}")
    if len(joint.labels) > 1:
        say(f"calibration error {100 * calibration_error(joint):.2f} % (15 bins)")
    else:
        marks = [*marks, ONE_LABEL]
        say(ONE_LABEL)
    report.write(output, title, joint, {}, facts, marks)
    say(f"report: {output / 'report.md'}")


def _scored(
    pairs: Sequence[tuple[Checkpoint, int]],
    corpora: Callable[[Checkpoint], Corpus],
    device: str,
    shifts: int,
    say: Say,
    is_brief: bool,
) -> list[Predictions]:
    """Each checkpoint's predictions of its fold; folds without clips are left out.

    Args:
        is_brief: whether the accuracy of a fold is not said.
    """
    parts: list[Predictions] = []
    for loaded, fold in pairs:
        info, corpus = loaded.info, corpora(loaded)
        rows = corpus.dataset.held_out(fold)
        if not len(rows):
            say(f"fold {fold}: no clip of a label, which is left out   {info.name}")
            continue
        parts.append(part := predict(loaded, corpus, rows, device, shifts))
        if is_brief:
            continue
        if len(info.labels) == 1:
            said = "{} of {} clips reach the threshold".format(*found(part, info.thresholds))
        else:
            said = f"{100 * accuracy(part):6.2f} % of {number_of(len(rows), 'clip')}"
        say(f"fold {fold}: {said}   {info.name}")
    return parts


_Pairs = list[tuple[Checkpoint, int]]
"""Checkpoints, and the fold that each is scored on."""


def _systems(models: Sequence[str], folds: Sequence[int], say: Say) -> tuple[dict[str, _Pairs], bool]:
    """Each model's checkpoints and folds, and whether they are compared: whether a fold is scored by two of them.

    Raises:
        UserError: a model is named twice, or two can be neither compared nor scored together.
    """
    if twice := [model for model in models if models.count(model) > 1]:
        raise UserError(f"--model {twice[0]}: is named twice, so there would be two checkpoints for one fold")
    systems = {model: _pairs(model, folds) for model in models}
    pairs = [pair for of in systems.values() for pair in of]
    if len({fold for _, fold in pairs}) != len(pairs):
        return _on_the_same(systems, say), True
    if len({loaded.info.labels for loaded, _ in pairs}) > 1:
        raise UserError(
            "checkpoints with different labels cannot be scored together, as folds of one model; name models that have "
            "a fold in common to compare them"
        )
    first, fold = pairs[0]
    for other, others_fold in pairs[1:]:
        if differences := _differences(_way(first), _way(other)):
            why = (
                f"fold {others_fold} ({other.info.name}) was trained otherwise than fold {fold} ({first.info.name}), "
                f"so they are no folds of one model: {', '.join(differences)}"
            )
            if len(systems) > 1:
                raise UserError(f"{_apart(systems)}; {why}")
            raise UserError(f"{why}; train the folds alike, or score each with --folds {others_fold}")
    return systems, False


def _way(loaded: Checkpoint) -> dict[str, Any]:
    """How it was trained, by the names of settings. Checkpoints of one training's folds have this in common."""
    info = loaded.info
    settings = info.training.get("settings") or {}
    return {"architecture": info.architecture, "recipe": info.training.get("recipe"), **settings}


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs, as `epochs 3, not 5`: the other's first; at most _MOST_DIFFERENCES of them, and how many more."""
    names = [name for name in {**one, **other} if _worded(one.get(name)) != _worded(other.get(name))]
    shown = [f"{name} {_worded(other.get(name))}, not {_worded(one.get(name))}" for name in names[:_MOST_DIFFERENCES]]
    return shown + ([f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else [])


def _worded(value: object) -> str:
    return "unknown" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _on_the_same(systems: Mapping[str, _Pairs], say: Say) -> dict[str, _Pairs]:
    """The models with the folds that all of them are scored on.

    Raises:
        UserError: there is none.
    """
    shared = set.intersection(*({fold for _, fold in of} for of in systems.values()))
    if not shared:
        raise _apart(systems)
    if left_out := sorted({fold for of in systems.values() for _, fold in of} - shared):
        say(
            f"compared on fold {', '.join(map(str, sorted(shared)))}; not every model has fold "
            f"{', '.join(map(str, left_out))}"
        )
    return {model: [pair for pair in of if pair[1] in shared] for model, of in systems.items()}


def _apart(systems: Mapping[str, _Pairs]) -> UserError:
    """The error for models without a fold in common."""
    each = "; ".join(f"{model}: {', '.join(str(fold) for _, fold in of)}" for model, of in systems.items())
    return UserError(f"models are compared on the same clips, and no fold is one of each ({each})")


def _compare(
    models: Mapping[str, Predictions],
    title: str,
    output: Path,
    marks: Sequence[str],
    facts: Mapping[str, Any],
    say: Say,
) -> None:
    """Writes and prints a comparison on the clips that every model could hear."""
    shared = set.intersection(*(set(p.clips) for p in models.values()))
    if left_out := len({clip for p in models.values() for clip in p.clips}) - len(shared):
        say(f"left out, not being the same for each model: {number_of(left_out, 'clip or window', 'clips or windows')}")
    if not shared:
        raise UserError("no clip is the same for each model: their windows differ")
    same = {model: p.only(np.array([clip in shared for clip in p.clips])) for model, p in models.items()}
    compare.write(output, title, same, marks, facts)
    for line in (*compare.aligned(compare.rows(same)), *compare.explained(same)):
        say(line)
    say(f"report: {output / 'comparison.md'}")


def _pairs(model: str, folds: Sequence[int]) -> list[tuple[Checkpoint, int]]:
    """Checkpoints, and the fold that each is scored on."""
    folder = Path(model)
    if folder.is_dir():
        present = [fold for fold in FOLDS if (folder / f"fold{fold}.safetensors").is_file()]
        chosen = folds or present
        if missing := [fold for fold in chosen if fold not in present]:
            raise UserError(f"{folder}: has no fold{missing[0]}.safetensors; `tagger train` writes one for each fold")
        if not chosen:
            raise UserError(f"{folder}: holds no fold1.safetensors, ..., as `tagger train` writes them")
        return [(checkpoint.load(folder / f"fold{fold}.safetensors"), fold) for fold in chosen]
    loaded = checkpoint.load(store.find(model))
    if folds:
        return [(loaded, fold) for fold in folds]
    held_out = loaded.info.training.get("held_out_fold")
    if held_out is None:
        raise UserError(
            f"{loaded.info.name} has no test fold of its own: it was trained on all, or elsewhere. Score the folder "
            "of its fold checkpoints, or name folds that it has not heard with --folds"
        )
    return [(loaded, int(held_out))]


def _leak(loaded: Checkpoint, dataset: Dataset, fold: int, allowed: bool) -> list[str]:
    """Warnings about the result.

    Raises:
        UserError: the checkpoint was trained on these clips, and that is not allowed.
    """
    info = loaded.info
    if "trained_on" not in info.training:
        return [f"{info.name} does not say what it was trained on: it may have heard these clips"]
    heard = info.training["trained_on"]
    message = leak(info.name, dataset, fold, heard)
    if message is None:
        return []
    if not allowed:
        first = dataset.clips[int(leaks(dataset, dataset.held_out(fold), heard)[0])].title
        raise UserError(f"{message} (the first: {first}): its score would mean nothing. --allow-leak scores it anyway")
    return [f"LEAK: {message}; not a result"]
