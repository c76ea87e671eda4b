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
    training      recipe, fold, seed, data fingerprint: how it was made
    metrics       what was measured, and on what
    licences      notices that travel with the weights
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagger.errors import CheckpointError

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
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_header(path: Path) -> dict[str, Any]:
    """The document of a checkpoint, with its format, keys and types checked.

    Raises:
        CheckpointError: the file is missing, truncated, no checkpoint, or of another format; or keys are missing.
    """
    from safetensors import SafetensorError, safe_open

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
    try:
        with safe_open(path, framework="numpy") as tensors:
            metadata = tensors.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole .safetensors file ({error}); copy or download it again") from None
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path}: a .safetensors file, but no tagger checkpoint (no `{METADATA_KEY}` document)")
    try:
        document = json.loads(metadata[METADATA_KEY])
    except ValueError as error:
        raise CheckpointError(f"{path}: its `{METADATA_KEY}` document is not JSON ({error})") from None
    return _checked(document, path)


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
    return document
