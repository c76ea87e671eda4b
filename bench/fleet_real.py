"""Real streams through a real fleet, whose workers are killed: are all events there, each once?

    python bench/fleet_real.py                    16 streams by HTTP, the bundled network, two workers, three minutes
    python bench/fleet_real.py --ray              the same on a Ray cluster of two nodes

A siren of four seconds comes every ten. Every 20 s a worker is killed (SIGKILL), the fifth time the coordinator; with
`--ray` the third time a node, and the seventh time the command that leads. With `--gone`, a worker's machine is lost
after them: it hangs while sirens are heard, is killed, its folder is removed, and none is started in its place for a
minute. At the end every event that has begun must have ended, once. A message may come again,
unchanged, if its worker was killed before it knew that the broker has it (QoS 1). Needs Mosquitto and the extra `dev`.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.clusters import added, cluster_of
from tests.programs import TAGGER, Mosquitto, Subscriber, siren, subscribed
from tests.radio import RATE_HZ, on_air, plays_bytes, wav_head

_CYCLE_SECONDS = 10


def _sound() -> bytes:
    wave = np.concatenate([siren(4, RATE_HZ), 0.002 * np.random.default_rng(0).standard_normal(6 * RATE_HZ)])
    return (wave * 32767).clip(-32768, 32767).astype("<i2").tobytes()


@click.command()
@click.option("--streams", default=16, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--minutes", default=3.0, show_default=True)
@click.option("--every", default=20.0, show_default=True, help="Seconds between two deaths.")
@click.option("--gone", is_flag=True, help="Lose a worker for good, besides.")
@click.option("--ray", is_flag=True, help="On a Ray cluster of this machine, of a node for each worker.")
def main(streams: int, workers: int, minutes: float, every: float, gone: bool, ray: bool) -> None:
    """Prints what a subscriber has received."""
    sound = _sound()
    with (
        tempfile.TemporaryDirectory() as place,
        Mosquitto(Path(place)) as broker,
        on_air(lambda radio, connection: plays_bytes(radio, connection, sound, _CYCLE_SECONDS, wav_head())) as radio,
        subscribed(broker.port, "tagger/+/+/#") as heard,
        ExitStack() as stack,
    ):
        folder, file = Path(place) / "state", Path(place) / "fleet.toml"
        tables = "".join(f'[[source]]\nname = "s{i}"\nurl = "{radio.url()}"\n' for i in range(streams))
        file.write_text(
            f'{tables}[mqtt]\nurl = "{broker.url}"\nnode = "city"\n[fleet]\nworkers = {1 if ray else workers}\n'
            '[events]\nallow = ["siren"]\n[events.labels.siren]\nenter = 0.5\n'
        )
        command, cluster = [*TAGGER, "fleet", str(file), "--state", str(folder)], None
        if ray:
            cluster = stack.enter_context(_cluster(workers))
            command += ["--ray", cluster.address]
        fleet = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while _heard(folder) < streams:
            time.sleep(1)
        time.sleep(15)
        began, deaths = time.monotonic(), 0
        while time.monotonic() - began < 60 * minutes:
            if deaths == 4 and cluster is not None:
                while "pid" not in (status := _status(folder)):
                    time.sleep(0.5)
                os.kill(status["pid"], signal.SIGKILL)
            elif deaths == (4 if cluster is None else 6):
                fleet.kill()
                fleet.wait()
                fleet = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            elif deaths == 2 and cluster is not None:
                _kill_node(folder, cluster)
            else:
                _kill_worker(folder, deaths)
            deaths += 1
            time.sleep(every)
        if gone:
            deaths += 1
            _lose_machine(folder, heard)
        while _heard(folder) < streams:
            time.sleep(1)
        fleet.send_signal(signal.SIGTERM)
        fleet.wait()
        time.sleep(2)
        heard.catch_up()
        messages = list(heard.messages)
    _judge([(at, message.topic, message.payload) for at, message in messages], streams, deaths, began)


def _heard(folder: Path) -> int:
    return int(_status(folder)["heard"])


def _status(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [*TAGGER, "fleet", "status", "--json", "--state", str(folder)], capture_output=True, check=False
    )
    with contextlib.suppress(ValueError):
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    return {"heard": 0}


def _workers(folder: Path) -> list[tuple[str, int]]:
    """Node and process of each worker, which holds the lock of its folder."""
    return [(lock.parent.name, int(lock.read_text())) for lock in _locks(folder)]


def _locks(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*/lock"), *folder.glob("*/*/lock")])


def _kill_worker(folder: Path, number: int) -> None:
    with contextlib.suppress(ValueError, ProcessLookupError):
        workers = _workers(folder)
        os.kill(workers[number % len(workers)][1], signal.SIGKILL)


@contextlib.contextmanager
def _cluster(nodes: int) -> Iterator[Any]:
    with cluster_of(0) as cluster:
        cluster.first = added(cluster, "n0")
        for number in range(1, nodes):
            added(cluster, f"n{number}")
        yield cluster


def _kill_node(folder: Path, cluster: Any) -> None:
    """The first node dies, with all that runs there, and comes back."""
    cluster.remove_node(cluster.first, allow_graceful=False)
    for node, pid in _workers(folder):
        if "-n0-" in node:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    added(cluster, "n0")


def _lose_machine(folder: Path, heard: Subscriber) -> None:
    """Stops a worker for good, in the middle of what it hears; prints how long its events stayed open."""
    lock = _locks(folder)[-1]
    node, process = lock.parent.name, int(lock.read_text())
    while not (left := _open_events(heard, node)):
        time.sleep(0.05)
    os.kill(process, signal.SIGSTOP)
    stopped = time.monotonic()
    time.sleep(0.5)
    left = _open_events(heard, node)
    while left & _open_events(heard, node) and time.monotonic() - stopped < 60:
        time.sleep(0.1)
    print(f"{node} is lost with {len(left)} open events; the last has ended after {time.monotonic() - stopped:.1f} s")
    shutil.rmtree(lock.parent)
    lock.parent.touch()  # no worker can start there
    with contextlib.suppress(ProcessLookupError):  # the coordinator was quicker
        os.kill(process, signal.SIGKILL)
    time.sleep(60)
    lock.parent.unlink()


def _open_events(heard: Subscriber, node: str) -> set[str]:
    """Ids of events of a node that have begun and not ended."""
    begun = set[str]()
    for _, message in list(heard.messages):
        if message.topic.startswith(f"tagger/{node}/") and message.topic.endswith("/event"):
            event = json.loads(message.payload)
            (begun.add if event["type"] == "begin" else begun.discard)(event["id"])
    return begun


def _judge(messages: list[tuple[float, str, bytes]], streams: int, deaths: int, began: float) -> None:
    events = [json.loads(payload) for _, topic, payload in messages if topic.endswith("/event")]
    counts = Counter((event["id"], event["type"]) for event in events)
    contents = Counter(json.dumps(event) for event in events)
    begun, ended = ({event["id"] for event in events if event["type"] == kind} for kind in ("begin", "end"))
    windows = defaultdict[str, list[tuple[float, str]]](list)
    for at, topic, _ in messages:
        _, node, source, *rest = topic.split("/")
        if rest == ["scores"]:
            windows[source].append((at, node))
    gaps = [
        later - at
        for found in windows.values()
        for (at, _), (later, _) in itertools.pairwise(found)
        if later >= began and later - at > 3
    ]
    causes = Counter(event.get("cause", "heard") for event in events if event["type"] == "end")
    print(f"{streams} streams, {deaths} deaths, {len(windows)} heard, {sum(map(len, windows.values())):,} windows")
    print(f"events begun {len(begun)}, ended {len(ended)} ({', '.join(f'{n} {cause}' for cause, n in causes.items())})")
    print(f"begun without an end {len(begun - ended)}, ended without a begin {len(ended - begun)}, "
          f"messages that came again, with the same id and type {sum(n - 1 for n in counts.values())}, "
          f"of them unchanged {sum(n - 1 for n in contents.values())}")  # fmt: skip
    on = {topic for topic, payload in {topic: payload for _, topic, payload in messages}.items() if payload == b"ON"
          and topic.endswith("/state")}  # fmt: skip
    print(f"states that stay on {len(on)}", *sorted(on))
    print(f"times unheard for more than 3 s: {len(gaps)}; the longest {max(gaps, default=0):.1f} s")


if __name__ == "__main__":
    main()
