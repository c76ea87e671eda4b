"""Configuration of front ends: every parameter of the features, and the named sets of parameters.

Neither torch nor numpy is needed to describe features. The filters are in `tagger.features.filters`; the features are
computed in `tagger.features.logmel`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

MEL_FILTERS = ("kaldi", "htk")
_LARGEST = {
    "sample_rate_hz": 768_000,
    "n_fft": 65_536,
    "window_samples": 65_536,
    "hop_samples": 1_000_000,
    "n_mels": 512,
}
"""Largest whole numbers of a front end."""
_MOST_FILTER_CELLS = 2**23
"""Largest `n_fft * n_mels`: the filters take half as many numbers of 4 bytes, and of 8 while they are computed."""


def hertz_to_mel(hertz: float) -> float:
    """Position of a frequency on Kaldi's and HTK's mel scale.

    >>> round(hertz_to_mel(1000.0))
    1000
    """
    return 1127 * math.log1p(hertz / 700)


@dataclass(frozen=True)
class MelConfig:
    """Every parameter of the front end. A checkpoint carries one; nothing else decides how its features are made."""

    name: ClassVar[str] = "log_mel"
    """What a checkpoint's document calls these features."""

    sample_rate_hz: int = 32_000
    """Sample rate of the waveform."""
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
    """First-order high-pass `y[n] = x[n] - preemphasis * x[n-1]`, which loses the first sample. 0: none."""
    log_offset: float = 1e-5
    """Added to the power before the logarithm, so that silence is finite."""
    shift: float = 4.5
    """`(log_mel + shift) / scale` brings AudioSet's log-mels near zero mean and unit range."""
    scale: float = 5.0
    """See `shift`."""
    bandwidth_hz: float | None = None
    """Highest frequency that is heard; everything above it is treated as silence. A network trained on audio of limited
    bandwidth (ESC-50 at 16 kHz has nothing above 8 kHz) is confused by content it never saw. None: no limit."""
    periodic_window: bool = False
    """Whether the Hann window's period is `window_samples`, as in torchaudio. Otherwise the period is one less, and the
    window is zero at both ends."""
    mel_filters: str = "kaldi"
    """`kaldi`: triangles with sides straight in mel, without the Nyquist bin. `htk`: with sides straight in Hz, as in
    torchaudio. Their centres are the same: mel = 1127 ln(1 + Hz / 700)."""

    def __post_init__(self) -> None:
        for name, most in _LARGEST.items():
            value = getattr(self, name)
            if not isinstance(value, int):
                raise ValueError(f"{name} {value!r} must be a whole number")
            if value > most:
                raise ValueError(f"{name} {value} must be at most {most:,}")
        nyquist = self.sample_rate_hz / 2
        if not 0 < self.window_samples <= self.n_fft:
            raise ValueError(f"window_samples {self.window_samples} must be between 1 and n_fft {self.n_fft}")
        if self.hop_samples <= 0 or self.n_mels <= 0:
            raise ValueError("hop_samples and n_mels must be positive")
        if self.n_fft % 2 or self.n_mels < 4:
            raise ValueError(f"n_fft {self.n_fft} must be even and n_mels {self.n_mels} at least 4")
        if self.n_fft * self.n_mels > _MOST_FILTER_CELLS:
            raise ValueError(f"n_fft {self.n_fft} times n_mels {self.n_mels} must be at most {_MOST_FILTER_CELLS:,}")
        if not 0 <= self.f_min_hz < self.f_max_hz <= nyquist:
            raise ValueError(f"0 <= f_min_hz < f_max_hz <= {nyquist:g} does not hold")
        if not (1e-30 <= self.log_offset <= 1e6 and 1e-6 <= self.scale <= 1e6):
            raise ValueError("log_offset and scale must be positive, and neither minute nor huge")
        if not (abs(self.shift) <= 1e6 and abs(self.preemphasis) <= 1):
            raise ValueError("shift and preemphasis must be finite, and not huge")
        if self.bandwidth_hz is not None and not self.f_min_hz < self.bandwidth_hz <= 1e9:
            raise ValueError(f"bandwidth_hz {self.bandwidth_hz:g} leaves nothing above f_min_hz {self.f_min_hz:g}")
        if not isinstance(self.periodic_window, bool):
            raise ValueError(f"periodic_window {self.periodic_window!r} must be true or false")
        if self.mel_filters not in MEL_FILTERS:
            raise ValueError(f"mel_filters {self.mel_filters!r} must be one of {', '.join(MEL_FILTERS)}")

    @property
    def bands(self) -> int:
        """Rows of the output."""
        return self.n_mels

    @property
    def least_samples(self) -> int:
        """Length of the shortest waveform that gives features, samples: half a transform is mirrored at each end."""
        return self.n_fft // 2 + 1 + bool(self.preemphasis)

    @property
    def heard_bins(self) -> int:
        """Number of frequencies of the transform, from 0 Hz on, that `bandwidth_hz` leaves."""
        bins = self.n_fft // 2 + 1
        if self.bandwidth_hz is None:
            return bins
        return min(bins, int(self.bandwidth_hz * self.n_fft / self.sample_rate_hz) + 1)

    def frames(self, samples: int) -> int:
        """Number of frames that `samples` samples give. Frame t is centred at sample t * `hop_samples`."""
        return (samples - bool(self.preemphasis)) // self.hop_samples + 1

    def band_at(self, hertz: float) -> float:
        """The mel band whose centre is at this frequency, counted from 0; between two bands, a fraction."""
        low, high = hertz_to_mel(self.f_min_hz), hertz_to_mel(self.f_max_hz)
        return (hertz_to_mel(hertz) - low) / (high - low) * (self.n_mels + 1) - 1


@dataclass(frozen=True)
class MfccConfig(MelConfig):
    """Mel-frequency cepstral coefficients: the orthonormal DCT-II of the normalised log-mels, along the mel axis."""

    name: ClassVar[str] = "mfcc"
    n_mfcc: int = 40
    """Number of coefficients, from the 0th, which is the level."""
    lifter: float = 1.0
    """Coefficient k is multiplied by `1 + lifter * k`. Over ESC-50 its standard deviation is within a third of
    1 / (1 + k), so a lifter of 1 gives all coefficients about the same range, which `scale` brings near 1. 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.n_mfcc, int) or not 0 < self.n_mfcc <= self.n_mels:
            raise ValueError(f"n_mfcc {self.n_mfcc!r} must be a whole number from 1 to n_mels {self.n_mels}")
        if not 0 <= self.lifter <= 1e6:
            raise ValueError(f"lifter {self.lifter:g} must not be negative, nor huge")

    @property
    def bands(self) -> int:
        return self.n_mfcc


CONFIGS: Mapping[str, type[MelConfig]] = {config.name: config for config in (MelConfig, MfccConfig)}
"""Config classes by the name of the features in a checkpoint's document."""

_TORCHAUDIO: Mapping[str, Any] = {
    "window_samples": 1024,
    "f_max_hz": 16_000.0,
    "preemphasis": 0.0,
    "log_offset": 1e-6,
    "shift": 6.0,
    "periodic_window": True,
    "mel_filters": "htk",
}
"""Fields of the front ends that are torchaudio's."""
FRONT_ENDS: Mapping[str, MelConfig] = {
    # EfficientAT's own, which its AudioSet weights need.
    "efficientat": MelConfig(),
    # The origin's custom setting: EfficientAT's with a window of 10 ms. It resolves time better and pitch worse.
    "origin": MelConfig(window_samples=320),
    # torchaudio's MelSpectrogram and a logarithm: no pre-emphasis, all frequencies.
    "mel": MelConfig(**_TORCHAUDIO, scale=6.5),
    # torchaudio's MFCC(log_mels=True), normalised: 40 coefficients of the line above.
    "mfcc": MfccConfig(**_TORCHAUDIO, scale=45.0),
}
"""Configs to train with, by their name on the command line. `shift` and `scale` were measured on ESC-50."""
