"""What listening costs, from one microphone to a petabyte of recordings: a model, as the tables of docs/scale.md.

    python scripts/scale.py                    the tables
    python scripts/scale.py --streams 300      one line more, for a number of streams of your own
    python scripts/scale.py --terabytes 20     the same of recordings

Each value that it starts from is in ASSUMPTIONS, with where it comes from. Needs nothing but Python.
"""

import argparse
import math
from dataclasses import dataclass
from typing import NamedTuple

DAY_S = 86_400


class Assumption(NamedTuple):
    value: float
    unit: str
    origin: str


ASSUMPTIONS = {
    "base_ms": Assumption(11, "ms of a core a second, a daemon", "measured: `tagger bench cost`"),
    "stream_ms": Assumption(
        8.3, "ms of a core a second, a stream", "measured: `tagger bench cost`; its decoding not included"
    ),
    "streams_a_core": Assumption(
        55, "streams a core, nothing skipped", "measured: `tagger bench streams --streams 110` on two cores"
    ),
    "worker_cores": Assumption(2, "cores a worker", "chosen: what was measured"),
    "base_mb": Assumption(
        165, "MB, a daemon", "measured: 128 with its first source, 37 for levels ([performance](performance.md))"
    ),
    "stream_mb": Assumption(
        5.8,
        "MB, a stream",
        "measured: 4.4 for its reader ([architecture](architecture.md)), 1.4 for levels "
        "([performance](performance.md))",
    ),
    "stream_kbit_s": Assumption(128, "kbit/s, a stream", "assumed: MP3 or AAC"),
    "events": Assumption(200, "events a day, a stream", "assumed; bundled model, a street"),
    "scores_hz": Assumption(1, "message a second, a stream: `scores`", "its hop"),
    "audio_s": Assumption(10, "s between messages `audio`", "the default of `listen.audio_s`"),
    "stats_s": Assumption(60, "s between messages `stats`, a daemon", "the default of `listen.stats_s`"),
    "messages": Assumption(4, "messages an event: begin, end, and its label ON and OFF", "[mqtt](mqtt.md)"),
    "row_bytes": Assumption(
        730,
        "bytes, an event in PostgreSQL with its indexes",
        "measured where each is written twice; `python bench/collect.py --speed` prints it",
    ),
    "collect_us": Assumption(
        69, "us of a core, an event in a collector", "measured: `python bench/collect.py --speed`"
    ),
    "archive_s": Assumption(
        25, "s of a core, an hour of recordings", "measured: `tagger archive` of an hour of FLAC, on a busy machine"
    ),
    "hour_mb": Assumption(160, "MB, an hour of recordings", "assumed: FLAC, mono, 44.1 kHz"),
    "parquet_mb": Assumption(0.2, "MB of Parquet, an hour", "assumed; measured 0.09, of the demo over and over"),
    "archive_cores": Assumption(1_000, "cores of the cluster", "chosen"),
}


def of(name: str) -> float:
    """The value of an assumption."""
    return ASSUMPTIONS[name].value


@dataclass(frozen=True)
class Live:
    """A number of live streams."""

    streams: int

    @property
    def workers(self) -> int:
        """Daemons of `worker_cores`; of several, one more than are needed, so that any may fail."""
        needed = math.ceil(self.streams / (of("streams_a_core") * of("worker_cores")))
        return needed if needed == 1 else needed + 1

    @property
    def cores(self) -> float:
        """Cores that are at work, all workers together."""
        return (self.workers * of("base_ms") + self.streams * of("stream_ms")) / 1_000

    @property
    def memory_gb(self) -> float:
        return (self.workers * of("base_mb") + self.streams * of("stream_mb")) / 1_000

    @property
    def events_a_day(self) -> float:
        return self.streams * of("events")

    @property
    def messages_a_second(self) -> float:
        """All that the broker takes."""
        told = self.streams * (of("scores_hz") + 1 / of("audio_s")) + self.workers / of("stats_s")
        return told + of("messages") * self.events_a_day / DAY_S

    def row(self) -> list[str]:
        rows_gb = 365 * self.events_a_day * of("row_bytes") / 1e9
        collect_s = self.events_a_day * of("collect_us") / 1e6
        return [
            f"{self.streams:,}",
            f"{self.workers:,}",
            _short(self.cores),
            f"{_short(self.memory_gb)} GB",
            f"{_short(self.streams * of('stream_kbit_s') / 1_000)} Mbit/s",
            _short(self.messages_a_second),
            f"{self.events_a_day:,.0f}",
            f"{_short(rows_gb)} GB",
            f"{_short(collect_s)} s",
        ]


@dataclass(frozen=True)
class Recorded:
    """An amount of recordings."""

    terabytes: float

    def row(self) -> list[str]:
        hours = self.terabytes * 1e6 / of("hour_mb")
        core_hours = hours * of("archive_s") / 3_600
        wall_hours = core_hours / of("archive_cores")
        read_gbit_s = 8 * self.terabytes * 1e3 / (3_600 * wall_hours)
        return [
            f"{_short(self.terabytes)} TB",
            f"{_short(hours)} h",
            f"{_short(core_hours)}",
            f"{_short(wall_hours)} h",
            f"{_short(read_gbit_s)} Gbit/s",
            f"{_short(hours * of('parquet_mb') / 1e3)} GB",
        ]


def tables(live: list[Live], recorded: list[Recorded]) -> str:
    """Both tables and the assumptions, as Markdown."""
    heads = (
        [
            *("streams", "workers", "cores at work", "memory", "in", "broker, messages a second"),
            *("rows a day", "database a year", "collector, processor time a day"),
        ],
        ["recordings", "sound", "core hours", "on the cluster", "read at", "Parquet"],
        ["value", "of what", "from where"],
    )  # fmt: skip
    bodies = (
        [each.row() for each in live],
        [each.row() for each in recorded],
        [[f"{value:,g}", unit, origin] for value, unit, origin in ASSUMPTIONS.values()],
    )
    return "\n\n".join(_table(head, body) for head, body in zip(heads, bodies, strict=True))


def _table(head: list[str], body: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body])


def _short(value: float) -> str:
    """Two digits that count, in full from 100 on.

    >>> _short(0.0613), _short(8.47), _short(1_234.5), _short(43_402)
    ('0.061', '8.5', '1,200', '43,000')
    """
    if not value:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


LIVE = [Live(1), Live(16), Live(100), Live(1_000), Live(10_000)]
RECORDED = [Recorded(1), Recorded(20), Recorded(1_000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, action="append", default=[], metavar="N")
    parser.add_argument("--terabytes", type=float, action="append", default=[], metavar="TB")
    given = parser.parse_args()
    if min([1, *given.streams, *given.terabytes]) <= 0:
        parser.error("--streams and --terabytes must be more than 0")
    print(
        tables(LIVE + [Live(each) for each in given.streams], RECORDED + [Recorded(each) for each in given.terabytes])
    )


if __name__ == "__main__":
    main()
