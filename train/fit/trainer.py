"""What every way of training gives: a network, how far its scores can be believed, and how it got there."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tagger.errors import TaggerError
from tagger.stop import Stop
from train.augment.views import targets_of
from train.curve import Epoch
from train.evaluate.metrics import BACKGROUND, fit_line, fit_temperature
from train.fit.logistic import best_threshold

T = TypeVar("T")


class TrainingStoppedError(TaggerError):
    """Someone asked for the end. What is needed to go on is on disk."""

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


@dataclass(frozen=True)
class Trained:
    model: nn.Module
    """In eval mode, on the CPU."""
    temperature: float
    bias: float
    threshold: float
    surprise: float = 0.0
    """How much each logit loses for what no label explains: see CheckpointInfo."""
    others: tuple[str, ...] = ()
    curve: tuple[Epoch, ...] = ()
    kept_epoch: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """For the checkpoint's document."""


def calibrated(logits: Mapping[str, Tensor], targets: Tensor, activation: str) -> tuple[float, float, float]:
    """Temperature, bias and threshold from clips that were not learnt from.

    Args:
        logits: by view, each [N, labels]; `plain` decides temperature and bias, all of them the threshold.
        targets: [N, labels], 0 or 1.
    """
    labelled = targets.any(1)
    classes = torch.where(labelled, targets.argmax(1), BACKGROUND)
    plain, truths = logits["plain"].numpy(), classes.numpy()
    temperature, bias = (
        fit_line(plain, truths) if activation == "sigmoid" else (fit_temperature(plain, truths, "softmax"), 0.0)
    )
    cooled = torch.cat(list(logits.values())) / temperature + bias
    scores = cooled.softmax(1) if activation == "softmax" else cooled.sigmoid()
    truth = torch.cat([targets_of(view, targets) for view in logits])
    return round(temperature, 4), round(bias, 4), best_threshold(scores, truth)
