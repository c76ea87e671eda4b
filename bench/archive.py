"""`tagger archive`: its speed beside `tagger tag`, what is left when workers and the run are killed, and its memory.

python bench/archive.py make clips/ recordings/ --hours 2     # recordings of 6 minutes, from clips
python bench/archive.py speed clips/ --hours 20 --rounds 3    # tag, archive, and archive on Ray, in turn
python bench/archive.py kills recordings/                     # 5 workers and 2 runs killed: the same bytes?
python bench/archive.py ray recordings/                       # the same on a Ray cluster of 3 nodes, one of which dies
python -m bench.archive files --count 100000                  # peak memory of the process that leads
python bench/archive.py s3 recordings/                        # from and to an S3 server on this machine (moto)
python bench/archive.py ray-s3 recordings/                    # both at once
"""

import argparse
import logging
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.clusters import cluster_of

TAGGER = [sys.executable, "-m", "tagger"]
SLEEPING = [sys.executable, "-m", "bench.sleeping", "0"]
"""The command with a network that does nothing."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
RATE_HZ = 16_000
MINUTES = 6
MORE = 1.1
"""Room that is needed, in terms of the recordings: the tables are a thousandth, Ray's logs some MB."""


def make(clips: Path, out: Path, hours: float) -> None:
    """Recordings of two sources, made by joining clips of one rate."""
    need_gb, free_gb = hours * 3600 * RATE_HZ * 2 / 1e9, shutil.disk_usage(out.parent).free / 1e9
    print(f"{hours:g} h of recordings in {out}: {need_gb:.1f} GB, of {free_gb:.0f} GB that are free", flush=True)
    if need_gb * MORE > free_gb:
        raise SystemExit(f"{out}: too little room; TMPDIR names another place")
    names = sorted(clips.glob("*.ogg")) or sorted(clips.glob("*.wav"))
    turn, at = 0, datetime(2026, 1, 31)
    for number in range(count := round(hours * 60 / MINUTES)):
        if number % 20 == 0:
            print(f"making recordings: {number} of {count}", flush=True)
        parts, length = [], 0
        while length < MINUTES * 60 * RATE_HZ:
            samples, rate_hz = soundfile.read(names[turn % len(names)], dtype="float32")
            assert rate_hz == RATE_HZ, f"{names[turn % len(names)]}: {rate_hz} Hz"
            parts.append(samples)
            turn, length = turn + 1, length + len(samples)
        folder = out / ("attic", "barn")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        joined = np.concatenate(parts)[: MINUTES * 60 * RATE_HZ]
        soundfile.write(
            folder / f"x_{at + number // 2 * timedelta(minutes=MINUTES):%Y%m%d_%H%M%S}.wav", joined, RATE_HZ
        )


class Tally:
    """Processor time of all that this process started, as a context manager; of each, to its last half second."""

    def __enter__(self) -> "Tally":
        self._used: dict[int, float] = {}
        self._before = {pid: processor_s(pid) for pid in descendants()}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._is_over.wait(0.5):
            self._look()

    def _look(self) -> None:
        for pid in descendants():
            self._used[pid] = max(processor_s(pid), self._used.get(pid, 0.0))

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()

    @property
    def seconds(self) -> float:
        return sum(used_s - self._before.get(pid, 0.0) for pid, used_s in self._used.items())


def timed(*command: str) -> tuple[float, float]:
    """Seconds of the wall clock, and of processors, of a command and of all that works for it."""
    began = time.monotonic()
    with Tally() as tally:
        subprocess.run([*TAGGER, *command], check=True, env=os.environ | ONE_THREAD)  # its progress is shown
        wall_s = time.monotonic() - began
    return wall_s, tally.seconds


def speed(clips: Path, hours: float, rounds: int) -> None:
    """`tagger tag`, `tagger archive`, and that on a Ray cluster of the same cores, in turn, on the same recordings."""
    ratios: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        make(clips, folder / "in", hours)
        runs = {
            "tag": ("tag", str(folder / "in"), "--format", "parquet", "-o", str(folder / "windows.parquet")),
            "archive": ("archive", str(folder / "in"), "--out", str(folder / "archive")),
        }
        if find_spec("ray") is None:
            print("Ray is not installed, so it is left out", flush=True)
        else:
            cluster = stack.enter_context(cluster_of(1, len(os.sched_getaffinity(0))))
            runs["ray"] = ("archive", str(folder / "in"), "--out", str(folder / "ray"), "--ray", cluster.address)
        for number in range(rounds):
            first = (0.0, 0.0)
            for name, command in runs.items():
                shutil.rmtree(folder / name, ignore_errors=True)
                print(f"round {number} of {rounds}: {name}", flush=True)
                took = timed(*command)
                first = took if name == "tag" else first
                ratios.setdefault(name, []).append((first[0] / took[0], first[1] / took[1]))
                print(
                    f"round {number}: {name:8} {hours:g} h in {took[0]:.0f} s, {hours * 3600 / took[0]:.0f} times real "
                    f"time, {took[1]:.0f} s of processors",
                    flush=True,
                )
            if "ray" in runs:
                same = tables(folder / "ray") == tables(folder / "archive")
                print(f"round {number}: archive and ray wrote {'the same' if same else 'OTHER'} bytes", flush=True)
    for name, found in ratios.items():
        wall, processors = (statistics.median(each) for each in zip(*found, strict=True))
        print(
            f"{name:8} {100 * wall:.0f} % of the speed of tag by the clock, {100 * processors:.0f} % by processor time"
        )


def tables(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def descendants() -> dict[int, int]:
    """Processes that this one started, and those that they did, with their parents."""
    parents = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(each.parent.name)] = int(each.read_text().rpartition(")")[2].split()[1])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return {pid: parents[pid] for pid in ours - {os.getpid()}}


def processor_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def working() -> dict[int, int]:
    """Workers that use a processor just now, with their parents: the process that leads, or an actor."""
    before = {}
    for pid, parent in descendants().items():
        with suppress(OSError):
            if b"tagger.archive.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                before[pid] = parent, processor_s(pid)
    time.sleep(0.5)
    return {pid: parent for pid, (parent, used_s) in before.items() if processor_s(pid) > used_s + 0.05}


class Killed:
    """A run of a command during which its processes are killed."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self._log = command, log
        self.drivers = 0
        """Times that the process that leads was killed while workers worked."""
        self._process = self._started()

    def _started(self, *more: str) -> "subprocess.Popen[bytes]":
        with self._log.open("a") as file:
            return subprocess.Popen([*self._command, *more], env=os.environ | ONE_THREAD, stderr=file)

    def worker(self, actor: bool = False) -> None:
        """Kills a worker that is at work, or the actor that it belongs to."""
        pid, parent = random.choice(list(self.at_work().items()))
        before = self.met
        os.kill(parent if actor else pid, signal.SIGKILL)
        self.until_told(before)

    @property
    def met(self) -> int:
        """Times that the run said that a worker had died at its work."""
        return self.said().count("a worker died")

    def until_told(self, before: int) -> None:
        """Waits until the run knows of another death."""
        while self.met == before:
            time.sleep(0.2)
            if self._process.poll() is not None:
                raise SystemExit(f"it ended, and did not miss a worker:\n{self.said()}")

    def driver(self) -> None:
        """Kills the process that leads, and begins it anew."""
        self.at_work()
        self._process.kill()
        self._process.wait()
        self.drivers += 1
        self._process = self._started("--resume")

    def at_work(self) -> dict[int, int]:
        while not (found := working()):
            if self._process.poll() is not None:
                raise SystemExit(f"it ended too early: give it more recordings; it said\n{self.said()}")
        return found

    def ended(self) -> None:
        if self._process.wait():
            raise SystemExit(self.said())

    def said(self) -> str:
        return self._log.read_text()


def disturbed(command: list[str], steps: Sequence[Callable[[Killed], None]], pause_s: float, seed: int) -> str:
    """Runs a command to its end; before, something dies again and again. Returns how often it met a worker at work."""
    random.seed(seed)
    with TemporaryDirectory() as folder:
        run = Killed(command, Path(folder, "log"))
        for step in random.sample(steps, len(steps)):
            time.sleep(pause_s * random.uniform(0.5, 1.5))
            step(run)
        run.ended()
        return f"workers died at their work {run.met} times, and the process that leads {run.drivers} times"


def plain_and(recordings: Path, folder: Path, disturbed_run: Callable[[list[str]], str]) -> None:
    """Compares a disturbed run with one of one process that nothing disturbs."""
    options = ["--embeddings", "--shard-mb", "10"]
    plain, broken = folder / "plain", folder / "broken"
    archive = [*TAGGER, "archive", str(recordings), *options, "--out"]
    subprocess.run([*archive, str(plain), "--jobs", "1"], check=True, env=os.environ | ONE_THREAD)
    said = disturbed_run([*archive, str(broken)])
    ours, theirs = tables(broken), tables(plain)
    verdict = "equal" if ours == theirs else "NOT EQUAL"
    print(f"{said}; {len(theirs)} files, {sum(map(len, theirs.values())):,} bytes: {verdict}", flush=True)


def kills(recordings: Path, pause_s: float, seed: int) -> None:
    """Five workers and twice the process that leads, on this machine."""
    steps = [Killed.worker] * 5 + [Killed.driver] * 2
    with TemporaryDirectory() as folder:
        plain_and(recordings, Path(folder), lambda command: disturbed(command, steps, pause_s, seed))


def ray(recordings: Path, pause_s: float, seed: int, nodes: int) -> None:
    """On a Ray cluster of several nodes on this machine: workers, actors, a node, and twice the process that leads."""
    with cluster_of(nodes) as cluster, TemporaryDirectory() as folder:
        more = ["--ray", cluster.address]
        plain_and(
            recordings,
            Path(folder),
            lambda command: disturbed([*command, *more], deaths_on(cluster), pause_s, seed),
        )


def deaths_on(cluster: Any) -> list[Callable[[Killed], None]]:
    """What dies while a run works on a Ray cluster: workers, actors, a node, and twice the process that leads."""

    def actor(run: Killed) -> None:
        run.worker(actor=True)

    def node(run: Killed) -> None:
        before, actors, parents = run.met, set(run.at_work().values()), descendants()
        raylets = {parents.get(each) for each in actors}
        busy = (each for each in cluster.worker_nodes if each.all_processes["raylet"][0].process.pid in raylets)
        cluster.remove_node(next(busy), allow_graceful=False)
        run.until_told(before)
        cluster.add_node(num_cpus=1)

    return [Killed.worker, Killed.worker, actor, actor, node, Killed.driver, Killed.driver]


def peak_mb(command: list[str]) -> float:
    """Peak memory of a process, without those that it starts, MB."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | ONE_THREAD)
    peak = 0.0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(
                [peak, *(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmHWM"))]
            )
        except OSError:
            pass
        time.sleep(0.05)
    return peak


def files(count: int, seconds: float) -> None:
    """Of 1,000 recordings and of `count`, all in one folder. The network does nothing: it is in other processes."""
    for each in (1_000, count):
        with TemporaryDirectory() as folder:
            root = Path(folder, "in")
            root.mkdir()
            first = root / "0000000.wav"
            soundfile.write(first, np.zeros(round(seconds * RATE_HZ), np.float32), RATE_HZ)
            for number in range(1, each):
                copy = root / f"{number:07d}.wav"
                if number % 10_000:
                    os.link(first, copy)
                else:
                    first = Path(shutil.copy(first, copy))  # a file may have some 65,000 names
            began = time.monotonic()
            peak = peak_mb([*SLEEPING, "archive", str(root), "--window", "1", "--out", str(Path(folder, "out"))])
            print(
                f"{each:,} recordings of {seconds:g} s: peak {peak:.1f} MB, {time.monotonic() - began:.0f} s",
                flush=True,
            )


@contextmanager
def s3_server() -> Iterator[str]:
    """An S3 server; gives what a URL needs behind the folder."""
    from moto.server import ThreadedMotoServer

    os.environ.update({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"})
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"endpoint_override={host}:{port}&scheme=http&allow_bucket_creation=true"
    finally:
        server.stop()


def s3(recordings: Path, pause_s: float, seed: int, nodes: int = 0) -> None:
    """Copies the recordings to the server, archives them there twice, once with kills, and compares.

    Args:
        nodes: of a Ray cluster, on which the run works that is disturbed. 0: this machine does.
    """
    from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem, copy_files

    with ExitStack() as stack:
        query = stack.enter_context(s3_server())
        fs, _ = FileSystem.from_uri(f"s3://recordings/in?{query}")
        fs.create_dir("recordings/in")
        copy_files(str(recordings), "recordings/in", source_filesystem=LocalFileSystem(), destination_filesystem=fs)
        source = f"s3://recordings/in?{query}"
        command = [*TAGGER, "archive", source, "--shard-mb", "10", "--out"]
        subprocess.run([*command, f"s3://recordings/plain?{query}"], check=True)
        steps, more = [Killed.worker] * 5 + [Killed.driver] * 2, list[str]()
        if nodes:
            cluster = stack.enter_context(cluster_of(nodes))  # its processes inherit what reaches the server
            steps, more = deaths_on(cluster), ["--ray", cluster.address]
        said = disturbed([*command, f"s3://recordings/broken?{query}", *more], steps, pause_s, seed)
        found = []
        for out in ("plain", "broken"):
            infos = fs.get_file_info(FileSelector(f"recordings/{out}", recursive=True))
            parquet = sorted(info.path for info in infos if info.path.endswith(".parquet"))
            found.append({path.partition(out)[2]: fs.open_input_file(path).readall() for path in parquet})
        print(f"{said}; {len(found[0])} files on S3: {'equal' if found[0] == found[1] else 'NOT EQUAL'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "speed", "kills", "ray", "files", "s3", "ray-s3"))
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=3, help="nodes of the Ray cluster, with a processor each")
    parser.add_argument("--pause", type=float, default=8.0, help="mean time between two kills, seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a tiny recording")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is temporary is deleted, and what was started ends
    if args.what == "make":
        make(*args.folders, args.hours)
    elif args.what == "speed":
        speed(*args.folders, args.hours, args.rounds)
    elif args.what == "kills":
        kills(*args.folders, args.pause, args.seed)
    elif args.what == "ray":
        ray(*args.folders, args.pause, args.seed, args.nodes)
    elif args.what == "files":
        files(args.count, args.seconds)
    else:
        s3(*args.folders, args.pause, args.seed, args.nodes if args.what == "ray-s3" else 0)


if __name__ == "__main__":
    main()
