"""README's first command from a fresh clone: the time of each stage, memory, and the size of each package.

    python bench/first_label.py            # clones this repository into a temporary folder; needs git and the network

On a busy machine the processor time is what compares. pip keeps what it has fetched: the size of its cache is printed.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
_STEADY_S = 10.0
"""Time after the first label at which memory is read, seconds."""


def readme_command() -> str:
    """The first line of README's first shell block."""
    lines = iter((ROOT / "README.md").read_text("utf-8").splitlines())
    next(line for line in lines if line == "```sh")
    return next(lines)


def sizes(folder: Path) -> Iterator[tuple[float, str]]:
    """Megabytes of each package, the largest first, and of all."""
    (packages,) = folder.glob("lib/python*/site-packages")
    each = [(megabytes(path), path.name) for path in packages.iterdir()]
    yield from sorted(each, reverse=True)[:12]
    yield megabytes(folder), "all of .venv"


def cached() -> str:
    """What pip keeps, where a pip is found as `scripts/setup` does, or in this Python."""
    for python in (os.environ.get("PYTHON", "python3"), sys.executable):
        command = [python, "-m", "pip", "cache", "dir"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            return f"{megabytes(Path(done.stdout.strip())):.0f} MB"
    return "nobody knows how many MB"


def megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file() and not each.is_symlink()) / 1e6


def status(pid: int, field: str) -> float:
    """A line of /proc/PID/status, MB."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1e3


def until(lines: Iterator[str], is_it: Callable[[str], bool], began: float, stage: str) -> None:
    """Reads until a line is the one that ends a stage, and prints when that was."""
    for line in lines:
        if is_it(line):
            print(f"{time.monotonic() - began:6.1f} s  {stage}", flush=True)
            return
    raise SystemExit(f"the command ended before this: {stage}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tagger-first-") as folder:
        clone = Path(folder) / "tagger"
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        print("installs with uv" if shutil.which("uv") else f"installs with pip, whose cache has {cached()}")
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        set_up, listen = readme_command().split(" && ")
        began = time.monotonic()
        subprocess.run(set_up, shell=True, cwd=clone, check=True, stderr=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        stage = f"installed, with {used.ru_utime + used.ru_stime:.1f} s of processor time"
        print(f"{time.monotonic() - began:6.1f} s  {stage}", flush=True)
        with subprocess.Popen(
            listen.split(),
            cwd=clone,
            env=os.environ | {"TAGGER_HOME": str(Path(folder) / "home"), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as daemon:
            assert daemon.stdout is not None
            until(daemon.stdout, lambda line: "MQTT: connected" in line, began, "ready: the first window fills")
            until(daemon.stdout, lambda line: "begin" in line, began, "first label")
            time.sleep(_STEADY_S)
            now, highest = status(daemon.pid, "VmRSS"), status(daemon.pid, "VmHWM")
            print(f"{now:6.0f} MB memory, at most {highest:.0f}, with the broker and the watcher inside")
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate()
        for size, name in sizes(clone / ".venv"):
            print(f"{size:6.0f} MB  {name}")


if __name__ == "__main__":
    main()
