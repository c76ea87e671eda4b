"""The networks by name."""

from collections.abc import Mapping

from torch import nn

from tagger.models.crnn import CRNN
from tagger.models.dymn import DyMN
from tagger.models.efficientat import EfficientAT

NETWORKS: Mapping[str, type[nn.Module]] = {
    "efficientat": EfficientAT,
    "dymn": DyMN,
    "crnn": CRNN,
}
"""Keys as in `tagger.models.config.ARCHITECTURES`; each takes an instance of that configuration.

Forward: log-mel [B, 1, n_mels, frames] to logits [B, labels]. `follow` gives all that the network computes
(`Followed`); the steps of its time axis are `step_frames` frames apart."""
