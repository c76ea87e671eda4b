"""The event log: an SQLite database with one row an event. Several processes may write and read it at the same time."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.errors import UserError
from tagger.files import make_database_private, make_folders
from tagger.history import sqlite
from tagger.history.sqlite import damaged, is_locked, primary, transaction, translated_errors, unusable

if TYPE_CHECKING:  # reading a log needs no numpy
    from tagger.events import Event, Stream

VERSION = 1
"""Version of the tables, the database's `user_version`. A newer one is refused."""
_WHAT = "event log"
_STEPS = 100_000
"""Steps of SQLite's machine between two looks at the clock."""

_MAGIC = b"SQLite format 3\0"
_TABLES = """
CREATE TABLE events (
    id TEXT PRIMARY KEY NOT NULL,
    node TEXT NOT NULL,
    source TEXT NOT NULL,
    label TEXT NOT NULL,
    onset REAL NOT NULL,
    offset REAL,
    score REAL NOT NULL,
    peak_score REAL NOT NULL,
    model TEXT NOT NULL,
    cause TEXT
) WITHOUT ROWID;
CREATE INDEX events_onset ON events (onset);
CREATE INDEX events_label ON events (label, onset);
"""
_COUNTS_INDEX = "CREATE INDEX IF NOT EXISTS events_counts ON events (onset, label, source, peak_score, cause)"
"""Holds all that the map of a day counts, so that no row is looked up. Older logs get it when they are opened."""
_BEGIN = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
_END = """
INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
    offset = excluded.offset, score = excluded.score, peak_score = max(peak_score, excluded.peak_score),
    cause = coalesce(cause, excluded.cause)
WHERE offset IS NULL
"""


@dataclass(frozen=True)
class EventRow:
    """One event. The fields are the table's columns, in their order. Times are seconds since the epoch."""

    id: str
    node: str
    source: str
    label: str
    onset: float
    offset: float | None
    """None while the event is open."""
    score: float
    """Score of the window that decided the begin, or, once the event has ended, the end."""
    peak_score: float
    """Highest score."""
    model: str
    cause: str | None
    """`test`, `restart` (the end is an estimate), or None."""

    @classmethod
    def of(cls, stream: "Stream", event: "Event") -> "EventRow":
        """The row of an event, as far as its begin or its end tells."""
        return cls(
            id=event.id,
            node=stream.node,
            source=stream.source,
            label=event.label,
            onset=event.onset,
            offset=event.offset,
            score=event.score,
            peak_score=event.peak_score,
            model=stream.model_of(event.label),
            cause=event.cause,
        )

    @property
    def duration_s(self) -> float | None:
        """Seconds; None while the event is open."""
        return None if self.offset is None else self.offset - self.onset


class EventLog:
    """An event log open for writing. One thread at a time may use it."""

    def __init__(self, path: Path, wait_s: float | None = None) -> None:
        """
        Args:
            path: the database; it and its folder are made if they are missing.
            wait_s: longest wait for another process that writes while it is opened, seconds. None: as afterwards.

        Raises:
            UserError: the file is damaged, no event log, or cannot be written to. It is left as it was.
            LockedError: another process keeps it locked.
        """
        self.path = path
        with translated_errors(path, _WHAT, wait_s):
            try:
                make_folders(path.parent, is_private=True)
            except OSError as error:
                raise unusable(path, _WHAT, error) from None
            if path.exists():  # checked before anything is written to it
                with closing(_connect_read_only(path, wait_s)) as there:
                    there.execute("BEGIN")  # one view of it, while another process may make the tables
                    _check(path, there)
                    _check_pages(path, there)
            make_database_private(path)
            self._database = sqlite.connect(path, wait_s=wait_s)
            try:
                # In WAL mode readers do not wait for writers.
                _retry_while_locked(lambda: self._database.execute("PRAGMA journal_mode = WAL"), wait_s)
                self._database.execute("PRAGMA synchronous = NORMAL")
                self._make_tables()
                self._database.execute(f"PRAGMA busy_timeout = {round(1000 * sqlite.WAIT_SECONDS)}")
                self._file = _identity(path)
            except BaseException:
                self._database.close()
                raise

    def write(self, rows: Sequence[EventRow]) -> None:
        """Writes all rows, or none: begins (no offset) and ends, in their order. A row that is there changes nothing.

        Raises:
            OSError, sqlite3.Error: no row was written.
        """
        with transaction(self._database):
            for row in rows:
                self._database.execute(_BEGIN if row.offset is None else _END, astuple(row))

    def onsets(self) -> Iterator[float]:
        """Onsets of all events, in order."""
        for (onset,) in self._database.execute("SELECT onset FROM events ORDER BY onset"):
            yield onset

    def delete(self, start: float, end: float, most: int) -> int:
        """Deletes the oldest events that began from `start` on and before `end`, at most `most`. Returns how many."""
        with transaction(self._database):
            return self._database.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE onset >= ? AND onset < ? "
                "ORDER BY onset LIMIT ?)",
                (start, end, most),
            ).rowcount

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this file; another process may have moved it away."""
        return self._file is not None and _identity(self.path) == self._file

    def close(self) -> None:
        """Closes the database."""
        if not self.is_in_place:  # otherwise SQLite would take NAME-wal for a part of the file that is there now
            with suppress(sqlite3.Error):
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()

    def _make_tables(self) -> None:
        with transaction(self._database):
            _check(self.path, self._database)  # another process may have made them by now
            if not _version(self._database):
                for statement in _TABLES.split(";"):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {VERSION}")
            self._database.execute(_COUNTS_INDEX)


@contextmanager
def reading(path: Path, longest_s: float | None = None) -> Iterator[sqlite3.Connection]:
    """Opens an event log for reading.

    Args:
        longest_s: time after which what is asked in the `with` block is given up, seconds.

    Raises:
        UserError: the file is missing, damaged, or no event log; damage may also show within the `with` block, or that
            it takes too long.
        TaggerError: another process keeps it locked.
    """
    with translated_errors(path, _WHAT), closing(_connect_read_only(path)) as database:
        database.execute("BEGIN")
        _check(path, database)
        if not _version(database):
            raise UserError(f"{path}: is an empty file, not an event log")
        database.execute("COMMIT")
        if longest_s is not None:
            deadline = time.monotonic() + longest_s
            database.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        yield database


def _connect_read_only(path: Path, wait_s: float | None = None) -> sqlite3.Connection:
    """A connection that cannot write, and waits as `sqlite.connect` does.

    Raises:
        UserError: the file cannot be read, or is neither empty nor begins as a database does.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) not in (_MAGIC, b""):  # SQLite would take a file of zeros for an empty one
                raise damaged(path, _WHAT)
    except FileNotFoundError:
        raise UserError(f"{path}: no such event log; `tagger listen --event-log {path}` writes one") from None
    except OSError as error:
        raise unusable(path, _WHAT, error) from None
    address = path.absolute().as_uri()
    database = sqlite.connect(f"{address}?mode=ro", is_url=True, wait_s=wait_s)
    try:
        database.execute("PRAGMA schema_version")
    except sqlite3.OperationalError as error:
        database.close()
        # In a folder that may not be written to, SQLite needs to know that nobody is writing.
        if (
            primary(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            or path.with_name(f"{path.name}-wal").exists()
        ):
            raise
        database = sqlite.connect(f"{address}?immutable=1", is_url=True, wait_s=wait_s)
    except BaseException:
        database.close()
        raise
    return database


def _check(path: Path, database: sqlite3.Connection) -> None:
    """
    Raises:
        UserError: the database is neither empty nor an event log, or of a newer version.
    """
    version = _version(database)
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    ours = "events" in tables and {name for _, name, *_ in database.execute("PRAGMA table_info(events)")} >= {
        *EventRow.__dataclass_fields__
    }
    if version > VERSION and "events" in tables:
        raise UserError(
            f"{path}: was written by a newer version of tagger (tables {version}, this one knows {VERSION}); upgrade, "
            "or name another file"
        )
    if (version or tables) and not (version == VERSION and ours):
        raise UserError(f"{path}: is a database, but not an event log; name another file")


def _check_pages(path: Path, database: sqlite3.Connection) -> None:
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise damaged(path, _WHAT)


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _retry_while_locked(statement: Callable[[], object], wait_s: float | None) -> None:
    """Repeats a statement for which SQLite itself does not wait, for as long as `sqlite.connect` has it wait."""
    deadline = time.monotonic() + (sqlite.WAIT_SECONDS if wait_s is None else wait_s)
    while True:
        try:
            statement()
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None: the file is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
