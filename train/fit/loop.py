"""The training loop: epochs of steps, an inner validation after each epoch, and a state on disk to resume from.

A `Learner` says what a batch is, what one step does and what is validated. The loop counts, measures, saves, resumes
and stops. The recipe `head` has no loop: its last layer is fitted exactly (`train.fit.logistic`).
"""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from tagger.files import replacing
from tagger.printable import number_of
from tagger.progress import Progress
from tagger.stop import Stop
from train.curve import Epoch
from train.damage import made_again_if_deleted
from train.fit.distributed import Place
from train.fit.progress import show
from train.fit.trainer import TrainingStoppedError
from train.messages import Say

BatchT = TypeVar("BatchT")
StepResult = tuple[Tensor | float, Tensor | float, Tensor | float]
"""Loss of one batch; labelled windows that were right; labelled windows. 0 and 0: accuracy is not measured.

See `unread`: they may be on the device."""


def unread(number: Tensor) -> Tensor | float:
    """A number of a step. A GPU's stays where it is: to read it here would be to wait until the step is done."""
    number = number.detach()
    return number.double() if number.is_cuda else float(number)


@dataclass
class LoopState:
    """Position in the loop. With the learner's own state, it is everything that the loop needs to resume."""

    epoch: int = 0
    """Epochs that are done."""
    step: int = 0
    """Steps of the current epoch that are done."""
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    """Sums over the steps of the current epoch that are done, but those of this call: losses, right windows, labelled
    windows, seconds."""
    curve: list[Epoch] = field(default_factory=list)
    kept: dict[str, Tensor] | None = None
    """Weights of the epoch that was chosen so far. None: the learner keeps the last epoch's."""
    kept_epoch: int = 0
    """Number of that epoch, from 1; 0: none yet."""


class Learner(Protocol[BatchT]):
    """A network on one split, with its optimiser: what the loop trains."""

    state: LoopState
    resumes_within_epochs: bool
    """Whether an interrupted epoch is resumed after its last step. If not, it begins anew."""

    @property
    def steps_per_epoch(self) -> int: ...

    @property
    def learning_rate(self) -> float:
        """The rate that a learning curve shows, after an epoch."""

    def start(self, stop: Stop) -> None:
        """Prepares a run that has no state on disk yet."""

    def batches(self, epoch: int, first: int) -> Generator[BatchT, None, None]:
        """The batches of an epoch (from 0), from the `first` on."""

    def step(self, batch: BatchT, epoch: int, step: int) -> StepResult:
        """Learns from one batch."""

    def validate(self) -> tuple[float, float | None]:
        """Loss and accuracy (0 to 1) on the inner split."""

    def keep(self) -> bool:
        """Chooses the epoch that has just been added to the curve, or not; returns whether it did."""

    def has_stopped_improving(self) -> bool:
        """Whether training ends before the recipe's last epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Weights, averages and optimiser, for `torch.save` and `load_state_dict`."""

    def load_state_dict(self, content: dict[str, Any]) -> None: ...


def run_epochs(
    learner: Learner[BatchT],
    epochs: int,
    path: Path,
    place: Place,
    report: Say,
    stop: Stop,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> None:
    """Trains until the last epoch, or until the learner has stopped improving.

    Args:
        path: the state; written after each epoch and each interruption, read where it is there.
        on_epoch: called with each new row of the learning curve, once the state is saved.

    Raises:
        TrainingStoppedError: after `stop`; the state is on disk, and the same call resumes.
        UserError: the state is damaged.
    """
    if path.is_file():
        _load(learner, path, place)
        report(f"continuing after {number_of(len(learner.state.curve), 'epoch')}")
    else:
        learner.start(stop)
    state = learner.state
    while state.epoch < epochs and not learner.has_stopped_improving():
        began = time.monotonic()
        _run_steps(learner, epochs, path, place, stop, began)
        inner_loss, inner_accuracy = learner.validate()
        loss, right, labelled, seconds = state.sums
        row = Epoch(
            epoch=state.epoch + 1,
            train_loss=loss / max(1, learner.steps_per_epoch),
            train_accuracy=right / labelled if labelled else None,
            inner_loss=inner_loss,
            inner_accuracy=inner_accuracy,
            learning_rate=learner.learning_rate,
            seconds=seconds + time.monotonic() - began,
        )
        state.curve.append(row)
        is_kept = learner.keep()
        state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0] * 4
        _save(learner, path, place)
        show(row, epochs, is_kept, report)
        on_epoch(row)


def _run_steps(learner: Learner[BatchT], epochs: int, path: Path, place: Place, stop: Stop, began: float) -> None:
    """The rest of the current epoch."""
    state = learner.state
    sums: list[Tensor | float] = list(state.sums[:3])
    with (
        Progress(
            f"epoch {state.epoch + 1} of {epochs}", learner.steps_per_epoch, "steps", brief=True, shown=place.leads
        ) as progress,
        closing(learner.batches(state.epoch, state.step)) as batches,
    ):
        progress.update(state.step)
        for batch in batches:
            loss, right, labelled = learner.step(batch, state.epoch, state.step)
            state.step += 1
            sums = [
                have + new for have, new in zip(sums, place.summed(loss / place.ranks, right, labelled), strict=True)
            ]
            progress.update()
            if not learner.resumes_within_epochs and state.step == learner.steps_per_epoch:
                break  # the epoch is whole: it is saved first
            if place.agreed(float(stop.interrupted))[0]:
                state.sums = [*map(float, sums), state.sums[3] + time.monotonic() - began]
                if learner.resumes_within_epochs:
                    _save(learner, path, place)
                raise TrainingStoppedError
    state.sums[:3] = map(float, sums)


def _save(learner: Learner[Any], path: Path, place: Place) -> None:
    if not place.leads:
        return
    state = learner.state
    content = {"state": vars(state) | {"curve": [asdict(row) for row in state.curve]}, **learner.state_dict()}
    with replacing(path) as partial:
        torch.save(content, partial)


def _load(learner: Learner[Any], path: Path, place: Place) -> None:
    with made_again_if_deleted(path):
        content = torch.load(path, map_location=place.device, weights_only=True)
        # The recipe `stream` once saved its curve alone.
        state = content.get("state") or {"epoch": len(content["curve"]), "curve": content["curve"]}
        learner.state = LoopState(**state | {"curve": [Epoch(**row) for row in state["curve"]]})
        learner.load_state_dict(content)
