"""Distillation: a trained network tells another one what it hears in the same sound.

Hinton et al., "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531); the same view for both, as in Beyer et
al., "Knowledge distillation: A good teacher is patient and consistent" (CVPR 2022).
"""

import torch
from torch import Tensor

from tagger.checkpoints.checkpoint import Checkpoint
from tagger.engine.runtime_torch import without_batch_norm
from tagger.errors import UserError
from tagger.features.logmel import front_end
from train.augment.spectrogram import Mix


class Teacher:
    """A checkpoint whose scores a student is to repeat."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        labels: tuple[str, ...],
        activation: str,
        temperature: float,
        device: torch.device,
    ) -> None:
        """
        Args:
            labels: the student's.
            activation: the student's: one that shares out a sum of 1 is told such shares, whatever its teacher gives.

        Raises:
            UserError: the teacher does not know them all.
        """
        info = checkpoint.info
        if unknown := [label for label in labels if label not in info.labels]:
            raise UserError(f"--teacher {info.name} does not know {', '.join(unknown[:5])}")
        self.info = info
        self._order = torch.tensor([info.labels.index(label) for label in labels], device=device)
        self._front = front_end(info.mel).to(device)
        model = without_batch_norm(checkpoint.model).to(device)
        self._model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._is_shared_out = "softmax" in (activation, info.activation)
        self._temperature = temperature * info.temperature

    @torch.no_grad()  # not inference_mode: the student's loss keeps what this gives
    def probabilities(self, x: Tensor) -> Tensor:
        """
        Args:
            x: [B, 1, bands, frames], spectrograms of its own front end: those that the student is given, changed in
                whatever way.

        Returns:
            [B, labels], 0 to 1, in the student's order.
        """
        logits = self._model(x.to(memory_format=torch.channels_last)).float()[:, self._order] / self._temperature
        said: Tensor = logits.softmax(1) if self._is_shared_out else logits.sigmoid()
        return said

    @torch.no_grad()
    def of_waveforms(self, waves: Tensor, mix: Mix | None) -> Tensor:
        """The same, for a student with another front end.

        Args:
            waves: [B, N], as the student hears them.
            mix: what is done to their spectrograms before the student sees them.
        """
        x = self._front(waves)
        return self.probabilities(mix(x) if mix else x)
