"""A Ray cluster of several nodes on this machine."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

_MOST_TRIES = 10


@contextmanager
def cluster_of(nodes: int, cores: int = 1) -> Iterator[Any]:
    """A Ray cluster on this machine, of nodes with so many cores each, and one that leads without.

    In the main thread. SIGTERM does what it did before; what Ray writes is deleted at the end.
    """
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
    os.environ |= quiet | {"RAY_worker_niceness": "0"}  # as the commands that it is compared with
    from ray.cluster_utils import Cluster

    on_term = signal.getsignal(signal.SIGTERM)
    Path(gettempdir(), "ray").mkdir(exist_ok=True)  # Ray notes its latest cluster there, whatever `temp_dir` is
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder}
        cluster = _tried("the head", lambda: Cluster(initialize_head=True, head_node_args=head))
        try:
            for number in range(nodes):
                added(cluster, f"node-{number}", cores)
            signal.signal(signal.SIGTERM, on_term)
            yield cluster
        finally:
            cluster.shutdown()


def added(cluster: Any, name: str, cores: int = 1) -> Any:
    """Adds a node by this name. In the main thread: Ray sets signal handlers."""
    return _tried(name, lambda: cluster.add_node(num_cpus=cores, node_name=name))


def _tried(name: str, start: Callable[[], Any]) -> Any:
    """Starts a node. On a busy machine it may need longer than Ray waits; then another is tried."""
    for left in reversed(range(_MOST_TRIES)):
        try:
            return start()
        except Exception as error:
            print(f"{name} did not start: {str(error)[:60]}", flush=True)
            if not left:
                raise
    raise AssertionError
