import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tagger.checkpoints import checkpoint
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.header import read_header
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.runtime_torch import Classifier, without_batch_norm
from tagger.errors import CheckpointError
from tagger.features.config import FRONT_ENDS, MelConfig
from tagger.features.logmel import front_end
from tagger.models.config import CRNNConfig
from tagger.models.crnn import CRNN

SMALL = CRNNConfig(labels=5, channels=(4, 4, 8, 8), sequence=8, hidden=6)
MEL = MelConfig(bandwidth_hz=7_500.0)
LABELS = tuple(f"label {number}" for number in range(5))


def lively(config: CRNNConfig = SMALL) -> CRNN:
    """Its batch norms are not those of the start."""
    torch.manual_seed(0)
    network = CRNN(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> CRNN:
    return lively()


def noise(batch: int, frames: int, bands: int = 128) -> Tensor:
    return torch.randn(batch, 1, bands, frames, generator=torch.Generator().manual_seed(frames))


def info(config: CRNNConfig = SMALL, mel: MelConfig = MEL) -> CheckpointInfo:
    return CheckpointInfo(
        name="crnn",
        architecture="crnn",
        config=config,
        mel=mel,
        window_seconds=5.0,
        labels=LABELS[: config.labels],
        activation="softmax",
        thresholds=(0.5,) * config.labels,
        temperature=1.5,
    )


@settings(max_examples=20)
@given(st.integers(16, 600), st.integers(1, 3))
def test_any_number_of_frames(network, frames, batch):
    with torch.inference_mode():
        assert network(noise(batch, frames)).shape == (batch, 5)


@settings(max_examples=10)
@given(st.integers(32, 140), st.sampled_from([16, 17, 100]))
def test_any_number_of_bands(bands, frames):
    with torch.inference_mode():
        assert CRNN(replace(SMALL, bands=bands)).eval()(noise(2, frames, bands)).shape == (2, 5)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_every_front_end_fits(name):
    mel = FRONT_ENDS[name]
    features = front_end(mel)(torch.zeros(1, 160_000))
    assert features.shape[2:] == (mel.bands, 500 if mel.preemphasis else 501)
    with torch.inference_mode():
        assert CRNN(replace(SMALL, bands=mel.bands)).eval()(features).shape == (1, 5)


@settings(max_examples=20)
@given(st.integers(16, 600))
def test_a_step_is_sixteen_frames(network, frames):
    with torch.inference_mode():
        logits, weights = network.steps(noise(2, frames))
    assert logits.shape == weights.shape == (2, -(-frames // 16), 5)


@settings(max_examples=10)
@given(st.integers(16, 600))
def test_the_steps_of_a_label_count_for_one_together(network, frames):
    with torch.inference_mode():
        logits, weights = network.steps(noise(2, frames))
        torch.testing.assert_close(weights.sum(1), torch.ones(2, 5))
        assert (weights >= 0).all()
        torch.testing.assert_close(network(noise(2, frames)), (logits * weights).sum(1))


def test_a_label_may_look_elsewhere_than_another(network):
    with torch.inference_mode():
        _, weights = network.steps(noise(1, 320))
    assert not torch.allclose(weights[0, :, 0], weights[0, :, 1])


def test_what_comes_when_matters(network):
    """It is a recurrent network: the same frames in another order are another sound."""
    whole = noise(1, 320)
    swapped = torch.cat([whole[..., 160:], whole[..., :160]], 3)
    with torch.inference_mode():
        assert not torch.allclose(network(whole), network(swapped), atol=1e-5)


def test_a_batch_equals_its_parts(network):
    batch = noise(5, 200)
    with torch.inference_mode():
        together = network(batch)
        for row, single in zip(together, batch, strict=True):
            torch.testing.assert_close(network(single[None])[0], row, atol=1e-5, rtol=0)


def test_gradients_reach_every_parameter():
    network = CRNN(SMALL).train()
    network(noise(4, 64)).square().sum().backward()
    for name, each in network.named_parameters():
        assert each.grad is not None, name
        assert each.grad.isfinite().all(), name
        assert each.grad.any(), name


def test_dropout_is_for_training():
    network = CRNN(replace(SMALL, dropout=0.5)).eval()
    assert torch.equal(network(noise(2, 100)), network(noise(2, 100)))
    network.train()
    torch.manual_seed(0)
    assert not torch.equal(network(noise(2, 100)), network(noise(2, 100)))


def test_blocks_are_all_but_the_head():
    network = CRNN(SMALL)
    in_blocks = {id(parameter) for block in network.blocks for parameter in block.parameters()}
    others = {name for name, parameter in network.named_parameters() if id(parameter) not in in_blocks}
    assert {name.partition(".")[0] for name in others} == {"classifier", "attention"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": 0},
        {"labels": 2.0},
        {"bands": 31},
        {"bands": 5_000},
        {"channels": (4, 4, 8)},
        {"channels": (4, 4, 8, 8, 8)},
        {"channels": (4, 4, 0, 8)},
        {"channels": (4, 4, 8, 100_000)},
        {"sequence": 0},
        {"hidden": -1},
        {"hidden": 1e9},
        {"dropout": 1},
        {"dropout": -0.1},
        {"dropout": float("nan")},
    ],
)
def test_configurations_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="do not hold"):
        CRNNConfig(**{"labels": 3} | wrong)


def test_a_configuration_goes_into_json_and_back():
    assert CRNNConfig(**json.loads(json.dumps(asdict(SMALL)))) == SMALL


def test_a_checkpoint_gives_back_the_network(tmp_path, network):
    path = tmp_path / "crnn.safetensors"
    checkpoint.save(path, info(), network)
    loaded = checkpoint.load(path)
    assert loaded.info == info()
    assert isinstance(loaded.info.config.channels, tuple)
    assert not loaded.model.training
    with torch.inference_mode():
        assert torch.equal(loaded.model(noise(2, 100)), network(noise(2, 100)))


def test_a_checkpoint_of_another_shape_is_refused(tmp_path, network):
    path = tmp_path / "crnn.safetensors"
    checkpoint.save(path, info(replace(SMALL, hidden=7)), network)
    with pytest.raises(CheckpointError, match="misshapen"):
        checkpoint.load(path)


def test_half_precision_is_nearly_the_same(tmp_path, network):
    checkpoint.save(tmp_path / "half.safetensors", info(), network, half=True)
    loaded = checkpoint.load(tmp_path / "half.safetensors").model
    with torch.inference_mode():
        torch.testing.assert_close(loaded(noise(2, 100)), network(noise(2, 100)), atol=5e-3, rtol=1e-2)


def test_the_usual_network_is_less_than_five_megabytes(tmp_path):
    config = CRNNConfig(labels=50)
    path = tmp_path / "crnn.safetensors"
    whole = replace(info(), config=config, labels=tuple(map(str, range(50))), thresholds=(0.5,) * 50)
    checkpoint.save(path, whole, CRNN(config), half=True)
    assert path.stat().st_size < 5_000_000
    assert read_header(path)["architecture"]["name"] == "crnn"


def test_norms_are_folded_without_a_trace(network):
    folded = without_batch_norm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.inference_mode():
        torch.testing.assert_close(folded(noise(2, 100)), network(noise(2, 100)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["efficientat", "mfcc"])
def test_the_classifier_says_what_the_network_says(name):
    mel = FRONT_ENDS[name]
    network = lively(replace(SMALL, bands=mel.bands))
    windows = np.random.default_rng(0).standard_normal((2, 32_000)).astype(np.float32) * np.float32(0.1)
    with torch.inference_mode():
        expected = (network(front_end(mel)(torch.from_numpy(windows))) / 1.5).softmax(1).numpy()
    found = Classifier(Checkpoint(info(network.config, mel), network), "cpu")(windows).values
    assert found == pytest.approx(expected, abs=1e-4)
