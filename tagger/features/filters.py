"""Mel filters and the DCT of the front ends, in numpy.

Both are computed in float64 and rounded once, so they are the same on every machine, unless a caller asks for another
precision. The tests compare them with torchaudio's: `compliance.kaldi.get_mel_banks`,
`functional.melscale_fbanks` and `functional.create_dct`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger.features.config import MelConfig, hertz_to_mel


def mel_bank(
    config: MelConfig, dtype: type[np.floating[Any]] = np.float64, log: Callable[[NDArray[Any]], NDArray[Any]] = np.log
) -> NDArray[np.float32]:
    """Triangular filters, equally wide on the mel scale. Output: [n_mels, n_fft / 2 + 1], float32, from 0 to 1.

    Weights above `config.bandwidth_hz` are zero.

    Args:
        dtype, log: precision and natural logarithm of the computation. Float32 changes weights by up to 2e-5.
    """
    bin_hz = dtype(config.sample_rate_hz / config.n_fft) * np.arange(config.n_fft // 2 + 1, dtype=dtype)
    if config.mel_filters == "kaldi":
        bank = _triangles(_edges(config, dtype), dtype(1127) * log(1 + bin_hz / dtype(700)))
        bank[:, -1] = 0  # Kaldi leaves the Nyquist bin out
    else:
        bank = _triangles(700 * np.expm1(_edges(config, np.float64) / 1127), bin_hz)
    if config.bandwidth_hz is not None:
        bank[:, bin_hz > config.bandwidth_hz] = 0
    return bank.astype(np.float32)


def _edges(config: MelConfig, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """Mel values at which the triangles begin, peak and end. Output: [n_mels + 2]."""
    lowest, highest = hertz_to_mel(config.f_min_hz), hertz_to_mel(config.f_max_hz)
    step = dtype((highest - lowest) / (config.n_mels + 1))
    edges: NDArray[Any] = dtype(lowest) + np.arange(config.n_mels + 2, dtype=dtype) * step
    return edges


def _triangles(edges: NDArray[Any], at: NDArray[Any]) -> NDArray[Any]:
    """Triangle k rises from 0 at `edges[k]` to 1 at `edges[k + 1]` and falls to 0 at `edges[k + 2]`.

    Output: [len(edges) - 2, len(at)], the triangles' values at `at`.
    """
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles: NDArray[Any] = np.maximum(0, np.minimum((at - left) / (centre - left), (right - at) / (right - centre)))
    return triangles


def dct(coefficients: int, points: int) -> NDArray[np.float32]:
    """The first rows of the orthonormal DCT-II. Output: [coefficients, points], float32."""
    k, n = np.arange(coefficients)[:, None], np.arange(points)
    matrix: NDArray[np.float64] = math.sqrt(2 / points) * np.cos(math.pi / points * (n + 0.5) * k)
    matrix[0] /= math.sqrt(2)
    return matrix.astype(np.float32)
