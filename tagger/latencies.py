"""How soon after its last sample a window has its scores, and the warning about windows that were skipped."""

import logging
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Sequence

from tagger.printable import number_of

log = logging.getLogger(__name__)

QUANTILES = (0.5, 0.95, 0.99)
LATENCY_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the classes in which latencies are counted, seconds. The last class has no bound."""
_RECENT = 100
"""Windows of a source that count as recent."""
_MOST_LATENCIES = 10_000
"""Most latencies that are kept for the next `stats`."""
_WARN_EVERY_SECONDS = 60.0
_MOST_NAMES = 5
"""Most sources that a warning names."""


class Latencies:
    """Times from a window's last sample to its scores, of one source, seconds. One thread adds, any thread reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: deque[float] = deque(maxlen=_MOST_LATENCIES)
        self._recent: deque[float | None] = deque(maxlen=_RECENT)
        """None: the window was skipped."""
        self._counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, latency_s: float) -> None:
        """Counts a window that was classified."""
        at = bisect_left(LATENCY_BOUNDS_S, latency_s)
        with self._lock:
            self._new.append(latency_s)
            self._recent.append(latency_s)
            self._counts[at] += 1
            self._sum_s += latency_s

    def skip(self) -> None:
        """Counts a window that was skipped."""
        with self._lock:
            self._recent.append(None)

    def take(self) -> list[float]:
        """Latencies since the last call, in order."""
        with self._lock:
            taken = list(self._new)
            self._new.clear()
        return taken

    def recent(self) -> list[float | None]:
        """Latencies of the last windows, at most a hundred; None where one was skipped."""
        with self._lock:
            return list(self._recent)

    def histogram(self) -> tuple[tuple[int, ...], float]:
        """Number of windows in each class of LATENCY_BOUNDS_S and beyond, and the sum of all latencies, seconds."""
        with self._lock:
            return tuple(self._counts), self._sum_s


def quantiles_ms(latencies_s: Sequence[float]) -> dict[str, float] | None:
    """Quantiles of latencies given in seconds, in milliseconds. None: there are no latencies.

    >>> quantiles_ms([0.012, 0.010, 0.020])
    {'p50': 12.0, 'p95': 20.0, 'p99': 20.0}
    """
    if not latencies_s:
        return None
    ordered = sorted(latencies_s)
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
