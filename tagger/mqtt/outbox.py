"""What waits for the broker, on disk: events that were not acknowledged yet, in order; and what was left at the broker.

One thread at a time. Written with SQLite's write-ahead log and without waiting for the disk: what is here survives the
daemon's death; a power cut may cost the last half minute.
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

log = logging.getLogger(__name__)

_VERSION = 1
"""Of the tables."""
_TABLES = """
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS begun (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS retained (topic TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS components (id TEXT PRIMARY KEY, platform TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Waiting:
    """A message that the broker has not acknowledged."""

    number: int
    """Messages are sent in this order."""
    topic: str
    payload: str


class Outbox:
    """A bounded queue of events. Its end is published for each event whose begin was, exactly once."""

    def __init__(self, path: Path | None, limit: int) -> None:
        """
        Args:
            path: the database, made if it is not there. A damaged one is put aside, and said. None: in memory.
            limit: so many messages wait at most; then the oldest are dropped.

        Raises:
            UserError: the database is of a later version, or cannot be written.
        """
        self._limit = limit
        self.dropped = 0
        self.is_durable = path is not None
        """What waits survives this process."""
        self._database = _open(path)
        self._count: int
        (self._count,) = self._database.execute("SELECT count(*) FROM messages").fetchone()
        self._last: int
        """Number of the newest message; none is given twice."""
        (self._last,) = self._database.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()

    def __len__(self) -> int:
        """Messages that wait."""
        return self._count

    def put(self, topic: str, payload: str, event_id: str, begins: bool, handed_over: int = 0) -> None:
        """
        Args:
            event_id: an end of an event whose begin never came here, or whose end did, is left out.
            handed_over: number of the last message that may be on its way. None of these is dropped.
        """
        try:
            self._put(topic, payload, event_id, begins, handed_over)
        except sqlite3.Error as error:
            self._to_memory(error)
            self._put(topic, payload, event_id, begins, handed_over)

    def begun(self, event_id: str) -> None:
        """Its begin was published elsewhere: its end is to be published here."""
        self._write("INSERT OR IGNORE INTO begun VALUES (?)", [(event_id,)])

    def after(self, number: int, count: int) -> list[Waiting]:
        """The `count` oldest messages that come after this one."""
        rows = self._read(
            "SELECT number, topic, payload FROM messages WHERE number > ? ORDER BY number LIMIT ?",
            (number, count),
        )
        return [Waiting(*row) for row in rows]

    def done(self, number: int) -> None:
        """The broker has it."""
        self._count -= self._write("DELETE FROM messages WHERE number = ?", [(number,)])

    @property
    def retained(self) -> set[str]:
        """Topics at which this node has left a message at the broker."""
        return {topic for (topic,) in self._read("SELECT topic FROM retained")}

    def retain(self, topics: Iterable[str]) -> None:
        self._write("INSERT OR IGNORE INTO retained VALUES (?)", [(topic,) for topic in topics])

    def forget(self, topic: str) -> None:
        """There is no message any more."""
        self._write("DELETE FROM retained WHERE topic = ?", [(topic,)])

    @property
    def components(self) -> dict[str, str]:
        """What Home Assistant was told of at any time: id -> platform."""
        return dict(self._read("SELECT id, platform FROM components"))

    def remember(self, components: dict[str, str]) -> None:
        self._write("INSERT OR REPLACE INTO components VALUES (?, ?)", list(components.items()))

    def forget_components(self) -> None:
        self._write("DELETE FROM components WHERE id <> ?", [("",)])

    def close(self) -> None:
        self._database.close()

    def _put(self, topic: str, payload: str, event_id: str, begins: bool, handed_over: int) -> None:
        with self._database as database:
            change = "INSERT OR IGNORE INTO begun VALUES (?)" if begins else "DELETE FROM begun WHERE id = ?"
            if not database.execute(change, (event_id,)).rowcount:
                return
            last = database.execute("INSERT INTO messages (topic, payload) VALUES (?, ?)", (topic, payload)).lastrowid
            excess = max(0, self._count + 1 - self._limit)
            gone = database.execute(
                "DELETE FROM messages WHERE number IN"
                " (SELECT number FROM messages WHERE number > ? ORDER BY number LIMIT ?)",
                (handed_over, excess),
            ).rowcount
        self._count += 1 - gone
        self._last = last or self._last
        if gone and not self.dropped:
            log.warning("MQTT: %d events wait for the broker already; the oldest are dropped from now on", self._limit)
        self.dropped += gone

    def _read(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._to_memory(error)
            return self._database.execute(query, values).fetchall()

    def _write(self, statement: str, rows: Collection[tuple[object, ...]]) -> int:
        """How many rows changed. A disk that is full is no reason to stop: at the next start they are done again."""
        try:
            with self._database as database:
                return database.executemany(statement, rows).rowcount
        except sqlite3.Error as error:
            self._to_memory(error)
            with self._database as database:
                return database.executemany(statement, rows).rowcount

    def _to_memory(self, error: sqlite3.Error) -> None:
        """The disk is full, damaged or gone: goes on in memory, with all that can still be read."""
        self.is_durable = False
        log.warning("MQTT: events cannot be kept on disk (%s); until the next start they wait in memory", error)
        before, self._database = self._database, _open(None)
        for table in ("messages", "begun", "retained", "components"):
            with self._database as database, suppress(sqlite3.Error):  # keeps the rows before one that cannot be read
                for row in before.execute(f"SELECT * FROM {table}"):
                    database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        with self._database as database:  # the next message comes after those that were sent
            database.execute("DELETE FROM sqlite_sequence")
            database.execute("INSERT INTO sqlite_sequence VALUES ('messages', ?)", (self._last,))
        (self._count,) = self._database.execute("SELECT count(*) FROM messages").fetchone()
        before.close()


def _open(path: Path | None) -> sqlite3.Connection:
    try:
        return _prepared(path)
    except sqlite3.DatabaseError as error:
        if path is None or isinstance(error, sqlite3.OperationalError):
            raise UserError(f"{path}: cannot be used ({error}); name another folder with --state") from None
    aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    path.rename(aside)
    for rest in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + rest).rename(aside.with_name(aside.name + rest))
    log.warning("%s: is damaged; put aside as %s, and begun anew", path, aside.name)
    return _prepared(path)


def _prepared(path: Path | None) -> sqlite3.Connection:
    # Used by one thread after the other: opened by the daemon's, then by the sink's own.
    database = sqlite3.connect(path or ":memory:", timeout=5, check_same_thread=False)
    try:
        with closing(database.execute("PRAGMA user_version")) as cursor:
            (version,) = cursor.fetchone()
        if version > _VERSION:
            raise UserError(f"{path}: was written by a later version of tagger; update, or name another --state folder")
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        with database:
            database.executescript(_TABLES)
            database.execute(f"PRAGMA user_version = {_VERSION}")
    except (sqlite3.Error, TaggerError):
        database.close()
        raise
    return database
