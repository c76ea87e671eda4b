"""Several times more audio than the machine can tag: how late is what is classified, and is every window accounted for?

    python bench/overload.py                            # four times as much, ten minutes
    python bench/overload.py --times 4 --minutes 60
    python bench/overload.py --times 4 --minutes 60 --hop 1 --sleep 0.25

First a daemon with too many sources runs for a while: what it classifies in a second is what the machine can do. Then
`tagger listen` runs as a process with so many sources that they want `--times` as much: recordings of noise at the
pace of the clock, all of the same length. With `--sleep` its network takes so long for a window, asleep
(`bench/sleeping.py`), and leaves the processor to others. Printed are what it wanted and what it did, the highest
latency of each `stats` message (every second, all sources: highest, and quantiles of those), and for each source its
windows and those that were skipped, against those that there must be. Exit code 1 if one is missing, or one came later
than two hops.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.programs import LONG_S, Mosquitto, Subscriber, until, write_wav

RATE_HZ, WINDOW_S = 32_000, 5.0
STATS, IDLE = "tagger/overload/stats", "idle"
MOST_HOPS = 2.0
"""Latest that a window may be, hops."""


Stats = dict[str, Any]
"""A message on `stats`."""


def run(
    broker: Mosquitto,
    folder: Path,
    count: int,
    minutes: float,
    hop_s: float,
    sleep_s: float | None = None,
    log: Path | None = None,
) -> list[Stats]:
    """Runs a daemon on `count` sources until they have ended. Returns the messages on `stats`."""
    seconds = WINDOW_S + 60 * minutes
    noise = np.random.default_rng(0).standard_normal(60 * RATE_HZ, dtype=np.float32) / 20
    wave = write_wav(folder / "noise.wav", np.resize(noise, round(RATE_HZ * seconds)))
    config, idle = folder / "tagger.toml", folder / "idle"
    config.write_text("[listen]\nstats_s = 1\n")
    if not idle.exists():
        os.mkfifo(idle)
    sources = [f"source_{number}={wave}" for number in range(count)]
    subscriber = Subscriber(broker.port, STATS)
    # A pipe that nobody writes to keeps the daemon up when the others have ended, so that it says the last numbers.
    program = ["tagger"] if sleep_s is None else ["bench.sleeping", f"{sleep_s:g}"]
    process = subprocess.Popen(
        [sys.executable, "-m", *program, "listen", *sources, f"{IDLE}={idle},rate={RATE_HZ}", "--config", str(config),
         "--hop", f"{hop_s:g}", "--mqtt", broker.url, "--node", "overload"],
        env=os.environ | {"TAGGER_HOME": str(folder / "home")}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        taken = 0

        def have_ended() -> bool:
            nonlocal taken
            if process.poll() is not None:
                raise click.ClickException(f"the daemon has ended, exit code {process.returncode}")
            time.sleep(0.5)
            payloads = subscriber.payloads(STATS)
            new, taken = payloads[taken:], len(payloads)
            if log is not None and new:
                note(log, json.loads(new[-1]))
            return any(
                all(each["state"] == "ended" for each in _sources(json.loads(payload)).values()) for payload in new
            )

        until(have_ended, "all have ended", 2 * seconds + LONG_S)
        until(lambda: len(subscriber.payloads(STATS)) > taken, "the last numbers are published")
        return [each | {"sources": _sources(each)} for each in subscriber.jsons(STATS)]
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        subscriber.close()


def note(log: Path, stats: Stats) -> None:
    """Writes the totals so far."""
    lags = [each["lag_ms"] or 0.0 for each in _sources(stats).values()]
    line = {key: stats[key] for key in ("uptime_s", "windows", "skipped", "overruns", "memory_mb")}
    with log.open("a") as file:
        file.write(json.dumps(line | {"lag_ms": max(lags)}) + "\n")


def _sources(stats: Stats) -> dict[str, Any]:
    return {name: each for name, each in stats["sources"].items() if name != IDLE}


def rate(stats: list[Stats]) -> float:
    """Windows that are classified in a second, over the middle of a run."""
    busy = [each for each in stats if each["windows"] + each["skipped"]]
    first, last = busy[len(busy) // 4], busy[-max(1, len(busy) // 10)]
    return float((last["windows"] - first["windows"]) / (last["uptime_s"] - first["uptime_s"]))


@click.command()
@click.option("--times", default=4.0, show_default=True, help="How much more audio comes than can be classified.")
@click.option("--minutes", default=10.0, show_default=True, help="Length of the run.")
@click.option("--hop", "hop_s", default=0.1, show_default=True, help="Hop of the daemon, seconds.")
@click.option("--sources", "count", type=int, help="Number of sources. Default: found by a first run.")
@click.option("--sleep", "sleep_s", type=float, help="Time that a network of its own sleeps for each window, seconds.")
@click.option("--log", type=click.Path(path_type=Path), help="File for the totals of each second.")
def main(
    times: float, minutes: float, hop_s: float, count: int | None, sleep_s: float | None, log: Path | None
) -> None:
    """Sends more audio than can be tagged."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Mosquitto(folder) as broker:
            tried = 16
            while count is None:
                stats = run(broker, folder, tried, 0.5, hop_s, sleep_s)
                does = rate(stats)
                click.echo(f"{tried} sources want {tried / hop_s:.0f} windows a second: {does:.0f} are classified")
                if does * times <= tried / hop_s:
                    count = math.ceil(times * does * hop_s)
                tried *= 2
            stats = run(broker, folder, count, minutes, hop_s, sleep_s, log)
    does = rate(stats)
    wanted = count / hop_s
    click.echo(f"{count} sources, {minutes:g} min, hop {hop_s:g} s")
    click.echo(f"wanted {wanted:.0f} windows a second, classified {does:.1f}: {wanted / does:.1f} times as many")
    lags = sorted(each["lag_ms"] / 1000 / hop_s for one in stats for each in one["sources"].values() if each["lag_ms"])
    at = {q: lags[min(len(lags) - 1, int(q * len(lags)))] for q in (0.5, 0.99, 0.999)}
    late = sum(each > MOST_HOPS for each in lags)
    click.echo(
        f"highest lag of a source in a second, hops: median {at[0.5]:.2f}, p99 {at[0.99]:.2f}, p99.9 {at[0.999]:.2f}, "
        f"highest {lags[-1]:.2f}; {late} of {len(lags)} above {MOST_HOPS:g}"
    )
    due = math.floor(60 * minutes / hop_s + 1e-9) + 1
    sums = Counter(each["windows"] + each["skipped"] for each in stats[-1]["sources"].values())
    click.echo(f"windows and skipped of each source add up to {dict(sums)} (windows: sources); there must be {due}")
    own = [each["windows"] for each in stats[-1]["sources"].values()]
    click.echo(f"classified of a source: {min(own)} to {max(own)}; overruns {stats[-1]['overruns']}")
    memory = [f"{stats[round(part * (len(stats) - 1))]['memory_mb']:.0f}" for part in (0.1, 0.25, 0.5, 0.75, 1)]
    click.echo(f"memory after 10, 25, 50, 75, 100 % of the run: {', '.join(memory)} MB")
    click.echo(f"all: {stats[-1]['windows']} classified and {stats[-1]['skipped']} skipped of {due * count}")
    sys.exit(0 if set(sums) == {due} and not late else 1)


if __name__ == "__main__":
    main()
