"""Processor time and memory of processes, and of the whole machine, from the outside."""

import contextlib
import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
"""Units of /proc's times in a second."""
_PROC_IDLE = (3, 4)
"""Columns of /proc/stat in which nothing ran."""
_PROC_STEAL = 7
"""Column of /proc/stat in which other machines on the same hardware ran."""
_GUEST = 8
"""First column of /proc/stat that repeats what is in another."""


@dataclass(frozen=True)
class Usage:
    """What a process has used since its start."""

    cpu_s: float
    """Processor time of all its threads, seconds."""
    resident_bytes: int
    """Memory that it holds now."""
    highest_bytes: int
    """The most that it has held."""


def usage(pid: int) -> Usage:
    """
    Raises:
        ProcessLookupError: there is no such process.
    """
    stat, status = Path(f"/proc/{pid}/stat"), Path(f"/proc/{pid}/status")
    if not Path("/proc/self/stat").exists():
        return _usage_by_ps(pid)
    try:
        fields = stat.read_text().rpartition(")")[2].split()
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    kilobytes = {key: int(lines[key].split()[0]) if key in lines else 0 for key in ("VmRSS", "VmHWM")}
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(cpu_s, 1024 * kilobytes["VmRSS"], 1024 * kilobytes["VmHWM"])


def _usage_by_ps(pid: int) -> Usage:
    """The same where there is no /proc, as on macOS; to a hundredth of a second."""
    done = subprocess.run(["ps", "-o", "rss=,time=", "-p", str(pid)], capture_output=True, text=True, check=False)
    parts = done.stdout.split()
    if len(parts) != 2:
        raise ProcessLookupError(f"no process {pid}")
    resident = 1024 * int(parts[0])
    return Usage(clock_seconds(parts[1]), resident, resident)


def clock_seconds(text: str) -> float:
    """
    >>> clock_seconds("1:02.50"), clock_seconds("1-00:00:01")
    (62.5, 86401.0)
    """
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds + 86_400 * float(days or 0)


@dataclass(frozen=True)
class MachineLoad:
    """What ran on the machine besides the measurement. Shares of all its cores, 0 to 1."""

    others: float | None
    """Other processes. None: this system does not tell."""
    stolen: float | None
    """Other machines on the same hardware."""


class LoadWatch:
    """Tells what other processes used between its start and `load`, which is called when the children have ended."""

    def __init__(self) -> None:
        self._began, self._machine, self._own_s = time.monotonic(), _machine_seconds(), _own_seconds()

    def load(self) -> MachineLoad:
        machine = _machine_seconds()
        if self._machine is None or machine is None:
            return MachineLoad(None, None)
        all_s = max(time.monotonic() - self._began, 0.01) * (os.cpu_count() or 1)
        busy_s, stolen_s = (now - before for now, before in zip(machine, self._machine, strict=True))
        others_s = busy_s - (_own_seconds() - self._own_s)
        return MachineLoad(min(1.0, max(0.0, others_s / all_s)), min(1.0, max(0.0, stolen_s / all_s)))


def _own_seconds() -> float:
    """Processor time of this process and of those of its children that have ended, seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _machine_seconds() -> tuple[float, float] | None:
    """Processor time that all processes have used, and that other machines have, seconds. None: unknown."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        columns = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        stolen = columns[_PROC_STEAL]
        idle = sum(columns[column] for column in _PROC_IDLE)
        return (sum(columns[:_GUEST]) - idle - stolen) / _TICKS, stolen / _TICKS
    return None
