"""Progress of a training, for the user: a bar, one line for each epoch, TensorBoard's curves."""

from pathlib import Path
from typing import Any

from tagger.printable import number_of
from train.curve import Epoch
from train.data.dataset import Rows
from train.messages import Say


def announce(folder: Path, rows: Rows, inner: Rows, report: Say) -> None:
    """Says what is trained next; the folder has its name."""
    report(f"-- {folder.name}: {number_of(len(rows), 'clip')} to learn from, {len(inner)} to choose by")


def show(row: Epoch, epochs: int, is_kept: bool, report: Say) -> None:
    """Says how an epoch went."""
    inner_accuracy = 100 * (row.inner_accuracy or 0)
    if row.train_accuracy is None:
        accuracy = "" if row.inner_accuracy is None else f"inner accuracy {inner_accuracy:.2f} %, "
        report(
            f"epoch {row.epoch:3}: loss {row.train_loss:.3f}, inner loss {row.inner_loss:.3f}, "
            f"{accuracy}{row.seconds:.0f} s"
        )
        return
    report(
        f"epoch {row.epoch:3d} of {epochs}: loss {row.train_loss:.3f} train, {row.inner_loss:.3f} inner;  accuracy "
        f"{100 * row.train_accuracy:5.1f} % train, {inner_accuracy:5.1f} % inner;  {row.seconds:.0f} s"
        f"{'  kept' if is_kept else ''}"
    )


class NoBoard:
    """Stands in for TensorBoard where it is not installed, and in processes that do not lead."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Ignores the value."""

    def close(self) -> None:
        """Does nothing: no file is open."""


def board(folder: Path) -> Any:
    """TensorBoard's writer, or `NoBoard`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return NoBoard()
    return SummaryWriter(str(folder / "tensorboard"))
