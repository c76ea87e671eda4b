"""Several models as one classifier: they share the windows, and features where their front ends are equal.

The last labels may be classes of one model's second opinion, from the same run of its network.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.checkpoints.classes import ClassesInfo
from tagger.checkpoints.joint import JointInfo
from tagger.engine.scores import BatchScores, NetworkOutputs, Preparer, WindowClassifier
from tagger.errors import CheckpointError
from tagger.events import Samples, Window


class JointClassifier(WindowClassifier):
    """Asks each of its models, and joins their labels in the order of `JointInfo.labels`."""

    def __init__(self, parts: Sequence[WindowClassifier], info: JointInfo, window_s: float | None = None) -> None:
        """
        Args:
            parts: the models of `info`, in its order.
            window_s: length of every model's window, seconds. None: each has its own, the end of the longest.
        """
        super().__init__(
            info.parts[0],
            1,
            "; ".join(dict.fromkeys(part.runs_on for part in parts)),
            min(part.batches for part in parts),
            min(part.most_windows for part in parts),
            max(part.linger_s for part in parts),
        )
        self.parts, self.info, self._joint = tuple(parts), info, info
        self._window_s = window_s

    def is_out_of_memory(self, error: BaseException) -> bool:
        return any(part.is_out_of_memory(error) for part in self.parts)

    def __call__(self, waveforms: Samples) -> BatchScores:
        samples = waveforms.shape[1]
        prepare = self.preparer(samples, samples)
        return self.of_prepared([prepare(Window(each, 0, samples, 0.0)) for each in waveforms])

    def preparer(self, window_samples: int, hop_samples: int) -> Preparer:
        """One for each front end and length of window."""
        rate_hz = self.info.mel.sample_rate_hz
        preparers: dict[Hashable, tuple[int, Preparer]] = {}
        for part, described in zip(self.parts, self._joint.parts, strict=True):
            own = min(window_samples, round((self._window_s or described.window_seconds) * rate_hz))
            if (key := _key(part, own)) not in preparers:
                preparers[key] = own, part.preparer(own, hop_samples)

        def prepare(window: Window) -> _Prepared:
            pieces = {key: (_end_of(window, own, rate_hz), of) for key, (own, of) in preparers.items()}
            return _Prepared(
                window_samples,
                {key: of(piece) for key, (piece, of) in pieces.items()},
                {key: piece.start - window.start for key, (piece, _) in pieces.items()},
            )

        return prepare

    def of_prepared(self, prepared: Sequence["_Prepared"]) -> BatchScores:
        rate_hz, samples = self.info.mel.sample_rate_hz, prepared[0].window_samples
        features: dict[Hashable, Any] = {}
        heard: list[tuple[BatchScores, list[int]]] = []
        classes, further = self._joint.classes, np.zeros((len(prepared), 0), np.float32)
        for part, described in zip(self.parts, self._joint.parts, strict=True):
            key = _key(part, min(samples, round((self._window_s or described.window_seconds) * rate_hz)))
            if key not in features:
                features[key] = part.joined([each.pieces[key] for each in prepared])
            if classes is not None and classes.of is described:
                outputs = part.network_outputs(features[key])
                scores, further = part.scored(outputs), self._further(classes, outputs)
            else:
                scores = part(features[key]) if part.front_end is None else part.of_features(features[key])
            heard.append((scores, [each.starts[key] for each in prepared]))
        step_s = min(scores.step_s for scores, _ in heard)
        steps = _steps(heard, step_s, samples / rate_hz)
        columns = [list(each) for each in self._joint.columns]
        activity = [
            _on_grid(scores, [start / rate_hz for start in starts], step_s, steps)[:, column]
            for (scores, starts), column in zip(heard, columns, strict=True)
        ]
        speech = [scores.speech for scores, _ in heard if scores.speech is not None]
        values = [scores.values[:, column] for (scores, _), column in zip(heard, columns, strict=True)]
        no_axis = np.full((*further.shape, steps), np.nan, np.float32)
        return BatchScores(
            np.concatenate([*values, further], 1),
            np.concatenate([*activity, no_axis], 1),
            step_s,
            *self._unknown([scores for scores, _ in heard], columns, further),
            speech=np.max(speech, axis=0) if speech else None,
            embedding=heard[0][0].embedding if len(heard) == 1 else None,
            added=_added([scores for scores, _ in heard], columns, further),
        )

    @staticmethod
    def _further(classes: ClassesInfo, outputs: NetworkOutputs) -> Samples:
        """[B, classes], scores of the classes that were chosen.

        Raises:
            CheckpointError: the graph was exported before the checkpoint had a second opinion.
        """
        if outputs.opinion is None:
            name = classes.of.name
            raise CheckpointError(f"{name}: its graph has no second opinion; `tagger export {name}` writes it again")
        return classes.scores(outputs.opinion)

    def _unknown(
        self, heard: Sequence[BatchScores], columns: Sequence[list[int]], further: Samples
    ) -> tuple[Samples | None, tuple[tuple[str, ...], ...]]:
        """Scores before the penalty for other sounds, and for each window and label, the other sound."""
        if all(scores.plain is None for scores in heard):
            return None, ()
        pairs = list(zip(heard, columns, strict=True))
        plain = [(scores.values if scores.plain is None else scores.plain)[:, column] for scores, column in pairs]
        other = tuple(
            (*(_other(scores, row, each) for scores, column in pairs for each in column), *[""] * further.shape[1])
            for row in range(len(heard[0].values))
        )
        return np.concatenate([*plain, further], 1), other


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What preparers made of a window: one piece for each front end and length of window."""

    window_samples: int
    pieces: dict[Hashable, Any]
    starts: dict[Hashable, int]
    """Where in the window the piece begins, samples."""


def _added(heard: Sequence[BatchScores], columns: Sequence[list[int]], further: Samples) -> Samples | None:
    """What second opinions added to the logits: 0 for labels of models without one, and for classes."""
    if all(scores.added is None for scores in heard):
        return None
    parts = [np.zeros_like(scores.values) if scores.added is None else scores.added for scores in heard]
    own = [part[:, column] for part, column in zip(parts, columns, strict=True)]
    return np.concatenate([*own, np.zeros_like(further)], 1)


def _other(scores: BatchScores, row: int, column: int) -> str:
    """The sound outside the label set that is most likely for a label; empty: there is none."""
    if scores.plain is None:
        return ""
    found = scores.other[row]
    return found if isinstance(found, str) else found[column]


def _key(part: WindowClassifier, samples: int) -> Hashable:
    """Equal for models that can be given the same."""
    return (part if part.front_end is None else part.front_end), samples


def _end_of(window: Window, samples: int, rate_hz: int) -> Window:
    """The last of the window's real samples; what is missing follows as silence."""
    if samples == len(window.samples):
        return window
    start = max(samples, window.valid) - samples
    return Window(
        window.samples[start : start + samples],
        window.start + start,
        min(samples, window.valid - start),
        window.time + start / rate_hz,
    )


def _steps(heard: Sequence[tuple[BatchScores, list[int]]], step_s: float, window_s: float) -> int:
    """Number of steps of the time axis that all models get: that of a model whose axis it is, if there is one."""
    for scores, starts in heard:
        if scores.step_s == step_s and not any(starts):
            return int(scores.activity.shape[2])
    return math.ceil(window_s / step_s - 1e-9)


def _on_grid(scores: BatchScores, starts_s: Sequence[float], step_s: float, steps: int) -> Samples:
    """A model's activity, [B, labels, steps], at these steps of the whole window: linear between its own, 0 before."""
    if scores.step_s == step_s and scores.activity.shape[2] == steps and not any(starts_s):
        return scores.activity
    found = np.zeros((*scores.activity.shape[:2], steps), np.float32)
    last = scores.activity.shape[2] - 1
    for row, start_s in enumerate(starts_s):
        at = (step_s * np.arange(steps) - start_s) / scores.step_s
        low = np.clip(np.floor(at).astype(int), 0, last)
        high = np.minimum(low + 1, last)
        share = np.clip(at - low, 0, 1).astype(np.float32)
        between = scores.activity[row][:, low] * (1 - share) + scores.activity[row][:, high] * share
        found[row] = np.where(at >= 0, between, 0)
    return found
