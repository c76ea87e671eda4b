"""95 % intervals of shares, rates and F1: how much a number that was counted once would change if it were counted anew.

All of them take what is counted as independent. Sounds that were cut from one recording, or alarms in one piece of
music, are not: then the truth is rather wider.
"""

import math
from collections.abc import Callable

import numpy as np

_TAIL = 0.025
"""Probability on either side of a 95 % interval."""
_DRAWS = 200_000


def of_share(count: int, of: int) -> tuple[float, float]:
    """The exact interval of Clopper and Pearson (Biometrika 26, 1934).

    >>> tuple(round(each, 3) for each in of_share(5, 5))
    (0.478, 1.0)
    >>> tuple(round(each, 3) for each in of_share(9, 10))
    (0.555, 0.997)

    Raises:
        ValueError: `count` is not from 0 to `of`, or `of` is 0.
    """
    if not 0 <= count <= of or not of:
        raise ValueError(f"{count} of {of} is no share")
    low = 0.0 if count == 0 else _where(lambda p: 1 - _binomial(count - 1, of, p), 0.0, 1.0)
    high = 1.0 if count == of else _where(lambda p: 1 - _binomial(count, of, p), 0.0, 1.0, 1 - _TAIL)
    return low, high


def of_rate(count: int, hours: float) -> tuple[float, float]:
    """Exact interval of a rate per hour, from a Poisson count: Garwood (Biometrika 28, 1936).

    >>> tuple(round(each, 2) for each in of_rate(0, 1.0))
    (0.0, 3.69)
    >>> tuple(round(each, 2) for each in of_rate(10, 2.0))
    (2.4, 9.2)

    Raises:
        ValueError: there are no hours.
    """
    if hours <= 0 or count < 0:
        raise ValueError(f"{count} in {hours} hours is no rate")
    most = count + 10 * math.sqrt(count + 1) + 20
    low = 0.0 if count == 0 else _where(lambda mean: 1 - _poisson(count - 1, mean), 0.0, most)
    high = _where(lambda mean: 1 - _poisson(count, mean), 0.0, most, 1 - _TAIL)
    return low / hours, high / hours


def of_f1(right: int, truth: int, found: int, seed: int = 0) -> tuple[float, float]:
    """Interval of F1: Goutte and Gaussier, "A Probabilistic Interpretation of Precision, Recall and F-score" (ECIR
    2005), with Jeffreys' prior.

    Args:
        right: matching pairs of a sound and an event.
        truth: sounds.
        found: events.

    Raises:
        ValueError: more pairs than sounds or events, or neither.
    """
    if not 0 <= right <= min(truth, found) or not truth + found:
        raise ValueError(f"{right} right of {truth} sounds and {found} events")
    rng = np.random.default_rng(seed)
    agreed = rng.gamma(right + 0.5, 2.0, _DRAWS)
    low, high = np.quantile(agreed / (agreed + rng.gamma(truth + found - 2 * right + 1.0, 1.0, _DRAWS)), [0.025, 0.975])
    return float(low), float(high)


def _binomial(count: int, of: int, share: float) -> float:
    """Probability of at most `count` of `of` at this share."""
    if not 0 < share < 1:
        return 1.0 if share <= 0 else float(count >= of)
    logs = [
        math.lgamma(of + 1)
        - math.lgamma(k + 1)
        - math.lgamma(of - k + 1)
        + k * math.log(share)
        + (of - k) * math.log1p(-share)
        for k in range(count + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, logs)))


def _poisson(count: int, mean: float) -> float:
    """Probability of at most `count` at this mean."""
    if mean <= 0:
        return 1.0
    return min(1.0, math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1)))


def _where(rising: Callable[[float], float], low: float, high: float, level: float = _TAIL) -> float:
    """Where a function that rises has this level."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < level else (low, middle)
    return (low + high) / 2
