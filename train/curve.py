"""A learning curve: one row for each epoch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One row of a learning curve. None: not measured."""

    epoch: int
    """Number of the epoch, from 1."""
    train_loss: float | None
    """Mean over the epoch's batches: augmented, with dropout, before each step."""
    train_accuracy: float | None
    """Share of the same batches' labelled windows that were right, 0 to 1."""
    inner_loss: float | None
    """Loss on the inner split, after the epoch."""
    inner_accuracy: float | None
    learning_rate: float
    """Learning rate of the last step."""
    seconds: float
    ema_loss: float | None = None
    """Loss on the inner split, by the moving average of the weights."""
    ema_accuracy: float | None = None

    @property
    def validation_loss(self) -> float | None:
        """Loss on the inner split, by the averaged weights if there are any."""
        return self.inner_loss if self.ema_loss is None else self.ema_loss

    @property
    def validation_accuracy(self) -> float | None:
        """Accuracy on the inner split, likewise."""
        return self.inner_accuracy if self.ema_accuracy is None else self.ema_accuracy
