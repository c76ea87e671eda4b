"""A data set with its decoded sound and its targets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from train.data.dataset import Dataset
from train.data.waveforms import Waveforms


@dataclass(frozen=True)
class Corpus:
    """A data set with its decoded sound and its targets. All three have a row for each clip."""

    dataset: Dataset
    waveforms: Waveforms
    targets: Tensor
    """[rows, labels], float32: 1 for the row's label, else 0. Background has zeros only."""

    @classmethod
    def of(cls, dataset: Dataset, waveforms: Waveforms) -> "Corpus":
        targets = torch.zeros(len(dataset.clips), len(dataset.labels))
        for row, clip in enumerate(dataset.clips):
            if clip.label is not None:
                targets[row, clip.label] = 1
        return cls(dataset, waveforms, targets)
