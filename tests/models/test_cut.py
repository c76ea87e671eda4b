"""Where networks can be cut: the lower part's columns see as many frames as the network says, and no more."""

import pytest
import torch
from torch import nn

from tagger.models.config import CRNNConfig, EfficientATConfig
from tagger.models.crnn import CRNN
from tagger.models.efficientat import EfficientAT
from tagger.models.network import Network

NETWORKS = {
    "mn04": lambda: EfficientAT(EfficientATConfig(labels=3, width=0.4)),
    "mn10": lambda: EfficientAT(EfficientATConfig(labels=3, moments=True)),
    "crnn": lambda: CRNN(CRNNConfig(labels=3)),
}


@pytest.fixture(params=NETWORKS)
def network(request) -> Network:
    torch.manual_seed(0)
    made = NETWORKS[request.param]().eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    return made


@torch.no_grad()
def test_a_column_sees_the_frames_within_its_reach(network):
    frames, reach = network.cut
    log_mel = torch.randn(1, 1, 128, 200)
    maps, column = network.lower(log_mel), 25
    for distance, is_seen in ((reach, True), (reach + 1, False), (reach + 5, False)):
        for at in (frames * column - distance, frames * column + distance):
            other = log_mel.clone()
            other[..., at] += 10
            changed = network.lower(other)[..., column] - maps[..., column]
            assert bool(changed.abs().max() > 1e-5) == is_seen, (distance, at)


@torch.no_grad()
@pytest.mark.parametrize("count", [64, 97, 98, 99])
def test_there_is_a_column_for_every_few_frames(network, count):
    assert network.lower(torch.randn(1, 1, 128, count)).shape[3] == -(-count // network.cut.frames)
