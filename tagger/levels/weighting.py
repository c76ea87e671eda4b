"""A frequency weighting and F time weighting of IEC 61672-1, for a stream in pieces, without scipy."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tagger.events import Samples

STEP = 64
"""Samples of one step: the weighted signal's power is known once a step, 2 ms at 32 kHz."""
MOST_STEPS = 1024
"""Most steps of one piece."""
_GROUP = 16
"""Steps in one product. No product is large enough for OpenBLAS to wake other threads."""
FAST_SECONDS = 0.125
"""Time constant of F."""
_LOW_HZ, _MIDDLE_HZ, _HIGH_HZ = 20.598997, (107.65265, 737.86223), 12194.217
"""Corner frequencies of A, IEC 61672-1:2013, annex E. The first and the last count twice."""
_APART = 0.02
"""The pole that counts twice is written as two, this share above and below, so that each is a decay of its own. It
changes the response by less than 0.002 dB."""
_TAPS = 63
"""Length of the filter without feedback. It must be below STEP."""


def a_weighting(frequencies_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gain of A as a factor of the amplitude, 1 at 1 kHz (IEC 61672-1:2013, E.2).

    >>> np.round(20 * np.log10(a_weighting(np.array([31.623, 100.0, 1000.0, 12589.0]))), 1)
    array([-39.4, -19.1,   0. ,  -4.3])
    """
    return _analog(frequencies_hz) / _analog(np.array([1000.0]))


def _analog(frequencies_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    squared = np.square(frequencies_hz)
    middle = np.sqrt((squared + _MIDDLE_HZ[0] ** 2) * (squared + _MIDDLE_HZ[1] ** 2))
    gain: NDArray[np.float64] = squared**2 / ((squared + _LOW_HZ**2) * middle * (squared + _HIGH_HZ**2))
    return gain


@lru_cache(maxsize=8)
def _a_tables(rate_hz: int) -> tuple[Samples, Samples, NDArray[np.float64]]:
    """The filter A, one for all streams of a rate.

    Returns:
        [2 STEP, STEP + 4], what samples of two steps are worth in the last, and in the decays; [4, STEP], what is left
        of earlier decays in each sample; [4], and after a step.
    """
    poles_hz = np.array([_LOW_HZ * (1 - _APART), _LOW_HZ * (1 + _APART), *_MIDDLE_HZ])
    poles = np.exp(-2 * np.pi * poles_hz / rate_hz)
    numerator, denominator = np.poly(np.ones(4)), np.poly(poles)
    grid = np.linspace(0, np.pi, 4097)[1:]
    z = np.exp(-1j * grid)
    recursive = np.abs(np.polyval(numerator[::-1], z) / np.polyval(denominator[::-1], z))
    wanted = a_weighting(grid * rate_hz / (2 * np.pi)) / recursive
    taps = np.fft.irfft(np.concatenate([wanted[:1], wanted]))
    taps = np.roll(taps, _TAPS // 2)[:_TAPS] * np.hanning(_TAPS + 2)[1:-1]

    # Partial fractions: the response to an impulse is `direct` at 0, plus the four decays, through `taps`.
    shares = np.array(
        [np.polyval(numerator, p) / (p * np.prod([p - other for other in poles if other != p])) for p in poles]
    )
    numbers = np.arange(2 * STEP)
    decays = shares @ poles[:, None] ** numbers
    decays[0] = 1.0  # both polynomials begin with 1
    response = np.convolve(decays, taps)[: 2 * STEP]
    behind = shares * (taps @ (1 / poles) ** np.arange(_TAPS)[:, None])  # share of each decay, `_TAPS` and later

    distance = STEP + np.arange(STEP) - np.arange(2 * STEP)[:, None]  # between samples of two steps and of the last
    near = np.where(distance >= 0, response[np.clip(distance, 0, 2 * STEP - 1)], 0.0)
    kept = np.concatenate([np.zeros((STEP, 4)), poles ** np.arange(STEP - 1, -1, -1)[:, None]])
    far = (behind * poles ** (STEP + 1 + np.arange(STEP))[:, None]).T
    return np.concatenate([near, kept], 1).astype(np.float32), far.astype(np.float32), poles**STEP


class AWeighting:
    """Filters a stream with A and gives the mean power of each step.

    The response is that of four decays (the poles at 20.6, 107.7 and 737.9 Hz) behind a short symmetric filter, which
    corrects the sampled decays to the analog curve and has the poles at 12.2 kHz in it. All of it is products of
    matrices: what samples of this step and the one before contribute, and what is left of the decays of earlier ones.
    """

    def __init__(self, rate_hz: int) -> None:
        self._near, self._far, left = _a_tables(rate_hz)
        self._decays = _Decays(left)
        self.reset()

    def reset(self) -> None:
        """Forgets what came before."""
        self._last = np.zeros(STEP, np.float32)
        self._decays.reset()
        self._arrived = np.zeros(4)
        """[4], decays that began in `_last`."""

    def __call__(self, steps: Samples) -> NDArray[np.float64]:
        """
        Args:
            steps: [N, STEP], consecutive, N from 1 to MOST_STEPS.

        Returns:
            [N], mean squares of the weighted signal.
        """
        count = len(steps)
        padded = np.zeros((-(-count // _GROUP) * _GROUP + 1, STEP), np.float32)
        padded[0], padded[1 : count + 1] = self._last, steps
        products = padded[1:].reshape(-1, _GROUP, STEP) @ self._near[STEP:]
        products += padded[:-1].reshape(-1, _GROUP, STEP) @ self._near[:STEP]
        products = products.reshape(-1, STEP + 4)[:count]
        arrived = products[:, STEP:].T.astype(np.float64)  # [4, N]: decays that begin in each step
        # What is left of the steps before the last: at each step's begin, of those up to two steps before it.
        states = np.empty((4, count + 1))
        states[:, 0] = self._decays.state
        came = np.concatenate([self._arrived[:, None], arrived[:, :-1]], 1)
        states[:, 1:] = self._decays(came)
        weighted = products[:, :STEP] + states[:, :-1].T.astype(np.float32) @ self._far
        self._arrived, self._last = arrived[:, -1], steps[-1].copy()
        power: NDArray[np.float64] = np.einsum("ij,ij->i", weighted, weighted).astype(np.float64) / STEP
        return power


class FastWeighting:
    """Follows a power with the time constant F."""

    def __init__(self, rate_hz: int) -> None:
        kept = np.exp(-STEP / (rate_hz * FAST_SECONDS))
        self._share, self._decays = 1 - kept, _Decays(np.array([kept]))

    def reset(self) -> None:
        """Forgets what came before."""
        self._decays.reset()

    def __call__(self, power: NDArray[np.float64]) -> NDArray[np.float64]:
        """
        Args:
            power: [N], of consecutive steps, N from 1 to MOST_STEPS.

        Returns:
            [N], weighted.
        """
        found: NDArray[np.float64] = self._decays(self._share * power[None])[0]
        return found


class _Decays:
    """Sums that decay: each is, at every step, what is left of it and what comes."""

    def __init__(self, factors: NDArray[np.float64]) -> None:
        """
        Args:
            factors: [M], what is left of each sum after a step.
        """
        self._inside, self._between, self._by_step, self._by_group = _decay_tables(tuple(factors.tolist()))
        self.reset()

    def reset(self) -> None:
        self.state = np.zeros(len(self._inside))
        """[M], the sums after the last step."""

    def __call__(self, came: NDArray[np.float64]) -> NDArray[np.float64]:
        """
        Args:
            came: [M, N], N from 1 to MOST_STEPS.

        Returns:
            [M, N], the sums after each step.
        """
        count, groups = came.shape[1], -(-came.shape[1] // _GROUP)
        padded = np.zeros((len(came), groups * _GROUP))
        padded[:, :count] = came
        inside = padded.reshape(len(came), groups, _GROUP) @ self._inside
        before = (inside[:, None, :, -1] @ self._between[:, :groups, :groups])[:, 0]
        before += self.state[:, None] * self._by_group[:, :groups]
        sums: NDArray[np.float64] = (inside + before[:, :, None] * self._by_step).reshape(len(came), -1)[:, :count]
        self.state = sums[:, -1].copy()
        return sums


@lru_cache(maxsize=16)
def _decay_tables(factors: tuple[float, ...]) -> tuple[NDArray[np.float64], ...]:
    """What is left of each sum, one for all streams of a rate: [M, _GROUP, _GROUP] inside a group, [M, groups, groups]
    from the end of one group to another, [M, 1, _GROUP] after so many steps, [M, groups] after so many groups.
    """
    each = np.array(factors)
    distance = np.arange(_GROUP) - np.arange(_GROUP)[:, None]
    groups = np.arange(MOST_STEPS // _GROUP)
    return (
        _left(each, distance),
        _left(each**_GROUP, groups - groups[:, None] - 1),
        each[:, None, None] ** np.arange(1, _GROUP + 1),
        (each**_GROUP)[:, None] ** groups,
    )


def _left(factors: NDArray[np.float64], distance: NDArray[np.int_]) -> NDArray[np.float64]:
    """[M, *distance.shape], what is left of each sum after so many steps; nothing before it came."""
    kept = factors[:, None, None] ** np.maximum(distance, 0)
    return np.where(distance >= 0, kept, 0.0)
