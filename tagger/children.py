"""Processes of our own that work for this one: modules of tagger that are given one end of a socket."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping

_END_SECONDS = 5.0
"""Longest wait for a process that was killed, seconds."""


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


@contextlib.contextmanager
def asking(name: str, question: bytes, longest_s: float) -> Iterator[tuple["subprocess.Popen[bytes]", socket.socket]]:
    """Starts a module that reads one question from its socket to the end and writes an answer. It is killed at the end
    of the block.

    Args:
        longest_s: longest wait for the next part of the answer, seconds; then TimeoutError.

    Raises:
        OSError: no process can be started.
        ConnectionError: the process has died; reading its answer may raise that, too.
    """
    process, ours = start_module(name, socket.SOCK_STREAM)
    try:
        with ours:
            ours.settimeout(longest_s)
            ours.sendall(question)
            ours.shutdown(socket.SHUT_WR)
            yield process, ours
    finally:
        process.kill()
        end(process, _END_SECONDS)


def end(process: "subprocess.Popen[bytes]", wait_s: float) -> None:
    """Returns when the process, which has been told to end, has done so, or has been killed after `wait_s` seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait_s)
        return
    process.kill()
    process.wait()
