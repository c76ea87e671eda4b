"""SQLite as the event log and the history of scores use it: transactions, locks, and its errors in our words."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tagger.errors import TaggerError, UserError

WAIT_SECONDS = 10.0
"""Longest wait for another process that writes."""


class LockedError(TaggerError):
    """Another process keeps a database locked."""


def connect(place: str | Path, is_url: bool = False, wait_s: float | None = None) -> sqlite3.Connection:
    """A connection that any one thread at a time may use, and whose transactions are what is written out.

    Args:
        wait_s: longest wait for another process that writes, seconds. None: WAIT_SECONDS.
    """
    wait_s = WAIT_SECONDS if wait_s is None else wait_s
    return sqlite3.connect(place, timeout=wait_s, isolation_level=None, check_same_thread=False, uri=is_url)


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All that is written within the block is written, or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


@contextmanager
def translated_errors(path: Path, what: str, wait_s: float | None = None) -> Iterator[None]:
    """Turns SQLite's errors into ours.

    Args:
        what: what the database should be: "event log", "history of scores".
        wait_s: as of `connect`.

    Raises:
        LockedError: another process keeps it locked.
        UserError: it cannot be used, or is damaged.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if primary(error) == sqlite3.SQLITE_INTERRUPT:
            raise UserError(f"{path}: this takes too long to find; ask for a shorter time") from None
        if is_locked(error):
            waited_s = WAIT_SECONDS if wait_s is None else wait_s
            raise LockedError(f"{path}: another process keeps it locked for more than {waited_s:g} s") from None
        raise unusable(path, what, error) from None
    except sqlite3.DatabaseError:
        raise damaged(path, what) from None


def unusable(path: Path, what: str, error: OSError | sqlite3.Error) -> UserError:
    """The error of a file that the system, or SQLite, does not let us use."""
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{path}: cannot be used as {'an' if what[0] in 'aeiou' else 'a'} {what} ({reason})")


def damaged(path: Path, what: str) -> UserError:
    """The error of a file that cannot be read as what it should be."""
    return UserError(f"{path}: is damaged, or no {what}; it was left as it is: move it away, or name another file")


def is_locked(error: sqlite3.Error) -> bool:
    """Whether another process keeps the database locked."""
    return primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def primary(error: sqlite3.Error) -> int:
    """SQLite's primary result code: the lowest 8 bits of the extended one."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
