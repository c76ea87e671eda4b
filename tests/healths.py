"""Snapshots of a daemon's health, as tests need them."""

import dataclasses
from typing import Any

from tagger.condition import Condition
from tagger.health import SinkHealth, Snapshot, SourceHealth, Usage

NOW = 1_800_000_000.0


def source(name: str = "mic", **fields: Any) -> SourceHealth:
    """A source that has done well for a minute, but for these fields of it or of its condition."""
    usual: dict[str, Any] = {
        **{"idle_s": 0.1, "behind_s": 0.02, "rms_dbfs": -50.0, "windows": 100, "skipped": 1, "overruns": 2},
        **{"state": "hearing", "since": NOW - 60, "reconnects": 3, "last_audio_s": 0.1},
    }
    given = usual | fields
    own = {each.name: given.pop(each.name) for each in dataclasses.fields(Condition) if each.name in given}
    return SourceHealth(name, Condition(**own), **given)


def snapshot(*sources: SourceHealth, waiting: int = 0, trouble: str | None = None, uptime_s: float = 60.4) -> Snapshot:
    """A daemon with these sources and a broker.

    Args:
        trouble: what is wrong with the broker.
    """
    return Snapshot(
        node="attic",
        time=NOW,
        uptime_s=uptime_s,
        sources=sources or (source(),),
        sinks=(SinkHealth("mqtt", waiting=waiting, dropped=5, reconnects=6, trouble=trouble),),
        usage=Usage(resident_bytes=120_000_000, cpu_s=12.5, threads=9, open_files=30),
        counts={"waiting": waiting, "dropped": 5, "reconnects": 6},
    )
