"""Log-mel spectrograms and MFCCs: the network's input, computed on the network's device.

The default is EfficientAT's front end, so that its official weights work:
Schmid et al., "Efficient Large-scale Audio Tagging via Transformer-to-CNN Knowledge Distillation" (ICASSP 2023).
The others are configurations of the same module: `tagger.features.config.FRONT_ENDS`.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from tagger.features import filters
from tagger.features.config import MelConfig, MfccConfig

_CPU_SAMPLES = 1 << 20
"""Most samples that the CPU transforms at a time, six clips of 5 s. glibc's malloc does not keep the memory of larger
spectra (32 MB): it comes from the system anew each time, and a batch of 32 takes 2.4 times as long."""


class LogMel(nn.Module):
    """Waveform to normalised log-mel spectrogram, batched, on whatever device it is moved to.

    Input: [B, N], float32, full scale -1 to 1, at `config.sample_rate_hz`; N >= `config.least_samples`.
    Output: [B, 1, n_mels, frames], float32.

    >>> LogMel(MelConfig())(torch.zeros(2, 160_000)).shape
    torch.Size([2, 1, 128, 500])
    """

    window: Tensor
    mel_bank: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        # Not persistent: both follow from the config, which the checkpoint carries.
        window = torch.hann_window(config.window_samples, periodic=config.periodic_window)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel_bank", mel_bank_tensor(config), persistent=False)

    def forward(self, waveform: Tensor, mel_bank: Tensor | None = None) -> Tensor:
        """
        Args:
            mel_bank: filters in place of the config's own, [n_mels, n_fft / 2 + 1], on the same device. Training uses
                slightly different ones for each batch. Bins above `config.bandwidth_hz` are left out all the same.
        """
        bank = (self.mel_bank if mel_bank is None else mel_bank)[:, : self.config.heard_bins]
        together = max(1, _CPU_SAMPLES // waveform.shape[1]) if waveform.device.type == "cpu" else len(waveform)
        mel = torch.cat([torch.matmul(bank, self._power(clips)) for clips in torch.split(waveform, together)])
        log_mel = (mel + self.config.log_offset).log()
        return ((log_mel + self.config.shift) / self.config.scale).unsqueeze(1)

    def _power(self, waveform: Tensor) -> Tensor:
        """Power spectrum. Output: [B, heard bins, frames]."""
        config = self.config
        if config.preemphasis:
            waveform = waveform[:, 1:] - config.preemphasis * waveform[:, :-1]
        spectrum = torch.stft(
            waveform,
            config.n_fft,
            hop_length=config.hop_samples,
            win_length=config.window_samples,
            window=self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )[:, : config.heard_bins]
        return spectrum.real.square() + spectrum.imag.square()


class Mfcc(LogMel):
    """Waveform to normalised MFCCs. Input: as LogMel. Output: [B, 1, n_mfcc, frames], float32.

    >>> Mfcc(MfccConfig())(torch.zeros(2, 160_000)).shape
    torch.Size([2, 1, 40, 500])
    """

    dct: Tensor

    def __init__(self, config: MfccConfig) -> None:
        super().__init__(config)
        lifter = 1 + config.lifter * torch.arange(config.n_mfcc)
        dct = torch.from_numpy(filters.dct(config.n_mfcc, config.n_mels)) * lifter[:, None]
        self.register_buffer("dct", dct, persistent=False)

    def forward(self, waveform: Tensor, mel_bank: Tensor | None = None) -> Tensor:
        return torch.matmul(self.dct, super().forward(waveform, mel_bank))


def front_end(config: MelConfig) -> LogMel:
    """The module that makes the features `config` describes: [B, N] to [B, 1, `config.bands`, frames]."""
    return Mfcc(config) if isinstance(config, MfccConfig) else LogMel(config)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a tensor cached in inference mode could not be used in training
def mel_bank_tensor(config: MelConfig) -> Tensor:
    """`tagger.features.filters.mel_bank` as a tensor on the CPU. Output: [n_mels, n_fft / 2 + 1], float32.

    Kaldi's filters are computed in float32 with torch's logarithm, so that they equal torchaudio's bit for bit. With
    those the networks were trained, and the thresholds of the bundled ones measured.

    Cached for each config: the caller must not change it in place.
    """
    return torch.from_numpy(filters.mel_bank(config, np.float32, lambda x: torch.from_numpy(x).log().numpy()))
