"""Interface of every network, and building one by the name of its architecture."""

import importlib
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from tagger.models.config import ARCHITECTURES


class Outputs(NamedTuple):
    """Everything that a network computes."""

    logits: Tensor
    """[B, labels], of the whole window. With `moments` and `joint`, the mean of two: the logits of the pooled features,
    which suit lasting sounds, and the mean of the highest steps, which suit short ones."""
    steps: Tensor
    """[B, steps, labels], logits of each step; step t is centred at frame t * `step_frames`."""
    surprise: Tensor | None = None
    """[B, other classes], 0 to 1: sounds that no label explains (`tagger.models.efficientat.Others`). None: the network
    has no such layer."""
    embedding: Tensor | None = None
    """[B, size], pooled features of the whole window, before the head. None: the network gives none."""
    opinion: Tensor | None = None
    """[B, classes], logits of a network that was not trained on the labels (`tagger.models.opinion`). None: the network
    has no such part."""
    second: Tensor | None = None
    """[B, labels], logits of the labels by a last layer on that network's pooled features. None: it has none."""


class Cut(NamedTuple):
    """Where a network's lower part ends, which sees a few frames at a time. What two windows share of it is equal."""

    frames: int
    """Frames of the input from one column of the lower part's maps to the next."""
    reach: int
    """Column c depends on no frame further than this from frame `frames` * c."""


class Network(nn.Module):
    """Spectrogram to one logit a label. Made from an instance of its architecture's config.

    Input: [B, 1, bands, frames], float32.
    Output: [B, labels], float32, logits (before softmax or sigmoid).
    """

    config: Any
    """The config it was made from, which a checkpoint stores."""
    step_frames: ClassVar[int]
    """Frames of the input from one step of `Outputs.steps` to the next."""
    has_linear_head: ClassVar[bool] = False
    """Whether the logits are a linear layer's of pooled features: `features` gives the last feature map, and
    `classifier` is an nn.Sequential of pooling, flattening, hidden layers and that last layer. Training can then fit
    the last layer alone, exactly (the recipes `head` and `stream`, and `Recipe.fitted_head`)."""

    cut: ClassVar[Cut | None] = None
    """Where `outputs` is the same as `upper(lower(...))`. None: the network has no such place."""

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers from input to output, without the last ones. Training may freeze the first of them."""
        raise NotImplementedError

    @property
    def last_layer(self) -> str | tuple[str, ...]:
        """Prefix, or prefixes, of the names of the weights that depend on the labels. Training replaces them."""
        raise NotImplementedError

    def outputs(self, log_mel: Tensor) -> Outputs:
        """Everything that the network computes."""
        raise NotImplementedError

    def head_input(self, log_mel: Tensor) -> Tensor:
        """What the layer that `first_head` gives takes, [B, F]: one vector for the whole input. This one and the next
        are of networks with `has_linear_head`; others have their own.
        """
        hidden: Tensor = self.features(log_mel)  # type: ignore[operator]
        for layer in list(self.classifier)[:-1]:  # type: ignore[arg-type]
            hidden = layer(hidden)
        return hidden

    def first_head(self) -> nn.Linear:
        """The last layer, to be fitted to `head_input`: from here on nothing else decides about the labels."""
        last: nn.Linear = self.classifier[-1]  # type: ignore[index,assignment]
        return last

    def lower(self, log_mel: Tensor) -> Tensor:
        """The part below `cut`. Output: [B, channels, rows, ceil(frames / `cut.frames`)]."""
        raise NotImplementedError

    def upper(self, maps: Tensor) -> Outputs:
        """Everything that the network computes, from what `lower` gives."""
        raise NotImplementedError

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.outputs(log_mel).logits


def network_class(architecture: str) -> type[Network]:
    """The class of an architecture's networks.

    Args:
        architecture: a key of `tagger.models.config.ARCHITECTURES`.
    """
    entry = ARCHITECTURES[architecture]
    found: type[Network] = getattr(importlib.import_module(entry.module), entry.network)
    return found


def build(architecture: str, config: Any) -> Network:
    """A network with fresh weights, from torch's global generator."""
    return network_class(architecture)(config)
