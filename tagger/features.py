"""Log-mel spectrograms: the network's input, computed on the network's device.

The default is EfficientAT's front end, so that its official weights work:
Schmid et al., "Efficient Large-scale Audio Tagging via Transformer-to-CNN Knowledge Distillation" (ICASSP 2023).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tagger._torchaudio import torchaudio


@dataclass(frozen=True)
class MelConfig:
    """Every parameter of the front end. A checkpoint carries one, and nothing else decides how features are made."""

    sample_rate_hz: int = 32_000
    """Rate of the waveform that comes in."""
    n_fft: int = 1024
    """Length of the Fourier transform, samples."""
    window_samples: int = 800
    """Length of the Hann window, samples, centred in `n_fft`."""
    hop_samples: int = 320
    """Distance between frames, samples."""
    n_mels: int = 128
    """Number of mel bands."""
    f_min_hz: float = 0.0
    """Lower edge of the lowest band."""
    f_max_hz: float = 15_000.0
    """Upper edge of the highest band."""
    preemphasis: float = 0.97
    """First-order high-pass `y[n] = x[n] - preemphasis * x[n-1]`."""
    log_offset: float = 1e-5
    """Added to the power before the logarithm, so that silence is finite."""
    shift: float = 4.5
    """`(log_mel + shift) / scale` brings AudioSet's log-mels near zero mean and unit range."""
    scale: float = 5.0
    """See `shift`."""
    bandwidth_hz: float | None = None
    """What lies above this frequency is treated as silence. A network trained on audio of limited bandwidth (ESC-50 at
    16 kHz has nothing above 8 kHz) is confused by content it never saw; this takes it away. None: all is used."""

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "n_fft", "window_samples", "hop_samples", "n_mels"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} {getattr(self, name)!r} must be a whole number")
        nyquist = self.sample_rate_hz / 2
        if not 0 < self.window_samples <= self.n_fft:
            raise ValueError(f"window_samples {self.window_samples} must be between 1 and n_fft {self.n_fft}")
        if self.hop_samples <= 0 or self.n_mels <= 0:
            raise ValueError("hop_samples and n_mels must be positive")
        if not 0 <= self.f_min_hz < self.f_max_hz <= nyquist:
            raise ValueError(f"0 <= f_min_hz < f_max_hz <= {nyquist:g} does not hold")
        if not (0 < self.log_offset < math.inf and 0 < self.scale < math.inf):
            raise ValueError("log_offset and scale must be positive")
        if not (math.isfinite(self.shift) and math.isfinite(self.preemphasis)):
            raise ValueError("shift and preemphasis must be finite")
        if self.bandwidth_hz is not None and not self.bandwidth_hz > self.f_min_hz:
            raise ValueError(f"bandwidth_hz {self.bandwidth_hz:g} leaves nothing above f_min_hz {self.f_min_hz:g}")

    def frames(self, samples: int) -> int:
        """Number of frames that `samples` samples give."""
        return (samples - 1) // self.hop_samples + 1


class LogMel(nn.Module):
    """Waveform to normalised log-mel spectrogram, batched, on whatever device it is moved to.

    Input: [B, N], float32, full scale -1 to 1, at `config.sample_rate_hz`; N > `n_fft / 2` + 1.
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
        window = torch.hann_window(config.window_samples, periodic=False)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel_bank", _mel_bank(config), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        config = self.config
        emphasised = waveform[:, 1:] - config.preemphasis * waveform[:, :-1]
        spectrum = torch.stft(
            emphasised,
            config.n_fft,
            hop_length=config.hop_samples,
            win_length=config.window_samples,
            window=self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )  # [B, n_fft / 2 + 1, frames]
        power = spectrum.real.square() + spectrum.imag.square()
        mel = torch.matmul(self.mel_bank, power)
        log_mel = (mel + config.log_offset).log()
        return ((log_mel + config.shift) / config.scale).unsqueeze(1)


def _mel_bank(config: MelConfig) -> Tensor:
    """Triangular filters, equally wide on Kaldi's mel scale. Output: [n_mels, n_fft / 2 + 1]."""
    bank, _ = torchaudio.compliance.kaldi.get_mel_banks(
        config.n_mels,
        config.n_fft,
        float(config.sample_rate_hz),
        config.f_min_hz,
        config.f_max_hz,
        vtln_low=100.0,
        vtln_high=-500.0,
        vtln_warp_factor=1.0,
    )  # [n_mels, n_fft / 2]: Kaldi leaves the Nyquist bin out
    bank = nn.functional.pad(bank, (0, 1))
    if config.bandwidth_hz is not None:
        bin_hz = torch.arange(bank.shape[1]) * config.sample_rate_hz / config.n_fft
        bank = bank * (bin_hz <= config.bandwidth_hz)
    return bank
