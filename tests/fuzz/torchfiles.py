"""Damages official `.pt` files: their pickles and their storages. Right: a network, or one CheckpointError."""

import io
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tagger.checkpoints import official
from tagger.models.config import EfficientATConfig
from tagger.models.efficientat import EfficientAT
from tests.fuzz.trial import problem_of
from tests.fuzz.values import other_bytes

NAME = "mn01_as.pt"


def fuzz(inputs: int, seed: int = 0) -> Iterator[str]:
    """Converts that many damaged files. Yields a line for each that was not handled well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        torch.manual_seed(0)
        torch.save(EfficientAT(EfficientATConfig(labels=527, width=0.1)).state_dict(), path)
        original = path.read_bytes()
        assert problem_of(lambda: official.convert(path)) is None
        for number in range(inputs):
            path.write_bytes(damaged(original, np.random.default_rng([seed, number])))
            if (problem := problem_of(lambda: official.convert(path))) is not None:
                yield f"torchfiles: input {number} of seed {seed}: {problem}"


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with other bytes, another pickle, tensors of other shapes, or packed."""
    kind = rng.random()
    if kind < 0.15:
        changed = other_bytes(content, rng, 7)
        return changed[: rng.integers(1, len(changed)) if rng.random() < 0.3 else len(changed)]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if kind < 0.35:
        return _saved_anew(rng)
    table = next(name for name in members if name.endswith("data.pkl"))
    if kind < 0.9:
        changed = other_bytes(members[table], rng, 3)
        if rng.random() < 0.2:
            at = int(rng.integers(len(changed)))
            changed = changed[:at] + _OPCODES[rng.integers(len(_OPCODES))] + changed[at:]
        members[table] = changed
    else:
        storage = list(members)[rng.integers(len(members))]
        members[storage] = members[storage][: rng.integers(len(members[storage]) + 1)]
    packed = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def _saved_anew(rng: np.random.Generator) -> bytes:
    """Something else that torch.save writes: expanded, sparse, quantised, other types, other things, the old format."""
    huge = torch.zeros(1).expand(int(rng.integers(1, 2**31)))
    things: list[object] = [
        OrderedDict({"classifier.5.bias": huge}),
        OrderedDict({"classifier.5.bias": torch.zeros(int(rng.integers(0, 3000)))}),
        OrderedDict({"classifier.5.bias": torch.zeros(4).to_sparse()}),
        OrderedDict({"classifier.5.bias": torch.zeros(4, dtype=torch.complex64)}),
        OrderedDict({"classifier.5.bias": torch.zeros(4, device="meta")}),
        {"model": {"classifier.5.bias": huge}},
        [huge],
        bytearray(1000),
        {1: huge},
    ]
    file = io.BytesIO()
    thing = things[rng.integers(len(things))]
    torch.save(thing, file, _use_new_zipfile_serialization=bool(rng.random() < 0.8))
    return file.getvalue()


_OPCODES = (
    b"r\xff\xff\xff\x7f",  # LONG_BINPUT: an entry of the memo far away
    b"c__builtin__\nbytearray\n(I1000000000000\ntR",
    b"cbuiltins\neval\n(V1\ntR",
    b"\x8b\x04\x00\x00\x00\xff\xff\xff\x7f",  # LONG4
    b"B\xff\xff\xff\x7f",  # BINBYTES: 2 GB
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",  # BINUNICODE8
    b"(" * 1000,
    pickle.dumps(10**4000)[2:-1],
)
