"""Shapes of the networks, which a checkpoint's header carries. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

_WIDEST = 8.0
"""Greatest width: twice the widest published one. A greater one is a mistake that would fill the memory."""
_MOST_OUTPUTS = 10_000
"""Most labels, and most other classes."""
LEAST_SHARED, _LAYERS = 4, 17
"""Fewest layers that a second opinion shares, those below `Network.cut`; and all layers of an `mn` or `dymn`."""
_LEAST_BANDS = 32
"""Fewest bands: the convolutions reduce 32 bands to one row."""


@dataclass(frozen=True)
class EfficientATConfig:
    """Shape of an `mn` network."""

    labels: int
    """Number of outputs."""
    width: float = 1.0
    """Multiplies every channel count: 0.4 is `mn04`, 1.0 is `mn10`."""
    head: Literal["mlp", "linear"] = "mlp"
    """Layers after the pooled features: `mlp` is EfficientAT's two, `linear` is one."""
    dropout: float = 0.2
    """Dropout before the last layer of an `mlp` head, while training."""
    moments: bool = False
    """Whether the steps of the time axis have a last layer of their own; else they use that of the whole window."""
    joint: bool = True
    """With `moments`: whether a window's logit is the mean of both last layers'; else the window's own."""
    others: int = 0
    """Number of classes that the network learnt before its labels and still recognises. 0: none."""
    opinion: int = 0
    """Number of classes of the second opinion (`tagger.models.opinion`). 0: it has none."""
    shared: int = 0
    """Number of layers, from the input, that the second opinion shares; from the next one on it has its own."""
    seconded: bool = False
    """Whether the second opinion has a last layer for the labels, too."""

    def __post_init__(self) -> None:
        if self.head not in ("mlp", "linear"):
            raise ValueError(f"head {self.head!r} is neither mlp nor linear")
        if not isinstance(self.labels, int) or self.labels < 1:
            raise ValueError(f"labels {self.labels!r} must be a whole number from 1 on")
        if not isinstance(self.others, int) or not 0 <= self.others <= _MOST_OUTPUTS or self.labels > _MOST_OUTPUTS:
            raise ValueError(f"labels and others must be whole numbers of at most {_MOST_OUTPUTS:,}")
        if not (isinstance(self.moments, bool) and isinstance(self.joint, bool)):
            raise ValueError(f"moments {self.moments!r} and joint {self.joint!r} must be true or false")
        if not isinstance(self.opinion, int) or not 0 <= self.opinion <= _MOST_OUTPUTS:
            raise ValueError(f"opinion {self.opinion!r} must be a whole number of at most {_MOST_OUTPUTS:,}")
        if not isinstance(self.shared, int) or not (LEAST_SHARED <= self.shared <= _LAYERS or not self.opinion):
            raise ValueError(f"shared {self.shared!r} must be a whole number from {LEAST_SHARED} to {_LAYERS}")
        if not isinstance(self.seconded, bool) or (self.seconded and not self.opinion):
            raise ValueError(f"seconded {self.seconded!r} must be true or false, and needs an opinion")
        if not 0 < self.width <= _WIDEST or not 0 <= self.dropout < 1:
            raise ValueError(f"0 < width <= {_WIDEST:g} and 0 <= dropout < 1 do not hold: {self}")


@dataclass(frozen=True)
class DyMNConfig(EfficientATConfig):
    """Shape of a `dymn` network: that of an `mn` (width 0.4 is `dymn04`, 1.0 is `dymn10`), and a temperature."""

    temperature: float = 1.0
    """Divides the logits of the attention over kernels; a high temperature mixes all kernels evenly.

    Weights need the temperature of their last training step. EfficientAT lowers it from 30 to 1 on AudioSet; its
    ImageNet weights are from 30.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1e-4 <= self.temperature <= 1e4:
            raise ValueError(f"temperature {self.temperature} must be positive, from 0.0001 to 10000")


@dataclass(frozen=True)
class CRNNConfig:
    """Shape of a CRNN."""

    labels: int
    """Number of outputs."""
    bands: int = 128
    """Rows of the spectrogram."""
    channels: tuple[int, int, int, int] = (24, 40, 80, 128)
    """Feature maps after each of the four stages."""
    sequence: int = 128
    """Size of each step's vector after reshape, permute and linear."""
    hidden: int = 96
    """Size of the LSTM's state, each direction."""
    dropout: float = 0.3
    """Dropout before the LSTM and before the last layer, while training."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON has lists
        sizes = (self.labels, self.bands, *self.channels, self.sequence, self.hidden)
        if len(self.channels) != 4 or not all(isinstance(size, int) and 1 <= size <= 4096 for size in sizes):
            raise ValueError(f"four channels, and sizes from 1 to 4096, do not hold: {self}")
        if self.bands < _LEAST_BANDS or not 0 <= self.dropout < 1:
            raise ValueError(f"bands >= {_LEAST_BANDS} and 0 <= dropout < 1 do not hold: {self}")


WIDTHS = (0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0, 3.0, 4.0)
"""Published widths of the `mn` family."""
DYMN_WIDTHS = (0.4, 1.0, 2.0)
"""Published widths of the `dymn` family."""


@dataclass(frozen=True)
class Architecture:
    """A kind of network."""

    config: type[Any]
    """A frozen dataclass of everything that shapes the network. It has a field `labels`. Training sets
    a field `bands`, if any, to the height of the front end's spectrogram, and a field `dropout` to the recipe's."""
    module: str
    """The module with the network, which is imported when one is built."""
    network: str
    """The network's class in that module, which extends `tagger.models.network.Network`."""
    family: str = ""
    """First letters of the names of its networks with published weights; the width follows: `mn04`. Empty: nobody has
    published weights, and the network is named as the architecture."""
    widths: tuple[float, ...] = ()
    """Widths of the family."""


ARCHITECTURES: Mapping[str, Architecture] = {
    "efficientat": Architecture(EfficientATConfig, "tagger.models.efficientat", "EfficientAT", "mn", WIDTHS),
    "dymn": Architecture(DyMNConfig, "tagger.models.dymn", "DyMN", "dymn", DYMN_WIDTHS),
    "crnn": Architecture(CRNNConfig, "tagger.models.crnn", "CRNN"),
}
"""All architectures, by the name in a checkpoint's document."""


def trainable_names() -> list[str]:
    """Names of all networks that `tagger train -m` takes, besides checkpoints."""
    return [
        name
        for key, each in ARCHITECTURES.items()
        for name in ([f"{each.family}{round(10 * width):02d}" for width in each.widths] if each.family else [key])
    ]


def network_names() -> list[str]:
    """Names that `tagger train -m` takes, for people: a family by its narrowest and widest network."""
    return [
        f"{each.family}{10 * each.widths[0]:02.0f} to {each.family}{10 * each.widths[-1]:02.0f}" if each.family else key
        for key, each in ARCHITECTURES.items()
    ]
