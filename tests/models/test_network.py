"""The table of architectures: a network that is a class, a config and a line there can be trained and listened with."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tagger.checkpoints import checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.runtime_torch import Classifier
from tagger.errors import UserError
from tagger.models.config import ARCHITECTURES, Architecture, network_names
from tagger.models.network import Network, Outputs, build, network_class
from train.fit.backbone import load_backbone
from train.recipe import RECIPES


@dataclass(frozen=True)
class ToyConfig:
    labels: int
    bands: int = 128


class Toy(Network):
    step_frames = 16
    last_layer = "last."

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(config.bands, 4)
        self.last = nn.Linear(4, config.labels)

    @property
    def blocks(self) -> list[nn.Module]:
        return [self.hidden]

    def outputs(self, log_mel: Tensor) -> Outputs:
        pooled = nn.functional.avg_pool2d(log_mel, (1, self.step_frames), ceil_mode=True)[:, 0]
        steps = self.last(self.hidden(pooled.transpose(1, 2)))
        return Outputs(steps.mean(1), steps)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "toy", Architecture(ToyConfig, __name__, "Toy"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_builds_a_network_that_says_what_its_last_layer_is(name):
    network = build(name, ARCHITECTURES[name].config(labels=3))
    assert type(network) is network_class(name)
    old = build(name, ARCHITECTURES[name].config(labels=4)).state_dict()
    changed = {key for key, value in network.state_dict().items() if value.shape != old[key].shape}
    assert changed == {key for key in old if key.startswith(network.last_layer)}
    assert network.blocks
    assert network.step_frames > 0


def test_names_for_people():
    assert network_names()[:3] == ["mn01 to mn40", "dymn04 to dymn20", "crnn"]


def test_a_line_in_the_table_is_enough_to_train(toy):
    backbone = load_backbone("toy", None, replace(RECIPES["crnn"], front_end="mfcc"))
    assert (backbone.architecture, backbone.config, backbone.weights) == ("toy", ToyConfig(1, bands=40), None)
    assert backbone.config_for(7, dropout=0.2) == ToyConfig(7, bands=40)  # it has no dropout
    assert backbone.build(7)(torch.zeros(2, 1, 40, 100)).shape == (2, 7)
    with pytest.raises(UserError, match="nobody has published such weights of toy"):
        load_backbone("toy", "audioset", RECIPES["crnn"])


def test_a_line_in_the_table_is_enough_to_listen(toy, tmp_path):
    backbone = load_backbone("toy", None, RECIPES["crnn"])
    network = backbone.build(2)
    info = CheckpointInfo(
        name="mine",
        architecture="toy",
        config=network.config,
        mel=backbone.mel,
        window_seconds=1.0,
        labels=("dog", "cat"),
        activation="sigmoid",
        thresholds=(0.5, 0.5),
    )
    checkpoint.save(tmp_path / "mine.safetensors", info, network)
    scores = Classifier(checkpoint.load(tmp_path / "mine.safetensors"), "cpu")(np.zeros((1, 32_000), np.float32))
    assert scores.values.shape == (1, 2)
    again = load_backbone(str(tmp_path / "mine.safetensors"), None, RECIPES["finetune"]).build(5)
    assert torch.equal(again.state_dict()["hidden.weight"], network.state_dict()["hidden.weight"])
