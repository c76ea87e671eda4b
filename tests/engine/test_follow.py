"""Activity: each network's scores for each moment of its window."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tagger.checkpoints import checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.runtime_torch import without_batch_norm
from tagger.features.config import MelConfig
from tagger.models.config import CRNNConfig, DyMNConfig, EfficientATConfig
from tagger.models.network import build

LABELS = 3
CONFIGS = {
    "efficientat": EfficientATConfig(labels=LABELS, width=0.1),
    "dymn": DyMNConfig(labels=LABELS, width=0.1),
    "crnn": CRNNConfig(labels=LABELS, channels=(4, 6, 8, 12), sequence=16, hidden=8),
}


def lively(name: str, config: object = None) -> nn.Module:
    """A network in eval mode whose batch norms pass their input on unchanged."""
    torch.manual_seed(3)
    network = build(name, config or CONFIGS[name])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(2.0)
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr,operator]
    return network.eval()


def noise(frames: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 1, 128, frames, generator=torch.Generator().manual_seed(frames))


def info(name: str, config: object) -> CheckpointInfo:
    return CheckpointInfo(
        name="small",
        architecture=name,
        config=config,
        mel=MelConfig(),
        window_seconds=1.0,
        labels=tuple(f"label{i}" for i in range(LABELS)),
        activation="sigmoid",
        thresholds=(0.5,) * LABELS,
    )


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("frames", [33, 101, 500, 501])
def test_the_whole_is_what_forward_says_and_steps_are_one_every_so_many_frames(name, frames):
    network = lively(name)
    with torch.inference_mode():
        logits, steps, *_ = network.outputs(noise(frames))
        assert torch.equal(logits, network(noise(frames)))
    assert logits.shape == (2, LABELS)
    assert steps.shape == (2, -(-frames // network.step_frames), LABELS)
    assert steps.isfinite().all()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_short_sound_is_heard_at_its_own_step(name):
    """A click in silence changes the logits most at its own step."""
    network = lively(name)
    size = network.step_frames
    quiet = torch.zeros(1, 1, 128, 16 * size + 1)
    for step in (3, 8, 13):
        click = quiet.clone()
        click[..., step * size - size // 4 : step * size + size // 4] = 3.0
        with torch.inference_mode():
            changed = (network.outputs(click)[1] - network.outputs(quiet)[1])[0].abs().sum(1)  # [steps]
        assert abs(int(changed.argmax()) - step) <= 1
        assert changed[step - 1 : step + 2].max() > 2 * changed.median()


def test_steps_of_the_crnn_give_the_whole_by_its_attention():
    network = lively("crnn")
    with torch.inference_mode():
        logits, steps = network.outputs(noise(200))[:2]
        assert logits == pytest.approx((steps * network.steps(noise(200))[1]).sum(1), abs=1e-5)


@pytest.mark.parametrize("name", ["efficientat", "dymn"])
def test_of_a_linear_head_the_whole_is_the_mean_of_the_steps(name):
    network = lively(name, replace(CONFIGS[name], head="linear"))
    with torch.inference_mode():
        logits, steps, *_ = network.outputs(noise(300))
    torch.testing.assert_close(steps.mean(1), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["efficientat", "dymn"])
def test_moments_have_a_last_layer_of_their_own_and_live_in_the_checkpoint(name, tmp_path):
    config = replace(CONFIGS[name], moments=True)
    network = lively(name, config)
    path = tmp_path / "moments.safetensors"
    checkpoint.save(path, info(name, config), network)
    loaded = checkpoint.load(path)
    assert loaded.info.config == loaded.model.config == config
    with torch.inference_mode():
        for expected, found in zip(network.outputs(noise(100))[:2], loaded.model.outputs(noise(100))[:2], strict=True):
            assert torch.equal(expected, found)
        logits, steps, *_ = network.outputs(noise(100))
        network.moments.bias += 1
        again, moved, *_ = network.outputs(noise(100))
        torch.testing.assert_close(moved, steps + 1)
        torch.testing.assert_close(again, logits + 0.5)  # mean of the whole window's logit and of the highest steps


@pytest.mark.parametrize("name", ["efficientat", "dymn"])
def test_moments_that_only_say_when_do_not_change_what_is_heard(name):
    network = lively(name, replace(CONFIGS[name], moments=True, joint=False))
    with torch.inference_mode():
        logits, steps, *_ = network.outputs(noise(100))
        network.moments.bias += 1
        again, moved, *_ = network.outputs(noise(100))
    assert torch.equal(again, logits)
    torch.testing.assert_close(moved, steps + 1)


@pytest.mark.parametrize("name", ["efficientat", "dymn"])
@pytest.mark.parametrize("moments", [False, True])
def test_folded_batch_norms_say_the_same_of_each_step(name, moments):
    network = lively(name, replace(CONFIGS[name], moments=moments)).double()
    with torch.inference_mode():
        expected = network.outputs(noise(100).double())
        found = without_batch_norm(network).outputs(noise(100).double())
    for one, other in zip(expected[:2], found[:2], strict=True):
        torch.testing.assert_close(one, other)
