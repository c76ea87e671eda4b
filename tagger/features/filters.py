"""Mel filters and the DCT of the front ends, in numpy.

Both are computed in float64 and rounded once, so they are the same on every machine. They equal torchaudio's
(`compliance.kaldi.get_mel_banks`, `functional.melscale_fbanks`, `functional.create_dct`), which the tests compare.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tagger.features.config import MelConfig, hertz_to_mel


def mel_bank(config: MelConfig) -> NDArray[np.float32]:
    """Triangular filters, equally wide on the mel scale. Output: [n_mels, n_fft / 2 + 1], float32, from 0 to 1.

    The filters hear nothing above `config.bandwidth_hz`.
    """
    bin_hz = np.arange(config.n_fft // 2 + 1, dtype=np.float64) * (config.sample_rate_hz / config.n_fft)
    edges = np.linspace(hertz_to_mel(config.f_min_hz), hertz_to_mel(config.f_max_hz), config.n_mels + 2)
    if config.mel_filters == "kaldi":
        bank = _triangles(edges, 1127 * np.log1p(bin_hz / 700))
        bank[:, -1] = 0  # Kaldi leaves the Nyquist bin out
    else:
        bank = _triangles(700 * np.expm1(edges / 1127), bin_hz)
    if config.bandwidth_hz is not None:
        bank[:, bin_hz > config.bandwidth_hz] = 0
    return bank.astype(np.float32)


def _triangles(edges: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Triangle k rises from 0 at `edges[k]` to 1 at `edges[k + 1]` and falls to 0 at `edges[k + 2]`.

    Output: [len(edges) - 2, len(at)], the triangles' values at `at`.
    """
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((at - left) / (centre - left), (right - at) / (right - centre)))


def dct(coefficients: int, points: int) -> NDArray[np.float32]:
    """Orthonormal DCT-II, the first coefficients of it. Output: [coefficients, points], float32."""
    k, n = np.arange(coefficients)[:, None], np.arange(points)
    matrix: NDArray[np.float64] = math.sqrt(2 / points) * np.cos(math.pi / points * (n + 0.5) * k)
    matrix[0] /= math.sqrt(2)
    return matrix.astype(np.float32)
