"""A snapshot as text that Prometheus reads, in its exposition format, version 0.0.4.

Written here, as it is three rules (a type a name, a line a value, escapes in labels) and every number is in the
snapshot already; tests/daemon/test_metrics.py reads it with Prometheus' own client.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, get_args

from tagger import __version__
from tagger.condition import State
from tagger.health import Snapshot, SourceHealth
from tagger.latencies import LATENCY_BOUNDS_S

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_Type = Literal["counter", "gauge"]
_Sample = tuple[Mapping[str, str], float | None]
"""Labels and value. None: there is no value, and no line."""


def exposition(snapshot: Snapshot) -> str:
    """The text, one line a value."""
    return "".join(f"{line}\n" for line in _lines(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[str]:
    sources, sinks, usage = snapshot.sources, snapshot.sinks, snapshot.usage
    about = {"node": snapshot.node, "version": __version__}
    yield from metric("tagger_info", "gauge", "Node and version.", [(about, 1)])
    yield from metric("tagger_uptime_seconds", "gauge", "Time since the start.", [({}, snapshot.uptime_s)])
    yield from metric("tagger_healthy", "gauge", "1: nothing is amiss.", [({}, snapshot.verdict == "ok")])
    yield from metric("tagger_problems", "gauge", "Number of things that are amiss.", [({}, len(snapshot.problems))])
    yield from metric(
        "tagger_source_state",
        "gauge",
        "1 for the state that the source is in.",
        [
            ({"source": each.source, "state": state}, each.condition.state == state)
            for each in sources
            for state in get_args(State)
        ],
    )
    for name, kind, help, value in _OF_SOURCES:
        yield from metric(name, kind, help, [({"source": each.source}, value(each)) for each in sources])
    yield from metric(
        "tagger_events_total",
        "counter",
        "Events that have begun.",
        [({"source": each.source, "label": label}, n) for each in sources for label, n in sorted(each.events.items())],
    )
    yield from _histogram("tagger_latency_seconds", "Time from a window's last sample to its scores.", sources)
    of_sink = [({"sink": each.name}, each) for each in sinks]
    yield from metric(
        "tagger_sink_up", "gauge", "1: it takes events.", [(name, each.trouble is None) for name, each in of_sink]
    )
    yield from metric(
        "tagger_queue_events", "gauge", "Events that wait.", [(name, each.waiting) for name, each in of_sink]
    )
    yield from metric(
        "tagger_dropped_events_total",
        "counter",
        "Events that were given up.",
        [(name, each.dropped) for name, each in of_sink],
    )
    yield from metric(
        "tagger_sink_reconnects_total",
        "counter",
        "Times that it came back.",
        [(name, each.reconnects) for name, each in of_sink],
    )
    of_process: tuple[tuple[str, _Type, str, float | None], ...] = (
        ("process_resident_memory_bytes", "gauge", "Memory that the process holds.", usage.resident_bytes),
        ("process_cpu_seconds_total", "counter", "Processor time of all threads.", usage.cpu_s),
        ("process_open_fds", "gauge", "File descriptors in use.", usage.open_files),
        ("process_threads", "gauge", "Threads of Python.", usage.threads),
        ("process_start_time_seconds", "gauge", "When it started.", snapshot.time - snapshot.uptime_s),
    )
    for name, kind, help, number in of_process:
        yield from metric(name, kind, help, [({}, number)])


_OF_SOURCES: tuple[tuple[str, _Type, str, Callable[[SourceHealth], float | None]], ...] = (
    ("tagger_source_last_audio_seconds", "gauge", "Age of the newest audio.", lambda each: each.condition.last_audio_s),
    ("tagger_source_behind_seconds", "gauge", "Audio that waits to be read.", lambda each: each.behind_s),
    ("tagger_source_level_dbfs", "gauge", "Level, 0 is full scale.", lambda each: each.rms_dbfs),
    ("tagger_source_reconnects_total", "counter", "Times that it came back.", lambda each: each.condition.reconnects),
    ("tagger_source_overruns_total", "counter", "Times that samples were lost.", lambda each: each.overruns),
    ("tagger_windows_total", "counter", "Windows that were classified.", lambda each: each.windows),
    ("tagger_windows_skipped_total", "counter", "Windows that were left out.", lambda each: each.skipped),
)
"""Metrics with one value a source: name, type, help, and what gives the value."""


def metric(name: str, kind: _Type, help: str, samples: Iterable[_Sample]) -> Iterator[str]:
    """A metric's lines; none where it has no value."""
    found = [(labels, value) for labels, value in samples if value is not None]
    if found:
        yield f"# HELP {name} {help}"
        yield f"# TYPE {name} {kind}"
    for labels, value in found:
        yield _line(name, labels, value)


def _histogram(name: str, help: str, sources: Iterable[SourceHealth]) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} histogram"
    for each in sources:
        counts, sum_s = each.histogram
        total = 0
        for bound, count in zip([f"{bound:g}" for bound in LATENCY_BOUNDS_S] + ["+Inf"], counts, strict=True):
            total += count
            yield _line(f"{name}_bucket", {"source": each.source, "le": bound}, total)
        yield _line(f"{name}_sum", {"source": each.source}, sum_s)
        yield _line(f"{name}_count", {"source": each.source}, total)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    r"""
    >>> _line("up", {"source": 'a "b" \\ c'}, True)
    'up{source="a \\"b\\" \\\\ c"} 1'
    """
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    number = int(value) if float(value).is_integer() else value
    return f"{name}{f'{{{inside}}}' if inside else ''} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
