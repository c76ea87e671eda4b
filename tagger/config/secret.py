"""Passwords: from a file of their own, off the command line, and never where everybody can read them."""

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from tagger.errors import UserError

_LONGEST = 64 * 1024


def first_line(path: Path) -> str:
    """The secret that the file holds.

    Raises:
        UserError: there is no such file, it is no text, or its first line is empty. Never shows what it holds.
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
    """Whether every user of this machine may read it."""
    try:
        mode = path.stat().st_mode
        return os.name == "posix" and stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)
    except OSError:
        return False


def take_off_command_line(urls: Iterable[str]) -> list[str]:
    """Hides secrets of URLs from `ps`. In one step: each time the whole command line is written anew.

    Returns:
        Those that were on the command line.
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
