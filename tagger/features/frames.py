"""Log-mel spectrograms and MFCCs in numpy, for devices without torch.

The same features as `tagger.features.logmel`. Both differ from a computation in float64 by the rounding of a float32
transform: on white noise these by 2e-5, torch's by 5e-5.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from tagger.events import Samples
from tagger.features import filters
from tagger.features.config import MelConfig, MfccConfig
from tagger.features.spectrum import TOGETHER, PowerSpectrum

_CHUNK = 64
"""Frames that are computed at a time: their arrays fit the processor's cache."""
_BANDS = 16
"""Neighbouring mel bands that are computed at a time, at most."""
_MOST_MULTIPLICATIONS = 2**18
"""Most multiplications in a matrix product that OpenBLAS leaves to one thread. Others would wake threads that then spin
for milliseconds."""


class FrontEnd:
    """Waveforms to the features that a config describes.

    >>> FrontEnd(MelConfig())(np.zeros((2, 160_000), np.float32)).shape
    (2, 1, 128, 500)
    """

    def __init__(self, config: MelConfig) -> None:
        self.config = config
        self._window, self._bank, self._dct, self._spectrum = _constants(config)

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
        return self.of_frames(self.frames(waveform, 0, self.config.frames(len(waveform))))

    def frames(self, waveform: Samples, first: int, stop: int) -> Samples:
        """Some frames of a waveform, pre-emphasised.

        Args:
            waveform: [N].
            first, stop: numbers of the first frame, and of the one after the last.

        Returns:
            [stop - first, window_samples], a view.
        """
        config = self.config
        half, emphasis = config.n_fft // 2, bool(config.preemphasis)
        length = len(waveform) - emphasis
        earliest, latest = first * config.hop_samples - half, (stop - 1) * config.hop_samples + half
        # Half a transform is mirrored at the waveform's ends. The sample at which it is mirrored is not repeated.
        left, right = max(0, -earliest), max(0, latest - length)
        begin, end = max(0, earliest - 1), min(length, latest + 1)
        samples = waveform[begin : end + emphasis]
        if emphasis:
            samples = samples[1:] - np.float32(config.preemphasis) * samples[:-1]
        if left or right:
            samples = np.concatenate([samples[left:0:-1], samples, samples[::-1][1 : right + 1]])
        before = (config.n_fft - config.window_samples) // 2  # the window is centred in the transform
        cut = samples[earliest + left - begin + before :]
        shape, (step,) = (stop - first, config.window_samples), cut.strides
        assert len(cut) >= (shape[0] - 1) * config.hop_samples + shape[1]
        return as_strided(cut, shape, (config.hop_samples * step, step), writeable=False)

    def of_frames(self, frames: Samples) -> Samples:
        """Features of frames, each on its own.

        Args:
            frames: [frames, window_samples], pre-emphasised.

        Returns:
            [bands, frames].
        """
        features = np.empty((self.config.bands, len(frames)), np.float32)
        for start in range(0, len(frames), _CHUNK):
            part = frames[start : start + _CHUNK]
            features[:, start : start + _CHUNK] = self._of_chunk(part)[: len(part)].T
        return features

    def _of_chunk(self, frames: Samples) -> Samples:
        """Features of a few frames, [frames or a few more, bands]."""
        config = self.config
        # Zeros behind a frame instead of around it change the phases only, and the power has none.
        windowed = self._spectrum.frames(len(frames))
        np.multiply(frames, self._window, out=windowed[: len(frames), : config.window_samples])
        power = self._spectrum(windowed)
        log_mel = np.empty((len(windowed), config.n_mels), np.float32)
        for bands, powers, weights in self._bank:
            np.matmul(power[:, powers], weights, out=log_mel[:, bands])
        log_mel += np.float32(config.log_offset)
        np.log(log_mel, out=log_mel)
        log_mel += np.float32(config.shift)
        log_mel /= np.float32(config.scale)
        if self._dct is None:
            return log_mel
        coefficients: Samples = np.matmul(log_mel.reshape(-1, TOGETHER, config.n_mels), self._dct)
        return coefficients.reshape(len(log_mel), config.bands)


Bands = tuple[slice, slice, NDArray[np.float32]]
"""Some neighbouring bands, the powers that they are sums of, and the weights, [powers, bands]."""


@lru_cache(maxsize=8)
def _constants(
    config: MelConfig,
) -> tuple[Samples, tuple[Bands, ...], NDArray[np.float32] | None, PowerSpectrum]:
    """The Hann window [window_samples], the mel filters, the liftered DCT [n_mels, bands] (MFCCs), the transform."""
    period = config.window_samples if config.periodic_window else config.window_samples - 1
    turn = 2 * np.pi * np.arange(config.window_samples) / max(period, 1)
    window = (0.5 - 0.5 * np.cos(turn)).astype(np.float32) if config.window_samples > 1 else np.ones(1, np.float32)
    # In float32, as the networks were trained (`tagger.features.logmel.mel_bank_tensor`), but with a logarithm that is
    # the same on every processor. Some of torch's differ in the last bit, so some weights do by up to 2e-5.
    bank = filters.mel_bank(config, np.float32, lambda x: np.log(x.astype(np.float64)).astype(np.float32))
    dct = None
    if isinstance(config, MfccConfig):
        lifter = (1 + config.lifter * np.arange(config.n_mfcc)).astype(np.float32)
        dct = np.ascontiguousarray((filters.dct(config.n_mfcc, config.n_mels) * lifter[:, None]).T)
    spectrum = PowerSpectrum(config.n_fft, config.window_samples, config.heard_bins)
    placed = spectrum.of_bins(bank[:, : config.heard_bins].T)
    return window, tuple(_groups(placed)), dct, spectrum


def _groups(bank: NDArray[np.float32]) -> Iterator[Bands]:
    """Cuts the mel filters, [powers, n_mels], which are mostly zeros, into products that leave most zeros out."""
    first, width = 0, _BANDS
    while first < bank.shape[1]:
        rows = np.flatnonzero(bank[:, first : first + width].any(1))
        powers = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 1)
        weights = bank[powers, first : first + width]
        if weights.size * _CHUNK > _MOST_MULTIPLICATIONS and width > 1:
            width //= 2
            continue
        yield slice(first, first + width), powers, np.ascontiguousarray(weights)
        first, width = first + width, _BANDS
