"""Files: atomic writes, appended lines, hashes, and the files of a folder that may be sounds."""

import errno
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagger.errors import UserError

_DOCUMENT = re.compile(
    r"\.(bib|cfg|conf|csv|cue|db|docx?|gif|gz|html?|ini|ipynb|jpe?g|json|jsonl|lab|log|m3u8?|md|npy|npz|ods|pdf|pkl|png"
    r"|pt|py|rst|rtf|safetensors|sh|svg|tar|textgrid|toml|tsv|txt|url|xlsx?|xml|ya?ml|zip)",
    re.IGNORECASE,
)
"""Suffixes of files that are not audio."""


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Gives a temporary path to write to, then renames it to `path`. Until then only the owner may read it.

    A reader of `path` sees the old file or the new one, never a part. After an error the old file stays and the
    temporary one is deleted. Missing folders are made.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Appends a whole line, or nothing. A part of a line that a crash left becomes a separate line.

    Raises:
        OSError: nothing could be appended: the disk is full, or the folder is gone.
    """
    data = f"{line}\n".encode()
    with path.open("ab+", buffering=0) as file:  # a buffer would be flushed again when the file is closed
        end = file.seek(0, io.SEEK_END)
        if end:
            file.seek(end - 1)
            data = data if file.read(1) == b"\n" else b"\n" + data
        if file.write(data) != len(data):
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def sha256(path: Path) -> str:
    """SHA-256 of the content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folders_in(root: Path) -> list[Path]:
    """Folders directly below that are not hidden, in the order of their names."""
    return [path for path in sorted(root.iterdir()) if path.is_dir() and not _is_hidden(path.name)]


def walk(root: Path) -> Iterator[Path]:
    """All files below, in the order of their names. Hidden files and folders are left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(folder, name) for name in sorted(names) if not _is_hidden(name))


def is_audio_file(path: Path) -> bool:
    """Whether the file may be audio. Only the decoder knows for sure."""
    return path.is_file() and not _DOCUMENT.fullmatch(path.suffix)  # no pipe, no broken link


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def home() -> Path:
    """Folder of models and caches: `$TAGGER_HOME`, or else the platform's folder for user data."""
    if chosen := os.environ.get("TAGGER_HOME"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError:
            raise UserError(f"TAGGER_HOME {chosen}: there is no such user") from None
    from platformdirs import user_data_path

    return user_data_path("tagger", appauthor=False)
