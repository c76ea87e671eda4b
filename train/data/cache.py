"""Arrays that take long to compute, kept on disk; their names hold a hash of everything they depend on."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger import files
from tagger.files import replacing
from train.damage import made_again_if_deleted


def folder() -> Path:
    return files.home() / "cache"


def cached(name: str, key: dict[str, Any], make: Callable[[Path], None]) -> NDArray[Any]:
    """An array, memory-mapped. `make` writes it to the `.npy` path that it is given, if it is not in the cache yet.

    Args:
        key: everything that the content depends on; must be JSON.
    """
    path = _path(name, key, "npy")
    if not path.is_file():
        with replacing(path) as partial:
            make(partial)
    with made_again_if_deleted(path):
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
        return array


def cached_arrays(
    name: str, key: dict[str, Any], make: Callable[[], dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Like `cached`, for several arrays, which are read into memory."""
    path = _path(name, key, "npz")
    if not path.is_file():
        arrays = make()
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    with made_again_if_deleted(path), path.open("rb") as opened, np.load(opened) as stored:
        return dict(stored)


def _path(name: str, key: dict[str, Any], suffix: str) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    return folder() / f"{name}-{digest}.{suffix}"
