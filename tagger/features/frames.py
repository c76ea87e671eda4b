"""Log-mel spectrograms and MFCCs in numpy, for devices without torch.

The same features as `tagger.features.logmel`. Both differ from a computation in float64 by the rounding of a float32
transform: on white noise these by 2e-5, torch's by 5e-5.
"""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tagger.events import Samples
from tagger.features import filters
from tagger.features.config import MelConfig, MfccConfig


class FrontEnd:
    """Waveforms to the features that a config describes.

    >>> FrontEnd(MelConfig())(np.zeros((2, 160_000), np.float32)).shape
    (2, 1, 128, 500)
    """

    def __init__(self, config: MelConfig) -> None:
        self.config = config
        self._window, bank, self._dct = _constants(config)
        self._bank = np.ascontiguousarray(bank[:, : config.heard_bins].T)

    def __call__(self, waveforms: Samples) -> Samples:
        """
        Args:
            waveforms: [B, N], float32, full scale -1 to 1, at `config.sample_rate_hz`; N >= `config.least_samples`.

        Returns:
            [B, 1, `config.bands`, frames], float32.
        """
        # One waveform at a time: the frames of one fit the processor's cache, those of a batch do not.
        return np.stack([self._features(waveform) for waveform in waveforms])[:, None]

    def _features(self, waveform: Samples) -> Samples:
        """Features of one waveform. Input: [N]. Output: [bands, frames]."""
        config = self.config
        if config.preemphasis:
            waveform = waveform[1:] - np.float32(config.preemphasis) * waveform[:-1]
        return self.of_frames(self._framed(np.pad(waveform, config.n_fft // 2, mode="reflect")))

    def _framed(self, padded: Samples) -> NDArray[np.float32]:
        """Frames under the window: a view. Input: [N + n_fft]. Output: [frames, window_samples]."""
        config = self.config
        before = (config.n_fft - config.window_samples) // 2  # the window is centred in the transform
        count = (len(padded) - config.n_fft) // config.hop_samples + 1
        first = sliding_window_view(padded[before:], config.window_samples)
        return first[: (count - 1) * config.hop_samples + 1 : config.hop_samples]

    def of_frames(self, frames: Samples) -> Samples:
        """Features of frames, each on its own.

        Args:
            frames: [frames, window_samples], pre-emphasised.

        Returns:
            [bands, frames].
        """
        config = self.config
        # Zeros behind a frame instead of around it change the phases only, and the power has none.
        spectrum = np.fft.rfft(frames * self._window, config.n_fft)[:, : config.heard_bins]
        power = (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32, copy=False)
        log_mel = np.log(power @ self._bank + np.float32(config.log_offset))
        log_mel += np.float32(config.shift)
        log_mel /= np.float32(config.scale)
        features: Samples = log_mel.T if self._dct is None else self._dct @ log_mel.T
        return features


@lru_cache(maxsize=8)
def _constants(config: MelConfig) -> tuple[Samples, NDArray[np.float32], NDArray[np.float32] | None]:
    """The Hann window [window_samples], the mel filters [n_mels, bins] and, for MFCCs, the liftered DCT."""
    period = config.window_samples if config.periodic_window else config.window_samples - 1
    turn = 2 * np.pi * np.arange(config.window_samples) / max(period, 1)
    window = (0.5 - 0.5 * np.cos(turn)).astype(np.float32) if config.window_samples > 1 else np.ones(1, np.float32)
    # In float32, as the networks were trained (`tagger.features.logmel.mel_bank_tensor`), but with a logarithm that is
    # the same on every processor. Some of torch's differ in the last bit, so some weights do by up to 2e-5.
    bank = filters.mel_bank(config, np.float32, lambda x: np.log(x.astype(np.float64)).astype(np.float32))
    dct = None
    if isinstance(config, MfccConfig):
        lifter = (1 + config.lifter * np.arange(config.n_mfcc)).astype(np.float32)
        dct = filters.dct(config.n_mfcc, config.n_mels) * lifter[:, None]
    return window, bank, dct
