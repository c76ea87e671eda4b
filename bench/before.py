"""This version beside an earlier one, in turn: one live source, hop 1 s, through the same broker.

    git worktree add /tmp/before f3aa0ac
    python bench/before.py /tmp/before [--rounds 3] [--seconds 20]

Both run in this Python, the earlier one from its own folder; it needs what that version needs, such as torch. Each
round starts a daemon of each, feeds it through a pipe at the pace of a microphone, and measures what `tagger bench
daemon` does.
"""

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np

from tagger.bench.daemon import Program
from tagger.bench.machine import describe_machine
from tagger.bench.parts import measure_daemon
from tagger.bench.results import DaemonResult
from tagger.bench.settings import BenchSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="work tree of the earlier version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--hop", type=float, default=1.0)
    parser.add_argument("--embedded", action="store_true")
    options = parser.parse_args()

    folder = options.before.resolve()
    earlier = Program(env={"PYTHONPATH": str(folder)}, cwd=str(folder))
    settings = BenchSettings(
        models=("esc50",), hop_s=options.hop, quick=True, seconds=options.seconds, embedded=options.embedded
    )
    found: dict[str, list[DaemonResult]] = {"before": [], "now": []}
    for number in range(options.rounds):
        for name, program in (("before", earlier), ("now", Program())):
            found[name].append(measure_daemon(settings, lambda seconds: None, program))
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
    machine = describe_machine()
    print(f"{machine.processor}, {machine.cores} cores; hop {options.hop:g} s, {found['now'][0].broker}")
    rows = {
        "start to ready, s": lambda each: each.ready_s,
        "start to the first score, s": lambda each: each.first_score_s,
        "processor time a second of audio, ms": lambda each: each.cpu_ms,
        "memory, MB": lambda each: each.resident_mb,
        "last sample to subscriber, median, ms": lambda each: each.latency["median_ms"],
        "last sample to subscriber, p99, ms": lambda each: each.latency["p99_ms"],
    }
    print(f"{'median of the rounds':<40}{'before':>10}{'now':>10}{'times':>8}")
    for what, value in rows.items():
        pairs = np.array([[value(each) for each in found[name]] for name in ("before", "now")])
        before, now = (statistics.median(values) for values in pairs.tolist())
        print(f"{what:<40}{before:>10.2f}{now:>10.2f}{float(np.median(pairs[0] / pairs[1])):>8.1f}")


if __name__ == "__main__":
    main()
