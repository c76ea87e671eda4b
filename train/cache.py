"""Arrays that take long to make, kept on disk under the hash of all that they were made from."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger import settings
from tagger.files import replacing


def folder() -> Path:
    return settings.home() / "cache"


def cached(name: str, key: dict[str, Any], make: Callable[[Path], None]) -> NDArray[Any]:
    """The array that `make` writes to the `.npy` path it is given, memory-mapped; made only where it is not there yet.

    Args:
        key: everything that the content depends on, as JSON.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    path = folder() / f"{name}-{digest}.npy"
    if not path.is_file():
        with replacing(path) as partial:
            make(partial)
    array: NDArray[Any] = np.load(path, mmap_mode="r")
    return array
