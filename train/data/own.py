"""The user's own sounds: folders named by label, a CSV that lists files, reviewed clips, background sounds."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tagger.clips.folder import EVENTS, REVIEWED
from tagger.errors import UserError
from tagger.files import is_file, sha256
from tagger.folders import folders_in, is_audio_file, walk
from tagger.names import BACKGROUND_NAMES, LONGEST_LABEL, label_problem
from tagger.printable import number_of, printable
from tagger.progress import counted
from tagger.table import read_table
from train.data.dataset import FOLDS, Dataset
from train.data.folds import OwnFile, clips_of, recordings_by_label
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
    recordings = recordings_by_label(files)
    if saved and (few := sorted(name for name in recordings.keys() - known if recordings[name] < _LEAST)):
        say(f"{path}: left out, as a label needs {_LEAST} recordings, and clips of one hour are one: {_some(few)}")
        files = [file for file in files if file.label not in few]
    labels = tuple(sorted({file.label for file in files if file.label is not None}))
    if not labels and not (saved and files):
        todo = "put each label's into a folder of its name"
        if saved or path.is_file():
            todo = f"tagger review {path}" if saved else "below the columns' names, write a file and its label a line"
        raise UserError(f"{path}: has no labelled sounds; {todo}")
    clips = clips_of(files, labels, path if path.is_dir() else path.parent)
    _check_recordings(path, {name: recordings[name] for name in labels if name not in known}, say)
    _tell_similar_names(labels, say)
    return Dataset("own", labels, clips)


def _check_recordings(path: Path, recordings: Mapping[str, int], say: Say) -> None:
    """
    Args:
        recordings: how many there are of each label.

    Raises:
        UserError: there are too few of a label to learn from and to be scored on.
    """
    if lone := [name for name, count in recordings.items() if count < _LEAST]:
        have = "has 1 recording" if len(lone) == 1 else "have 1 recording each"
        raise UserError(
            f"{path}: {_some([repr(name) for name in lone])} {have}; a label needs at least {_LEAST}, "
            f"and {_ENOUGH} for one in every fold. A file is one recording, however long, and so are its copies"
        )
    if few := [name for name, count in recordings.items() if count < _ENOUGH]:
        say(f"fewer than {_ENOUGH} recordings, so not in every fold: {_some(few)}")


def _tell_similar_names(labels: Sequence[str], say: Say) -> None:
    """Names labels that differ in case and punctuation alone, which may be meant as one."""
    same: dict[str, list[str]] = {}
    for name in labels:
        same.setdefault("".join(filter(str.isalnum, name.casefold())) or name, []).append(name)
    if alike := [" and ".join(map(repr, names)) for names in same.values() if len(names) > 1]:
        say(f"nearly the same names, but different labels: {_some(alike)}")


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
        files = [OwnFile(found, None, sha256(found)) for found in counted(f"reading {path}", sounds_in(path), "files")]
    if not files:
        raise UserError(f"{path}: no background sounds here")
    return Dataset("background", (), clips_of(files, (), path if path.is_dir() else path.parent))


def sounds_in(path: Path) -> list[Path]:
    """Files in a folder, and in the folders in it, that may be sounds, sorted; or the file itself."""
    return [path] if path.is_file() else [found for found in walk(path) if is_audio_file(found)]


def label_folders(root: Path) -> list[str]:
    """Names of the root's folders that hold files that may be sounds."""
    return [folder.name for folder in folders_in(root) if any(map(is_audio_file, walk(folder)))]


def _is_saved(path: Path) -> bool:
    """Whether `tagger listen --save-clips` wrote the folder. Its folders are named by the announced labels."""
    return (path / EVENTS).is_file() or (path / REVIEWED).is_file()


def _reviewed(root: Path, say: Say) -> list[OwnFile]:
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


def _sorted_into_folders(root: Path, say: Say) -> list[OwnFile]:
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
    return [OwnFile(path, label, sha256(path)) for path, label in counted(f"reading {root}", labelled, "files")]


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


def _listed(table: Path, left_out: dict[Path, str] | None = None) -> list[OwnFile]:
    """
    Args:
        left_out: filled with files that are gone or have no label, and why. None: these are errors.

    Raises:
        UserError: the CSV is wrong; the message has the line.
    """
    columns, lines = read_table(table, columns=_COLUMNS)
    if "filename" not in columns or "label" not in columns:
        raise UserError(f"{table}: line 1 must name the columns: filename,label[,fold][,source]")
    files: list[OwnFile] = []
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
        found = OwnFile(path, label, sha256(path), int(fold) if fold else None, f"own/{source}" if source else None)
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


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return printable(", ".join(names[:_NAMED]) + more)
