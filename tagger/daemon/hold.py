"""A folder that one process at a time uses."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

from tagger.errors import UserError
from tagger.files import make_folders, make_private, open_private


def hold(folder: Path, advice: str) -> BinaryIO:
    """Takes a folder that one process at a time uses, until the file that is returned is closed. Makes it if need be.

    Args:
        folder: what `--state` names.
        advice: what else the user can do than to stop the other.

    Raises:
        UserError: another process uses it, or it cannot be written.
    """
    try:
        make_folders(folder, is_private=True)
        return _locked(folder, advice)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); name another with --state") from None


def _locked(folder: Path, advice: str) -> BinaryIO:
    make_private(folder / "lock")
    file = open_private(folder / "lock")
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().decode(errors="replace").strip()
            file.close()
            raise UserError(
                f"{folder}: is used by another tagger{f' (process {owner})' if owner else ''}; stop that, or {advice}"
            ) from None
        except OSError:  # some network drives have no locks
            pass
    file.truncate(0)
    file.write(str(os.getpid()).encode())
    file.flush()
    return file
