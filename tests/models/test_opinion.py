"""A second opinion: another network's upper layers on shared lower ones."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tagger.models.config import DyMNConfig, EfficientATConfig
from tagger.models.dymn import DyMN
from tagger.models.efficientat import EfficientAT
from tagger.models.network import Network
from tagger.models.opinion import shared_layers, with_opinion

KINDS = {"mn": (EfficientAT, EfficientATConfig), "dymn": (DyMN, DyMNConfig)}


def official(kind: str = "mn", seed: int = 0) -> Network:
    torch.manual_seed(seed)
    network, config = KINDS[kind]
    return network(config(labels=7, width=0.1)).eval()


def trained(other: Network, frozen: int, head: str = "mlp") -> Network:
    """A network of three labels that was trained from `other`, all but its first layers."""
    torch.manual_seed(9)
    found = type(other)(replace(other.config, labels=3, head=head, moments=True)).eval()
    for ours, theirs in zip(found.blocks[:frozen], other.blocks[:frozen], strict=True):
        ours.load_state_dict(theirs.state_dict())
    return found


@torch.inference_mode()
@pytest.mark.parametrize(("kind", "frozen"), [("mn", 4), ("mn", 10), ("mn", 17), ("dymn", 10)])
def test_it_says_what_the_other_network_says_and_the_labels_stay(kind, frozen):
    other = official(kind)
    network = trained(other, frozen, "linear" if frozen == 17 else "mlp")
    found = with_opinion(network, other)
    assert (found.config.opinion, found.config.shared) == (7, frozen)
    log_mel = torch.randn(2, 1, 128, 100)
    outputs, before = found.outputs(log_mel), network.outputs(log_mel)
    torch.testing.assert_close(outputs.logits, before.logits)
    torch.testing.assert_close(outputs.steps, before.steps)
    torch.testing.assert_close(outputs.opinion, other(log_mel))
    assert before.opinion is None
    rebuilt = type(found)(found.config).eval()
    rebuilt.load_state_dict(found.state_dict())
    torch.testing.assert_close(rebuilt.outputs(log_mel).opinion, outputs.opinion)


@torch.inference_mode()
def test_it_may_know_the_labels_too():
    other, labels = official(), nn.Linear(96, 3)
    found = with_opinion(trained(other, 10), other, labels)
    log_mel = torch.randn(2, 1, 128, 100)
    torch.testing.assert_close(found.outputs(log_mel).second, labels(other.embed(log_mel)))
    rebuilt = type(found)(found.config).eval()
    rebuilt.load_state_dict(found.state_dict())
    torch.testing.assert_close(rebuilt.outputs(log_mel).second, found.outputs(log_mel).second)


@torch.inference_mode()
def test_what_is_cut_gives_the_same():
    found = with_opinion(trained(official(), 10), official())
    log_mel = torch.randn(1, 1, 128, 100)
    torch.testing.assert_close(found.upper(found.lower(log_mel)).opinion, found.outputs(log_mel).opinion)


def test_layers_in_half_precision_are_still_the_same():
    other = official()
    assert shared_layers(copy.deepcopy(other).half().float(), other) == 17


def test_where_too_little_is_shared_there_is_none():
    other = official()
    assert with_opinion(trained(other, 3), other) is None
    assert with_opinion(trained(official("dymn"), 10), other) is None
    assert with_opinion(trained(other, 10), trained(other, 10, "linear")) is None
    assert shared_layers(nn.Module.eval(official(seed=1)), other) == 0


@pytest.mark.parametrize(
    "wrong", [{"seconded": True}, {"opinion": -1}, {"opinion": 7, "shared": 3}, {"opinion": 7, "shared": 18}]
)
def test_a_shape_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"opinion|shared|seconded"):
        EfficientATConfig(labels=3, **wrong)
