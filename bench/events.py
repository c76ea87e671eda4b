"""Time of `tagger events --day DAY`, as a whole process, on a year of events.

    python bench/events.py [--events 100000] [--runs 15]

The daemon's own code writes the log, in a temporary folder: days differ, nights are quiet, some labels are frequent and
others rare, most sounds are short and some long. Each answer is compared with the events that were written.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from ulid import ULID

from tagger.history.log import EventLog, EventRow
from tagger.times import bounds, rfc3339

LABELS = 50
DAYS = 365
LAST_DAY = datetime(2026, 11, 25)
NODES = (("attic", "mic"), ("attic", "garden"), ("hall", "mic"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="Leave the log here.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder, "events.sqlite")
        rows = year(options.events)
        began = time.perf_counter()
        with closing(EventLog(path)) as log:
            for i in range(0, len(rows), 500):
                log.write(rows[i : i + 500])
        took = time.perf_counter() - began
        size = path.stat().st_size / 1e6
        print(f"{len(rows):,} events, {size:.1f} MB, written in {took:.1f} s")
        began = time.perf_counter()
        EventLog(path).close()
        print(f"opened and checked by a daemon in {time.perf_counter() - began:.2f} s")
        choices = random.Random(1)
        days = [LAST_DAY - timedelta(days=choices.randrange(DAYS)) for _ in range(options.runs)]
        label = Counter(row.label for row in rows).most_common(1)[0][0]
        measure("--version", path, rows, days, None)
        measure("--day DAY", path, rows, days, None)
        measure("--day DAY --label LABEL", path, rows, days, label)


def year(events: int) -> list[EventRow]:
    draw = random.Random(0)
    weights = [1 / (1 + rank) for rank in range(LABELS)]
    busy = [draw.lognormvariate(0, 0.6) for _ in range(DAYS)]
    rows = []
    for day in sorted(draw.choices(range(DAYS), busy, k=events)):
        midnight = bounds((LAST_DAY - timedelta(days=DAYS - 1 - day)).date())[0]
        hour = (draw.gauss(14, 4.5) if draw.random() < 0.9 else draw.uniform(0, 24)) % 23.99
        onset = round(midnight + 3600 * hour, 3)
        duration_s = min(600.0, round(draw.lognormvariate(math.log(3), 1), 3))
        peak = round(1 - draw.random() ** 3 / 2, 6)
        node, source = draw.choice(NODES)
        label = f"label_{draw.choices(range(LABELS), weights)[0]:02d}"
        identity = str(ULID.from_timestamp(onset))
        rows.append(EventRow(identity, node, source, label, onset, onset + duration_s, peak / 2, peak, "esc50", None))
    return rows


def measure(what: str, path: Path, rows: list[EventRow], days: list[datetime], label: str | None) -> None:
    """Prints the times of whole processes. Exits if an answer is wrong."""
    took = []
    for day in days:
        command = [sys.executable, "-m", "tagger", "--version"]
        if what != "--version":
            command[3:] = [
                "events",
                str(path),
                "--json",
                "--day",
                f"{day:%Y-%m-%d}",
                *(["--label", label] if label else []),
            ]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        took.append(time.perf_counter() - began)
        if what == "--version":
            continue
        begin, end = bounds(day.date())
        expected = sorted(
            (rfc3339(row.onset), row.id)
            for row in rows
            if begin <= row.onset < end and (label is None or row.label == label)
        )
        answer = [(each["onset"], each["id"]) for each in map(json.loads, done.stdout.splitlines())]
        if answer != expected:
            sys.exit(f"{what} of {day:%Y-%m-%d}: {len(answer)} events, but there are {len(expected)}")
    times = f"min {min(took):.2f} s, median {statistics.median(took):.2f} s, max {max(took):.2f} s"
    print(f"{what + ':':<25} {times} of {len(took)} processes")


if __name__ == "__main__":
    main()
