import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tagger.checkpoints import official
from tagger.models.config import EfficientATConfig
from tagger.models.efficientat import (
    LOUDEST_STEPS,
    EfficientAT,
    Others,
    conv_norm,
    outputs_of,
    round_channels,
    step_features,
)

OFFICIAL = "mn04_as_mAP_432.pt"


@pytest.fixture(scope="module")
def linear() -> EfficientAT:
    """A small network with a linear head, its batch norms not those of the start."""
    torch.manual_seed(0)
    network = EfficientAT(EfficientATConfig(labels=7, width=0.1, head="linear"))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def noise(batch: int, frames: int, mels: int = 128) -> Tensor:
    return torch.randn(batch, 1, mels, frames, generator=torch.Generator().manual_seed(frames))


def test_official_weights_load_with_every_key_matched(shared):
    raw = torch.load(shared / "weights" / OFFICIAL, map_location="cpu", weights_only=True)
    info, model = official.convert(shared / "weights" / OFFICIAL)
    ours = model.state_dict()
    assert len(ours) == len(raw)
    assert sum(each.numel() for each in ours.values()) == sum(each.numel() for each in raw.values())
    # Same order, same values: only names differ, and only in the squeeze-excitation blocks.
    for (our_name, our_value), (their_name, their_value) in zip(ours.items(), raw.items(), strict=True):
        assert our_name == their_name.replace(".conc_se_layers.0.", ".")
        assert torch.equal(our_value, their_value)
    assert (info.config.width, info.config.head, info.config.labels) == (0.4, "mlp", 527)
    assert not model.training


def test_a_new_network_has_as_many_parameters_as_the_official_one(shared):
    raw = torch.load(shared / "weights" / OFFICIAL, map_location="cpu", weights_only=True)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    theirs = sum(each.numel() for name, each in raw.items() if not name.endswith(statistics))
    network = EfficientAT(EfficientATConfig(labels=527, width=0.4))
    assert sum(each.numel() for each in network.parameters()) == theirs


@pytest.mark.parametrize(("width", "millions"), [(0.4, 0.98), (1.0, 4.88)])
def test_published_sizes(width, millions):
    """EfficientAT's README: mn04 has 0.983 million parameters, mn10 4.88 million."""
    with torch.device("meta"):
        network = EfficientAT(EfficientATConfig(labels=527, width=width))
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("frames", [1, 2, 31, 100, 500, 1001])
@pytest.mark.parametrize("mels", [64, 128])
def test_any_number_of_frames(linear, frames, mels):
    with torch.inference_mode():
        assert linear(noise(2, frames, mels)).shape == (2, 7)


@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_output_is_a_logit_a_label(head):
    network = EfficientAT(EfficientATConfig(labels=3, width=0.1, head=head)).eval()
    with torch.inference_mode():
        assert network(noise(1, 100)).shape == (1, 3)
        assert network.embed(noise(1, 100)).shape == (1, network.embedding_size)


def test_embedding_and_linear_head_are_the_network(linear):
    last = linear.classifier[-1]
    spectrogram = noise(3, 250)
    with torch.inference_mode():
        torch.testing.assert_close(last(linear.embed(spectrogram)), linear(spectrogram), atol=1e-5, rtol=1e-5)


def test_a_batch_equals_its_parts(linear):
    batch = noise(5, 200)
    with torch.inference_mode():
        together = linear(batch)
        for row, single in zip(together, batch, strict=True):
            torch.testing.assert_close(linear(single[None])[0], row, atol=1e-5, rtol=0)


def test_eval_is_deterministic_and_training_is_not():
    network = EfficientAT(EfficientATConfig(labels=3, width=0.1, dropout=0.5))
    network.eval()
    assert torch.equal(network(noise(2, 100)), network(noise(2, 100)))
    network.train()
    torch.manual_seed(0)
    assert not torch.equal(network(noise(2, 100)), network(noise(2, 100)))


def test_gradients_reach_every_parameter():
    network = EfficientAT(EfficientATConfig(labels=3, width=0.1)).train()
    network(noise(2, 64)).square().sum().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in network.parameters())


@given(st.floats(0.01, 20_000))
def test_round_channels(channels):
    rounded = round_channels(channels)
    assert rounded % 8 == 0
    assert rounded >= max(8, 0.9 * channels)
    assert rounded <= max(8, 1.1 * channels + 8)


@given(st.integers(1, 2_000))
def test_multiples_of_eight_stay(eighths):
    assert round_channels(8 * eighths) == 8 * eighths


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": 0},
        {"labels": 3, "width": 0},
        {"labels": 3, "width": -1},
        {"labels": 3, "dropout": 1},
        {"labels": 3, "dropout": -0.1},
        {"labels": 3, "head": "conv"},
    ],
)
def test_configurations_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"head|labels"):
        EfficientATConfig(**wrong)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (3, 1, 16), (3, 2, 16), (5, 1, 16), (5, 2, 16)])
def test_a_norm_that_stands_still_is_computed_with_its_convolution(kernel, stride, groups, half):
    torch.manual_seed(kernel)
    layers = conv_norm(16, 32, kernel, stride, groups, nn.Hardswish).eval()
    norm = layers[1]
    for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        tensor.uniform_(0.5, 1.5)
    maps = torch.randn(4, 16, 12, 9).to(memory_format=torch.channels_last)

    def learnt(function) -> list[Tensor]:
        x = maps.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half and function is layers):
            y = function(x)
        assert y.dtype == (torch.bfloat16 if half and function is layers else torch.float32)
        gradients = torch.autograd.grad(y.float().square().mean(), [x, *layers.parameters()])
        return [y.detach().float(), *gradients]

    expected = learnt(nn.Sequential(*layers))
    for ours, theirs in zip(learnt(layers), expected, strict=True):
        assert (ours - theirs).norm() < (0.05 if half else 1e-5) * theirs.norm()


def test_a_norm_that_learns_its_statistics_does():
    layers = conv_norm(4, 4, 3).train()
    maps = torch.randn(4, 4, 12, 9)
    torch.testing.assert_close(layers(maps), nn.Sequential(*layers)(maps))
    assert layers[1].num_batches_tracked == 2
    assert layers(maps).mean().abs() < 1e-5


# All that it has to say


def with_all(head: str = "mlp", moments: bool = True, others: int = 5) -> EfficientAT:
    torch.manual_seed(1)
    network = EfficientAT(EfficientATConfig(labels=3, width=0.1, head=head, moments=moments, others=others)).eval()  # type: ignore[arg-type]
    if network.others is not None:
        network.others.expected.uniform_(0, 1)
    return network


@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_logits_are_between_the_whole_and_the_loudest_steps(head):
    network = with_all(head)
    with torch.inference_mode():
        found = network.outputs(noise(2, 320))
        plain = EfficientAT(EfficientATConfig(labels=3, width=0.1, head=head)).eval()  # type: ignore[arg-type]
        plain.load_state_dict({name: network.state_dict()[name] for name in plain.state_dict()})
        whole = plain(noise(2, 320))
        assert found.steps.shape == (2, 10, 3)
        loudest = found.steps.sort(1).values[:, -LOUDEST_STEPS:].mean(1)
        torch.testing.assert_close(found.logits, (whole + loudest) / 2)
        assert torch.equal(network(noise(2, 320)), found.logits)


def test_steps_have_a_layer_of_their_own():
    network = with_all()
    with torch.inference_mode():
        within = step_features(network.features(noise(2, 320)), network.classifier)
        torch.testing.assert_close(network.outputs(noise(2, 320)).steps, network.moments(within))
        shared = with_all(moments=False)
        within = step_features(shared.features(noise(2, 320)), shared.classifier)
        torch.testing.assert_close(shared.outputs(noise(2, 320)).steps, shared.classifier[-1](within))


@pytest.mark.parametrize("frames", [1, 20, 33])
def test_windows_of_few_steps_have_fewer_loud_ones(frames):
    with torch.inference_mode():
        found = with_all().outputs(noise(1, frames))
    assert found.steps.shape[1] <= LOUDEST_STEPS
    assert found.logits.isfinite().all()


@pytest.mark.parametrize("moments", [True, False])
def test_what_is_known_besides_the_labels_is_said_with_and_without_steps_of_its_own(moments):
    network = with_all(moments=moments)
    with torch.inference_mode():
        found = network.outputs(noise(2, 320))
        hidden = network.classifier[:-1](network.features(noise(2, 320)))
        assert found.surprise is not None
        torch.testing.assert_close(found.surprise, network.others(hidden))
    assert with_all(moments=moments, others=0).outputs(noise(1, 64)).surprise is None


def test_surprise_is_the_share_that_is_not_expected():
    others = Others(4, 3).eval()
    nn.init.zeros_(others.layer.weight)
    with torch.inference_mode():
        others.layer.bias.copy_(torch.tensor([0.0, 20, 20]))
        others.expected.copy_(torch.tensor([0.0, 0, 1]))
        assert others(torch.randn(2, 4)).tolist() == [pytest.approx([0.5, 1, 0], abs=1e-6)] * 2


def test_outputs_of_a_network_need_neither_moments_nor_others(linear):
    with torch.inference_mode():
        maps = linear.features(noise(2, 100))
        found = outputs_of(linear, maps)
        torch.testing.assert_close(found.logits, linear(noise(2, 100)))
    assert found.surprise is None
