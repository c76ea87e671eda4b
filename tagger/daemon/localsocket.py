"""The sockets in a state folder, by which `tagger status` reaches the daemons of this machine.

One a process: several daemons that keep no state may share the folder.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 100
"""Longest path that every system takes as a socket's address, bytes."""
_TRY_SECONDS = 1.0


def socket_path(folder: Path, pid: int) -> Path:
    return folder / f"status-{pid}.sock"


def sockets(folder: Path) -> list[Path]:
    """Sockets in the folder, of daemons that run or were killed."""
    return sorted(folder.glob("status-*.sock"))


def is_answered(path: Path) -> bool:
    """Whether a daemon listens to the socket."""
    try:
        connect(path, _TRY_SECONDS).close()
    except OSError:
        return False
    return True


def connect(path: Path, timeout_s: float) -> socket.socket:
    """
    Raises:
        OSError: nobody listens, or the socket is somebody else's.
    """
    client = socket.socket(socket.AF_UNIX)
    try:
        client.settimeout(timeout_s)
        with short_path(path) as name:
            client.connect(name)
    except BaseException:
        client.close()
        raise
    return client


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name of the path that is short enough for a socket's address, within the block."""
    if len(os.fsencode(path)) <= _LONGEST or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        with contextlib.suppress(OSError):
            os.close(folder)
