"""Passwords: reads them from files, hides them from `ps`, and finds files that everybody can read."""

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from tagger.errors import UserError

_LONGEST = 64 * 1024
"""Longest first line that is read, bytes."""


def first_line(path: Path) -> str:
    """The secret in the file's first line.

    Raises:
        UserError: the file is missing or no text, or its first line is empty. The message never shows the content.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(_LONGEST).rstrip(b"\r\n").decode()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    if not line:
        raise UserError(f"{path}: its first line is empty")
    return line


def is_open_to_all(path: Path) -> bool:
    """Whether every user of this machine may read the file."""
    try:
        mode = path.stat().st_mode
        return os.name == "posix" and stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)
    except OSError:
        return False


def take_off_command_line(urls: Iterable[str]) -> list[str]:
    """Hides secret URLs from `ps`. All at once, because each change rewrites the whole command line.

    Returns:
        The URLs that were on the command line.
    """
    seen = [url for url in sorted(set(urls), key=len, reverse=True) if any(url in each for each in sys.orig_argv)]
    if not seen:
        return seen
    import setproctitle

    shown = list(sys.orig_argv)
    for url in seen:
        scheme, separator, _ = url.partition("://")
        hidden = f"{scheme}{separator}***" if separator else "***"
        shown = [each.replace(url, hidden) for each in shown]
    setproctitle.setproctitle(" ".join(shown))
    return seen
