"""A learning curve: one row an epoch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One row of a learning curve. None is what was not measured."""

    epoch: int
    """From 1."""
    train_loss: float | None
    """Mean over the epoch's batches as the network was fed them: augmented, with dropout, before each step."""
    train_accuracy: float | None
    """0 to 1, of the same batches."""
    inner_loss: float | None
    """Of inner validation, after the epoch."""
    inner_accuracy: float | None
    learning_rate: float
    """The last step's."""
    seconds: float
    ema_loss: float | None = None
    """Of inner validation, by the moving average of the weights."""
    ema_accuracy: float | None = None

    @property
    def validation_loss(self) -> float | None:
        """Of inner validation, by the averaged weights where there are any."""
        return self.inner_loss if self.ema_loss is None else self.ema_loss

    @property
    def validation_accuracy(self) -> float | None:
        return self.inner_accuracy if self.ema_accuracy is None else self.ema_accuracy
