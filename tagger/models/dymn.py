"""EfficientAT's `dymn` family: the blocks of `mn`, with convolutions, activations and gates that depend on the input.

Schmid et al., "Dynamic Convolutional Neural Networks as Efficient Pre-trained Audio Models" (IEEE/ACM TASLP 2024), for
the network and its weights. Parameters have EfficientAT's names, so its files load unchanged.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from tagger.models.config import DyMNConfig
from tagger.models.efficientat import (
    BLOCKS,
    HEAD_CHANNELS,
    STEM_CHANNELS,
    STEP_FRAMES,
    Others,
    conv_norm,
    fresh_opinion,
    outputs_from,
    round_channels,
)
from tagger.models.network import Network, Outputs

_KERNELS = 4
"""Number of kernels that a dynamic convolution mixes."""
_PIECES = 2
"""Number of straight lines whose maximum is a dynamic ReLU."""
_CONTEXT_RATIO = 4
"""Channels of the expanded block for each channel of the context."""
_CONTEXT_CHANNELS = (32, 128)
"""Fewest and most channels of a context, at width 1."""


class DyMN(Network):
    """Log-mel spectrogram to one logit a label.

    Input: [B, 1, n_mels, frames], float32; any number of frames.
    Output: [B, labels], float32, logits (before softmax or sigmoid).

    >>> DyMN(DyMNConfig(labels=50, width=0.4)).eval()(torch.zeros(2, 1, 128, 500)).shape
    torch.Size([2, 50])
    """

    def __init__(self, config: DyMNConfig) -> None:
        super().__init__()

        def scaled(channels: int) -> int:
            return round_channels(channels * config.width)

        channels = scaled(STEM_CHANNELS)
        least, most = map(scaled, _CONTEXT_CHANNELS)
        self.in_c = conv_norm(1, channels, kernel=3, stride=2, activation=nn.Hardswish)
        self.layers = nn.ModuleList()
        for kernel, expanded, out, _, hard_swish, stride in BLOCKS:
            context = min(max(round_channels(scaled(expanded) // _CONTEXT_RATIO), least), most)
            block = DynamicBlock(channels, scaled(expanded), scaled(out), context, kernel, stride, hard_swish)
            self.layers.append(block)
            channels = scaled(out)
        self.embedding_size = 6 * channels
        self.out_c = conv_norm(channels, self.embedding_size, kernel=1, activation=nn.Hardswish)

        head: list[nn.Module] = []
        size = self.embedding_size
        if config.head == "mlp":
            size = scaled(HEAD_CHANNELS)
            head = [nn.Linear(self.embedding_size, size), nn.Hardswish(), nn.Dropout(config.dropout)]
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head, nn.Linear(size, config.labels))
        self.moments = nn.Linear(size, config.labels) if config.moments else None
        self.others = Others(size, config.others) if config.others else None
        self.opinion = fresh_opinion(self.blocks, self.embedding_size, config)
        self.config = config
        self.set_temperature(config.temperature)

    step_frames = STEP_FRAMES
    has_linear_head = True

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers from input to output, without the classifier."""
        return [self.in_c, *self.layers, self.out_c]

    @property
    def features(self) -> nn.Sequential:
        """The blocks in one module, as `EfficientAT` has them."""
        return nn.Sequential(*self.blocks)

    def set_temperature(self, temperature: float) -> None:
        """Sets the temperature of all dynamic convolutions, and of `config`, which a checkpoint stores.

        Raises:
            ValueError: the temperature is not positive.
        """
        self.config = replace(self.config, temperature=temperature)
        for module in self.modules():
            if isinstance(module, DynamicConv):
                module.temperature = temperature

    @property
    def last_layer(self) -> str:
        return f"classifier.{len(self.classifier) - 1}."

    def outputs(self, log_mel: Tensor) -> Outputs:
        """Everything that the network computes."""
        return outputs_from(self, log_mel, 0)

    def embed(self, log_mel: Tensor) -> Tensor:
        """Pooled features, before the head. Input: as `forward`. Output: [B, embedding_size]."""
        return self._maps(log_mel).mean((2, 3))

    def _maps(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class DynamicBlock(nn.Module):
    """Expand (1x1), filter each channel (kxk), gate rows and columns, project (1x1); add the input where shapes agree.

    Convolutions, activation and gates depend on a context, a summary of the input.

    Input: [B, channels, F, T]. Output: [B, out, F', T'], of the size that F and T have after the stride.
    """

    def __init__(
        self, channels: int, expanded: int, out: int, context: int, kernel: int, stride: int, hard_swish: bool
    ) -> None:
        super().__init__()
        self.is_residual = stride == 1 and channels == out
        self.is_expanding = expanded != channels
        if self.is_expanding:
            self.exp_conv = DynamicConv(channels, expanded, context, kernel=1)
            self.exp_norm = norm(expanded)
            self.exp_act = nn.Hardswish() if hard_swish else nn.ReLU()
        self.depth_conv = DynamicConv(expanded, expanded, context, kernel, stride, groups=expanded)
        self.depth_norm = norm(expanded)
        self.depth_act = DynamicReLU(expanded, context)
        self.proj_conv = DynamicConv(expanded, out, context, kernel=1)
        self.proj_norm = norm(out)
        self.context_gen = ContextGeneration(channels, expanded, context, stride)

    def forward(self, x: Tensor) -> Tensor:
        context, row_gates, column_gates = self.context_gen(x)
        y: Tensor = x
        if self.is_expanding:
            y = self.exp_act(self.exp_norm(self.exp_conv(y, context)))
        y = self.depth_act(self.depth_norm(self.depth_conv(y, context)), context)
        y = y * row_gates * column_gates
        y = self.proj_norm(self.proj_conv(y, context))
        return x + y if self.is_residual else y


class ContextGeneration(nn.Module):
    """Computes a block's context and gates from the means of its input's rows and columns.

    The gates are from Hou et al., "Coordinate Attention for Efficient Mobile Network Design" (CVPR 2021).

    Input: [B, channels, F, T].
    Output: the context [B, H]; gates of rows [B, expanded, F', 1] and columns [B, expanded, 1, T'], each 0 to 1, of the
    size that F and T have after the block's stride.
    """

    def __init__(self, channels: int, expanded: int, context: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.joint_conv = nn.Conv2d(channels, context, 1, bias=False)
        self.joint_norm = norm(context)
        self.conv_f = nn.Conv2d(context, expanded, 1)
        self.conv_t = nn.Conv2d(context, expanded, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        joint = self.joint_norm(self.joint_conv(torch.cat([rows, columns], 2)))
        joint = functional.hardswish(joint)  # [B, H, F + T, 1]
        row_gates = self.conv_f(self._strided(joint[:, :, : x.shape[2]]))
        column_gates = self.conv_t(self._strided(joint[:, :, x.shape[2] :])).transpose(2, 3)
        return joint.mean((2, 3)), row_gates.sigmoid(), column_gates.sigmoid()

    def _strided(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, (3, 1), (self.stride, 1), (1, 0)) if self.stride > 1 else x


class DynamicConv(nn.Module):
    """A convolution whose kernel is different for each input: a mixture of a few kernels, weighted by the context.

    Chen et al., "Dynamic Convolution: Attention over Convolution Kernels" (CVPR 2020).

    Input: [B, channels, F, T] and the context [B, H].
    Output: [B, out, F', T'], which is F, T at stride 1.
    """

    def __init__(self, channels: int, out: int, context: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.temperature = 1.0
        self.stride = stride
        self.groups = groups
        self.shape = (out, channels // groups, kernel, kernel)
        self.is_pointwise = kernel == stride == groups == 1
        spread = (2 / (out // groups * kernel**2)) ** 0.5  # He et al. (ICCV 2015), fan-out
        self.weight = nn.Parameter(torch.randn(1, 1, _KERNELS, math.prod(self.shape)) * spread)
        self.residuals = nn.Sequential(small_linear(context, _KERNELS))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        batch, _, rows, columns = x.shape
        out, channels, kernel, _ = self.shape
        mixture = (self.residuals(context) / self.temperature).softmax(1)  # [B, kernels]
        weight: Tensor = mixture @ self.weight[0, 0]
        if self.is_pointwise:  # a matrix product an input equals the code below and trains in 3/4 of the time
            return (weight.view(batch, out, channels) @ x.flatten(2)).view(batch, out, rows, columns)
        if torch.onnx.is_in_onnx_export():
            return self._mixture_of_outputs(x, mixture)
        # The inputs of the batch become groups of one input, so that each meets its own kernel.
        y = functional.conv2d(
            x.reshape(1, -1, rows, columns),
            weight.view(batch * out, channels, kernel, kernel),
            stride=self.stride,
            padding=(kernel - 1) // 2,
            groups=self.groups * batch,
        )
        return y.view(batch, out, *y.shape[2:])

    def _mixture_of_outputs(self, x: Tensor, mixture: Tensor) -> Tensor:
        """The same by mixing the outputs of all kernels, which costs more. The number of a graph's groups is fixed.

        Only for convolutions that filter each channel by itself.
        """
        out, channels, kernel, _ = self.shape
        assert channels == 1, "not one filter a channel"
        each = self.weight.view(_KERNELS, out, 1, kernel, kernel).transpose(0, 1).reshape(-1, 1, kernel, kernel)
        y = functional.conv2d(x, each, stride=self.stride, padding=(kernel - 1) // 2, groups=self.groups)
        y = y.view(y.shape[0], out, _KERNELS, *y.shape[2:])  # len(y) would fix the size of the batch
        mixed: Tensor = (y * mixture[:, None, :, None, None]).sum(2)
        return mixed


class DynamicReLU(nn.Module):
    """The maximum of straight lines, whose slopes and offsets depend on the context, for each channel; at first a ReLU.

    Chen et al., "Dynamic ReLU" (ECCV 2020), variant B.

    Input: [B, channels, F, T] and the context [B, H]. Output: [B, channels, F, T].
    """

    lambdas: Tensor
    init_v: Tensor

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.coef_net = nn.Sequential(small_linear(context, 2 * _PIECES * channels))
        # `lambdas`: greatest change of each coefficient; `init_v`: its first value. All slopes, then all offsets.
        self.register_buffer("lambdas", torch.tensor([1.0] * _PIECES + [0.5] * _PIECES))
        self.register_buffer("init_v", torch.tensor([1.0] + [0.0] * (2 * _PIECES - 1)))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        steps = (2 * self.coef_net(context).sigmoid() - 1).view(*x.shape[:2], 1, 1, 2 * _PIECES)
        slope1, slope2, offset1, offset2 = (steps * self.lambdas + self.init_v).unbind(-1)
        return torch.maximum(x * slope1 + offset1, x * slope2 + offset2)


def small_linear(size: int, out: int) -> nn.Linear:
    """A linear layer that has almost no effect at first: small weights, biases of 0."""
    linear = nn.Linear(size, out)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return linear


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the settings of `conv_norm`."""
    return nn.BatchNorm2d(channels, eps=0.001, momentum=0.01)
