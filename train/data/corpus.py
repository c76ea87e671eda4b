"""What is trained on, ready to be heard; and how progress is told."""

from dataclasses import dataclass

import torch
from torch import Tensor

from train.data.dataset import Dataset
from train.data.waveforms import Waveforms


@dataclass(frozen=True)
class Corpus:
    """What is trained on, ready to be heard."""

    dataset: Dataset
    waveforms: Waveforms
    targets: Tensor
    """[rows, labels], float32, 1 for the row's label; zeros for background."""

    @classmethod
    def of(cls, dataset: Dataset, waveforms: Waveforms) -> "Corpus":
        targets = torch.zeros(len(dataset.clips), len(dataset.labels))
        for row, clip in enumerate(dataset.clips):
            if clip.label is not None:
                targets[row, clip.label] = 1
        return cls(dataset, waveforms, targets)
