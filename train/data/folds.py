"""The user's own files as clips: which of them are of one recording, and in which fold each recording is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.errors import UserError
from tagger.names import BACKGROUND_NAMES
from train.data.dataset import FOLDS, Clip
from train.data.esc50 import source_of


@dataclass(frozen=True)
class OwnFile:
    """A sound of the user's."""

    path: Path
    label: str | None
    """Label of the file. None: background."""
    sha256: str
    """SHA-256 of the content, hexadecimal."""
    fold: int | None = None
    """Fold that the user gave it, 1 to 5. None: it is chosen."""
    source: str | None = None
    """Recording that the user says it is of. None: its name or its content tells."""


def clips_of(files: Sequence[OwnFile], labels: Sequence[str], root: Path) -> tuple[Clip, ...]:
    """Makes clips of files. Chooses sources and folds that were not given.

    Raises:
        UserError: two labels have the same content.
    """
    by_content: dict[str, OwnFile] = {}
    for file in files:
        first = by_content.setdefault(file.sha256, file)
        if first.label != file.label:
            names = [file.label or BACKGROUND_NAMES[0] for file in (first, file)]
            raise UserError(f"{file.path}: is {names[1]!r}, but the same sound as {first.path}, which is {names[0]!r}")
    sources = _sources(files)
    folds = _folds(files, sources)
    return tuple(
        Clip(
            file.path,
            None if file.label is None else labels.index(file.label),
            folds[source],
            source,
            file.sha256,
            any_length=True,
            root=root,
        )
        for file, source in zip(files, sources, strict=True)
    )


def recordings_by_label(files: Sequence[OwnFile]) -> Counter[str]:
    """Number of recordings of each label."""
    pairs = {(file.label, source) for file, source in zip(files, _sources(files), strict=True)}
    return Counter(label for label, _ in pairs if label is not None)


def _sources(files: Sequence[OwnFile]) -> list[str]:
    """Each file's source: as given, or from an ESC-50 name, or its content. The same content has the same source."""
    same: dict[str, str] = {}  # a name -> another of the same recording; the last of the chain stands for all

    def last(name: str) -> str:
        while name in same:
            name = same[name]
        return name

    contents = [f"own/{file.sha256}" for file in files]
    names = [file.source or source_of(file.path.stem) or content for file, content in zip(files, contents, strict=True)]
    for content, name in zip(contents, names, strict=True):
        if (one := last(content)) != (other := last(name)):
            same[one] = other
    return [last(name) for name in names]


def _folds(files: Sequence[OwnFile], sources: Sequence[str]) -> dict[str, int]:
    """Each source's fold. Sources without one are dealt out label by label, the largest first, to the emptiest fold.

    Only contents and names of sources matter, not paths.

    Raises:
        UserError: files of one source have different folds.
    """
    folds: dict[str, int] = {}
    for file, source in zip(files, sources, strict=True):
        if file.fold and folds.setdefault(source, file.fold) != file.fold:
            raise UserError(f"{file.path}: its recording is in fold {folds[source]} too, not in {file.fold} alone")
    by_label: dict[str, Counter[str]] = {}
    for file, source in zip(files, sources, strict=True):
        by_label.setdefault(file.label or "", Counter())[source] += 1
    all_labels: Counter[int] = Counter()
    for _, sizes in sorted(by_label.items()):
        here: Counter[int] = Counter()
        for source in sizes:
            if source in folds:
                here[folds[source]] += sizes[source]
        for source in sorted(sizes.keys() - folds.keys(), key=lambda source: (-sizes[source], source)):
            folds[source] = min(FOLDS, key=lambda fold: (here[fold], all_labels[fold], fold))
            here[folds[source]] += sizes[source]
            all_labels[folds[source]] += sizes[source]
    return folds
