"""Health of the daemon: one snapshot, which `stats`, `tagger status`, `/metrics` and the watchdog read."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tagger import __version__
from tagger.condition import Condition
from tagger.events import SCHEMA
from tagger.latencies import LATENCY_BOUNDS_S, quantiles_ms
from tagger.printable import number_of
from tagger.times import age_text, rfc3339

STUCK_SECONDS = 45.0
"""Time without a sign of life after which a source's thread counts as stuck, seconds. A thread that waits for audio or
tries to connect again gives one some times a second."""
_STARTING_SECONDS = 30.0
"""Time that a source may take to deliver its first audio, seconds."""
_MOST_SKIPPED = 0.1
"""Share of a source's recent windows that may be skipped."""

Verdict = Literal["ok", "degraded", "failing"]
"""`degraded`: something is amiss. `failing`: nothing is heard at all, or a thread is stuck."""


@dataclass(frozen=True)
class SourceHealth:
    """How one source does."""

    source: str
    condition: Condition
    idle_s: float
    """Time since its thread's last sign of life, seconds; negative while it waits on purpose."""
    behind_s: float
    """Audio that waits to be read, seconds."""
    rms_dbfs: float | None
    """Level of the last measured stretch. None: none was measured since it came."""
    windows: int
    """Windows that were classified."""
    skipped: int
    """Windows that were left out because the next one was nearly complete."""
    overruns: int
    """Times that samples were lost."""
    recent: tuple[float | None, ...] = ()
    """Latencies of the last windows, seconds, as `Latencies.recent` has them."""
    histogram: tuple[tuple[int, ...], float] = ((0,) * (len(LATENCY_BOUNDS_S) + 1), 0.0)
    """As `Latencies.histogram` has it."""
    events: Mapping[str, int] = field(default_factory=dict)
    """Events that have begun, by label; of labels that were not heard, perhaps 0."""

    @property
    def is_stuck(self) -> bool:
        """Whether its thread neither takes audio nor tries to get some."""
        return self.condition.state != "ended" and self.idle_s > STUCK_SECONDS

    @property
    def latencies_s(self) -> list[float]:
        return [each for each in self.recent if each is not None]

    def problems(self, now: float) -> Iterator[str]:
        """What is amiss, one line each.

        Args:
            now: seconds since the epoch.
        """
        condition = self.condition
        lasted = now - condition.since
        if self.is_stuck:
            yield f"{self.source}: its thread has not moved for {age_text(self.idle_s)}; restart the daemon"
        elif condition.state == "starting":
            if lasted > _STARTING_SECONDS:
                yield f"{self.source}: no audio since the start {age_text(lasted)} ago"
        elif not condition.is_healthy:
            yield f"{self.source}: {condition.state} for {age_text(lasted)}: {condition.detail or condition.reason}"
        share = self.recent.count(None) / len(self.recent) if self.recent else 0.0
        if condition.state == "hearing" and share > _MOST_SKIPPED:
            yield (
                f"{self.source}: {share:.0%} of its last windows were skipped, since inference is slower than the hop; "
                "use a longer --hop, or fewer sources"
            )

    def to_json(self, now: float) -> dict[str, Any]:
        return {
            **self.condition.to_json(),
            "rms_dbfs": None if self.rms_dbfs is None else round(self.rms_dbfs, 1),
            "windows": self.windows,
            "skipped": self.skipped,
            "overruns": self.overruns,
            "latency_ms": quantiles_ms(self.latencies_s),
            "events": {label: count for label, count in self.events.items() if count},
            "problems": list(self.problems(now)),
        }


@dataclass(frozen=True)
class SinkHealth:
    """How one receiver of events does."""

    name: str
    """`mqtt`, `webhook`, `jsonl` or `log`."""
    waiting: int
    """Events that wait for it."""
    dropped: int
    """Events that were given up."""
    reconnects: int
    """Times that the broker came back."""
    trouble: str | None
    """Why it cannot deliver at present. None: it can."""


@dataclass(frozen=True)
class Usage:
    """What this process uses."""

    resident_bytes: int | None
    """Memory that it holds now. None: not known here."""
    cpu_s: float
    """Processor time of all threads, seconds."""
    threads: int
    open_files: int | None
    """File descriptors in use. None: not known here."""


@dataclass(frozen=True)
class Snapshot:
    """How the daemon does at one moment."""

    node: str
    time: float
    """Seconds since the epoch."""
    uptime_s: float
    sources: tuple[SourceHealth, ...]
    sinks: tuple[SinkHealth, ...]
    usage: Usage
    counts: Mapping[str, int] = field(default_factory=dict)
    """`waiting`, `dropped` and `reconnects` of all sinks since the start, as `Sink.counts` has them."""

    @property
    def stuck(self) -> list[str]:
        """Sources whose thread does not move any more: only a restart helps."""
        return [each.source for each in self.sources if each.is_stuck]

    @property
    def starting(self) -> list[str]:
        """Sources from which nothing has come as yet."""
        return [each.source for each in self.sources if each.condition.state == "starting"]

    @property
    def problems(self) -> list[str]:
        """What is amiss, one line each. Empty: all is well."""
        found = [line for each in self.sources for line in each.problems(self.time)]
        for sink in self.sinks:
            if sink.trouble is not None:
                waiting = f"; {number_of(sink.waiting, 'event waits', 'events wait')}" if sink.waiting else ""
                found.append(f"{sink.name}: {sink.trouble}{waiting}")
        return found

    @property
    def verdict(self) -> Verdict:
        wanted = [each.condition.state for each in self.sources if each.condition.state not in ("off", "ended")]
        is_deaf = bool(wanted) and "hearing" not in wanted
        is_old = self.uptime_s > _STARTING_SECONDS or set(wanted) != {"starting"}
        if self.stuck or (is_deaf and is_old):
            return "failing"
        return "degraded" if self.problems else "ok"

    def to_json(self) -> dict[str, Any]:
        """The answer to `tagger status`."""
        usage = self.usage
        return {
            "schema": SCHEMA,
            "time": rfc3339(self.time),
            "node": self.node,
            "version": __version__,
            "verdict": self.verdict,
            "problems": self.problems,
            "uptime_s": round(self.uptime_s),
            "sources": {each.source: each.to_json(self.time) for each in self.sources},
            "sinks": {
                each.name: {"waiting": each.waiting, "dropped": each.dropped, "trouble": each.trouble}
                for each in self.sinks
            },
            "process": {
                "resident_mb": None if usage.resident_bytes is None else round(usage.resident_bytes / 1e6, 1),
                "cpu_s": round(usage.cpu_s, 1),
                "threads": usage.threads,
                "open_files": usage.open_files,
            },
        }

    def stats(self, latencies: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """The message on `stats`.

        Args:
            latencies: of each source's windows since the last message, seconds.
        """
        each_own = [(each, latencies.get(each.source, ())) for each in self.sources]
        return {
            "schema": SCHEMA,
            "time": rfc3339(self.time),
            "uptime_s": round(self.uptime_s),
            "windows": sum(each.windows for each in self.sources),
            "skipped": sum(each.skipped for each in self.sources),
            "overruns": sum(each.overruns for each in self.sources),
            "reconnects": sum(each.condition.reconnects for each in self.sources),
            "broker_reconnects": self.counts.get("reconnects", 0),
            "queue": self.counts.get("waiting", 0),
            "dropped": self.counts.get("dropped", 0),
            "latency_ms": quantiles_ms([latency for _, own in each_own for latency in own]),
            "sources": {
                each.source: {
                    "windows": each.windows,
                    "skipped": each.skipped,
                    "overruns": each.overruns,
                    "lag_ms": round(1000 * max(own), 3) if own else None,
                    **each.condition.to_json(),
                    "rms_dbfs": None if each.rms_dbfs is None else round(each.rms_dbfs, 1),
                    "latency_ms": quantiles_ms(own),
                }
                for each, own in each_own
            },
            "node": self.node,
            "version": __version__,
            "verdict": self.verdict,
            "problems": self.problems,
            "memory_mb": None if self.usage.resident_bytes is None else round(self.usage.resident_bytes / 1e6, 1),
        }


def usage() -> Usage:
    """What this process uses now."""
    resident, files = None, None
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident, files = pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    except (OSError, ValueError, IndexError):  # no /proc, as on macOS
        pass
    return Usage(resident, time.process_time(), threading.active_count(), files)
