"""CRNN: convolutions find patterns in the spectrogram, and a recurrent network connects them over time.

The layout is Shi et al., "An End-to-End Trainable Neural Network for Image-based Sequence Recognition" (TPAMI 2017):
convolutions, feature maps, map to sequence (reshape, permute, linear), bidirectional LSTM, fully connected. Added to
it: batch norm, residual connections (He et al., CVPR 2016), and attention pooling over all steps, label by label
(Kong et al., "Sound Event Detection of Weakly Labelled Data with CNN-Transformer", TASLP 2020), instead of the last
step alone.
"""

import torch
from torch import Tensor, nn

from tagger.models.config import CRNNConfig
from tagger.models.network import Cut, Network, Outputs

LOCAL_STAGES = 3
"""Modules of `features` with a stride of four frames in all: the first layer, and the first stage's two."""


class CRNN(Network):
    """Spectrogram to one logit a label.

    Input: [B, 1, bands, frames], float32; frames >= 16.
    Output: [B, labels], float32, logits (before softmax or sigmoid).

    >>> CRNN(CRNNConfig(labels=50))(torch.zeros(2, 1, 128, 500)).shape
    torch.Size([2, 50])
    """

    def __init__(self, config: CRNNConfig) -> None:
        super().__init__()
        self.config = config
        first, *others = config.channels
        # Neighbouring bands are alike, so the first layer keeps every fourth row, and every other frame.
        first_layer = nn.Conv2d(1, first, (7, 5), (4, 2), (3, 2), bias=False)
        stages: list[nn.Module] = [nn.Sequential(first_layer, nn.BatchNorm2d(first), nn.ReLU())]
        channels, rows = first, -(-config.bands // 4)
        for out in others:
            stages += [Residual(channels, out, stride=2), Residual(out, out)]
            channels, rows = out, -(-rows // 2)
        self.features = nn.Sequential(*stages)
        self.to_sequence = nn.Sequential(
            nn.Linear(channels * rows, config.sequence), nn.ReLU(), nn.Dropout(config.dropout)
        )
        self.lstm = nn.LSTM(config.sequence, config.hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        size = config.sequence + 2 * config.hidden
        self.classifier = nn.Linear(size, config.labels)
        self.attention = nn.Linear(size, config.labels)

    step_frames = 16
    last_layer = "classifier.", "attention."
    # The first layer and the first stage: kernels of 5 and of four times 3 look 2, 2, 4, 4 and 4 frames to each side.
    cut = Cut(frames=4, reach=16)

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers from input to output, without the head."""
        return [*self.features, self.to_sequence, self.lstm]

    def steps(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the weight of each step for each label, which sum to 1 over the steps: both [B, steps, labels].

        A step is 16 frames long.
        """
        return self._weighted(self._context(self.features(log_mel)))

    def _context(self, maps: Tensor) -> Tensor:
        """Each step's vector, and what the LSTM makes of the steps around it.

        Input: [B, channels, rows, steps], the last feature map. Output: [B, steps, features].
        """
        sequence = self.to_sequence(maps.flatten(1, 2).permute(0, 2, 1).contiguous())  # [B, steps, sequence]
        context: Tensor = self.dropout(torch.cat([sequence, self._around(sequence)], 2))
        return context

    def _around(self, sequence: Tensor) -> Tensor:
        """What the LSTM makes of the steps, [B, steps, 2 * hidden]."""
        if not sequence.is_cuda:
            return self.lstm(sequence)[0]  # type: ignore[no-any-return]
        # In half precision cuDNN's LSTM gives float16, whatever the autocast's type is, and the two do not mix.
        with torch.autocast("cuda", enabled=False):
            return self.lstm(sequence.float())[0]  # type: ignore[no-any-return]

    def _weighted(self, context: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(context), self.attention(context).softmax(1)

    def head_input(self, log_mel: Tensor) -> Tensor:
        return self._context(self.features(log_mel)).mean(1)

    def first_head(self) -> nn.Linear:
        nn.init.zeros_(self.attention.weight)  # all steps weigh the same: the logits are those of their mean
        nn.init.zeros_(self.attention.bias)
        return self.classifier

    def outputs(self, log_mel: Tensor) -> Outputs:
        """Logits of the window and of its steps, and the mean of the steps' features."""
        return self.upper(self.lower(log_mel))

    def lower(self, log_mel: Tensor) -> Tensor:
        maps: Tensor = self.features[:LOCAL_STAGES](log_mel)
        return maps

    def upper(self, maps: Tensor) -> Outputs:
        context = self._context(self.features[LOCAL_STAGES:](maps))
        logits, weights = self._weighted(context)
        return Outputs((logits * weights).sum(1), logits, None, context.mean(1))


class Residual(nn.Module):
    """Two 3x3 convolutions, plus the input, pooled and projected where the shape changes. He et al. (CVPR 2016).

    Input: [B, channels, F, T]. Output: [B, out, ceil(F / stride), ceil(T / stride)].
    """

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.block = nn.Sequential(*_conv_norm(channels, out, stride), nn.ReLU(), *_conv_norm(out, out))
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
        if channels != out:
            shortcut += _conv_norm(channels, out, kernel=1)
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.block(x) + self.shortcut(x))
        return y


def _conv_norm(channels: int, out: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    padding = (kernel - 1) // 2
    return [nn.Conv2d(channels, out, kernel, stride, padding, bias=False), nn.BatchNorm2d(out)]
