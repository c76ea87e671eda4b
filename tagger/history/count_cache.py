"""Counts of kept scores that were made already: a cache, in a file beside the history."""

import json
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tagger.files import make_database_private

_MOST_BYTES = 200_000_000
"""Largest file of counts. A month of a label that is heard all day takes some megabytes."""
_UNUSED_DAYS = 14
"""Time after which counts that nobody asked for are forgotten, days."""
_PAGE_BYTES = 4_096
_SAVE_SECONDS = 1.0
"""Time between two writes, seconds: what is lost if the process that counts is ended."""


@dataclass(frozen=True)
class Part:
    """What one threshold gives in one part."""

    begins: list[float]
    """Onsets of the events that begin in it, seconds since the epoch."""
    ends: list[float | None]
    """Their offsets, where they end in it."""
    end: float | None
    """Offset of the event that had begun before, if it ends here."""
    memory: dict[str, Any]
    after: int
    """Flags of what comes after."""


class CountCache:
    """The counts that are kept in a file. Where it cannot be used, all is counted again."""

    def __init__(self, database: sqlite3.Connection | None) -> None:
        self._database = database
        self._new: dict[bytes, bytes] = {}
        self._lasting: list[bytes] = []
        """Keys of what is to be written."""
        self._used: set[bytes] = set()
        self._saved_at = time.monotonic()

    def find(self, key: bytes) -> Part | None:
        data = self._new.get(key)
        if data is None and self._database is not None:
            with suppress(sqlite3.Error):
                row = self._database.execute("SELECT data FROM counts WHERE key = ?", (key,)).fetchone()
                data = row and row[0]
                self._used.add(key)
        try:
            return None if data is None else Part(**json.loads(zlib.decompress(data)))
        except (zlib.error, ValueError, TypeError):
            return None

    def add(self, key: bytes, part: Part, lasts: bool) -> None:
        """
        Args:
            lasts: whether somebody may ask for it again. Else only this one remembers it.
        """
        self._new[key] = zlib.compress(json.dumps(asdict(part)).encode(), 1)
        if lasts:
            self._lasting.append(key)
        if time.monotonic() - self._saved_at >= _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Writes what was counted, as far as that works."""
        self._saved_at, today = time.monotonic(), int(time.time() // 86_400)
        if self._database is not None:
            with suppress(sqlite3.Error), self._database as database:
                database.executemany(
                    "REPLACE INTO counts VALUES (?, ?, ?)", [(key, today, self._new[key]) for key in self._lasting]
                )
                database.executemany(
                    "UPDATE counts SET used = ?1 WHERE key = ?2 AND used < ?1", [(today, key) for key in self._used]
                )
                database.execute("DELETE FROM counts WHERE used < ?", (today - _UNUSED_DAYS,))
            self._lasting.clear()
            self._used.clear()


@contextmanager
def keeping(history: Path) -> Iterator[CountCache]:
    """Opens the counts of a history, which are in a file beside it; one that is damaged, or full, begins anew."""
    path = history.with_name(f"{history.name}.counts")
    try:
        database = _open(path)
    except sqlite3.DatabaseError:
        database = None
        with suppress(sqlite3.Error, OSError):
            path.unlink(missing_ok=True)
            database = _open(path)
    except OSError:
        database = None
    cache = CountCache(database)
    try:
        yield cache
    finally:
        cache.save()
        if database is not None:
            database.close()


def _open(path: Path) -> sqlite3.Connection:
    if path.exists() and path.stat().st_size > _MOST_BYTES:
        path.unlink()
    make_database_private(path)
    database = sqlite3.connect(path, timeout=2.0)
    try:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(f"PRAGMA max_page_count = {2 * _MOST_BYTES // _PAGE_BYTES}")
        database.execute(
            "CREATE TABLE IF NOT EXISTS counts (key BLOB PRIMARY KEY, used INTEGER, data BLOB) WITHOUT ROWID"
        )
        database.execute("SELECT data FROM counts LIMIT 1").fetchone()
    except BaseException:
        database.close()
        raise
    return database
