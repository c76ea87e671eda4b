"""A bare Debian in a folder, and a container of it that boots. For the benches that install something."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CERTIFICATES = "/etc/ssl/outside.pem"
_NO_FILES = ("proc", "sys", "dev", "run", "tmp", "checkout")
"""Folders of the kernel, of systemd and of the bench."""

Files = Mapping[str, tuple[int, int]]
"""Paths, each with size and mode. Those of folders end in a slash."""


Check = tuple[str, bool]
"""What was looked at, and whether it is right."""


def all_right(checks: Iterable[Check]) -> bool:
    """Prints each check as it is made, and how many have failed; whether none has."""
    passed = failed = 0
    for what, ok in checks:
        print(f"{'ok  ' if ok else 'FAIL'}  {what}", flush=True)
        passed, failed = passed + ok, failed + (not ok)
    print(f"{passed} passed, {failed} failed")
    return not failed


def bare_tree(folder: Path, suite: str, packages: tuple[str, ...] = ()) -> Path:
    """Fills the folder with a Debian and these packages, unless it was filled before.

    Raises:
        CalledProcessError: debootstrap failed, and has said why.
    """
    complete = folder.with_name(f"{folder.name}.complete")
    if not complete.exists():
        print(f"debootstrap {suite} in {folder}", file=sys.stderr)
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(folder)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        complete.touch()
    return folder


@contextmanager
def layered(tree: Path) -> Iterator[Path]:
    """The tree under a layer that takes all changes and is thrown away at the end."""
    with tempfile.TemporaryDirectory(dir=tree.parent) as name:
        root, changes, work = (Path(name, each) for each in ("root", "changes", "work"))
        for each in (root, changes, work):
            each.mkdir()
        where = f"lowerdir={tree},upperdir={changes},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", where, str(root)], check=True)
        try:
            shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
            if outside := os.environ.get("PIP_CERT"):  # a network whose proxy has a certificate of its own
                (root / "etc/ssl").mkdir(exist_ok=True)
                shutil.copy(outside, f"{root}{_CERTIFICATES}")
            yield root
        finally:
            subprocess.run(["umount", "--lazy", str(root)], check=True)


@dataclass(frozen=True)
class Machine:
    """A container whose first process is systemd. It has the network of the machine outside."""

    leader: int
    """Number of its first process, outside."""
    root: Path

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command in it as root; its output.

        Exits if the command fails, unless `check` is false.
        """
        variables = [f"PATH={_PATH}", *(f"{name}={_CERTIFICATES}" for name in ("PIP_CERT",) if name in os.environ)]
        inside = ["nsenter", "--target", str(self.leader), "--all", "env", "-i", *variables, *command]
        done = subprocess.run(inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if check and done.returncode:
            sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def property(self, name: str) -> str:
        """A property of the service."""
        return self.run("systemctl", "show", "--value", "--property", name, "tagger").strip()

    def process_outside(self, pid: int) -> int:
        """The number that a process of the container has outside of it."""
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError, StopIteration):
                line = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:"))
                same = (status.parent / "ns/pid").readlink() == Path(f"/proc/{self.leader}/ns/pid").readlink()
                if same and int(line.split()[-1]) == pid:
                    return int(status.parent.name)
        sys.exit(f"no process {pid} in the container")


@contextmanager
def booted(root: Path, *mounts: str) -> Iterator[Machine]:
    """Boots the tree, with this checkout at /checkout, read-only.

    Args:
        mounts: arguments of systemd-nspawn.
    """
    command = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", f"--directory={root}"]
    command += ["--resolv-conf=off", "--console=read-only", f"--bind-ro={ROOT}:/checkout", *mounts]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    container = subprocess.Popen(command, **quiet)
    try:
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
        until("the container's first process", children.read_text)
        machine = Machine(int(children.read_text().split()[0]), root)
        state = ("systemctl", "is-system-running")
        until("systemd", lambda: machine.run(*state, check=False).strip() in ("running", "degraded"))
        yield machine
    finally:
        container.terminate()
        with suppress(subprocess.TimeoutExpired):
            container.wait(30)
        container.kill()
        container.wait()


def files_of(root: Path) -> Files:
    """Every file and folder below."""
    found = {}
    for folder, folders, names in os.walk(root):
        place = Path(folder).relative_to(root)
        if place == Path():
            folders[:] = [each for each in folders if each not in _NO_FILES]
        for name in names:
            status = Path(folder, name).lstat()
            found[str(place / name)] = (status.st_size, status.st_mode)
        for name in folders:
            found[f"{place / name}/"] = (0, Path(folder, name).lstat().st_mode)
    return found


def changed(before: Files, after: Files) -> list[str]:
    """Paths that came, went or changed."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def until(what: str, is_true: Callable[[], object], seconds: float = 300) -> None:
    """Waits for a condition. Exits if it does not come."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            sys.exit(f"waited {seconds:g} s for {what}")
        time.sleep(0.2)


def timed(do: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun = time.monotonic()
    do()
    return time.monotonic() - begun


def megabytes(folder: Path) -> str:
    """Size of what is in a folder."""
    return f"{sum(path.lstat().st_size for path in folder.rglob('*')) / 1e6:.0f} MB"
