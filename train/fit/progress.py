"""What one sees of a training: a bar, a line an epoch, TensorBoard's curves."""

import sys
from pathlib import Path
from typing import Any

import click

from train.curve import Epoch
from train.data.corpus import Say


def bar(length: int, label: str, is_shown: bool) -> Any:
    """Of an epoch's batches, with the time left."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not is_shown, show_eta=True)


def show(row: Epoch, epochs: int, keeps: bool, say: Say) -> None:
    assert row.train_accuracy is not None
    assert row.inner_accuracy is not None
    say(
        f"epoch {row.epoch:3d} of {epochs}: loss {row.train_loss:.3f} train, {row.inner_loss:.3f} inner;  accuracy "
        f"{100 * row.train_accuracy:5.1f} % train, {100 * row.inner_accuracy:5.1f} % inner;  {row.seconds:.0f} s"
        f"{'  kept' if keeps else ''}"
    )


class NoBoard:
    def add_scalar(self, name: str, value: float, step: int) -> None:
        """TensorBoard is not installed, or this process does not lead."""

    def close(self) -> None:
        """Nothing is open."""


def board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return NoBoard()
    return SummaryWriter(str(folder / "tensorboard"))
