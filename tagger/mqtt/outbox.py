"""The outbox on disk: events that the broker has not acknowledged, in order; and which messages it retains.

For one thread at a time. SQLite writes to its write-ahead log and does not wait for the disk: the outbox survives the
daemon's death; a power cut may lose the last half minute. While the disk is full or gone the outbox continues in
memory; `return_to_disk` brings it back.
"""

import logging
import sqlite3
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagger.errors import TaggerError, UserError
from tagger.files import make_database_private, unused
from tagger.mqtt.limits import identity
from tagger.names import is_topic
from tagger.printable import number_of
from tagger.retry import Repeats, Retry

log = logging.getLogger(__name__)

_VERSION = 1
"""Version of the tables."""
_LONGEST_PAUSE_SECONDS = 10.0
"""Longest wait between two tries to return to a disk that failed."""
_TABLES = """
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS begun (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS retained (topic TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS components (id TEXT PRIMARY KEY, platform TEXT NOT NULL);
"""
_COLUMNS = {
    "messages": ("number", "topic", "payload"),
    "begun": ("id",),
    "retained": ("topic",),
    "components": ("id", "platform"),
}
_TABLE_NAMES = tuple(_COLUMNS)
_LAST_NUMBER = 2**62
"""Largest number of a message. A million a second would take 146 000 years."""
_MOST_BYTES = 1_000_000
"""Longest text of a row. An event has 400 bytes."""


@dataclass(frozen=True)
class WaitingMessage:
    """A message that the broker has not acknowledged."""

    number: int
    """Position in the order of sending. No number is given twice."""
    topic: str
    payload: str


class Outbox:
    """A bounded queue of events. It holds exactly one end for each event whose begin it has held, and no other end."""

    def __init__(self, path: Path | None, limit: int) -> None:
        """
        Args:
            path: the database; created if it is missing. A damaged one is renamed, with a warning. None: in memory.
            limit: largest number of messages that wait. Beyond it the oldest are dropped.

        Raises:
            UserError: the database is of a later version, or cannot be written.
        """
        self._path, self._limit = path, limit
        self._dropped = Repeats()
        self.is_durable = path is not None
        """Whether waiting messages survive this process."""
        self.database = open_database(path)
        """The open SQLite database."""
        self._count: int
        (self._count,) = self.database.execute("SELECT count(*) FROM messages").fetchone()
        self._last_number: int
        """Number of the newest message."""
        self._removed: set[int] = set()
        """Numbers of messages that are gone in memory, and may still be on the disk that failed."""
        self._retry = Retry("MQTT: the queue on disk", "events wait in memory until it can be written again")
        self._return_at = 0.0
        """Time of the next try to return to the disk, on the monotonic clock."""
        (self._last_number,) = self.database.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()

    def __len__(self) -> int:
        """Number of messages that wait."""
        return self._count

    @property
    def dropped(self) -> int:
        """Number of messages that were dropped."""
        return self._dropped.count

    def put(self, topic: str, payload: str, event_id: str, begins: bool, handed_over: int = 0) -> None:
        """Adds the begin or the end of an event, and drops the oldest message if too many wait.

        A second begin is ignored; so is an end whose begin was never added, or a second end.

        Args:
            begins: whether this is the event's begin.
            handed_over: number of the last message that may be in flight. Messages up to this one are not dropped.
        """
        try:
            self._put(topic, payload, event_id, begins, handed_over)
        except sqlite3.Error as error:
            self._continue_in_memory(error)
            self._put(topic, payload, event_id, begins, handed_over)

    def mark_begun(self, event_id: str) -> None:
        """Accepts the end of an event whose begin was published elsewhere."""
        self._write("INSERT OR IGNORE INTO begun VALUES (?)", [(event_id,)])

    def read_after(self, number: int, count: int) -> list[WaitingMessage]:
        """The oldest messages with a higher number than `number`, at most `count`."""
        rows = self._read(
            "SELECT number, topic, payload FROM messages WHERE number > ? ORDER BY number LIMIT ?",
            (number, count),
        )
        return [WaitingMessage(*row) for row in rows]

    def acknowledge(self, number: int) -> None:
        """Removes a message that the broker has acknowledged."""
        self._count -= self._write("DELETE FROM messages WHERE number = ?", [(number,)])
        self._note_removed([number])

    def holds_end(self, event_id: str) -> bool:
        """Whether the end of this event waits."""
        return bool(self._ends(event_id, 0))

    def withdraw_end(self, event_id: str, after: int) -> None:
        """Forgets an event that somebody else has ended: its end is not accepted any more, and no longer waits.

        Args:
            after: number of the last message that may be in flight. Messages up to this one stay.
        """
        self._write("DELETE FROM begun WHERE id = ?", [(event_id,)])
        for number in self._ends(event_id, after):
            self.acknowledge(number)

    def ends(self) -> list[tuple[str, str]]:
        """Topic and payload of the ends that wait."""
        rows = self._read("SELECT topic, payload FROM messages ORDER BY number")
        return [(topic, payload) for topic, payload in rows if identity(payload)[1] == "end"]

    def _ends(self, event_id: str, after: int) -> list[int]:
        """Numbers of the messages with the end of this event."""
        rows = self._read(
            "SELECT number, payload FROM messages WHERE number > ? AND instr(payload, ?)", (after, event_id)
        )
        return [number for number, payload in rows if identity(payload)[:2] == (event_id, "end")]

    @property
    def retained(self) -> set[str]:
        """Topics under which the broker may retain a message of this node."""
        return {topic for (topic,) in self._read("SELECT topic FROM retained")}

    def add_retained(self, topics: Iterable[str]) -> None:
        self._write("INSERT OR IGNORE INTO retained VALUES (?)", [(topic,) for topic in topics])

    def remove_retained(self, topic: str) -> None:
        """For a topic that the broker retains no message of any more."""
        self._write("DELETE FROM retained WHERE topic = ?", [(topic,)])

    @property
    def components(self) -> dict[str, str]:
        """Every component that was ever announced in Home Assistant: id -> platform."""
        return dict(self._read("SELECT id, platform FROM components"))

    def add_components(self, components: dict[str, str]) -> None:
        self._write("INSERT OR REPLACE INTO components VALUES (?, ?)", list(components.items()))

    def remove_components(self) -> None:
        self._write("DELETE FROM components WHERE id <> ?", [("",)])

    @property
    def is_displaced(self) -> bool:
        """Whether messages wait in memory because the disk has failed: call `return_to_disk` now and then."""
        return self._path is not None and not self.is_durable

    def return_to_disk(self, at_once: bool = False) -> None:
        """Writes everything to the disk that has failed, and continues there. Does nothing if that fails again.

        Args:
            at_once: try even if the last try was a moment ago.
        """
        if self._path is None or self.is_durable or (time.monotonic() < self._return_at and not at_once):
            return
        try:
            disk = open_database(self._path)
        except (UserError, OSError, sqlite3.Error) as error:
            reason = error.__cause__ or error.__context__ or error
            self._return_at = time.monotonic() + min(_LONGEST_PAUSE_SECONDS, self._retry.failed(str(reason)))
            return
        try:
            with disk:
                self._copy_to(disk)
        except sqlite3.Error as error:
            disk.close()
            self._return_at = time.monotonic() + min(_LONGEST_PAUSE_SECONDS, self._retry.failed(str(error)))
            return
        self.database.close()
        self.database, self.is_durable, self._removed = disk, True, set()
        (self._count,) = disk.execute("SELECT count(*) FROM messages").fetchone()
        self._retry.worked()

    def close(self) -> None:
        self.return_to_disk(at_once=True)
        self.database.close()

    def _put(self, topic: str, payload: str, event_id: str, begins: bool, handed_over: int) -> None:
        with self.database as database:
            change = "INSERT OR IGNORE INTO begun VALUES (?)" if begins else "DELETE FROM begun WHERE id = ?"
            if not database.execute(change, (event_id,)).rowcount:
                return
            last = database.execute("INSERT INTO messages (topic, payload) VALUES (?, ?)", (topic, payload)).lastrowid
            excess = max(0, self._count + 1 - self._limit)
            numbers = database.execute(
                "SELECT number FROM messages WHERE number > ? ORDER BY number LIMIT ?", (handed_over, excess)
            ).fetchall()
            database.executemany("DELETE FROM messages WHERE number = ?", numbers)
        deleted = len(numbers)
        self._note_removed(number for (number,) in numbers)
        self._count += 1 - deleted
        self._last_number = last or self._last_number
        if deleted and self._dropped.add(deleted):
            waiting = number_of(self._limit, "event waits", "events wait")
            log.warning(
                "MQTT: %s for the broker already; the oldest are dropped (%d so far)", waiting, self._dropped.count
            )

    def _read(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            return self.database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._continue_in_memory(error)
            return self.database.execute(query, values).fetchall()

    def _write(self, statement: str, rows: Collection[tuple[object, ...]]) -> int:
        """Returns the number of rows that changed. If the disk is full, the outbox continues in memory."""
        try:
            with self.database as database:
                return database.executemany(statement, rows).rowcount
        except sqlite3.Error as error:
            self._continue_in_memory(error)
            with self.database as database:
                return database.executemany(statement, rows).rowcount

    def _continue_in_memory(self, error: sqlite3.Error) -> None:
        """Copies all that can still be read to memory: the disk is full, damaged or gone."""
        self.is_durable = False
        self._return_at = time.monotonic() + self._retry.failed(str(error))
        old, self.database = self.database, open_database(None)
        for table in _TABLE_NAMES:
            with (
                self.database as database,
                suppress(sqlite3.Error),
            ):  # keeps the rows before the first that cannot be read
                for row in old.execute(f"SELECT * FROM {table}"):
                    database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        with self.database as database:  # so that the next number is above all earlier ones
            _set_last_number(database, self._last_number)
        (self._count,) = self.database.execute("SELECT count(*) FROM messages").fetchone()
        old.close()

    def _copy_to(self, disk: sqlite3.Connection) -> None:
        """Makes the tables on disk those in memory. A message there that could not be read, and so never was in memory,
        stays.
        """
        disk.executemany("DELETE FROM messages WHERE number = ?", [(number,) for number in self._removed])
        for table in _TABLE_NAMES:
            if table != "messages":
                disk.execute(f"DELETE FROM {table}")
            for row in self.database.execute(f"SELECT * FROM {table}"):
                disk.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        _set_last_number(disk, self._last_number)

    def _note_removed(self, numbers: Iterable[int]) -> None:
        if self.is_displaced:
            self._removed.update(numbers)


def _set_last_number(database: sqlite3.Connection, number: int) -> None:
    database.execute("DELETE FROM sqlite_sequence")
    database.execute("INSERT INTO sqlite_sequence VALUES ('messages', ?)", (number,))


def open_database(path: Path | None) -> sqlite3.Connection:
    """Opens the database; a damaged one is renamed, and an empty one takes its place."""
    try:
        return _connect(path)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter for damage within names
        if path is None or isinstance(error, sqlite3.OperationalError):
            raise UserError(f"{path}: cannot be used ({error}); name another folder with --state") from None
    aside = unused(path.with_name(f"{path.name}.damaged-{int(time.time())}"))  # the clock may be the same at each start
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    log.warning("%s: is damaged; put aside as %s, and begun anew", path, aside.name)
    return _connect(path)


def _connect(path: Path | None) -> sqlite3.Connection:
    # The daemon's thread opens the database, then the delivery thread alone uses it.
    if path is not None:
        make_database_private(path)
    database = sqlite3.connect(path or ":memory:", timeout=5, check_same_thread=False)
    try:
        with closing(database.execute("PRAGMA user_version")) as cursor:
            (version,) = cursor.fetchone()
        if version > _VERSION:
            raise UserError(f"{path}: was written by a later version of tagger; update, or name another --state folder")
        (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise sqlite3.DatabaseError(result)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        with database:
            database.executescript(_TABLES)
            database.execute(f"PRAGMA user_version = {_VERSION}")
        _check_tables(database)
        _remove_impossible_rows(database, path)
    except (sqlite3.Error, TaggerError, UnicodeDecodeError):
        database.close()
        raise
    return database


def _check_tables(database: sqlite3.Connection) -> None:
    """
    Raises:
        sqlite3.DatabaseError: the tables have other columns, or the numbers of messages are used up.
    """
    for table, columns in _COLUMNS.items():
        found = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")]
        if found != list(columns):
            raise sqlite3.DatabaseError(f"{table} has other columns")
    others = "SELECT count(*) FROM sqlite_master WHERE type IN ('trigger', 'view')"
    numbers = "SELECT count(*) FROM sqlite_sequence WHERE typeof(seq) <> 'integer' OR seq NOT BETWEEN 0 AND ?"
    (strange,), (wrong,) = database.execute(others).fetchone(), database.execute(numbers, (_LAST_NUMBER,)).fetchone()
    (beyond,) = database.execute(
        "SELECT count(*) FROM messages WHERE number NOT BETWEEN 1 AND ?", (_LAST_NUMBER,)
    ).fetchone()
    if strange or wrong or beyond:
        raise sqlite3.DatabaseError("other than the outbox leaves it")


def _remove_impossible_rows(database: sqlite3.Connection, path: Path | None) -> None:
    """Removes rows that no version writes, such as a message to a topic that no broker takes, and logs how many."""
    removed = 0
    for table, columns in _COLUMNS.items():
        kinds = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in columns)
        wrong = [
            (row,)
            for row, *cells in database.execute(f"SELECT rowid, {kinds} FROM {table}")
            if not all(_is_possible(*each) for each in zip(columns, cells[::2], cells[1::2], strict=True))
        ]
        with database:
            database.executemany(f"DELETE FROM {table} WHERE rowid = ?", wrong)
        removed += len(wrong)
    if removed:
        rows = number_of(removed, "row in it", "rows in it")
        log.warning("%s: %s could not be sent; removed", path, rows)


def _is_possible(column: str, kind: str, content: bytes | None) -> bool:
    if column == "number":
        return kind == "integer"
    if kind != "text" or content is None or len(content) > _MOST_BYTES:
        return False
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    return is_topic(text) if column == "topic" else column == "payload" or text.isprintable()
