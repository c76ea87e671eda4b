"""The `dymn` network. The expected values were computed by EfficientAT's own code, at commit a425fdc."""

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tagger.checkpoints import checkpoint
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.runtime_torch import Classifier, without_batch_norm
from tagger.features.config import MelConfig
from tagger.models.config import DyMNConfig, EfficientATConfig
from tagger.models.dymn import DyMN, DynamicConv, DynamicReLU
from tagger.models.efficientat import EfficientAT

OFFICIAL_DIGESTS = {
    0.4: "9527a05ef6b6febd4dee0ff69a10bd4dd0e9275d9434e44f3ee683c331bac51a",
    1.0: "bf0b985d35b4f91a19711443f23c7bac1390885cc7c2083bfbddf9f0ff23da16",
    2.0: "f9c379bd12b099cf6622d0f45a63481621e4f66b7399dadb1a5d34ffb29ad286",
}
"""By width: of names and shapes of all weights, with 527 labels."""
OFFICIAL_LOGITS = {
    1.0: [
        [-0.024560757772766, -0.177005871625835, -0.382038714488455, -0.014018791877025, 0.464194613845235],
        [-0.025083179718227, -0.175856450083696, -0.382271619412232, -0.015078640461927, 0.463895825970506],
    ],
    30.0: [
        [-0.042638442953276, -0.128684131479341, -0.349097421741113, 0.010361078975924, 0.489542688575103],
        [-0.042613851082754, -0.128455318101762, -0.349104191043611, 0.010201013219676, 0.489425709949213],
    ],
}
"""By temperature: of width 0.4 with 5 labels, `filled` weights and `SPECTROGRAMS`, in float64.

A change of any one weight by 5 % of its tensor's usual size shows in the eighth digit at the latest.
"""

SPECTROGRAMS = np.random.default_rng(0).standard_normal((2, 1, 32, 45)) * np.linspace(0.5, 1.5, 45) ** [
    [[[1]]],
    [[[-1]]],
]


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    lines = [f"{name} {' '.join(map(str, shape))}" for name, shape in sorted(shapes.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def filled(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that every part of the network matters with, from names and shapes alone; float64."""
    weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("lambdas"):
            values = np.array([1.0, 1.0, 0.5, 0.5])
        elif name.endswith("init_v"):
            values = np.array([1.0, 0.0, 0.0, 0.0])
        elif name.endswith(("running_var", "norm.weight", "_c.1.weight")):
            values = rng.uniform(0.7, 1.4, shape)
        elif len(shape) < 2:
            values = rng.normal(0, 0.2, shape)
        elif shape[0] == 1 and name.endswith("_conv.weight"):  # four kernels in rows
            (outputs,) = shapes[name.replace("conv.weight", "norm.weight")]
            gain = 5 if ".proj_" in name else 2
            values = rng.normal(0, gain * (outputs / shape[-1]) ** 0.5, shape)
        else:
            values = rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        weights[name] = torch.tensor(values, dtype=torch.float64).reshape(shape)
    return weights


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def dymn(labels: int = 3, **config: Any) -> DyMN:
    """A small one, in eval mode."""
    network = DyMN(DyMNConfig(labels=labels, **{"width": 0.1, **config}))
    network.load_state_dict(filled(shapes_of(network)))
    return network.eval()


def noise(batch: int, frames: int, mels: int = 128) -> Tensor:
    return torch.randn(batch, 1, mels, frames, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("width", OFFICIAL_DIGESTS)
def test_weights_have_the_official_names_and_shapes(width):
    with torch.device("meta"):
        network = DyMN(DyMNConfig(labels=527, width=width))
    assert digest(shapes_of(network)) == OFFICIAL_DIGESTS[width]


@pytest.mark.parametrize("temperature", OFFICIAL_LOGITS)
def test_outputs_are_the_official_ones(temperature):
    network = DyMN(DyMNConfig(labels=5, width=0.4, temperature=temperature)).double().eval()
    network.load_state_dict(filled(shapes_of(network)))
    with torch.inference_mode():
        logits = network(torch.from_numpy(SPECTROGRAMS))
    torch.testing.assert_close(
        logits, torch.tensor(OFFICIAL_LOGITS[temperature], dtype=torch.float64), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize(("width", "millions"), [(0.4, 1.97), (1.0, 10.57), (2.0, 40.02)])
def test_published_sizes(width, millions):
    """EfficientAT's README."""
    with torch.device("meta"):
        network = DyMN(DyMNConfig(labels=527, width=width))
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize("frames", [1, 2, 31, 100, 501])
@pytest.mark.parametrize("mels", [64, 128])
def test_any_number_of_frames(frames, mels):
    with torch.inference_mode():
        assert dymn()(noise(2, frames, mels)).shape == (2, 3)


def test_embedding_and_linear_head_are_the_network():
    network = dymn(head="linear")
    with torch.inference_mode():
        embedding = network.embed(noise(3, 100))
        assert embedding.shape == (3, network.embedding_size)
        torch.testing.assert_close(network.classifier[-1](embedding), network(noise(3, 100)), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_batch_equals_its_parts():
    """Each input has its own kernels; both memory formats give the same."""
    network, batch = dymn().double(), noise(4, 90).double()
    with torch.inference_mode():
        together = network(batch)
        assert together.std(0).max() > 1e-6
        torch.testing.assert_close(network(batch.to(memory_format=torch.channels_last)), together)
        for row, single in zip(together, batch, strict=True):
            torch.testing.assert_close(network(single[None])[0], row)


def test_eval_is_deterministic_and_training_is_not():
    network = dymn(dropout=0.5)
    assert torch.equal(network(noise(2, 50)), network(noise(2, 50)))
    network.train()
    assert not torch.equal(network(noise(2, 50)), network(noise(2, 50)))


def test_gradients_reach_every_parameter():
    network = DyMN(DyMNConfig(labels=3, width=0.1)).train()
    network(noise(2, 64)).square().sum().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in network.parameters())


def test_a_dynamic_convolution_uses_the_kernel_that_its_context_chooses():
    torch.manual_seed(0)
    for kernel, stride, groups in [(1, 1, 1), (3, 1, 8), (5, 2, 8), (1, 1, 8), (3, 2, 1)]:
        conv = DynamicConv(8, 8, 4, kernel, stride, groups)
        # The context's own numbers are the logits, so large that one kernel is all of the mixture.
        conv.residuals[0].weight.data = 1e3 * torch.eye(4)
        inputs, chosen = torch.randn(4, 8, 7, 9), torch.tensor([2, 0, 3, 0])
        outputs = conv(inputs, functional.one_hot(chosen, 4).float())
        kernels = conv.weight.view(4, 8, 8 // groups, kernel, kernel)
        for one, which, output in zip(inputs, chosen, outputs, strict=True):
            expected = functional.conv2d(one[None], kernels[which], stride=stride, padding=kernel // 2, groups=groups)[
                0
            ]
            torch.testing.assert_close(output, expected)


def test_a_hot_mixture_is_even():
    conv, context = DynamicConv(8, 6, 4, kernel=1), torch.randn(2, 4)
    conv.temperature = 1e9
    inputs = torch.randn(2, 8, 5, 5)
    mean = conv.weight.mean(2).view(6, 8, 1, 1)
    torch.testing.assert_close(conv(inputs, context), functional.conv2d(inputs, mean), atol=1e-5, rtol=1e-4)


def test_a_dynamic_relu_begins_as_a_relu():
    relu, inputs = DynamicReLU(6, 4), torch.randn(3, 6, 5, 5)
    torch.testing.assert_close(relu(inputs, torch.zeros(3, 4)), inputs.relu())


def test_the_temperature_is_set_everywhere_and_stays_in_the_checkpoint(tmp_path):
    network = dymn()
    cold = network(noise(1, 50))
    network.set_temperature(30.0)
    hot = network(noise(1, 50))
    assert not torch.equal(cold, hot)
    assert network.config.temperature == 30.0
    assert {each.temperature for each in network.modules() if isinstance(each, DynamicConv)} == {30.0}
    loaded = saved(network, tmp_path)
    assert loaded.info.config == network.config
    torch.testing.assert_close(loaded.model(noise(1, 50)), hot)
    with pytest.raises(ValueError, match="temperature"):
        network.set_temperature(0)


def saved(network: DyMN, folder: Path) -> Checkpoint:
    """Written and read again."""
    labels = tuple(f"label{i}" for i in range(network.config.labels))
    info = CheckpointInfo(
        name="small",
        architecture="dymn",
        config=network.config,
        mel=MelConfig(),
        window_seconds=1.0,
        labels=labels,
        activation="sigmoid",
        thresholds=(0.5,) * len(labels),
    )
    checkpoint.save(folder / "small.safetensors", info, network)
    return checkpoint.load(folder / "small.safetensors")


def test_folded_batch_norms_give_the_same_scores():
    """Those after dynamic convolutions cannot be folded, and stay."""
    network = dymn().double()
    folded = without_batch_norm(network)
    torch.testing.assert_close(folded(noise(2, 90).double()), network(noise(2, 90).double()))
    stem_and_last = [each for block in (folded.in_c, folded.out_c) for each in block]
    assert not any(isinstance(each, nn.BatchNorm2d) for each in stem_and_last)
    assert count(folded, nn.BatchNorm2d) == count(network, nn.BatchNorm2d) - 2


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def test_the_classifier_that_listens_takes_it(tmp_path):
    network = dymn()
    loaded = saved(network, tmp_path)
    classify = Classifier(loaded, "cpu")
    waves = np.random.default_rng(0).standard_normal((3, 32_000)).astype(np.float32) * np.float32(0.1)
    scores = classify(waves).values
    assert scores.shape == (3, 3)
    for wave, row in zip(waves, scores, strict=True):
        assert classify(wave[None]).values[0] == pytest.approx(row, abs=1e-5)


@pytest.mark.parametrize("kind", ["dymn", "mn"])
def test_blocks_are_the_network_from_input_to_head(kind):
    mn = EfficientAT(EfficientATConfig(labels=3, width=0.1)).eval()
    network = dymn() if kind == "dymn" else mn
    x = noise(2, 64)
    with torch.inference_mode():
        for block in network.blocks:
            x = block(x)
        torch.testing.assert_close(network.classifier(x), network(noise(2, 64)))
        torch.testing.assert_close(x, network.features(noise(2, 64)))
    assert len(network.blocks) == len(network.features) == 17
    parts = [each for block in network.blocks for each in block.parameters()]
    parts += network.classifier.parameters()
    assert {id(each) for each in parts} == {id(each) for each in network.parameters()}


def test_features_add_no_weights():
    network = dymn()
    assert not [name for name in network.state_dict() if name.startswith("features")]
    assert network.features[0] is network.in_c


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": 0},
        {"labels": 3, "width": 0},
        {"labels": 3, "width": 100},
        {"labels": 3, "dropout": 1},
        {"labels": 3, "head": "conv"},
        {"labels": 3, "temperature": 0},
        {"labels": 3, "temperature": -1},
        {"labels": 3, "temperature": float("inf")},
        {"labels": 3, "temperature": float("nan")},
    ],
)
def test_configurations_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"head|labels|temperature"):
        DyMNConfig(**wrong)
