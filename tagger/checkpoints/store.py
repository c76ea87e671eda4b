"""Checkpoints that have a name: those that come with the package, and those in `$TAGGER_HOME/models`."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tagger import files
from tagger.checkpoints import release
from tagger.checkpoints.header import read_header
from tagger.checkpoints.info import read_info
from tagger.errors import CheckpointError, near
from tagger.printable import printable

SUFFIX = ".safetensors"
BUNDLED = Path(__file__).parent
"""Folder of the checkpoints that come with the package."""


@dataclass(frozen=True)
class Entry:
    """A checkpoint that `--model NAME` can name."""

    name: str
    path: Path
    origin: Literal["bundled", "official", "own"]
    """`bundled`: comes with the package; `official`: converted from EfficientAT's release; `own`: the user's."""
    document: dict[str, Any] | None
    """The header's JSON document; None: the file cannot be read."""
    problem: str | None = None
    """Why the file cannot be read."""


def folder() -> Path:
    """Folder of the user's checkpoints. It may be missing."""
    return files.home() / "models"


def entries() -> Iterator[Entry]:
    """All checkpoints, the user's first. A user's checkpoint hides a bundled one of the same name."""
    seen: set[str] = set()
    for place in (folder(), BUNDLED):
        for path in sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else []:
            if path.stem not in seen:
                seen.add(path.stem)
                yield entry_of(path)


def entry_of(path: Path) -> Entry:
    try:
        document = read_info(path).to_document() | read_header(path)
    except CheckpointError as error:
        return Entry(path.stem, path, "own", None, str(error))
    except Exception as error:  # one bad file must not hide the others
        return Entry(path.stem, path, "own", None, f"{path}: its document cannot be used: {printable(str(error))}")
    if path.parent == BUNDLED:
        return Entry(path.stem, path, "bundled", document)
    return Entry(path.stem, path, "official" if document["training"].get("recipe") == "official" else "own", document)


def find(model: str) -> Path:
    """The file that `--model NAME|PATH` means.

    Raises:
        CheckpointError: there is no checkpoint of that name and no such file.
    """
    looks_like_path = "/" in model or "\\" in model or Path(model).suffix in (SUFFIX, ".pt", ".pth", ".ckpt")
    named = [] if looks_like_path else [place / f"{model}{SUFFIX}" for place in (folder(), BUNDLED)]
    for path in (*named, Path(model)):
        if os.path.isfile(path):  # noqa: PTH113  # Path.is_file raises for names that are too long
            return path
    if looks_like_path:
        raise CheckpointError(f"{model}: no such checkpoint file")
    if (key := model.removesuffix("_as")) in release.RELEASE_FILES:
        raise CheckpointError(f"the model {key}_as is not here: `tagger models download {key}` fetches it")
    raise CheckpointError(
        f"no model {model!r}{near(model, (entry.name for entry in entries()))} (`tagger models` lists them)"
    )


def describe_metric(key: str, value: Any) -> str:
    """A metric of a checkpoint's document, in words.

    >>> describe_metric("five_fold_accuracy", 0.9355)
    'five-fold accuracy 93.5 %'
    >>> describe_metric("three_fold_ece", 0.031)
    'three-fold ece 3.1 %'
    """
    words = re.sub(r"^(two|three|four|five) fold", r"\1-fold", key.replace("_", " "))
    return f"{words} {100 * value:.1f} %" if isinstance(value, float) else f"{words} {value}"
