"""Processes of our own that work for this one: modules of tagger that are given one end of a socket."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping


def start_module(
    name: str, kind: socket.SocketKind, env: Mapping[str, str] | None = None
) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """Starts a module in this Python. Its argument is the descriptor of its end of a socket, and it should end when the
    other end, which is returned, is closed.

    Args:
        env: changes to the environment.

    Raises:
        OSError: no process can be started.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", name, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # Ctrl-C is for this process, which ends it
            )
        except OSError:
            ours.close()
            raise
    return process, ours


def end(process: "subprocess.Popen[bytes]", wait_s: float) -> None:
    """Returns when the process, which has been told to end, has done so, or has been killed after `wait_s` seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait_s)
        return
    process.kill()
    process.wait()
