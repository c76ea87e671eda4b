"""Writes thresholds into the user's file, where all else stays; or into another file."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from tagger.calibration.report import About, Result, document, without_head
from tagger.calibration.settings import CalibrationSettings
from tagger.config.edit import moved
from tagger.config.file import NAME, Document, load_right
from tagger.errors import TaggerError, UserError
from tagger.files import home, replacing
from tagger.printable import echo, echo_lines

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check_writable(path: Path) -> None:
    """Finds out before hours of listening, not after them.

    Raises:
        UserError: the file's folder cannot be written to.
    """
    folder = path.resolve().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path}: cannot be written, since {folder} cannot")


def write(settings: CalibrationSettings, about: About, results: Sequence[Result]) -> None:
    """Writes the file, and prints what changed in it.

    The user's file is read again: much may have been changed in it during a night of listening.

    Raises:
        UserError, OSError: it cannot be written, or is no settings file any more. The thresholds were printed.
    """
    changed = [result for result in results if result.is_changed]
    if settings.is_in_place and not changed:
        echo(f"nothing to change: {settings.output} stays as it is")
        return
    try:
        if settings.old is None:
            _replace(settings.output, document(about, results, "", settings.changes).encode(), None)
        else:
            _add_to(load_right(settings.old.file.path), settings, about, results)
    except (OSError, TaggerError):
        echo_lines(document(about, results, "").splitlines())
        echo("Error: the thresholds above could not be written", err=True)
        raise
    for result in changed:
        echo(f"changed: {result.label}: enter {result.evidence.now:g} -> {result.enter:g}")
    kept = ", where all else is as it was" if settings.is_in_place else ""
    echo(f"written: {settings.output}{kept}")
    config = "" if settings.output == home() / NAME else f" --config {settings.output}"
    echo(f"next:    tagger listen{config}; or kill -HUP PID, for one that runs with this file")


def _add_to(old: Document, settings: CalibrationSettings, about: About, results: Sequence[Result]) -> None:
    """Writes what the user's file says, with the thresholds."""
    raw, status = old.file.path.read_bytes(), old.file.path.stat()
    text = document(about, results, old.file.text, {**moved(old, settings.output.parent), **settings.changes})
    if settings.is_in_place and not _comments(old.file.text) <= _comments(text):
        kept = old.file.path.with_name(f"{old.file.path.name}.old")
        _replace(kept, raw, status)
        echo(f"the comments could not be kept; the file as it was is {kept}")
    if b"\r\n" in raw:
        text = text.replace("\n", "\r\n")
    _replace(settings.output, (_BYTE_ORDER_MARK if raw.startswith(_BYTE_ORDER_MARK) else b"") + text.encode(), status)


def _comments(text: str) -> set[str]:
    return {line.strip() for line in without_head(text).splitlines() if line.lstrip().startswith("#")}


def _replace(path: Path, content: bytes, like: os.stat_result | None) -> None:
    """Writes the file in one step, also where a link leads to it.

    Args:
        like: whose permissions and owner it gets: it may hold a password, or belong to the daemon's user.
    """
    path = path.resolve()
    with replacing(path, None if like is None else stat.S_IMODE(like.st_mode)) as partial:
        partial.write_bytes(content)
        if like is not None and (like.st_uid, like.st_gid) != (partial.stat().st_uid, partial.stat().st_gid):
            try:
                os.chown(partial, like.st_uid, like.st_gid)
            except PermissionError:
                echo(f"Warning: {path}: now belongs to you; it was another user's", err=True)
