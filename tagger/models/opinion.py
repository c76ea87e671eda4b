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

    Input: [B, channels, rows, columns], maps of the layers that both share. Output: logits, [B, classes]; and those of
    the labels, [B, labels], if it has a last layer for them.
    """

    def __init__(self, layers: Sequence[nn.Module], classifier: nn.Sequential, labels: nn.Linear | None) -> None:
        """
        Args:
            classifier: pooling, flattening, and the other layers of the head.
            labels: from pooled features.
        """
        super().__init__()
        self.layers, self.classifier, self.labels = nn.Sequential(*layers), classifier, labels

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        pool, flatten, *head = self.classifier
        x = pooled = flatten(pool(self.layers(maps)))
        for layer in head:
            x = layer(x)
        return x, None if self.labels is None else self.labels(pooled)


def with_opinion(network: N, other: Network, labels: nn.Linear | None = None) -> N | None:
    """A copy of the network that has another's upper layers and head beside its own.

    Args:
        network: `mn` or `dymn`.
        other: an official network, whose lower layers it has.
        labels: the other's pooled features to logits of the labels, calibrated. None: there is no such layer.

    Returns:
        None: they share too few layers.
    """
    shared = shared_layers(network, other)
    if shared < LEAST_SHARED or getattr(other.config, "head", None) != "mlp":
        return None
    found = copy.deepcopy(network)
    layers, classifier = other.blocks[shared:], other.classifier
    found.opinion = copy.deepcopy(SecondOpinion(layers, classifier, labels))  # type: ignore[arg-type]
    found.config = replace(network.config, opinion=other.config.labels, shared=shared, seconded=labels is not None)
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
