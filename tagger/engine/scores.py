"""Turns a network's output into `Scores`.

Every runtime is a subclass of `WindowClassifier`, in a module of its own; this one imports none of them.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tagger.checkpoints.info import CheckpointInfo
from tagger.events import Samples, Scores, Window


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
    other: tuple[str, ...] = ()
    """[B]: the sound outside the label set that is most likely; empty where `plain` is None."""


class WindowClassifier:
    """A model that is ready to classify. Subclasses set `info` and write `__call__`; one thread at a time calls it."""

    info: CheckpointInfo

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, waveforms: Samples) -> BatchScores:
        """
        Args:
            waveforms: [B, N], float32, full scale -1 to 1, at `info.mel.sample_rate_hz`.
        """
        raise NotImplementedError

    def classify(self, windows: Sequence[Window]) -> list[Scores]:
        """Scores of each window, in order. May be called from any thread; a lock lets one batch at a time through.

        Args:
            windows: all of one length.
        """
        # One window alone is a view, not a copy.
        batch = windows[0].samples[None] if len(windows) == 1 else np.stack([window.samples for window in windows])
        with self._lock:
            batch_scores = self(batch)
        return [self._scores(window, batch_scores, row) for row, window in enumerate(windows)]

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
