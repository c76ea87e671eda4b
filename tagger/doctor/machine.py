"""Looks at this machine: PortAudio, devices and who may use them, GPU, disk, clock."""

import ctypes
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import tagger
from tagger.bench.machine import system_name, versions
from tagger.doctor.finding import Finding, State
from tagger.engine.runtime import may_have_gpu
from tagger.errors import TaggerError, to_install
from tagger.printable import number_of
from tagger.sources.portaudio import input_devices, load_sounddevice

LIBRARIES = ("numpy", "onnxruntime", "openvino", "torch", "av", "paho-mqtt", "sounddevice")
CARDS = Path("/dev/snd")
_LEAST_FREE_MB, _FEW_FREE_MB = 50, 500
"""Room on a disk below which nothing can be kept, and below which it is said, MB."""
_UNSYNCHRONISED = 5
"""adjtimex(2): the clock follows no other."""


def system() -> Iterator[Finding]:
    named = ", ".join(f"{name} {version}" for name, version in versions(LIBRARIES).items())
    yield Finding("system", "ok", f"{system_name()}; {named}")


def sound(is_wanted: bool) -> Iterator[Finding]:
    """PortAudio, its devices, and whether this user may use them.

    Args:
        is_wanted: whether a source is a microphone; if not, a lack is no failure.
    """
    lack: State = "fail" if is_wanted else "warn"
    try:
        version = load_sounddevice().get_portaudio_version()[1]
        devices = input_devices()
    except TaggerError as error:
        said, _, advice = str(error).partition("; ")
        yield Finding("PortAudio", lack, said, advice)
        return
    yield Finding("PortAudio", "ok", str(version).partition(",")[0])
    yield from permissions(lack)
    names = ", ".join(repr(each["name"]) for each in devices)
    if devices:
        yield Finding("microphones", "ok", f"{number_of(len(devices), 'input device')}: {names}")
    else:
        yield Finding("microphones", lack, "no input device", "connect a microphone; `arecord -l` lists what ALSA sees")


def permissions(lack: State) -> Iterator[Finding]:
    """Whether this user may record from the sound cards, where there are any."""
    if sys.platform != "linux":
        return
    inputs = sorted(CARDS.glob("pcmC*c")) if CARDS.is_dir() else []
    shut = [path for path in inputs if not os.access(path, os.R_OK | os.W_OK)]
    if shut:
        advice = "sudo usermod -aG audio $USER, then log in again; a service: SupplementaryGroups=audio"
        yield Finding("permissions", "fail", f"{shut[0]} may not be opened by this user", advice)
    elif inputs:
        yield Finding("permissions", "ok", f"{number_of(len(inputs), 'sound input')} below {CARDS}")
    elif lack == "fail":
        yield Finding("permissions", "warn", f"no sound card below {CARDS}", "in a container: --device /dev/snd")


def gpu(runs_on: str) -> Iterator[Finding]:
    """
    Args:
        runs_on: what runs the network, for people.
    """
    if not may_have_gpu():
        yield Finding("GPU", "ok", "no NVIDIA GPU; the processor runs the network")
    elif any(each in runs_on.lower() for each in ("cuda", "mps")):
        yield Finding("GPU", "ok", f"in use: {runs_on}")
    else:
        yield Finding("GPU", "warn", "there is a GPU, and it is not used", to_install("torch"))


def disk(folders: Sequence[Path]) -> Iterator[Finding]:
    """
    Args:
        folders: that the daemon writes to. They may be missing.
    """
    seen: set[int] = set()
    for folder in folders:
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        if (device := there.stat().st_dev) in seen:
            continue
        seen.add(device)
        use = shutil.disk_usage(there)
        free_mb = use.free / 1e6
        said = f"{folder}: {free_mb / 1000:,.1f} GB free of {use.total / 1e9:,.0f}"
        advice = "make room, or bound what is kept: --keep-days, --keep-mb, sinks.log.keep_days"
        if not os.access(there, os.W_OK):
            yield Finding(
                "disk", "fail", f"{there}: cannot be written by this user", "name another folder: --state DIR"
            )
        elif free_mb < _FEW_FREE_MB:
            yield Finding("disk", "fail" if free_mb < _LEAST_FREE_MB else "warn", said, advice)
        else:
            yield Finding("disk", "ok", said)


def clock(now: float | None = None) -> Iterator[Finding]:
    """
    Args:
        now: seconds since the epoch. None: as the clock says.
    """
    now = time.time() if now is None else now
    advice = "set it, and keep it: timedatectl set-ntp true"
    installed = Path(tagger.__file__).stat().st_mtime
    said = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now))
    if now < installed - 86_400:
        yield Finding("clock", "fail", f"{said}: before tagger was installed", advice)
    elif (follows := _is_synchronised()) is False:
        yield Finding("clock", "warn", f"{said}; it follows no other clock, so it drifts", advice)
    else:
        yield Finding("clock", "ok", said + ("; synchronised" if follows else ""))


def _is_synchronised() -> bool | None:
    """Whether the kernel's clock follows another. None: not known here."""
    if sys.platform != "linux":
        return None
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _UNSYNCHRONISED
