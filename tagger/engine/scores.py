"""Turns a network's output into `Scores`.

Every runtime is a subclass of `WindowClassifier`, in a module of its own; this one imports none of them.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.joint import ModelInfo
from tagger.engine.turns import Turns
from tagger.events import Samples, Scores, Window

_FORGETTING = 0.9
"""Share of the longest time that is remembered after each batch."""


@dataclass(frozen=True, eq=False)
class NetworkOutputs:
    """What a network computes of a batch of windows (`tagger.models.network.Outputs`), as float32."""

    logits: Samples
    """[B, labels]."""
    steps: Samples
    """[B, steps, labels]: logits of each step of the time axis."""
    surprise: Samples | None = None
    """[B, other classes], 0 to 1. None: the network has no such layer."""
    embedding: Samples | None = None
    """[B, size]: pooled features before the head. None: the graph was exported by an earlier version."""


@dataclass(frozen=True, eq=False)
class BatchScores:
    """Calibrated scores of a batch of windows."""

    values: Samples
    """[B, labels], each 0 to 1."""
    activity: Samples
    """[B, labels, steps], each 0 to 1."""
    step_s: float
    """Distance between steps, seconds. The first step is at the window's first sample."""
    plain: Samples | None = None
    """[B, labels]: `values` before the penalty for sounds outside the label set. None: the model has no such head."""
    other: tuple[str | tuple[str, ...], ...] = ()
    """[B]: the sound outside the label set that is most likely, or one for each label; empty where `plain` is None."""


class WindowClassifier:
    """A model that is ready to classify. One thread at a time calls it.

    Subclasses write `outputs`; or, where other models may share their features, `front_end`, `features` and
    `outputs_of`.
    """

    info: ModelInfo
    front_end: Hashable = None
    """Equal for models whose `features` are equal. None: they are not shared."""

    def __init__(self, info: CheckpointInfo, step_frames: int, runs_on: str) -> None:
        """
        Args:
            step_frames: frames of the features from one step of the network's time axis to the next.
            runs_on: device and runtime, for people.
        """
        self.info, self.runs_on = info, runs_on
        self._checkpoint = info
        self.step_s = float(step_frames * info.mel.hop_samples / info.mel.sample_rate_hz)
        """Distance between the steps of the network's time axis, seconds."""
        self._turns = Turns()
        self.batch_s = 0.0
        """Longest time of the latest batches, seconds."""

    def outputs(self, waveforms: Samples) -> NetworkOutputs:
        """
        Args:
            waveforms: [B, N], float32, full scale -1 to 1, at `info.mel.sample_rate_hz`.
        """
        return self.outputs_of(self.features(waveforms))

    def features(self, waveforms: Samples) -> Any:
        """What the network is given. Input: as `outputs`."""
        raise NotImplementedError

    def outputs_of(self, features: Any) -> NetworkOutputs:
        """What the network computes of its `features`."""
        raise NotImplementedError

    def __call__(self, waveforms: Samples) -> BatchScores:
        """Scores of a batch. Input: as `outputs`."""
        return calibrated(self.outputs(waveforms), self._checkpoint, self.step_s)

    def of_features(self, features: Any) -> BatchScores:
        """Scores of what `features` gave."""
        return calibrated(self.outputs_of(features), self._checkpoint, self.step_s)

    def classify(
        self, windows: Sequence[Window], skip: Callable[[Window], bool] = lambda window: False
    ) -> list[Scores]:
        """Scores of each window, in order. May be called from any thread; one batch at a time is let through.

        Args:
            windows: all of one length.
            skip: called with each window, before and after the wait for other threads' batches. A window for which it
                returns True is left out.
        """
        taken = [window for window in windows if not skip(window)]
        if not taken:
            return []
        with self._turns as turns:
            taken = [window for window in taken if not skip(window)]
            if not taken:
                return []
            turns.count()
            # One window alone is a view, not a copy.
            batch = taken[0].samples[None] if len(taken) == 1 else np.stack([window.samples for window in taken])
            began = time.monotonic()
            batch_scores = self._of_windows(batch, taken)
            self.batch_s = max(time.monotonic() - began, _FORGETTING * self.batch_s)
        return [self._scores(window, batch_scores, row) for row, window in enumerate(taken)]

    def _of_windows(self, waveforms: Samples, windows: Sequence[Window]) -> BatchScores:
        """Scores of windows, whose samples are [B, N]."""
        return self(waveforms)

    def warm_up(self, window_samples: int) -> None:
        """Classifies silence twice, since the first calls of a network are slow."""
        for _ in range(2):
            self(np.zeros((1, window_samples), np.float32))

    def _scores(self, window: Window, batch: BatchScores, row: int) -> Scores:
        rate_hz = self.info.mel.sample_rate_hz
        start_s = window.start / rate_hz
        end_s = start_s + window.valid / rate_hz
        unknown = (batch.plain[row], batch.other[row]) if batch.plain is not None else (None, "")
        return Scores(batch.values[row], start_s, end_s, window.time, batch.activity[row], batch.step_s, *unknown)


def calibrated(outputs: NetworkOutputs, info: CheckpointInfo, step_s: float) -> BatchScores:
    """Scores from logits: temperature, bias and activation of the checkpoint, and its penalty for other sounds."""
    steps = outputs.steps
    activity = _sigmoid(steps) if getattr(info.config, "moments", False) else _activated(steps, info)
    within = activity.transpose(0, 2, 1)
    plain = _activated(outputs.logits, info)
    if outputs.surprise is None:
        return BatchScores(plain, within, step_s)
    most = outputs.surprise.max(1, keepdims=True)
    values = _activated(outputs.logits - np.float32(info.surprise) * most, info)
    other = tuple(info.others[number] for number in outputs.surprise.argmax(1))
    return BatchScores(values, within, step_s, plain, other)


def _activated(logits: Samples, info: CheckpointInfo) -> Samples:
    scaled = logits / np.float32(info.temperature) + np.float32(info.bias)
    return _softmax(scaled) if info.activation == "softmax" else _sigmoid(scaled)


def _sigmoid(x: Samples) -> Samples:
    with np.errstate(over="ignore"):  # exp(-x) is infinite where the sigmoid is 0
        return np.float32(1) / (np.float32(1) + np.exp(-x))


def _softmax(x: Samples) -> Samples:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)  # type: ignore[no-any-return]
