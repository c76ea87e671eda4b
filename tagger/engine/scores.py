"""Turns a network's output into `Scores`.

Every runtime is a subclass of `WindowClassifier`, in a module of its own; this one imports none of them.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.audio.window import SlidingWindows
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.joint import ModelInfo
from tagger.engine.engine import Engine, Lane
from tagger.engine.smoothing import Smoother, smoother
from tagger.engine.speech import speech_in
from tagger.events import Samples, Scores, Window

Preparer = Callable[[Window], Any]
"""Makes of a window what `WindowClassifier.scores_of` takes."""


ON_GPU: Mapping[str, Any] = {"batches": 1, "most_windows": 256, "linger_s": 0.003}
"""Arguments of a `WindowClassifier` on a GPU: large batches, for which a busy device may wait a few milliseconds."""


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
    opinion: Samples | None = None
    """[B, classes]: logits of the second opinion (`tagger.checkpoints.opinion`). None: the network has none."""
    second: Samples | None = None
    """[B, labels]: calibrated logits of the labels by the second opinion. None: it has none."""


@dataclass(frozen=True, eq=False)
class BatchScores:
    """Calibrated scores of a batch of windows."""

    values: Samples
    """[B, labels], each 0 to 1."""
    activity: Samples
    """[B, labels, steps], each 0 to 1; NaN for labels without a time axis."""
    step_s: float
    """Distance between steps, seconds. The first step is at the window's first sample."""
    plain: Samples | None = None
    """[B, labels]: `values` before the penalty for sounds outside the label set. None: the model has no such head."""
    other: tuple[str | tuple[str, ...], ...] = ()
    """[B]: the sound outside the label set that is most likely, or one for each label; empty where `plain` is None."""
    speech: Samples | None = None
    """[B], 0 to 1: score of somebody speaking. None: the model cannot tell."""
    embedding: Samples | None = None
    """[B, size]: `NetworkOutputs.embedding`."""
    added: Samples | None = None
    """[B, labels]: what the second opinion added to the logits of `values`. None: the model has none."""


class WindowClassifier:
    """A model that is ready to classify. Any thread calls `lane` and `classify`; all else, the engine.

    Subclasses write `outputs`; or, where other models may share their features, `front_end`, `features` and
    `outputs_of`. A runtime that keeps something of a stream from window to window, or makes features where the network
    runs, writes `preparer` and `joined` too.
    """

    info: ModelInfo
    front_end: Hashable = None
    """Equal for models whose `features`, and what whose preparers give, are equal. None: they are not shared."""

    def __init__(
        self,
        info: CheckpointInfo,
        step_frames: int,
        runs_on: str,
        batches: int = 1,
        most_windows: int = 8,
        linger_s: float = 0.0,
    ) -> None:
        """
        Args:
            step_frames: frames of the features from one step of the network's time axis to the next.
            runs_on: device and runtime, for people.
            batches: threads that may run a batch at the same time.
            most_windows: most windows of several streams in a batch.
            linger_s: longest time that a batch waits for more windows on a busy device, seconds.
        """
        self.info, self.runs_on = info, runs_on
        self._checkpoint = info
        self.step_s = float(step_frames * info.mel.hop_samples / info.mel.sample_rate_hz)
        """Distance between the steps of the network's time axis, seconds."""
        self.batches, self.most_windows, self.linger_s = batches, most_windows, linger_s
        self.engine = Engine(self, batches, most_windows, linger_s)

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
        return self.scored(self.outputs(waveforms))

    def of_features(self, features: Any) -> BatchScores:
        """Scores of what `features` gave."""
        return self.scored(self.outputs_of(features))

    def network_outputs(self, joined: Any) -> NetworkOutputs:
        """What the network computes of what `joined` gave. `scored` makes scores of it."""
        return self.outputs(joined) if self.front_end is None else self.outputs_of(joined)

    def scored(self, outputs: NetworkOutputs) -> BatchScores:
        """Scores of what the network computed."""
        return calibrated(outputs, self._checkpoint, self.step_s)

    def preparer(self, window_samples: int, hop_samples: int) -> Preparer:
        """Makes the part of the work that needs one stream alone: by default, the features of each window.

        What is returned is called with the windows of one stream in their order: with one at a time, but in any thread.
        It may keep what the next window shares with this one: samples at the same place in the stream (`Window.start`)
        are the same, up to `Window.valid`. Windows may be missing, at a gap or because they were late.

        Args:
            window_samples: length of each window.
            hop_samples: distance of their starts, but for gaps.
        """
        if self.front_end is None:
            return lambda window: window.samples[None]
        return lambda window: self.features(window.samples[None])

    def joined(self, prepared: Sequence[Any]) -> Any:
        """Features of a batch, from what preparers of any streams gave; without a front end, the waveforms [B, N]."""
        return prepared[0] if len(prepared) == 1 else np.concatenate(prepared)

    def of_prepared(self, prepared: Sequence[Any]) -> BatchScores:
        """Scores of a batch, from what preparers of any streams gave."""
        return self(self.joined(prepared)) if self.front_end is None else self.of_features(self.joined(prepared))

    def scores_of(self, prepared: Sequence[Any], windows: Sequence[Window]) -> list[Scores]:
        """Scores of each window of a batch.

        Args:
            prepared: what preparers gave for these windows, all of one length.
        """
        batch = self.of_prepared(prepared)
        return [self._scores(window, batch, row) for row, window in enumerate(windows)]

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether a batch failed because it was too large."""
        return isinstance(error, MemoryError)

    def lane(
        self,
        sliding: SlidingWindows,
        behind: Callable[[], float] | None = None,
        on_late: Callable[[Window], None] = lambda window: None,
    ) -> Lane:
        """A stream's way to its scores, beside other threads' streams.

        Args:
            sliding: what cuts the stream into windows.
            behind: seconds of sound that wait to be read: a window is late when its scores could not be there within a
                hop. Any thread calls it. None: no window is ever late.
            on_late: called with a window that is left out because it is late.
        """
        hop_s = sliding.hop_samples / self.info.mel.sample_rate_hz
        prepare = self.preparer(sliding.window_samples, sliding.hop_samples)
        return Lane(self.engine, prepare, hop_s, behind, on_late, self.smoother())

    def smoother(self) -> Smoother:
        """For one stream whose windows are classified in pieces, in any order: a lane smooths by itself."""
        return smoother(self.info)

    def classify(self, windows: Sequence[Window]) -> list[Scores]:
        """Scores of each window by itself, in order. From any thread.

        Args:
            windows: all of one length, of any streams.
        """
        size = len(windows[0].samples) if windows else 0
        return Lane(self.engine, self.preparer(size, size)).scores(windows)

    def warm_up(self, window_samples: int) -> None:
        """Classifies silence twice, since the first calls of a network are slow."""
        prepare = self.preparer(window_samples, window_samples)
        silence = Window(np.zeros(window_samples, np.float32), 0, window_samples, 0.0)
        for _ in range(2):
            self.of_prepared([prepare(silence)])

    def _scores(self, window: Window, batch: BatchScores, row: int) -> Scores:
        rate_hz = self.info.mel.sample_rate_hz
        start_s = window.start / rate_hz
        end_s = start_s + window.valid / rate_hz
        plain, other = (batch.plain[row], batch.other[row]) if batch.plain is not None else (None, "")
        speech = None if batch.speech is None else float(batch.speech[row])
        embedding = None if batch.embedding is None else batch.embedding[row]
        own = batch.values[row], start_s, end_s, window.time, batch.activity[row], batch.step_s
        added = None if batch.added is None else batch.added[row]
        return Scores(*own, plain, other, speech, embedding, added)


def calibrated(outputs: NetworkOutputs, info: CheckpointInfo, step_s: float) -> BatchScores:
    """Scores from logits: temperature, bias and activation of the checkpoint, its penalty for other sounds, and its
    second opinion.
    """
    steps = outputs.steps
    activity = _sigmoid(steps) if getattr(info.config, "moments", False) else _activated(steps, info)
    within = activity.transpose(0, 2, 1)
    plain = _activated(outputs.logits, info)
    opinion = None if outputs.opinion is None else _sigmoid(outputs.opinion)
    speech = speech_in(outputs.surprise, opinion, plain, info)
    if info.opinion is not None and outputs.opinion is not None:
        logits = calibrated_logits(outputs, info)
        counted = info.opinion(logits, outputs.opinion, outputs.second)
        values, added = _sigmoid(counted.astype(np.float32)), (counted - logits).astype(np.float32)
        rather, embedding = info.opinion.rather(outputs.opinion, info.labels), outputs.embedding
        return BatchScores(values, within, step_s, plain, rather, speech, embedding, added)
    if outputs.surprise is None:
        return BatchScores(plain, within, step_s, speech=speech, embedding=outputs.embedding)
    other = tuple(info.others[number] for number in outputs.surprise.argmax(1))
    values = _activation(info)(calibrated_logits(outputs, info))
    return BatchScores(values, within, step_s, plain, other, speech, outputs.embedding)


def calibrated_logits(outputs: NetworkOutputs, info: CheckpointInfo) -> Samples:
    """[B, labels], logits less the penalty for other sounds, with the checkpoint's temperature and bias."""
    logits = outputs.logits
    if outputs.surprise is not None:
        logits = logits - np.float32(info.surprise) * outputs.surprise.max(1, keepdims=True)
    return _scaled(logits, info)


def _activated(logits: Samples, info: CheckpointInfo) -> Samples:
    return _activation(info)(_scaled(logits, info))


def _activation(info: CheckpointInfo) -> Callable[[Samples], Samples]:
    return _softmax if info.activation == "softmax" else _sigmoid


def _scaled(logits: Samples, info: CheckpointInfo) -> Samples:
    return logits / np.float32(info.temperature) + np.float32(info.bias)


def _sigmoid(x: Samples) -> Samples:
    with np.errstate(over="ignore"):  # exp(-x) is infinite where the sigmoid is 0
        return np.float32(1) / (np.float32(1) + np.exp(-x))


def _softmax(x: Samples) -> Samples:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)  # type: ignore[no-any-return]
