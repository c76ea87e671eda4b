"""A day in fast-forward: does memory grow, is a window lost, and does the time of an event drift?

    python bench/day.py                 # a day of sound through `tagger listen -`, as fast as it goes
    python bench/day.py --hours 2 --hop 1

The same ten minutes, with a siren in them, go through the real command again and again, with the event log, JSON lines
and a broker that is not there, so that the outbox fills as well. Printed: memory after the first minute of sound, after
each hour, and at the end; windows against those that there must be; and by how much the onsets of the sirens differ
within their ten minutes. Exit code 1 if memory grew by more than 5 MB, or if anything else is not exact.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tagger.daemon.status import ask_here
from tests.programs import siren

RATE_HZ = 32_000
PIECE_S = 600
START = "2026-01-01T00:00:00Z"
MOST_MB = 5.0


def piece() -> bytes:
    """Ten minutes: noise as of a quiet room, and 20 s of a siren after a minute. Raw s16le."""
    noise = np.random.default_rng(0).normal(0, 0.001, PIECE_S * RATE_HZ)
    noise[60 * RATE_HZ : 80 * RATE_HZ] += siren(20)
    return (32_767 * np.clip(noise, -1, 1)).astype("<i2").tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--hop", type=float, default=1.0)
    args = parser.parse_args()
    pieces = round(args.hours * 3600 / PIECE_S)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(Path(folder), pieces, args.hop))


def run(folder: Path, pieces: int, hop_s: float) -> int:
    state, lines = folder / "state", folder / "events.jsonl"
    command = [sys.executable, "-m", "tagger", "listen", f"-,start_time={START}", "--state", str(state)]
    command += ["--hop", str(hop_s), "--mqtt", "mqtt://127.0.0.1:1", "--jsonl", str(lines), "--json"]
    command += ["--event-log", str(folder / "log.sqlite"), "--log-level", "error"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stdin = process.stdin
    assert stdin is not None
    sound = piece()

    def feed() -> None:
        with suppress(BrokenPipeError):  # the daemon is gone
            for _ in range(pieces):
                stdin.write(sound)

    began = time.monotonic()
    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    expected = int((pieces * PIECE_S - 5) / hop_s) + 1
    first_mb = highest_mb = mb = 0.0
    windows = skipped = hour = 0
    while windows + skipped < expected and process.poll() is None:
        time.sleep(1)
        try:
            (answer,) = ask_here(state)
        except Exception:
            continue
        (of_source,) = answer["sources"].values()
        windows, skipped = of_source["windows"], of_source["skipped"]
        mb = answer["process"]["resident_mb"]
        heard_s = windows * hop_s
        if not first_mb and heard_s >= 60:
            first_mb = mb
            print(f"after {heard_s / 60:6.1f} min  {mb:7.1f} MB", flush=True)
        highest_mb = max(highest_mb, mb)
        if int(heard_s // 3600) > hour:
            hour = int(heard_s // 3600)
            print(f"after {heard_s / 3600:6.1f} h    {mb:7.1f} MB, {time.monotonic() - began:,.0f} s", flush=True)
    feeder.join()
    with suppress(BrokenPipeError):
        stdin.close()
    process.wait()
    drift_s, sirens = drift(lines)
    grown_mb = mb - first_mb
    print(
        f"memory       {first_mb:.1f} MB after a minute of sound, {mb:.1f} at the end: {grown_mb:+.1f}; "
        f"highest {highest_mb:.1f}"
    )
    print(f"windows      {windows:,} classified, {skipped:,} skipped; there must be {expected:,}")
    print(f"time stamps  {sirens} sirens of {pieces}, onsets differ by at most {1000 * drift_s:.0f} ms")
    is_right = grown_mb <= MOST_MB and windows == expected and sirens == pieces and drift_s == 0
    return 0 if is_right else 1


def drift(path: Path) -> tuple[float, int]:
    """By how much the sirens' onsets differ within their ten minutes, seconds; and how many sirens there are."""
    zero = datetime.fromisoformat(START)
    events = [
        json.loads(line) for each in sorted(path.parent.glob(f"{path.name}*")) for line in each.read_text().splitlines()
    ]
    onsets = [
        (datetime.fromisoformat(event["onset"]) - zero).total_seconds() % PIECE_S
        for event in events
        if event["type"] == "begin" and event["label"] == "siren"
    ]
    return (max(onsets) - min(onsets), len(onsets)) if onsets else (0.0, 0)


if __name__ == "__main__":
    main()
