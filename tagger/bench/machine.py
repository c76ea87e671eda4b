"""Which machine it is, with which versions, and whether it is busy."""

import importlib.metadata
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tagger import __version__
from tagger.bench.usage import LoadWatch
from tagger.engine.engine import cores

_LIBRARIES = ("numpy", "onnxruntime", "openvino", "torch")
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp")
"""Instructions that networks are the faster for, as Linux names them."""
BUSY = 0.1
"""Share of the machine's cores that other processes use, from which on the numbers are warned of."""
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Machine:
    """What the numbers were measured on."""

    processor: str
    cores: int
    """Processor cores that this process may use."""
    instructions: tuple[str, ...]
    system: str
    versions: dict[str, str]
    """Library -> version, of those that are installed; `tagger` and `python` among them."""
    busy_before: float | None
    """Share of the cores that other processes used just before the measurement, 0 to 1. None: unknown."""


def describe_machine() -> Machine:
    """Takes half a second, in which it looks at the load."""
    watch = LoadWatch()
    time.sleep(_LOOK_SECONDS)
    busy = watch.load().others
    return Machine(
        processor=_processor(),
        cores=cores(),
        instructions=_instructions(),
        system=system_name(),
        versions=versions(_LIBRARIES),
        busy_before=busy,
    )


def system_name() -> str:
    """The operating system, and the kind of processor."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}"


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions by name of those libraries that are installed, and of `tagger` and `python`."""
    found = {"tagger": __version__, "python": platform.python_version()}
    for name in libraries:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    names = _cpuinfo("model name") or _cpuinfo("Model")
    return names or platform.processor() or platform.machine()


def _instructions() -> tuple[str, ...]:
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return tuple(name for name in _FEATURES if name in flags)


def _cpuinfo(key: str) -> str:
    """The first value of a key in Linux's description of the processor; empty if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def installed_bytes(distribution: str = "tagger") -> int:
    """Size of a distribution and of all that it needs, without extras: what a device carries besides Python.

    A distribution that is run from its repository counts without its own files.
    """
    pending, seen, total = [distribution], set(), 0
    while pending:
        name = _normal(pending.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # for another system or Python
            continue
        total += sum(_size(Path(str(found.locate_file(file)))) for file in found.files or ())
        pending += [_name(each) for each in found.requires or () if "extra ==" not in each]
    return total + _own_bytes()


def _own_bytes() -> int:
    """Size of tagger's own files that no list of an installation names, since it runs from its repository."""
    root = Path(__file__).parent.parent
    listed = importlib.metadata.distribution("tagger").files or ()
    if any(str(file).startswith("tagger/") for file in listed):
        return 0
    return sum(_size(path) for path in root.rglob("*"))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _name(requirement: str) -> str:
    """
    >>> _name("paho-mqtt<3,>=2.1"), _name("av[x]>=17; python_version > '3'")
    ('paho-mqtt', 'av')
    """
    end = next((at for at, letter in enumerate(requirement) if not (letter.isalnum() or letter in "-_.")), None)
    return requirement[:end]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
