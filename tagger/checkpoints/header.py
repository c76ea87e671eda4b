"""The header of a checkpoint file: a JSON document, read and checked without torch.

A checkpoint is one `.safetensors` file. Its metadata holds, under the key `tagger`, one JSON document:

    format        1; another number is refused
    name          name of the model in events and lists
    architecture  {"name": a key of tagger.models.config.ARCHITECTURES, "config": its fields}
    features      {"name": "log_mel", "window_seconds": 5.0, "mel": the fields of MelConfig}, or "mfcc" and MfccConfig's
    labels        names in output order
    activation    "softmax" (exactly one label is true) or "sigmoid" (any number of labels)
    thresholds    one score a label at which its event begins
    calibration   {"surprise": this times the highest surprise is subtracted from the logits, which are then divided by
                  "temperature", and "bias" is added}; surprise and bias are 0 if they are missing
    others        names of classes besides the labels (tagger.models.efficientat.Others); may be missing
    opinion       how a second opinion counts (tagger.checkpoints.opinion); may be missing
    training      recipe, fold, seed, data fingerprint: how it was made
    metrics       what was measured, and on what
    licences      notices that travel with the weights
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagger.errors import CheckpointError
from tagger.names import label_problem

FORMAT = 1
METADATA_KEY = "tagger"
_REQUIRED: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "architecture": dict,
    "features": dict,
    "labels": list,
    "activation": str,
    "thresholds": list,
    "calibration": dict,
    "training": dict,
    "metrics": dict,
    "licences": list,
}
_MOST_BYTES = 4_000_000
"""Longest header: that of `esc50-crnn` has 14 kB, and 10 000 labels take 200."""
_MOST_LABELS = 10_000
_MOST_VALUES = 100_000
"""Most numbers, texts, lists and tables of the document."""
_DEEPEST = 16
"""Most lists and tables of the document that lie within each other."""
_LARGEST = 1e15
"""Largest number of the document, either sign."""
_DTYPES = ("F16", "BF16", "F32", "F64", "I64")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_header(path: Path) -> dict[str, Any]:
    """The document of a checkpoint, with its format, keys and types checked.

    Raises:
        CheckpointError: the file is missing, truncated, no checkpoint, or of another format; or keys are missing.
    """
    return _read(path)[0]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each of a checkpoint's weights, without reading the weights.

    Raises:
        CheckpointError: as `read_header`.
    """
    return _read(path)[1]


def weights_digest(path: Path) -> str:
    """SHA-256 of a checkpoint's weights, hexadecimal. A change of the document, such as of thresholds, keeps it.

    Raises:
        CheckpointError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little"))
            while piece := file.read(1 << 20):
                digest.update(piece)
    except (OSError, OverflowError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The document, and the shapes of the weights."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    # A .safetensors file begins with 8 bytes, the length of its header, which may look like a pickle; `{` follows.
    if start.startswith(_PICKLE_STARTS) and not start.endswith(b"{"):
        raise CheckpointError(
            f"{path}: a pickled PyTorch file, which can run code when it is read; "
            "`tagger models add FILE` converts EfficientAT's official ones to a checkpoint"
        )
    tensors = _read_table(path)
    metadata = tensors.pop("__metadata__", {})
    shapes = {name: tuple(tensor["shape"]) for name, tensor in tensors.items()}
    if odd := [name for name, tensor in tensors.items() if tensor["dtype"] not in _DTYPES]:
        raise CheckpointError(f"{path}: weights of a type that no network has: {', '.join(odd[:3])}")
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path}: a .safetensors file, but no tagger checkpoint (no `{METADATA_KEY}` document)")
    try:
        document = json.loads(metadata[METADATA_KEY])
    except RecursionError:
        raise CheckpointError(f"{path}: its `{METADATA_KEY}` document has more than {_DEEPEST} levels") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: its `{METADATA_KEY}` document is not JSON ({error})") from None
    if problem := _problem(document):
        raise CheckpointError(f"{path}: its `{METADATA_KEY}` document has {problem}")
    return _checked(document, path), shapes


def _read_table(path: Path) -> dict[str, Any]:
    """The table of a .safetensors file: name -> dtype, shape and place of each tensor; `__metadata__` -> texts.

    Raises:
        CheckpointError: the file is not whole, or its table is too long.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if _MOST_BYTES < length <= size - 8:
                raise CheckpointError(f"{path}: its header has {length:,} bytes, more than any checkpoint's")
            text = file.read(length) if length <= size - 8 else b""
        with safe_open(path, framework="numpy"):  # checks that the table and the file agree
            table: dict[str, Any] = json.loads(text)
            return table
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a whole .safetensors file ({error}); copy or download it again") from None


def _problem(document: Any) -> str | None:
    """What makes a document unusable, whatever it is to say: its size, or a number or text without meaning."""
    found, waiting = 0, [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        found += 1
        if depth > _DEEPEST:
            return f"more than {_DEEPEST} levels"
        if found > _MOST_VALUES:
            return f"more than {_MOST_VALUES:,} values"
        if isinstance(value, dict):
            waiting += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list):
            waiting += [(each, depth + 1) for each in value]
        elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            return "half a character in a text"
        elif isinstance(value, int | float) and not abs(value) <= _LARGEST:
            return "a number that is not finite, or too large"
    return None


def _checked(document: Any, path: Path) -> dict[str, Any]:
    if not isinstance(document, dict) or "format" not in document:
        raise CheckpointError(f"{path}: its `{METADATA_KEY}` document names no format")
    if document["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {document['format']!r} is unknown to this version, which reads {FORMAT}; "
            "update tagger, or train the model again"
        )
    missing = [key for key in _REQUIRED if key not in document]
    if missing:
        raise CheckpointError(f"{path}: its `{METADATA_KEY}` document lacks {', '.join(missing)}")
    wrong = [key for key, kind in _REQUIRED.items() if not isinstance(document[key], kind)]
    if wrong:
        raise CheckpointError(f"{path}: its `{METADATA_KEY}` document has the wrong type of {', '.join(wrong)}")
    problem = next(filter(None, map(_label_problem, document["labels"])), None)
    if problem or len(document["labels"]) > _MOST_LABELS:
        problem = problem or f"more than {_MOST_LABELS:,} of them"
        raise CheckpointError(f"{path}: its `{METADATA_KEY}` document has labels that cannot be used: {problem}")
    return document


def _label_problem(label: Any) -> str | None:
    if not isinstance(label, str):
        return "labels must be names"
    problem = label_problem(label)
    return problem and f"{label[:40]!r} cannot be a label, as {problem}"
