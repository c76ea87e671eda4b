"""Power of a stream in bands a third of an octave wide (IEC 61260-1), from spectra of overlapping frames.

Low bands need long frames, high bands short ones: the bands up to 400 Hz are measured in frames of a second, of the
stream at 2 kHz, the others in frames of 64 ms. The window's squares add up to 1, so all of the power is counted, once.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tagger.events import Samples
from tagger.features.spectrum import TOGETHER, PowerSpectrum

_NOMINAL = ("1", "1.25", "1.6", "2", "2.5", "3.15", "4", "5", "6.3", "8")
"""Nominal frequencies of ten bands, one decade."""
_FIRST = -16
"""Number of the lowest band, 25 Hz; 0 is 1 kHz."""
_SPLIT = -3.5
"""Between the numbers of the highest low band, 400 Hz, and the lowest high one, 500 Hz."""
_ORDER = 6
"""Order of the Butterworth response whose shape the bands have. It fits class 1."""
_HIGHEST_SHARE = 0.46
"""Highest edge of a band, as a share of the rate: what resampling leaves."""
_FRAME_SECONDS = 0.064
"""Longest frame for high bands; its length is a power of 2."""
_TOGETHER = 4 * TOGETHER
"""Frames whose powers are computed together."""
_LOW_RATE_HZ = 2_000
"""About the rate at which low bands are measured."""
_LOW_FRAME = 2048
_OUTPUTS = 8
"""Samples at the low rate that one row of a product gives."""
_TAPS_EACH = 12
"""Length of the filter before the low rate, in samples of the low rate."""
_KAISER = 8.0
"""Its window: what would be folded into a low band is 80 dB down."""


def centre_hz(number: int) -> float:
    """Exact middle frequency of a band.

    >>> round(centre_hz(0)), round(centre_hz(3), 1)
    (1000, 1995.3)
    """
    return float(1000 * 10 ** (number / 10))


def nominal(number: int) -> str:
    """Nominal middle frequency, as text.

    >>> nominal(-16), nominal(-15), nominal(0), nominal(11)
    ('25', '31.5', '1000', '12500')
    """
    decade, place = divmod(number, 10)
    return f"{float(_NOMINAL[place]) * 10 ** (decade + 3):g}"


def response(frequencies_hz: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Share of the power at each frequency that a band lets through."""
    ratio = np.maximum(frequencies_hz, 1e-9) / centre_hz(number)
    edge = 10 ** (3 / 10 / 6)
    share: NDArray[np.float64] = 1 / (1 + ((ratio - 1 / ratio) / (edge - 1 / edge)) ** (2 * _ORDER))
    return share


def power_window(size: int) -> NDArray[np.float32]:
    """[size]. Where two of them overlap by half, their squares add up to 1 (that of Ogg Vorbis)."""
    window = np.sin(np.pi / 2 * np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2)
    return window.astype(np.float32)


@lru_cache(maxsize=8)
def _spectrum(size: int, bins: int) -> PowerSpectrum:
    """One for all streams of a rate."""
    return PowerSpectrum(size, size, bins)


class Frames:
    """Spectra of overlapping short frames of a stream."""

    def __init__(self, rate_hz: int) -> None:
        self.size = 2 ** math.floor(math.log2(rate_hz * _FRAME_SECONDS) + 1e-9)
        self.hop = self.size // 2
        self.step_s = self.hop / rate_hz
        """From one frame to the next, seconds."""
        bins = int(0.5 * self.size * 2 * _HIGHEST_SHARE) + 2
        self._rate_hz = rate_hz
        self._spectrum = _spectrum(self.size, bins)
        self.frequencies_hz = np.arange(bins) * rate_hz / self.size
        """[bins], in the order of `of_bins`."""
        self._window = power_window(self.size)
        self.reset()

    def reset(self) -> None:
        self._rest = np.zeros(0, np.float32)

    @property
    def behind_s(self) -> float:
        """From the middle of the last frame to the newest sample, seconds."""
        return self._rest.size / self._rate_hz

    @property
    def at(self) -> NDArray[np.int_]:
        """[bins], place of each frequency in the powers."""
        return self._spectrum.at

    def of_bins(self, weights: NDArray[np.floating]) -> NDArray[np.floating]:
        """[bins, N], weights of frequencies, in the order of the powers."""
        return self._spectrum.of_bins(weights)

    def __call__(self, samples: Samples) -> Samples:
        """
        Args:
            samples: [N], which follow those of the last call.

        Returns:
            [frames, powers], of the frames that are complete. The power of a bin is that of a full-scale signal's
            amplitude squared, by half: all bins together have the mean square, over two hops.
        """
        joined = np.concatenate([self._rest, samples])
        count = max(0, (joined.size - self.hop) // self.hop)
        self._rest = joined[count * self.hop :].copy()
        found, buffer = [], self._spectrum.frames(min(count, _TOGETHER))
        for first in range(0, count, _TOGETHER):
            taken = min(_TOGETHER, count - first)
            halves = joined[first * self.hop : (first + taken + 1) * self.hop].reshape(-1, self.hop)
            np.multiply(halves[:-1], self._window[: self.hop], out=buffer[:taken, : self.hop])
            np.multiply(halves[1:], self._window[self.hop :], out=buffer[:taken, self.hop : self.size])
            rows = -(-taken // TOGETHER) * TOGETHER
            found.append(self._spectrum(buffer[:rows])[:taken])
        return np.concatenate(found) if len(found) > 1 else found[0] if found else np.zeros((0, 0), np.float32)


def _down(rate_hz: int) -> int:
    """Samples of a stream for each at the low rate."""
    return max(1, round(rate_hz / _LOW_RATE_HZ))


@lru_cache(maxsize=8)
def _low_filters(rate_hz: int) -> tuple[Samples, NDArray[np.float64]]:
    """The filter before the low rate, one for all streams of a rate.

    Returns:
        [rows, row, _OUTPUTS], what each sample of consecutive rows is worth in the outputs of the first; and [bins],
        what is left of the amplitude of each frequency of a low frame.
    """
    down = _down(rate_hz)
    length, row = _TAPS_EACH * down, _OUTPUTS * down
    at = np.arange(length) - (length - 1) / 2
    taps = np.sinc(at / down) / down * np.kaiser(length, _KAISER)
    taps /= taps.sum()
    rows = -(-((_OUTPUTS - 1) * down + length) // row)
    table = np.zeros((rows * row, _OUTPUTS))
    for output in range(_OUTPUTS):
        table[output * down : output * down + length, output] = taps
    turns = np.outer(_low_frequencies_hz(rate_hz) / rate_hz, np.arange(length))
    return table.reshape(rows, row, _OUTPUTS).astype(np.float32), np.abs(np.exp(-2j * np.pi * turns) @ taps)


def _low_frequencies_hz(rate_hz: int) -> NDArray[np.float64]:
    """[bins], of a low frame."""
    return np.arange(_LOW_FRAME // 2 + 1) * (rate_hz / _down(rate_hz)) / _LOW_FRAME


@lru_cache(maxsize=8)
def _low_weights(rate_hz: int, numbers: tuple[int, ...]) -> Samples:
    """[bins, bands], share of each power of a low frame in each band, one for all streams of a rate."""
    hz, (_, gain) = _low_frequencies_hz(rate_hz), _low_filters(rate_hz)
    weights = np.stack([response(hz, n) for n in numbers], 1)
    weights *= 2 / (_LOW_FRAME * _LOW_FRAME / 2) / np.maximum(gain, 0.1)[:, None] ** 2
    weights[hz > rate_hz / _down(rate_hz) * 0.32] = 0
    found: Samples = weights.astype(np.float32)
    return found


class _LowFrames:
    """Spectra of frames of a second, at a low rate."""

    def __init__(self, rate_hz: int) -> None:
        self._row = _OUTPUTS * _down(rate_hz)
        self._filters, _ = _low_filters(rate_hz)
        self._window = power_window(_LOW_FRAME)
        self.reset()

    def reset(self) -> None:
        self._rest, self._low = np.zeros(0, np.float32), np.zeros(0, np.float32)

    def __call__(self, samples: Samples) -> list[Samples]:
        """[bins] of each frame that is complete."""
        joined = np.concatenate([self._rest, samples])
        count = joined.size // self._row - len(self._filters) + 1
        if count > 0:
            rows = joined[: (count + len(self._filters) - 1) * self._row].reshape(-1, self._row)
            outputs = sum(rows[each : each + count] @ table for each, table in enumerate(self._filters))
            self._low = np.concatenate([self._low, np.ravel(outputs)])
            joined = joined[count * self._row :]
        self._rest = joined.copy()
        found = []
        while self._low.size >= _LOW_FRAME:
            spectrum = np.fft.rfft(self._low[:_LOW_FRAME] * self._window)
            found.append((np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32))
            self._low = self._low[_LOW_FRAME // 2 :].copy()
        return found


class Bands:
    """Adds up the power of each band."""

    def __init__(self, rate_hz: int, frames: Frames) -> None:
        """
        Args:
            frames: gives the spectra for `add_high`.
        """
        edge = 10 ** (3 / 10 / 6)
        numbers = [n for n in range(_FIRST, 14) if centre_hz(n) * edge <= _HIGHEST_SHARE * rate_hz]
        self.names = tuple(map(nominal, numbers))
        """Nominal middle frequencies, Hz, lowest first."""
        high = [n for n in numbers if n > _SPLIT]
        self._low = _LowFrames(rate_hz)
        self._low_weights = _low_weights(rate_hz, tuple(n for n in numbers if n < _SPLIT))
        weights = np.stack([response(frames.frequencies_hz, n) for n in high], 1) * (2 / (frames.size * frames.hop))
        self._high_weights = frames.of_bins(weights.astype(np.float32))
        self.reset()

    def reset(self) -> None:
        """Begins anew: the next samples do not follow the ones before."""
        self._low.reset()
        self._last_low, self._last_high = np.zeros(self._low_weights.shape[1]), np.zeros(self._high_weights.shape[1])
        self._begin()

    def _begin(self) -> None:
        self._low_sum, self._high_sum = np.zeros(len(self._low_weights)), np.zeros(len(self._high_weights))
        self._low_count, self._high_count = 0, 0

    def add_high(self, powers: Samples) -> None:
        """Adds spectra of `frames`."""
        if len(powers):
            self._high_sum += powers.sum(0)
            self._high_count += len(powers)

    def add_low(self, samples: Samples) -> None:
        """Adds samples of the stream for the low bands."""
        for power in self._low(samples):
            self._low_sum += power
            self._low_count += 1

    def take(self) -> NDArray[np.float64]:
        """[bands], mean power of each since the last call. Where no frame was complete since then, that of before."""
        if self._low_count:
            self._last_low = self._low_sum @ self._low_weights / self._low_count
        if self._high_count:
            self._last_high = self._high_sum @ self._high_weights / self._high_count
        self._begin()
        return np.concatenate([self._last_low, self._last_high])
