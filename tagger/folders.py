"""Folders of recordings: which files in them may be sounds, and which links to other folders are followed."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_DOCUMENT = re.compile(
    r"\.(bib|cfg|conf|csv|cue|db|docx?|gif|gz|html?|ini|ipynb|jpe?g|json|jsonl|lab|log|m3u8?|md|npy|npz|ods|parquet|pdf|pkl|png"
    r"|pt|py|rst|rtf|safetensors|sh|svg|tar|textgrid|toml|tsv|txt|url|xlsx?|xml|ya?ml|zip)",
    re.IGNORECASE,
)
"""Suffixes of files that are not audio."""


def folders_in(root: Path) -> list[Path]:
    """Folders directly below that are not hidden, in the order of their names."""
    return [path for path in sorted(root.iterdir()) if path.is_dir() and not is_hidden(path.name)]


def walk(root: Path, links: "LinkedFolders | None" = None) -> Iterator[Path]:
    """All files below, in the order of their names. Hidden files and folders are left out.

    Args:
        links: which links to folders are followed. None: those that lead out of this folder.
    """
    for folder, names in _walked(root, links):
        yield from (Path(folder, name) for name in sorted(names) if not is_hidden(name))


def folders_below(root: Path, links: "LinkedFolders | None" = None) -> Iterator[Path]:
    """The folder itself, and those in which `walk` finds files."""
    for folder, _ in _walked(root, links):
        yield Path(folder)


def _walked(root: Path, links: "LinkedFolders | None") -> Iterator[tuple[str, list[str]]]:
    """Folders, and the names of the files in each."""
    links = links or LinkedFolders(root)
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in sorted(folders) if not is_hidden(name) and links.leads_on(Path(folder, name))]
        yield folder, names


class LinkedFolders:
    """Which links to folders are followed below a folder: a link to one elsewhere, such as on another disk, stands for
    it. One that leads back to where these files, or those of an earlier link, come from anyway is not followed.
    """

    def __init__(self, root: Path) -> None:
        self._known = [_real(root)]
        self._found: dict[Path, bool] = {}

    def leads_on(self, folder: Path) -> bool:
        """Whether a folder, or a link to one, has files that do not come from elsewhere anyway."""
        if not folder.is_symlink():
            return True
        if folder not in self._found:
            target = _real(folder)
            again = any(target == each or target in each.parents or each in target.parents for each in self._known)
            self._found[folder] = not again
            self._known += [] if again else [target]
        return self._found[folder]


def _real(path: Path) -> Path:
    """Where a path leads; of a link that leads to itself, the path. `Path.resolve` raises RuntimeError for that."""
    return Path(os.path.realpath(path))


def is_audio_file(path: Path) -> bool:
    """Whether the file may be audio. Only the decoder knows for sure."""
    return path.is_file() and may_be_audio(path.suffix)  # no pipe, no broken link


def may_be_audio(suffix: str) -> bool:
    """Whether a file whose name ends so may be audio: `.wav`, or anything but a document, picture or table."""
    return not _DOCUMENT.fullmatch(suffix)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's."""
    return name.startswith(".") or name == "__MACOSX"
