"""The networks. A new one is a file here and a line in MODELS."""

from typing import Any, NamedTuple

from torch import nn

from tagger.models.crnn import CRNN, CRNNConfig
from tagger.models.dymn import DyMN, DyMNConfig
from tagger.models.efficientat import EfficientAT, EfficientATConfig


class Architecture(NamedTuple):
    config: type[Any]
    """Frozen dataclass of everything that shapes the network; has a field `labels`."""
    network: type[nn.Module]
    """Takes an instance of `config`. Forward: log-mel [B, 1, n_mels, frames] to logits [B, labels]. `follow` gives all
    it has to say (`Followed`); the steps of its time axis are `step_frames` frames apart."""


MODELS = {
    "efficientat": Architecture(EfficientATConfig, EfficientAT),
    "dymn": Architecture(DyMNConfig, DyMN),
    "crnn": Architecture(CRNNConfig, CRNN),
}

__all__ = ["CRNN", "MODELS", "Architecture", "CRNNConfig", "DyMN", "DyMNConfig", "EfficientAT", "EfficientATConfig"]
