"""Counters and latencies of the daemon: the message on `stats`, and the warning about skipped windows."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tagger import __version__
from tagger.events import SCHEMA, Stream
from tagger.printable import number_of
from tagger.times import rfc3339

log = logging.getLogger(__name__)

QUANTILES = (0.5, 0.95, 0.99)
_WARN_EVERY_SECONDS = 60.0
_MOST_NAMES = 5
"""Most sources that a warning names."""


class Counted(Protocol):
    """Counters of a source's listener, since its start."""

    stream: Stream
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
    latencies = [each.take_latencies() for each in listeners]
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
        "latency_ms": _quantiles(sorted(latency for each in latencies for latency in each)),
        "sources": {
            each.stream.source: {
                "windows": each.windows,
                "skipped": each.skipped,
                "overruns": each.overruns,
                "reconnects": each.reconnects,
                "lag_ms": round(1000 * max(own), 3) if own else None,
            }
            for each, own in zip(listeners, latencies, strict=True)
        },
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


class SkipLog:
    """Warns of windows that were skipped: once a minute, whatever the number of sources. From any thread."""

    def __init__(self, hop_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._hop_s, self._now = hop_s, now
        self._lock = threading.Lock()
        self._warned = -float("inf")
        """When the last warning was logged, on the monotonic clock."""
        self._skipped, self._all = Counter[str](), Counter[str]()
        """Windows of each source since the last warning."""

    def classified(self, source: str) -> None:
        """Counts a window."""
        with self._lock:
            self._all[source] += 1

    def skipped(self, source: str) -> None:
        """Counts a window that was skipped, and warns unless that was done within a minute."""
        with self._lock:
            self._skipped[source] += 1
            self._all[source] += 1
            if self._now() - self._warned < _WARN_EVERY_SECONDS:
                return
            self._warned = self._now()
            named = [
                f"{count} of {number_of(self._all[each], 'window')} of {each}"
                for each, count in self._skipped.most_common(_MOST_NAMES)
            ]
            others = len(self._skipped) - len(named)
            listed = ", ".join(named) + (f", and windows of {number_of(others, 'other source')}" if others else "")
            log.warning(
                "inference is slower than the hop of %g s; skipped since the last such line: %s; use a longer --hop, "
                "or fewer sources",
                *(self._hop_s, listed),
            )
            self._skipped.clear()
            self._all.clear()
