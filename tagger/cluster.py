"""A Ray cluster: joins it, or says in one line why it cannot be joined."""

import os
import signal
import socket
import threading
from typing import Any

from tagger.errors import UserError

_REACH_SECONDS = 10.0
"""Longest time until the cluster's address answers."""


def library() -> Any:
    """Ray itself.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    import ray

    return ray


def join(address: str, namespace: str | None = None) -> Any:
    """Joins a cluster as a driver. SIGTERM does what it did before: Ray's own handler prints its stack.

    Args:
        address: as `ray.init` takes it: `auto` or `host:6379`.
        namespace: where named actors are looked for. None: one that nobody else has.

    Returns:
        Ray itself.

    Raises:
        UserError: no cluster answers there.
        ModuleNotFoundError: Ray is not installed.
    """
    ray = library()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address)
        ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level="CRITICAL")
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--ray {address}: no cluster answers ({reason}); `ray start --head` begins one") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_term)
    return ray


def _reach(address: str) -> None:
    """Tries `host:6379` once: Ray would try for minutes.

    Raises:
        OSError: nobody answers there.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "//" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
