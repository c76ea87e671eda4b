"""Damages documents: a value anywhere in one becomes another, and some of these mean nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

NESTED: Any = []
for _ in range(100):
    NESTED = [NESTED]
VALUES: Sequence[Any] = (
    *(None, True, False, "", "x", "\x1b[2J", "\n", "\ud800", "a" * 10_000, "../..", "+/#", "NaN", "1e308"),
    *(0, 1, -1, 2, 3, 7, 100, 65_536, 10**6, 10**9, 2**31, 2**63, 10**30, 10**400),
    *(0.5, -0.5, 5e-324, 1e-320, 1e-300, 1e-30, 1 - 2**-53, 1e30, 1e308, float("nan"), float("inf"), float("-inf")),
    *([], [[]], [None], {}, {"": {}}, {"x": 1}, [0] * 1000, ["a"] * 1000, NESTED),
)
"""What takes the place of a value."""


def mutated(document: Any, rng: np.random.Generator) -> Any:
    """A copy in which one to three values are others, missing, doubled, or those of another place."""
    for _ in range(rng.integers(1, 4)):
        places = list(_places(document))
        path = places[rng.integers(len(places))]
        other: Any = VALUES[rng.integers(len(VALUES))]
        if rng.random() < 0.15:
            other = _at(document, places[rng.integers(len(places))])
        elif rng.random() < 0.3 and isinstance(number := _at(document, path), int | float) and abs(number) < 1e300:
            other = number * [-1, 0.5, 2, 1.5, 10, 1000][rng.integers(6)]
        document = _changed(document, path, other, rng.random() < 0.1)
    return document


def other_bytes(content: bytes, rng: np.random.Generator, most: int, within: int | None = None) -> bytes:
    """A copy in which up to `most` bytes are others.

    Args:
        within: only the first so many bytes are changed. None: any.
    """
    changed = bytearray(content)
    for _ in range(rng.integers(1, most + 1)):
        changed[rng.integers(within or len(changed))] = rng.integers(256)
    return bytes(changed)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Any:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    if len(at) < 8:
        for key, each in items:
            yield from _places(each, (*at, key))


def _at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def _changed(value: Any, path: Sequence[Any], other: Any, is_removed: bool) -> Any:
    if not path:
        return other
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and is_removed:
        del copy[path[0]]
    else:
        copy[path[0]] = _changed(value[path[0]], path[1:], other, is_removed)
    return copy
