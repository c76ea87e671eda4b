"""What a file of `torch.save` holds, read without torch: names, sizes and places of weights. No weight is read.

A small file can ask for much memory: tensors that are larger than what is stored of them, packed members, a pickle that
builds other things. What this module has accepted is as large in memory as on disk.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BYTES = {
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "DoubleStorage": 8,
    "LongStorage": 8,
    "IntStorage": 4,
}
"""Kinds of storage, and bytes of one number."""
_MOST_PICKLE_BYTES = 4_000_000
"""Longest pickle. That of `mn04` has 35 kB."""


@dataclass(frozen=True)
class _Storage:
    key: str
    number_bytes: int
    numbers: int


@dataclass(frozen=True)
class _Stored:
    """A tensor: where it lies, and how large it is."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights in a file, by name.

    Raises:
        ValueError: the file holds something else than weights, or weights that are larger than what is stored.
        Exception: the file is damaged; a pickle may raise anything.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(each.compress_type != zipfile.ZIP_STORED for each in members):
            raise ValueError("its members are packed, which torch.save does not do")
        if sum(each.file_size for each in members) > path.stat().st_size:
            raise ValueError("its members are larger than the file")
        pickles = [each for each in members if each.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or pickles[0].file_size > _MOST_PICKLE_BYTES:
            raise ValueError("it has no table of weights, or one that is too long")
        sizes = {each.filename: each.file_size for each in members}
        top = pickles[0].filename.removesuffix("data.pkl")
        found = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
    if not isinstance(found, dict) or not found or not all(isinstance(key, str) for key in found):
        raise ValueError("it holds something else than a network's weights")
    return {name: _checked(name, tensor, sizes, top) for name, tensor in found.items()}


def _checked(name: str, tensor: Any, sizes: dict[str, int], top: str) -> tuple[int, ...]:
    if not isinstance(tensor, _Stored):
        raise ValueError(f"{name} is no tensor")
    storage = tensor.storage
    if sizes.get(f"{top}data/{storage.key}") != storage.numbers * storage.number_bytes:
        raise ValueError(f"{name} is not stored as a whole")
    if not all(isinstance(each, int) and each >= 0 for each in (*tensor.shape, tensor.offset)):
        raise ValueError(f"{name} has no shape")
    if tensor.offset + math.prod(tensor.shape) > storage.numbers:
        raise ValueError(f"{name} is larger than what is stored of it")
    return tensor.shape


class _Unpickler(pickle._Unpickler):  # the one in C takes memory for any number that a file names
    """Knows the few names that weights need, and describes tensors instead of making them."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in _BYTES:
            return _BYTES[name]
        raise ValueError("it holds more than weights")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, number_bytes, key, _, numbers = pid
        if kind != "storage" or not isinstance(key, str) or not isinstance(numbers, int) or numbers < 0:
            raise ValueError("it has a storage of an unknown kind")
        return _Storage(key, int(number_bytes), numbers)


def _rebuild_tensor(storage: _Storage, offset: int, shape: tuple[int, ...], stride: Any, *_: Any) -> _Stored:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple):
        raise ValueError("it holds something else than tensors")
    return _Stored(storage, offset, shape)


def _rebuild_parameter(tensor: _Stored, *_: Any) -> _Stored:
    return tensor
