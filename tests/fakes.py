"""Stand-ins at the edges of the daemon: a source that plays what it is given, a sink that remembers."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.scores import BatchScores, WindowClassifier
from tagger.errors import TaggerError
from tagger.events import Block, Event, Level, Report, Samples, Stream
from tagger.features.config import MelConfig
from tagger.models.config import EfficientATConfig
from tagger.models.network import Outputs
from tagger.sinks import Sink, SourceState
from tagger.sources import wait_idly

RATE_HZ = 32_000


class FakeSource:
    """Plays blocks. An error among them is raised in its turn, and a number is that many seconds without sound.

    After the last block it ends, or waits to be closed.
    """

    def __init__(self, *plays: Sequence[Block | TaggerError | float], live: bool = False, waits: bool = False) -> None:
        self.name, self.description, self.live = "fake", "a fake", live
        self._plays, self._waits, self.on_wait = list(plays), waits, wait_idly
        self.late_s = 0.0
        self.closed = threading.Event()

    def blocks(self) -> Iterator[Block]:
        for each in self._plays.pop(0) if self._plays else []:
            if isinstance(each, TaggerError):
                raise each
            if isinstance(each, float):
                self.on_wait(each)
            else:
                yield each
        if self._waits and not self._plays:
            self.closed.wait(90)

    def behind(self) -> float:
        return self.late_s

    def close(self) -> None:
        self.closed.set()


class RecordingSink(Sink):
    """Records all calls, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.closed = False

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        self.told.append((state, detail))

    def event(self, stream: Stream, event: Event) -> None:
        self.told.append((event.type, event))

    def report(self, stream: Stream, report: Report) -> None:
        self.told.append(("report", report))

    def audio(self, stream: Stream, level: Level) -> None:
        self.told.append(("audio", level))

    def stats(self, message: Mapping[str, Any]) -> None:
        self.told.append(("stats", message))

    def close(self, wait_s: float) -> None:
        self.closed = True

    def of(self, kind: str) -> list[Any]:
        return [what for told, what in self.told if told == kind]


class FakeClassifier(WindowClassifier):
    """Scores a window and each of its steps by a function of the samples. Its labels are `loud` and `never`."""

    LABELS = ("loud", "never")
    STEP_S = 0.05

    def __init__(self, score: Callable[[Samples], float] | None = None) -> None:
        info = CheckpointInfo(
            name="fake",
            architecture="efficientat",
            config=EfficientATConfig(labels=2),
            mel=MelConfig(),
            window_seconds=1.0,
            labels=self.LABELS,
            activation="sigmoid",
            thresholds=(0.5, 0.5),
        )
        super().__init__(info, 5, "cpu")
        self._level = score or (lambda samples: float(np.abs(samples).max()))

    def __call__(self, waveforms: Samples) -> BatchScores:
        values = np.array([[self._level(samples), 0.0] for samples in waveforms], np.float32)
        steps = waveforms.reshape(len(waveforms), -1, round(self.STEP_S * RATE_HZ))  # [B, steps, samples of a step]
        activity = np.array([[self._level(samples) for samples in each] for each in steps], np.float32)
        return BatchScores(values, np.stack([activity, np.zeros_like(activity)], axis=1), self.STEP_S)


class _Constant(nn.Module):
    step_frames = 32
    steps = 4

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.logits.expand(len(log_mel), -1)

    def outputs(self, log_mel: Tensor) -> Outputs:
        logits = self(log_mel)
        return Outputs(logits, logits[:, None].repeat(1, self.steps, 1))


def constant_checkpoint(activation: str, temperature: float, *logits: float) -> Checkpoint:
    """A checkpoint whose network gives the same scores for any sound."""
    info = CheckpointInfo(
        name="constant",
        architecture="efficientat",
        config=EfficientATConfig(labels=len(logits)),
        mel=MelConfig(),
        window_seconds=1.0,
        labels=tuple(f"label{i}" for i in range(len(logits))),
        activation=activation,
        thresholds=(0.5,) * len(logits),
        temperature=temperature,
    )
    return Checkpoint(info, _Constant(torch.tensor([logits])))


def silence(seconds: float, time: float = 0.0, gap: bool = False) -> Block:
    return Block(np.zeros(int(seconds * RATE_HZ), np.float32), time, gap)


def loud(seconds: float, time: float = 0.0, gap: bool = False) -> Block:
    return Block(np.full(int(seconds * RATE_HZ), 0.9, np.float32), time, gap)
