"""Arrays that take long to make, kept on disk under the hash of all that they were made from."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger import files
from tagger.files import replacing


def folder() -> Path:
    return files.home() / "cache"


def cached(name: str, key: dict[str, Any], make: Callable[[Path], None]) -> NDArray[Any]:
    """The array that `make` writes to the `.npy` path it is given, memory-mapped; made only where it is not there yet.

    Args:
        key: everything that the content depends on, as JSON.
    """
    path = _path(name, key, "npy")
    if not path.is_file():
        with replacing(path) as partial:
            make(partial)
    array: NDArray[Any] = np.load(path, mmap_mode="r")
    return array


def cached_arrays(
    name: str, key: dict[str, Any], make: Callable[[], dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """As `cached`, of several arrays, which are read into memory."""
    path = _path(name, key, "npz")
    if not path.is_file():
        arrays = make()
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    with np.load(path) as stored:
        return dict(stored)


def _path(name: str, key: dict[str, Any], suffix: str) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    return folder() / f"{name}-{digest}.{suffix}"
