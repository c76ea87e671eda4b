"""EfficientAT's `mn` family: MobileNetV3-Large over a log-mel spectrogram, scaled in width.

Howard et al., "Searching for MobileNetV3" (ICCV 2019), table 1, for the shape; Schmid et al., "Efficient Large-scale
Audio Tagging via Transformer-to-CNN Knowledge Distillation" (ICASSP 2023) for the audio network and its weights.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tagger.models.config import EfficientATConfig
from tagger.models.network import Cut, Network, Outputs
from tagger.models.opinion import SecondOpinion

STEM_CHANNELS = 16
HEAD_CHANNELS = 1280
_CHANNEL_DIVISOR = 8
LOUDEST_STEPS = 2
"""Most steps of a window that a short sound fills."""
STEP_FRAMES = 32
"""Frames of the input from one step of the last feature map to the next: five strides of 2."""
LOCAL_LAYERS = 4
"""Layers before the first squeeze-excitation that share the stride of four frames: the stem and blocks 1 to 3."""

# MobileNetV3-Large: kernel, expanded channels, output channels, squeeze-excitation, hard swish, stride.
BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)


class EfficientAT(Network):
    """Log-mel spectrogram to one logit a label.

    Input: [B, 1, n_mels, frames], float32; any number of frames.
    Output: [B, labels], float32, logits (before softmax or sigmoid).

    >>> EfficientAT(EfficientATConfig(labels=50, width=0.4))(torch.zeros(2, 1, 128, 500)).shape
    torch.Size([2, 50])
    """

    def __init__(self, config: EfficientATConfig) -> None:
        super().__init__()
        self.config = config

        def scaled(channels: int) -> int:
            return round_channels(channels * config.width)

        channels = scaled(STEM_CHANNELS)
        layers: list[nn.Module] = [conv_norm(1, channels, kernel=3, stride=2, activation=nn.Hardswish)]
        for kernel, expanded, out, squeeze, hard_swish, stride in BLOCKS:
            block = InvertedResidual(channels, scaled(expanded), scaled(out), kernel, stride, squeeze, hard_swish)
            layers.append(block)
            channels = scaled(out)
        self.embedding_size = 6 * channels
        layers.append(conv_norm(channels, self.embedding_size, kernel=1, activation=nn.Hardswish))

        self.features = nn.Sequential(*layers)
        head: list[nn.Module] = []
        size = self.embedding_size
        if config.head == "mlp":
            size = scaled(HEAD_CHANNELS)
            head = [nn.Linear(self.embedding_size, size), nn.Hardswish(), nn.Dropout(config.dropout)]
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head, nn.Linear(size, config.labels))
        self.moments = nn.Linear(size, config.labels) if config.moments else None
        self.others = Others(size, config.others) if config.others else None
        self.opinion = fresh_opinion(self.blocks, self.embedding_size, config)

    step_frames = STEP_FRAMES
    has_linear_head = True
    # Kernels of 3 from the stem to block 3 look 1, 2, 2 and 4 frames to each side.
    cut = Cut(frames=4, reach=9)

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers from input to output, without the classifier."""
        return list(self.features)

    @property
    def last_layer(self) -> str:
        return f"classifier.{len(self.classifier) - 1}."

    def outputs(self, log_mel: Tensor) -> Outputs:
        """Everything that the network computes."""
        return outputs_from(self, log_mel, 0)

    def lower(self, log_mel: Tensor) -> Tensor:
        maps: Tensor = self.features[:LOCAL_LAYERS](log_mel)
        return maps

    def upper(self, maps: Tensor) -> Outputs:
        return outputs_from(self, maps, LOCAL_LAYERS)

    def embed(self, log_mel: Tensor) -> Tensor:
        """Pooled features, before the head. Input: as `forward`. Output: [B, embedding_size]."""
        return self.features(log_mel).mean((2, 3))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (kxk), weight the channels, project (1x1); add the input where shapes agree.

    Input: [B, channels, F, T]. Output: [B, out, F', T'], of the size that F and T have after the stride.
    """

    def __init__(
        self, channels: int, expanded: int, out: int, kernel: int, stride: int, squeeze: bool, hard_swish: bool
    ) -> None:
        super().__init__()
        self.is_residual = stride == 1 and channels == out
        activation = nn.Hardswish if hard_swish else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != channels:
            layers.append(conv_norm(channels, expanded, kernel=1, activation=activation))
        layers.append(conv_norm(expanded, expanded, kernel, stride, groups=expanded, activation=activation))
        if squeeze:
            layers.append(SqueezeExcitation(expanded))
        layers.append(conv_norm(expanded, out, kernel=1, activation=None))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + y if self.is_residual else y


class SqueezeExcitation(nn.Module):
    """Multiplies each channel by a gate, computed from the means of all channels. Shapes stay.

    Hu et al., "Squeeze-and-Excitation Networks" (CVPR 2018).
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        squeezed = round_channels(channels // reduction)
        self.fc1 = nn.Linear(channels, squeezed)
        self.fc2 = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))  # [B, channels]
        return x * gate[:, :, None, None]


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and an optional activation.

    A norm with fixed statistics (in evaluation mode) is folded into the convolution, also while the rest is trained:
    the same function and the same gradients, without two passes over the maps.
    """

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, *after = self
        assert isinstance(conv, nn.Conv2d)
        weight, bias = conv.weight, conv.bias
        if isinstance(norm, nn.BatchNorm2d) and not norm.training:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            weight, bias = weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        else:
            after = [norm, *after]
        y = _convolved(x, weight, bias, conv)
        for layer in after:
            y = layer(y)
        return y


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> Tensor:
    args = conv.stride, conv.padding, conv.dilation, conv.groups
    learns = x.requires_grad or weight.requires_grad
    learns_in_half = learns and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if learns_in_half and conv.groups > 1 and (max(conv.stride) > 1 or max(conv.kernel_size) > 3):
        # The CPU's gradients of these are 2 to 10 times slower in bfloat16 than in float32.
        with torch.autocast("cpu", enabled=False):
            return functional.conv2d(x.float(), weight, bias, *args).to(torch.bfloat16)  # type: ignore[arg-type]
    return functional.conv2d(x, weight, bias, *args)  # type: ignore[arg-type]


class Others(nn.Module):
    """The surprise of a window: classes that the network learnt before its labels, and that no label explains.

    Input: [B, features]. Output: [B, classes], each 0 to 1: the class's probability, times one minus `expected`, the
    probability that the labels' own sounds give it.
    """

    expected: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, classes)
        self.register_buffer("expected", torch.zeros(classes))

    def forward(self, hidden: Tensor) -> Tensor:
        surprise: Tensor = self.layer(hidden).sigmoid() * (1 - self.expected)
        return surprise


def fresh_opinion(blocks: Sequence[nn.Module], features: int, config: EfficientATConfig) -> SecondOpinion | None:
    """The second opinion that a config describes, with fresh weights: the official networks' layers and head.

    Args:
        blocks: layers of the network, from the input.
        features: number of channels that the last of them gives.
    """
    if not config.opinion:
        return None
    size = round_channels(HEAD_CHANNELS * config.width)
    head = nn.Linear(features, size), nn.Hardswish(), nn.Dropout(config.dropout), nn.Linear(size, config.opinion)
    classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)
    labels = nn.Linear(features, config.labels) if config.seconded else None
    return SecondOpinion(copy.deepcopy(list(blocks[config.shared :])), classifier, labels)


def outputs_from(network: Network, maps: Tensor, first: int) -> Outputs:
    """Everything that a network computes from the input of its layer `first`, counted from 0."""
    opinion: SecondOpinion | None = network.opinion  # type: ignore[assignment]
    shared = len(network.blocks) if opinion is None else network.config.shared
    for layer in network.blocks[first:shared]:
        maps = layer(maps)
    own = maps
    for layer in network.blocks[shared:]:
        own = layer(own)
    outputs = outputs_of(network, own)
    if opinion is None:
        return outputs
    classes, labels = opinion(maps)
    return outputs._replace(opinion=classes, second=labels)


def outputs_of(network: nn.Module, maps: Tensor) -> Outputs:
    """Everything that a network computes from its last feature map.

    Args:
        network: has a `classifier` (pooling, flattening, hidden layers, last layer), `moments`, `others`, `config`.
        maps: [B, C, rows, steps], the last feature map.
    """
    pool, flatten, *hidden, last = network.classifier  # type: ignore[misc]
    whole = embedding = flatten(pool(maps))
    for layer in hidden:
        whole = layer(whole)
    logits, within = last(whole), step_features(maps, network.classifier)  # type: ignore[arg-type]
    moments, others = getattr(network, "moments", None), getattr(network, "others", None)
    surprise = others(whole) if others is not None else None
    if moments is None:
        return Outputs(logits, last(within), surprise, embedding)
    steps = moments(within)
    is_joint: bool = network.config.joint  # type: ignore[union-attr,assignment]
    return Outputs(joint_logits(logits, steps) if is_joint else logits, steps, surprise, embedding)


def joint_logits(window: Tensor, steps: Tensor) -> Tensor:
    """Logits [B, labels] from those of the pooled features, [B, labels], and of the steps, [B, steps, labels]."""
    loudest = steps.topk(min(LOUDEST_STEPS, steps.shape[1]), dim=1).values.mean(1)
    return (window + loudest) / 2


def step_features(maps: Tensor, classifier: nn.Sequential) -> Tensor:
    """Input of the last layer, for each step instead of the whole window.

    Args:
        maps: [B, C, rows, steps], the last feature map.
        classifier: pooling, flattening, hidden layers, last layer.

    Returns:
        [B, steps, features].
    """
    # ONNX Runtime takes the mean of rows in a tenth of the time as an average pool.
    rows = (
        functional.avg_pool2d(maps, (int(maps.shape[2]), 1))[:, :, 0]
        if torch.onnx.is_in_onnx_export()
        else maps.mean(2)
    )
    steps = rows.transpose(1, 2)
    for layer in classifier[2:-1]:  # type: ignore[attr-defined]
        steps = layer(steps)
    return steps


def conv_norm(
    channels: int,
    out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> "ConvNorm":
    """Convolution that keeps the size at stride 1, batch norm, and activation (None: no activation)."""
    layers = [
        nn.Conv2d(channels, out, kernel, stride, padding=(kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=0.001, momentum=0.01),
    ]
    return ConvNorm(*layers, *([activation()] if activation else []))


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, at least 8, but never more than 10 % less: MobileNet's rule for scaled widths.

    >>> [round_channels(c) for c in (6.4, 25.6, 26.8, 64.0)]
    [8, 24, 32, 64]
    """
    rounded = max(_CHANNEL_DIVISOR, int(channels + _CHANNEL_DIVISOR / 2) // _CHANNEL_DIVISOR * _CHANNEL_DIVISOR)
    return rounded if rounded >= 0.9 * channels else rounded + _CHANNEL_DIVISOR
