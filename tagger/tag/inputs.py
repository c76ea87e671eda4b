"""What the user named on the command line, as recordings: files, folders and patterns."""

import glob
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.errors import UserError
from tagger.folders import LinkedFolders, folders_below, is_audio_file, is_hidden, walk


@dataclass(frozen=True)
class Recording:
    """A file to be tagged."""

    path: Path
    name: str
    """Path below the folder that was named, with `/`; of a file that was named itself, its last part."""


@dataclass(frozen=True)
class Found:
    """What the arguments stand for."""

    recordings: tuple[Recording, ...]
    """Each file once, in the order of the arguments, and below a folder in the order of names."""
    left_out: int
    """Files in folders that are no audio by their names."""
    errors: tuple[UserError, ...]
    """Folders without audio, and patterns without a match."""
    are_many: bool
    """Whether a folder or a pattern was named, or several files."""


def recordings(paths: Sequence[Path]) -> Found:
    """All that was named. A file is taken whatever its name is; in a folder and of a pattern, what may be audio.

    Args:
        paths: files, folders, and patterns such as `**/*.wav`; hidden files are in no folder and match no pattern.
    """
    found: dict[Path, Recording] = {}
    errors: list[UserError] = []
    left_out = 0
    for path in paths:
        pattern = not path.exists() and glob.has_magic(str(path))
        if not pattern and not path.is_dir():
            found.setdefault(path, Recording(path, path.name))
            continue
        below = list(_matches(path) if pattern else ((each, path) for each in walk(path)))
        heard = [(each, root) for each, root in below if is_audio_file(each)]
        left_out += len(below) - len(heard)
        for each, root in heard:
            found.setdefault(each, Recording(each, each.relative_to(root).as_posix()))
        if not heard:
            problem = "no audio file matches this" if pattern else "no audio files in this folder"
            errors.append(UserError(f"{path}: {problem}"))
    are_many = len(paths) > 1 or len(found) > 1 or any(path.is_dir() for path in paths)
    return Found(tuple(found.values()), left_out, tuple(errors), are_many)


def _matches(pattern: Path) -> Iterator[tuple[Path, Path]]:
    """Files that match, each with the folder in which the search begins. A folder that matches stands for its files."""
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    root = Path(*fixed)
    links = LinkedFolders(root)
    for path in sorted(set(_expanded(root, pattern.parts[len(fixed) :], links))):
        if any(map(is_hidden, path.relative_to(root).parts)):
            continue
        yield from ((each, root) for each in (walk(path, links) if path.is_dir() else [path]))


def _expanded(root: Path, parts: Sequence[str], links: LinkedFolders) -> Iterator[Path]:
    """What matches below a folder, as `Path.glob` does it, but `**` goes through links to folders as `walk` does."""
    if "**" not in parts:
        yield from root.glob(str(Path(*parts))) if parts else [root]
        return
    at = parts.index("**")
    for base in _expanded(root, parts[:at], links):
        for folder in folders_below(base, links) if base.is_dir() else ():
            yield from _expanded(folder, parts[at + 1 :], links)
