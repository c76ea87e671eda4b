"""Twelve faults of live sources, each many times: how soon the reason is published, and how soon audio is back.

    python bench/faults.py                          # each fault 20 times, all at once: about 20 minutes
    python bench/faults.py --times 3 --only server_killed --only half_open
    python bench/faults.py --log faults.jsonl       # again after an interruption: goes on where it was

One daemon (`tagger listen`, as a process) has a source for each fault, and one that nothing happens to. Mosquitto is
the broker; GStreamer's RTSP server (Debian: gir1.2-gst-rtsp-server-1.0, run by /usr/bin/python3), and this program's
server of HTTP are the sources; PulseAudio is the microphone. What is not installed is left out, and said.

For each fault: the longest time until `stats` says one of the right reasons (limit 10 s; zeros need 5 s of zeros), the
longest time from the source's return until it is `online` again (limit 15 s), and failures. At the end: descriptors,
threads and processes of the daemon, before and after; and whether the undisturbed source had the same scores as in a
daemon beside it, which has that source alone.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.outages import Fault, faults, nothing, write_hosts
from tagger.sources.healing import SETTLED_SECONDS
from tests.programs import Mosquitto, Subscriber, until, write_wav

REASON_SECONDS, BACK_SECONDS = 10.0, 15.0
OUTAGE_SECONDS = 11.0
"""Length of each outage: long enough for the reason, and for some failed tries."""


class Watch:
    """What the daemon publishes, taken apart once as it comes."""

    def __init__(self, subscriber: Subscriber, node: str) -> None:
        self._subscriber, self._node = subscriber, node
        self._taken = 0
        self._lock = threading.Lock()
        self._reasons: dict[str, list[tuple[float, str]]] = {}
        self._online: dict[str, list[float]] = {}
        self._heard: dict[str, float] = {}
        self._scores: dict[str, dict[float, str]] = {}

    def reason(self, source: str, since: float) -> tuple[str, float] | None:
        """The newest reason that `stats` said after a moment, and when."""
        self._take()
        newest = self._reasons.get(source, [])[-1:]
        return (newest[0][1], newest[0][0]) if newest and newest[0][0] >= since else None

    def online_at(self, source: str, since: float) -> float | None:
        """When the source was said to be online after a moment."""
        self._take()
        return next((at for at in list(self._online.get(source, [])) if at >= since), None)

    def sounds(self, source: str, since: float) -> bool:
        self._take()
        return self._heard.get(source, -1.0) >= since

    def scores(self, source: str) -> dict[float, str]:
        self._take()
        return dict(self._scores.get(source, {}))

    def _take(self) -> None:
        with self._lock:
            new = self._subscriber.messages[self._taken :]
            self._taken += len(new)
            for at, message in new:
                _, node, *parts = message.topic.split("/")
                if node != self._node:
                    continue
                if parts == ["stats"]:
                    for name, each in json.loads(message.payload)["sources"].items():
                        self._reasons.setdefault(name, []).append((at, each["reason"]))
                elif len(parts) == 2 and parts[1] == "status" and message.payload == b"online":
                    self._online.setdefault(parts[0], []).append(at)
                elif len(parts) == 2 and parts[1] == "scores":
                    made = json.loads(message.payload)
                    self._heard[parts[0]] = at
                    self._scores.setdefault(parts[0], {})[made["start"]] = json.dumps(made["top"])


def suffer(fault: Fault, watch: Watch, times: int) -> None:
    """Breaks a source and mends it, again and again."""
    while fault.done < times:
        try:
            fault.note(**_once(fault, watch))
        except AssertionError as error:
            fault.note(failure=str(error))
        except BaseException as error:
            fault.note(failure=f"{type(error).__name__}: {error}")


def _wait_for(found: Callable[[], float | None], limit_s: float) -> float | None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if (at := found()) is not None:
            return at
        time.sleep(0.1)
    return None


def _once(fault: Fault, watch: Watch) -> dict[str, float]:
    began = time.monotonic()
    if _wait_for(lambda: 1.0 if watch.sounds(fault.name, began) else None, 60.0) is None:
        raise AssertionError("no sound before the fault")
    time.sleep(SETTLED_SECONDS + 1.0)
    broken = time.monotonic()
    fault.break_it()

    def right() -> float | None:
        found = watch.reason(fault.name, broken + 0.2)
        return found[1] if found is not None and found[0] in fault.reasons else None

    said = _wait_for(right, 20.0)
    if said is None:
        found = watch.reason(fault.name, broken)
        fault.mend_it()
        raise AssertionError(f"no right reason within 20 s: {found and found[0]!r}")
    heals_itself = fault.mend_it is nothing or "" in fault.reasons
    if not heals_itself:
        time.sleep(max(0.0, broken + OUTAGE_SECONDS - time.monotonic()))
    mended = time.monotonic() if not heals_itself else broken
    fault.mend_it()
    returned = time.monotonic() if not heals_itself else broken  # a server that starts answers then
    if fault.keeps_online:

        def well() -> float | None:
            found = watch.reason(fault.name, mended + 0.2)
            return found[1] if found is not None and found[0] == "" else None

        back = _wait_for(well, 90.0) if fault.mend_it is not nothing else mended
    else:
        back = _wait_for(lambda: watch.online_at(fault.name, mended), 90.0)
    if back is None:
        raise AssertionError("no audio within 90 s of the return")
    return {"reason_s": said - broken, "back_s": max(0.0, back - returned)}


def used(pid: int) -> dict[str, int]:
    """Descriptors, threads and child processes, with those of children."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    parents = {int(a): int(b) for a, b, c in map(str.split, listed.splitlines()) if "Z" not in c}
    family = {pid}
    while more := {each for each, parent in parents.items() if parent in family} - family:
        family |= more
    return {
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "processes": len(family),
    }


@contextmanager
def daemon(
    broker: Mosquitto, node: str, sources: Sequence[str], hop_s: float, hosts: Path | None, folder: Path
) -> Iterator[int]:
    """`tagger listen` as a process; yields its id."""
    config = folder / "tagger.toml"
    config.write_text("[listen]\nstats_s = 0.5\n")
    flags = ["--config", str(config), "--mqtt", broker.url, "--node", node, "--hop", f"{hop_s:g}"]
    command = [sys.executable, "-m", "tagger", "listen", *sources, *flags]
    if hosts is not None:
        mount = f'mount --bind {hosts} /etc/hosts && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
    log = (folder / f"{node}.log").open("ab")
    env = os.environ | {"TAGGER_HOME": str(folder / f"home-{node}")}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        log.close()


@click.command()
@click.option("--times", default=20, show_default=True, help="How often each fault happens.")
@click.option("--only", multiple=True, help="Only this fault; repeatable.")
@click.option("--hop", "hop_s", default=2.0, show_default=True, help="Hop of the daemon, seconds.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the daemons' logs, which are kept.")
@click.option("--log", type=click.Path(path_type=Path), help="File for the result of each time; the next run goes on.")
def main(times: int, only: tuple[str, ...], hop_s: float, keep: Path | None, log: Path | None) -> None:
    """Breaks live sources in twelve ways and measures how they heal."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        hosts: Path | None = folder / "hosts"
        if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
            hosts = None
        else:
            write_hosts(folder / "hosts")
        broker = stack.enter_context(Mosquitto(folder))
        subscriber = Subscriber(broker.port)
        stack.callback(subscriber.close)
        watch, beside = Watch(subscriber, "faults"), Watch(subscriber, "alone")
        seed = np.random.default_rng(0)
        reference = write_wav(
            folder / "reference.wav",
            seed.standard_normal(round(32_000 * (300 + 90 * times)), dtype=np.float32) / 20,
        )
        undisturbed = f"undisturbed={reference}"
        chosen = [each for each in faults(stack, folder, hosts) if not only or each.name in only]
        for each in chosen:
            each.go_on(log)
        sources = [undisturbed, *(f"{each.name}={each.url}" for each in chosen)]
        with (
            daemon(broker, "alone", [undisturbed], hop_s, None, folder),
            daemon(broker, "faults", sources, hop_s, hosts, folder) as pid,
        ):
            for each in chosen:
                until(lambda each=each: watch.sounds(each.name, 0.0), f"{each.name} is heard")  # type: ignore[misc]
            before = used(pid)
            threads = [threading.Thread(target=suffer, args=[each, watch, times]) for each in chosen]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            time.sleep(5.0)
            after = used(pid)
        expected, found = beside.scores("undisturbed"), watch.scores("undisturbed")
    both = sorted(set(expected) & set(found))
    same = sum(expected[each] == found[each] for each in both)
    click.echo(f"{'fault':24}{'times':>6}{'reason within':>15}{'audio within':>14}  failures")
    for each in chosen:
        reason_s, back_s = max(each.reason_s, default=0.0), max(each.back_s, default=0.0)
        counted = {
            "reasons late": sum(one > REASON_SECONDS for one in each.reason_s),
            "audio late": sum(one > BACK_SECONDS for one in each.back_s),
            **Counter(each.failures),
        }
        late = [f"{count} of {each.done} {what}" for what, count in counted.items() if count]
        said = "; ".join(late) or "none"
        click.echo(f"{each.name:24}{each.done:>6}{reason_s:>13.1f} s{back_s:>12.1f} s  {said}")
    click.echo(f"before {before}, after {after}")
    click.echo(f"the undisturbed source: {same} of {len(both)} windows have the same scores as alone;")
    for where, windows in (("beside the faults", found), ("alone", expected)):
        click.echo(f"  {where}: {len(windows)} windows, the last at {max(windows):g} s")


if __name__ == "__main__":
    main()
