"""Counters and latencies of the daemon: the message on `stats`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tagger import __version__
from tagger.events import SCHEMA
from tagger.times import rfc3339

QUANTILES = (0.5, 0.95, 0.99)


class Counted(Protocol):
    """Counters of a source's listener, since its start."""

    windows: int
    """Windows that were classified."""
    skipped: int
    """Windows that were left out because the next one was nearly complete."""
    overruns: int
    """Times that samples were lost."""
    reconnects: int
    """Times that the source came back."""

    def take_latencies(self) -> list[float]:
        """Latencies of the windows since the last call, seconds."""


def message(
    node: str, listeners: Sequence[Counted], sinks: Mapping[str, int], uptime_s: float, now: float | None = None
) -> dict[str, Any]:
    """
    Args:
        sinks: `waiting`, `dropped` and `reconnects`, as `Sink.counts` has them.
        uptime_s: time since the daemon's start on the monotonic clock, seconds.
    """
    now = time.time() if now is None else now
    latencies = sorted(latency for each in listeners for latency in each.take_latencies())
    return {
        "schema": SCHEMA,
        "time": rfc3339(now),
        "uptime_s": round(uptime_s),
        "windows": sum(each.windows for each in listeners),
        "skipped": sum(each.skipped for each in listeners),
        "overruns": sum(each.overruns for each in listeners),
        "reconnects": sum(each.reconnects for each in listeners),
        "broker_reconnects": sinks.get("reconnects", 0),
        "queue": sinks.get("waiting", 0),
        "dropped": sinks.get("dropped", 0),
        "latency_ms": _quantiles(latencies),
        "node": node,
        "version": __version__,
    }


def _quantiles(ordered: Sequence[float]) -> dict[str, float] | None:
    """
    >>> _quantiles([0.010, 0.012, 0.020])
    {'p50': 12.0, 'p95': 20.0, 'p99': 20.0}
    """
    if not ordered:
        return None
    return {
        f"p{100 * q:.0f}": round(1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))], 3) for q in QUANTILES
    }
