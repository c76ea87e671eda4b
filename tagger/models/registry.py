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
"""Networks with the keys of `tagger.models.config.ARCHITECTURES`; each is made from an instance of that configuration.

`forward` takes log-mels [B, 1, n_mels, frames], float32, and gives logits [B, labels]. `outputs` gives everything that
the network computes (`Outputs`); the steps of its time axis are `step_frames` frames apart."""
