"""A second opinion as layers: upper layers that were not trained on the labels, on lower ones that both share.

`tagger.checkpoints.opinion` makes scores of what they say.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TypeVar

from torch import Tensor, nn

from tagger.models.config import LEAST_SHARED
from tagger.models.network import Network

_SAME = 1e-3
"""Largest difference of a weight, as a share of its layer's largest, between layers that are the same: half precision
makes half of this."""

N = TypeVar("N", bound=Network)


class SecondOpinion(nn.Module):
    """Upper layers and head of another network.

    Input: [B, channels, rows, columns], maps of the layers that both share. Output: [B, classes], logits.
    """

    def __init__(self, layers: Sequence[nn.Module], classifier: nn.Module) -> None:
        super().__init__()
        self.layers, self.classifier = nn.Sequential(*layers), classifier

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.layers(maps))
        return logits


def with_opinion(network: N, other: Network) -> N | None:
    """A copy of the network that has another's upper layers and head beside its own.

    Args:
        network: `mn` or `dymn`.
        other: an official network, whose lower layers it has.

    Returns:
        None: they share too few layers.
    """
    shared = shared_layers(network, other)
    if shared < LEAST_SHARED or getattr(other.config, "head", None) != "mlp":
        return None
    found = copy.deepcopy(network)
    layers, classifier = other.blocks[shared:], other.classifier
    found.opinion = SecondOpinion(copy.deepcopy(layers), copy.deepcopy(classifier))  # type: ignore[arg-type]
    found.config = replace(network.config, opinion=other.config.labels, shared=shared)
    return found.eval().requires_grad_(False)


def shared_layers(network: Network, other: Network) -> int:
    """Number of layers, from the input, that two networks of one kind have in common, to half precision."""
    if type(network) is not type(other) or len(network.blocks) != len(other.blocks):
        return 0
    pairs = zip(network.blocks, other.blocks, strict=True)
    return sum(1 for _ in takewhile(lambda pair: _is_same(*pair), pairs))


def _is_same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        ours[name].shape == theirs[name].shape
        and bool(((ours[name] - theirs[name]).abs() <= _SAME * theirs[name].abs().max()).all())
        for name in ours
        if ours[name].is_floating_point()
    )
