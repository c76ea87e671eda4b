"""Parameters of requests: what each must be, and the error that names it."""

from collections.abc import Mapping, Set

from tagger import times
from tagger.errors import UserError


def unknown(wanted: Mapping[str, str], known: Set[str]) -> None:
    """
    Raises:
        UserError: a parameter is none of these.
    """
    if others := wanted.keys() - known:
        raise UserError(f"{min(others)[:60]}: unknown; use {', '.join(sorted(known))}")


def names(wanted: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Names with commas between; empty: all."""
    return tuple(filter(None, wanted.get(name, "").split(",")))


def number(wanted: Mapping[str, str], name: str, default: float) -> float:
    """
    Raises:
        UserError: it is no number.
    """
    try:
        found = float(wanted.get(name, default))
    except ValueError:
        found = float("nan")
    if not -1e9 < found < 1e9:
        raise UserError(f"{name}: must be a number")
    return found


def time(wanted: Mapping[str, str], name: str) -> float | None:
    """Seconds since the epoch; None: the parameter is missing.

    Raises:
        UserError: it is no time.
    """
    if name not in wanted:
        return None
    try:
        return times.seconds(wanted[name])
    except (ValueError, OverflowError):
        raise UserError(f"{name}: must be a time in ISO 8601, such as 2026-11-26T13:30:00Z") from None
