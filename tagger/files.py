"""Files: atomic writes, appended lines, permissions and hashes; and the folders of models and state.

Files about sounds (clips, events, the outbox, the state) are readable by their owner only, whatever the umask: files
0600, new folders 0700. All other files follow the umask.
"""

import errno
import hashlib
import io
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from tagger.errors import TaggerError, UserError

PRIVATE = 0o600
"""Permissions of a file that is for its owner alone."""
_EVERYONE = 0o007
"""Permissions of those who are neither the owner nor in the file's group."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a write for which there is no room."""


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Gives a temporary path to write to, then renames it to `path`.

    A reader of `path` sees the old file or the new one, never a part. After an error the old file stays and the
    temporary one is deleted. Missing folders are made. A device or a pipe is not replaced: it is given the content.

    Args:
        mode: permissions of the file; until it is renamed, only its owner may read it. None: what the umask says.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if is_special(path):
        with TemporaryDirectory() as folder:
            partial = Path(folder, path.name)
            yield partial
            with partial.open("rb") as written, path.open("wb", buffering=0) as device:
                shutil.copyfileobj(written, device)
        return
    make_folders(path.parent, is_private=mode is not None and not mode & 0o077)
    partial = path.with_name(f"{path.name}{secrets.token_hex(4)}.partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else PRIVATE))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        made = stat.S_IMODE(partial.stat().st_mode)
        yield partial
        partial.chmod(made if mode is None else mode)  # a library may have put a file of its own in this one's place
        partial.replace(path)
    except OSError as error:
        if error.errno in _FULL and error.filename is None:  # a write, which names no file
            error.filename = str(path)
        raise
    except Exception as error:
        if not isinstance(error, TaggerError) and (reason := _why_full(partial)) is not None:
            raise OSError(reason, os.strerror(reason), str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def _why_full(partial: Path) -> int | None:
    """The error's number, if there is no room for more of a file: libraries that write by themselves have errors of
    their own for that. None: there is room.
    """
    try:
        with partial.open("ab", buffering=0) as file:
            left = memoryview(bytes(1_000_000))
            while left:
                left = left[file.write(left) :]
    except OSError as error:
        return error.errno if error.errno in _FULL else None
    return None


def is_special(path: Path) -> bool:
    """Whether there is something that is no file and no folder: a device, a pipe, a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()


def make_folders(path: Path, is_private: bool = False) -> None:
    """Makes a folder and those above it where they are missing.

    Args:
        is_private: only the owner may enter the folders that are made. Those that are there stay as they are.
    """
    if not is_private:
        path.mkdir(parents=True, exist_ok=True)
        return
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)


def unwritable(path: Path) -> str | None:
    """Why no file can be made at `path`; None: it seems that one can. Writes nothing."""
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder}: is no folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"{folder}: cannot be written to"


def open_private(path: Path) -> BinaryIO:
    """Opens a file to read and to append to, without a buffer; a missing one is made for its owner alone.

    Raises:
        OSError: the file cannot be made or written to.
    """
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE), "ab+", buffering=0)


def make_private(path: Path) -> None:
    """Takes a file that everybody can read away from all but its owner, and makes a missing one for its owner alone.

    Earlier versions left such files. One that only a group can read stays so: somebody chose that.

    Raises:
        OSError: the file cannot be made.
    """
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, PRIVATE))
    elif path.is_file() and private_mode(path) != stat.S_IMODE(path.stat().st_mode):
        with suppress(OSError):  # it is another user's
            path.chmod(PRIVATE)


def make_database_private(path: Path) -> None:
    """`make_private` for an SQLite database and the two files beside it, which SQLite makes with its permissions.

    An error is left to SQLite, which cannot open the database then.
    """
    with suppress(OSError):
        make_private(path)
        for beside in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if beside.exists():
                make_private(beside)


def private_mode(path: Path) -> int:
    """Permissions for a new version of a private file: 0600, or those of the old version if it was closed to others."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return PRIVATE
    return PRIVATE if mode & _EVERYONE else mode


def unused(path: Path) -> Path:
    """The path, or where something is there already, the first of `PATH-1`, `PATH-2` ... that is free."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(1))
    return next(each for each in itertools.chain([path], numbered) if not os.path.lexists(each))


def append_line(path: Path, line: str) -> None:
    """Appends a whole line, or nothing. A part of a line that a crash left becomes a separate line.

    A missing file is made for its owner alone.

    Raises:
        OSError: nothing could be appended: the disk is full, or the folder is gone.
    """
    data = f"{line}\n".encode()
    with open_private(path) as file:  # a buffer would be flushed again when the file is closed
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


def is_file(path: Path) -> bool:
    """Whether it is a file. A name that no file can have, such as one of 300 letters, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def state_folder(given: Path | None) -> Path:
    """Where the daemon keeps what it must know after a restart: the user's folder, or `$TAGGER_HOME/state`."""
    return given or home() / "state"


def keep_owners_rights() -> None:
    """Takes the owner's rights out of the umask: whatever the process makes, it must be able to read again."""
    os.umask(os.umask(0o077) & 0o077)


def expanded(path: Path) -> Path:
    """The path with the user's folder for `~`; as it is where nobody knows that user's."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def home() -> Path:
    """Folder of models and caches: `$TAGGER_HOME`, or else the platform's folder for user data.

    Raises:
        UserError: there is none, as for a user of a container whom its system does not know.
    """
    if chosen := os.environ.get("TAGGER_HOME"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError:
            raise UserError(f"TAGGER_HOME {chosen}: there is no such user") from None
    from platformdirs import user_data_path

    try:
        return user_data_path("tagger", appauthor=False)
    except RuntimeError:
        raise UserError(
            "no folder for models and state: HOME is not set, and this system knows no such user; set TAGGER_HOME"
        ) from None
