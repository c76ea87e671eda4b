"""The most live sources that this machine carries."""

from collections.abc import Callable
from typing import Any

_MOST_STEPS = 9
_MOST_STREAMS = 5000
"""Most sources that are tried: each has a thread."""
_NEAR = 0.05
"""The search ends when the number that failed is larger than that which was carried by this share."""
_LOWER = 0.9
_MOST_LOWERED = 4

_KEPT = 0.9
"""Share of what an overloaded machine still classifies, which it would carry without being late."""

Try = Callable[[int, float], dict[str, Any]]
"""Runs so many sources for some seconds: `tagger.bench.lanes.LanesResult` as a dictionary."""


def is_carried(result: dict[str, Any], hop_s: float) -> bool:
    """Whether nothing was skipped, nearly all windows were classified, and the lag stayed below a hop."""
    due = result["streams"] * result["seconds"] / hop_s
    return not result["skipped"] and result["lag_p99_s"] < hop_s and result["windows"] >= 0.9 * due - result["streams"]


def _between(carried: int, failed: int, last: dict[str, Any], hop_s: float) -> int:
    """A number to try: half of the gap, or less if the last try has shown that the machine does less."""
    half = (carried + failed) // 2
    does = max(carried + 1, int(_KEPT * last["windows"] * hop_s / last["seconds"]))
    return min(does, half) if last["skipped"] else half


def most_streams(
    attempt: Try, first: int, hop_s: float, step_s: float, confirm_s: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Doubles until a number fails, halves the gap, and then holds the best number for longer.

    Args:
        first: a guess.

    Returns:
        The result of the number that was carried, or else that of the least that was not; and all others.
    """
    carried, failed, tried, number = 0, _MOST_STREAMS + 1, [], max(1, first)
    for _ in range(_MOST_STEPS):
        result = attempt(number, step_s)
        tried.append(result)
        if is_carried(result, hop_s):
            carried = number
        else:
            failed = number
        if failed - carried <= max(1, _NEAR * carried):
            break
        is_open = failed > _MOST_STREAMS
        number = min(2 * carried, _MOST_STREAMS) if is_open else _between(carried, failed, result, hop_s)
    for _ in range(_MOST_LOWERED):
        if carried < 1:
            break
        result = attempt(carried, confirm_s)
        if is_carried(result, hop_s):
            return result, tried
        tried.append(result)
        carried = min(carried - 1, int(_LOWER * carried))
    least = min(range(len(tried)), key=lambda number: tried[number]["streams"])
    return tried.pop(least), tried
