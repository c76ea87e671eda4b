"""A Ray cluster of several nodes on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MOST_TRIES = 10


@contextmanager
def cluster_of(nodes: int, cores: int = 1) -> Iterator[Any]:
    """A Ray cluster on this machine, of nodes with so many cores each, and one that leads without."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
    os.environ |= quiet | {"RAY_worker_niceness": "0"}  # as the commands that it is compared with
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=cores)
        yield cluster
    finally:
        cluster.shutdown()


def added(cluster: Any, name: str) -> Any:
    """Adds a node of one core by this name. On a busy machine it may need longer than Ray waits; then another is tried.

    In the main thread: Ray sets signal handlers.
    """
    for left in reversed(range(_MOST_TRIES)):
        try:
            return cluster.add_node(num_cpus=1, node_name=name)
        except Exception as error:
            print(f"{name} did not start: {str(error)[:60]}", flush=True)
            if not left:
                raise
    raise AssertionError
