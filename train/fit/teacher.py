"""Distillation: a student learns from the scores of a trained network, its teacher, for the same sound.

Hinton et al., "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531). Both get the same view, as in Beyer et
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
    """A checkpoint whose scores a student learns to repeat."""

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
            activation: the student's. A student with a softmax gets a softmax's scores, whatever the teacher's is.

        Raises:
            UserError: the teacher does not know all labels.
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

    @torch.no_grad()  # not inference_mode: the result is part of the student's loss
    def probabilities(self, x: Tensor) -> Tensor:
        """Scores of the student's labels.

        Args:
            x: [B, 1, bands, frames], spectrograms of the teacher's front end, augmented as the student gets them.

        Returns:
            [B, labels], 0 to 1, in the student's order.
        """
        logits = self._model(x.to(memory_format=torch.channels_last)).float()[:, self._order] / self._temperature
        scores: Tensor = logits.softmax(1) if self._is_shared_out else logits.sigmoid()
        return scores

    @torch.no_grad()
    def of_waveforms(self, waves: Tensor, mix: Mix | None) -> Tensor:
        """Like `probabilities`, for a student with another front end.

        Args:
            waves: [B, N], as the student hears them.
            mix: mixup of their spectrograms, as for the student's.
        """
        x = self._front(waves)
        return self.probabilities(mix(x) if mix else x)
