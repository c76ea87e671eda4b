"""The user's own sounds: folders named by label, a CSV that lists files, reviewed clips, background sounds."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.clips.folder import EVENTS, REVIEWED
from tagger.errors import UserError
from tagger.files import folders_in, is_audio_file, is_file, sha256, walk
from tagger.names import BACKGROUND_NAMES, LONGEST_LABEL, label_problem
from tagger.printable import number_of, printable
from tagger.progress import counted
from tagger.table import read_table
from train.data.dataset import FOLDS, Clip, Dataset
from train.data.esc50 import source_of
from train.messages import Say

_COLUMNS = ("filename", "label", "fold", "source")
_LONGEST_NUMBER = 10
"""Digits."""
_LEAST = 2
"""Fewest recordings of a label: one to learn from, another to be scored on."""
_ENOUGH = len(FOLDS)
"""Recordings of a label that give one to every fold."""
_NAMED = 5
"""Most names in one message."""
_SHARED = "wrong, but with another sound in it that was not wrong or not reviewed"
"""Why such a clip is left out: nobody said what is in it."""


@dataclass(frozen=True)
class _File:
    path: Path
    label: str | None
    """Label of the file. None: background."""
    sha256: str
    fold: int | None = None
    source: str | None = None


def read(path: Path, say: Say = lambda line: None, known: Collection[str] = ()) -> Dataset:
    """
    Args:
        path: a folder `label/any-name.any-format`; or a CSV with the columns `filename`, `label` and, optionally,
            `fold` and `source`, with files relative to its own folder or to `audio/` there; or a folder of
            `tagger listen --save-clips`, of which the reviewed clips count. The label `background` is for sounds in
            which nothing must be announced.
        known: labels that have recordings in another data set, and so may have fewer here.

    Raises:
        UserError: there are no sounds, a label cannot be used or has too few, or the CSV is wrong.
    """
    saved = _is_saved(path)
    files = _reviewed(path, say) if saved else _listed(path) if path.is_file() else _sorted_into_folders(path, say)
    recordings = _recordings(files)
    if saved and (few := sorted(name for name in recordings.keys() - known if recordings[name] < _LEAST)):
        say(f"{path}: left out, as a label needs {_LEAST} recordings, and clips of one hour are one: {_some(few)}")
        files = [file for file in files if file.label not in few]
    labels = tuple(sorted({file.label for file in files if file.label is not None}))
    if not labels and not (saved and files):
        todo = "put each label's into a folder of its name"
        if saved or path.is_file():
            todo = f"tagger review {path}" if saved else "below the columns' names, write a file and its label a line"
        raise UserError(f"{path}: has no labelled sounds; {todo}")
    clips = _clips(files, labels, path if path.is_dir() else path.parent)
    if lone := [name for name in labels if recordings[name] < _LEAST and name not in known]:
        have = "has 1 recording" if len(lone) == 1 else "have 1 recording each"
        raise UserError(
            f"{path}: {_some([repr(name) for name in lone])} {have}; a label needs at least {_LEAST}, "
            f"and {_ENOUGH} for one in every fold. A file is one recording, however long, and so are its copies"
        )
    if few := [name for name in labels if recordings[name] < _ENOUGH and name not in known]:
        say(f"fewer than {_ENOUGH} recordings, so not in every fold: {_some(few)}")
    same: dict[str, list[str]] = {}
    for name in labels:
        same.setdefault("".join(filter(str.isalnum, name.casefold())) or name, []).append(name)
    if alike := [" and ".join(map(repr, names)) for names in same.values() if len(names) > 1]:
        say(f"nearly the same names, but different labels: {_some(alike)}")
    return Dataset("own", labels, clips)


def read_background(path: Path, say: Say = lambda line: None) -> Dataset:
    """
    Args:
        path: a folder, with any folders in it, of sounds in which nothing must be announced; or one such file. From a
            folder of `tagger listen --save-clips`, the clips that were reviewed as wrong.

    Raises:
        UserError: there are no sounds.
    """
    if _is_saved(path):
        files = [file for file in _reviewed(path, say) if file.label is None]
    else:
        files = [_File(found, None, sha256(found)) for found in counted(f"reading {path}", sounds_in(path), "files")]
    if not files:
        raise UserError(f"{path}: no background sounds here")
    return Dataset("background", (), _clips(files, (), path if path.is_dir() else path.parent))


def sounds_in(path: Path) -> list[Path]:
    """Files in a folder, and in the folders in it, that may be sounds, sorted; or the file itself."""
    return [path] if path.is_file() else [found for found in walk(path) if is_audio_file(found)]


def label_folders(root: Path) -> list[str]:
    """Names of the root's folders that hold files that may be sounds."""
    return [folder.name for folder in folders_in(root) if any(map(is_audio_file, walk(folder)))]


def _is_saved(path: Path) -> bool:
    """Whether `tagger listen --save-clips` wrote the folder. Its folders are named by the announced labels."""
    return (path / EVENTS).is_file() or (path / REVIEWED).is_file()


def _reviewed(root: Path, say: Say) -> list[_File]:
    """Saved clips that can be learnt from. `say` gets the number of the others, and why.

    Raises:
        UserError: none was reviewed, or the CSV is wrong.
    """
    if not (root / REVIEWED).is_file():
        raise UserError(f"{root}: none of these clips was reviewed; say what they are: tagger review {root}")
    left_out: dict[Path, str] = {}
    files = _listed(root / REVIEWED, left_out)
    labels: dict[str, set[str]] = {}  # by content: events that began and ended together have the same clip
    for file in files:
        labels.setdefault(file.sha256, set()).update({file.label} if file.label else ())
    for file in files:
        if len(labels[file.sha256]) > 1:
            left_out[file.path] = "of two labels at once"
        elif file.label is None and labels[file.sha256]:
            left_out[file.path] = _SHARED
    there = {path for path in walk(root) if is_audio_file(path)}
    for path in there - left_out.keys() - {file.path for file in files}:
        left_out[path] = "not reviewed"
    if left_out:
        why = ", ".join(f"{count} {why}" for why, count in Counter(left_out.values()).most_common())
        say(f"{root}: left out {len(left_out)} of {number_of(len(there | left_out.keys()), 'clip')}: {why}")
    return [file for file in files if file.path not in left_out]


def _recordings(files: Sequence[_File]) -> Counter[str]:
    """Number of recordings of each label."""
    pairs = {(file.label, source) for file, source in zip(files, _sources(files), strict=True)}
    return Counter(label for label, _ in pairs if label is not None)


def _sorted_into_folders(root: Path, say: Say) -> list[_File]:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    labelled: list[tuple[Path, str | None]] = []
    ignored = [path for path in sorted(root.iterdir()) if path.is_file() and not path.name.startswith(".")]
    for folder in folders_in(root):
        label = _label(folder.name, f"{root}: the folder's name")
        paths = list(walk(folder))
        sounds = [path for path in paths if is_audio_file(path)]
        if not sounds:
            raise UserError(f"{folder}: has no sounds; a label needs at least {_LEAST} recordings")
        ignored += [path for path in paths if not is_audio_file(path)]
        inside = sorted({path.relative_to(folder).parts[0] for path in sounds if path.parent != folder})
        if label is not None and len(inside) > 1 and all(path.parent != folder for path in sounds):
            say(f"{label!r} is the label of all sounds in {_some(inside)}; if these are labels, give {folder} instead")
        labelled += [(path, label) for path in sounds]
    if ignored:
        say(f"ignored, being no sound in a label's folder: {_some([str(path.relative_to(root)) for path in ignored])}")
    return [_File(path, label, sha256(path)) for path, label in counted(f"reading {root}", labelled, "files")]


def _label(name: str, what: str) -> str | None:
    """
    Raises:
        UserError: the name cannot be a label.
    """
    label = unicodedata.normalize("NFC", name.strip())  # as others write what a Mac writes as two characters
    if label.lower() in BACKGROUND_NAMES:
        return None
    if not label:
        raise UserError(f"{what} is empty, so it cannot be a label")
    if problem := label_problem(label):
        raise UserError(f"{what} {label[: LONGEST_LABEL + 1]!r} cannot be a label: {problem}")
    return label


def _listed(table: Path, left_out: dict[Path, str] | None = None) -> list[_File]:
    """
    Args:
        left_out: filled with files that are gone or have no label, and why. None: these are errors.

    Raises:
        UserError: the CSV is wrong; the message has the line.
    """
    columns, lines = read_table(table, columns=_COLUMNS)
    if "filename" not in columns or "label" not in columns:
        raise UserError(f"{table}: line 1 must name the columns: filename,label[,fold][,source]")
    files: list[_File] = []
    seen: dict[Path, int] = {}
    fold_of: dict[str, tuple[int, int]] = {}  # source or content -> fold, line
    for line, row in counted(f"reading {table}", lines, "files"):
        where = f"{table}, line {line}"
        if None in row:
            raise UserError(f"{where}: has more values than there are columns")
        if left_out is not None and (why := _why_useless(table.parent / row["filename"].strip(), row["label"])):
            left_out[table.parent / row["filename"].strip()] = why
            continue
        path = _named(table.parent, row["filename"].strip(), where)
        if path in seen:
            raise UserError(f"{where}: {row['filename']} is on line {seen[path]} too; a file has one label")
        seen[path] = line
        fold, source = row.get("fold", "").strip(), row.get("source", "").strip()
        if fold and not (fold.isdecimal() and len(fold) < _LONGEST_NUMBER and int(fold) in FOLDS):
            raise UserError(f"{where}: fold must be 1 to 5, not {fold!r}")
        label = _label(row["label"], f"{where}: the label")
        found = _File(path, label, sha256(path), int(fold) if fold else None, f"own/{source}" if source else None)
        for key in (found.source, found.sha256):
            if found.fold and key:
                other, first = fold_of.setdefault(key, (found.fold, line))
                if other != found.fold:
                    raise UserError(
                        f"{where}: the same recording as on line {first}, but in fold {found.fold} instead of {other}; "
                        "it would be trained on and scored"
                    )
        files.append(found)
    return files


def _why_useless(path: Path, label: str) -> str | None:
    """None: the clip can be used."""
    if not is_file(path):
        return "deleted since"
    return None if label.strip() else _SHARED


def _named(folder: Path, name: str, where: str) -> Path:
    if not name:
        raise UserError(f"{where}: has no filename")
    for path in (folder / name, folder / "audio" / name):
        if is_file(path):
            return path
    raise UserError(f"{where}: no file {name} in {folder}, nor in its audio/")


def _clips(files: Sequence[_File], labels: Sequence[str], root: Path) -> tuple[Clip, ...]:
    """Makes clips of files. Chooses sources and folds that were not given.

    Raises:
        UserError: two labels have the same content.
    """
    by_content: dict[str, _File] = {}
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


def _sources(files: Sequence[_File]) -> list[str]:
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


def _folds(files: Sequence[_File], sources: Sequence[str]) -> dict[str, int]:
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


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return printable(", ".join(names[:_NAMED]) + more)
