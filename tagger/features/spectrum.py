"""Power spectra of short frames, as products of small matrices.

numpy's transform takes one frame at a time without vector instructions. Written as two stages of matrix products, the
same transform takes a fifth of the time: Cooley and Tukey, "An Algorithm for the Machine Calculation of Complex Fourier
Series" (1965), with one step from `n_fft` = P * Q to lengths P and Q, and a table for each of the two.
"""

import numpy as np
from numpy.typing import NDArray

from tagger.events import Samples

TOGETHER = 8
"""Frames in one product of the second stage. It is fixed, since a BLAS may round otherwise in other shapes: a frame has
the same power in any batch. And no product is large enough for OpenBLAS to wake other threads."""
_MOST_MULTIPLICATIONS_EACH = 500
"""Most multiplications a sample for which the products are the quicker way."""
_LONGEST = 4096
"""Largest `n_fft` for which the tables stay small, a few megabytes."""


class PowerSpectrum:
    """Frames to the power of each frequency, in an order of its own.

    >>> spectrum = PowerSpectrum(1024, samples=800, bins=241)
    >>> power = spectrum(spectrum.frames(3))
    >>> power.shape, spectrum.of_bins(np.ones((241, 1))).sum()
    ((8, 272), np.float64(241.0))
    """

    def __init__(self, n_fft: int, samples: int, bins: int) -> None:
        """
        Args:
            n_fft: length of the transform, even.
            samples: length of a frame; zeros follow it.
            bins: number of frequencies that are needed, from 0 Hz on.
        """
        self._n_fft, self._samples, self._bins = n_fft, samples, bins
        factors = _factors(n_fft, samples, bins)
        self._factors = factors
        self.at: NDArray[np.int_] = np.arange(bins)
        """[bins], place of each frequency in the powers."""
        if factors is None:
            self._length, self._columns = samples, bins
            return
        p, q = factors
        rows, columns = p // 2 + 1, _columns(p, q, bins)
        blocks = -(-samples // q)
        first = np.exp(-2j * np.pi * np.outer(np.arange(rows), np.arange(blocks)) / p)
        self._first = np.stack([first.real, first.imag], 1).reshape(2 * rows, blocks).astype(np.float32)
        k = np.arange(rows)[:, None] + p * columns  # [rows, columns], frequencies
        second = np.exp(-2j * np.pi * np.arange(q)[:, None] * k[:, None] / n_fft)  # [rows, q, columns]
        real, imaginary = np.concatenate([second.real, second.imag], 2), np.concatenate([-second.imag, second.real], 2)
        self._second = np.concatenate([real, imaginary], 1).astype(np.float32)  # [rows, 2 q, 2 columns]
        self._length, self._columns = blocks * q, rows * len(columns)
        # A real signal's spectrum is symmetric: bins that the rows lack are found at n_fft minus them.
        places = {int(number): place for place, number in enumerate(k.T.ravel())}
        self.at = np.array([places[bin if bin in places else n_fft - bin] for bin in range(bins)])

    def frames(self, count: int) -> Samples:
        """An array for frames, of zeros: [count or a few more, a few more than `samples`]."""
        return np.zeros((-(-count // TOGETHER) * TOGETHER, self._length), np.float32)

    def of_bins(self, weights: NDArray[np.floating]) -> NDArray[np.floating]:
        """Puts rows, one for each frequency, [bins, N], into the order of the powers. Other rows are zero."""
        placed = np.zeros((self._columns, weights.shape[1]), weights.dtype)
        placed[self.at] = weights
        return placed

    def __call__(self, frames: Samples) -> Samples:
        """
        Args:
            frames: as `frames` made them.

        Returns:
            [frames, powers], in the order of `of_bins`.
        """
        if self._factors is None:
            spectrum = np.fft.rfft(frames, self._n_fft)[:, : self._bins]
            return (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32, copy=False)
        q, (rows, _, twice) = self._factors[1], self._second.shape
        stage = np.matmul(self._first, frames.reshape(len(frames), -1, q))  # [frames, 2 rows, q]
        groups = stage.reshape(-1, TOGETHER, rows, 2 * q).transpose(0, 2, 1, 3)
        spectrum = np.empty((len(frames), rows, twice), np.float32)
        np.matmul(groups, self._second, out=spectrum.reshape(-1, TOGETHER, rows, twice).transpose(0, 2, 1, 3))
        np.square(spectrum, out=spectrum)
        parts = spectrum.transpose(0, 2, 1)  # neighbouring frequencies, which are in all rows, come together
        power = np.empty((len(frames), twice // 2, rows), np.float32)
        np.add(parts[:, : twice // 2], parts[:, twice // 2 :], out=power)
        return power.reshape(len(frames), self._columns)


def _factors(n_fft: int, samples: int, bins: int) -> tuple[int, int] | None:
    """The lengths P and Q with the fewest multiplications. None: the transform is too long, or P * Q is too uneven."""
    if n_fft > _LONGEST:
        return None

    def cost(p: int) -> int:
        q = n_fft // p
        rows = p // 2 + 1
        return 2 * rows * -(-samples // q) * q + 4 * rows * q * len(_columns(p, q, bins))

    p = min((p for p in range(1, n_fft + 1) if n_fft % p == 0), key=cost)
    return (p, n_fft // p) if cost(p) <= _MOST_MULTIPLICATIONS_EACH * n_fft else None


def _columns(p: int, q: int, bins: int) -> NDArray[np.int_]:
    """Outputs of the second stage with the first `bins` frequencies or their mirror images, neighbours together."""
    low = np.arange(min(q, -(-bins // p)))
    ordered = np.stack([low, q - 1 - low], 1).ravel()
    return ordered[np.sort(np.unique(ordered, return_index=True)[1])]
