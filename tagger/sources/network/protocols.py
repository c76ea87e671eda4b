"""Which protocols FFmpeg has: it can be built without some. A process of its own looks, so this one needs no FFmpeg.

`python -m tagger.sources.network.protocols` prints their names, one a line; nothing where they cannot be listed.
"""

import ctypes
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

_NEEDED: Mapping[str, str] = {
    "srt": "srt", "rtmp": "rtmp", "rtmps": "rtmps", "https": "https", "rtsps": "tls"
}  # fmt: skip
"""FFmpeg's protocols that some of its builds lack, by the scheme of a URL."""
_LOOK_SECONDS = 20.0


def lacks(scheme: str) -> bool:
    """Whether FFmpeg is known to lack what URLs of this scheme need."""
    return (name := _NEEDED.get(scheme)) is not None and bool(known := protocols()) and name not in known


@lru_cache(maxsize=1)
def protocols() -> frozenset[str]:
    """Names of the protocols that FFmpeg reads. Empty: not known."""
    command = [sys.executable, "-m", "tagger.sources.network.protocols"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LOOK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset(done.stdout.split())


def _listed() -> Iterator[str]:
    """The names, by FFmpeg's own function: PyAV's modules are linked with its library, and have none for it."""
    spec = importlib.util.find_spec("av")
    folders = (spec and spec.submodule_search_locations) or []
    paths = [path for folder in folders for path in sorted((Path(folder) / "container").glob("core*.so"))]
    if not paths:
        return
    enumerate_ = ctypes.CDLL(str(paths[0])).avio_enum_protocols
    enumerate_.restype, enumerate_.argtypes = ctypes.c_char_p, [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int]
    place = ctypes.c_void_p()
    while (name := enumerate_(ctypes.byref(place), 0)) is not None:
        yield name.decode()


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}\n" for name in _listed()))
