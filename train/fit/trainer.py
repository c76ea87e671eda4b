"""The shape of a trainer: its setup, its `run`, and its result, a network with calibration and learning curve."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from tagger.checkpoints.opinion import Opinion
from tagger.errors import TaggerError
from tagger.stop import Stop
from train.augment.views import targets_of
from train.curve import Epoch
from train.data.corpus import Corpus
from train.data.dataset import Rows
from train.evaluate.predictions import NO_LABEL
from train.evaluate.temperature import fit_line, fit_temperature
from train.fit.backbone import Backbone
from train.fit.distributed import Place
from train.fit.logistic import best_threshold
from train.fit.teacher import Teacher
from train.messages import Say
from train.recipe import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class Setup:
    """Everything a trainer is given that does not depend on the held-out fold."""

    backbone: Backbone
    recipe: Recipe
    corpus: Corpus
    seed: int
    place: Place
    teacher: Teacher | None = None


@dataclass(frozen=True)
class Trained:
    """Result of a training: network, calibration, learning curve."""

    model: nn.Module
    """The network, in eval mode, on the CPU."""
    temperature: float
    bias: float
    threshold: float
    activation: str = "sigmoid"
    surprise: float = 0.0
    """Weight: this times the highest surprise is subtracted from every logit (see CheckpointInfo)."""
    others: tuple[str, ...] = ()
    """Names of the classes that tell such a sound; empty: the model has no such head."""
    opinion: Opinion | None = None
    """How the network's second opinion counts. None: it has none."""
    curve: tuple[Epoch, ...] = ()
    kept_epoch: int | None = None
    """Number of the epoch whose weights these are, from 1. None: there were no epochs."""
    details: dict[str, Any] = field(default_factory=dict)
    """More entries of the checkpoint's document."""


class Trainer(ABC):
    """One way of training. `train.fit.job.TRAINERS` lists them all.

    A trainer serves all folds that start from the same weights; what it has computed of the data set, it keeps.
    """

    takes_teacher: ClassVar[bool] = True
    needs_linear_head: ClassVar[bool] = False
    """Whether it trains only networks with `has_linear_head`."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @abstractmethod
    def run(self, rows: Rows, inner: Rows, folder: Path, report: Say, stop: Stop) -> Trained:
        """
        Args:
            rows: clips to learn from.
            inner: clips to choose an epoch or a regularisation by, and to calibrate on. Both exclude test clips.
            folder: for what is needed to resume. Its name is the training's.

        Raises:
            TrainingStoppedError: after `stop`; the same call resumes.
            UserError: the network, or the teacher, cannot be trained so.
        """


class TrainingStoppedError(TaggerError):
    """The user stopped the training. The state to resume from is on disk."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("stopped; the same command with --resume goes on")


def unless_stopped(items: Iterable[T], stop: Stop | None) -> Iterator[T]:
    """
    Raises:
        TrainingStoppedError: before the next item, after `stop`.
    """
    for item in items:
        if stop is not None and stop.interrupted:
            raise TrainingStoppedError
        yield item


def calibrated(
    logits: Mapping[str, Tensor], targets: Tensor, activation: str, nothing: Tensor | None = None
) -> tuple[float, float, float]:
    """Temperature, bias and threshold from clips that were not learnt from.

    Args:
        logits: by view, each [N, labels]; `plain` decides temperature and bias, all of them the threshold.
        targets: [N, labels], 0 or 1.
        nothing: [M, labels], logits of windows without a label; they take part in choosing the threshold.
    """
    labelled = targets.any(1)
    classes = torch.where(labelled, targets.argmax(1), NO_LABEL)
    plain, truths = logits["plain"].numpy(), classes.numpy()
    temperature, bias = (
        fit_line(plain, truths) if activation == "sigmoid" else (fit_temperature(plain, truths, "softmax"), 0.0)
    )
    more = [nothing] if nothing is not None else []
    cooled = torch.cat([*logits.values(), *more]) / temperature + bias
    scores = cooled.softmax(1) if activation == "softmax" else cooled.sigmoid()
    truth = torch.cat([*(targets_of(view, targets) for view in logits), *map(torch.zeros_like, more)])
    return round(temperature, 4), round(bias, 4), best_threshold(scores, truth)
