"""The history of scores: an SQLite database, for the question what another threshold would have given."""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagger.errors import UserError
from tagger.events import Samples
from tagger.files import make_database_private, make_folders
from tagger.history import sqlite
from tagger.history.blocks import HEAD_BYTES, Block, Reader, head_of
from tagger.history.sqlite import damaged, transaction, translated_errors, unusable

_WHAT = "history of scores"
_VERSION = 1
_APPLICATION = 0x74616773
_TABLE = """
CREATE TABLE IF NOT EXISTS blocks (
    id INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    source TEXT NOT NULL,
    begin REAL NOT NULL,
    end REAL NOT NULL,
    labels TEXT NOT NULL,
    data BLOB NOT NULL
)
"""


@dataclass(frozen=True, eq=False)
class Track:
    """All kept windows of one source, and the scores of one label in them."""

    time: NDArray[np.float64]
    """[N], of the windows' first samples, seconds since the epoch."""
    duration_s: NDArray[np.float64]
    """[N]"""
    flags: NDArray[np.uint8]
    """[N + 1]; the last is what came after the last window."""
    values: Samples
    """[N]; 0 where the score is below FLOOR."""
    activity: Sequence[tuple[Samples, float]]
    """Activity and step of each window whose value is not 0, in order."""
    entries: NDArray[np.intp]
    """[N], place in `activity`; -1: none."""


@dataclass(frozen=True)
class Chunk:
    """A row of the database, without its windows. Of two that are equal, the windows are equal."""

    id: int
    begin: float
    """When its first window begins, seconds since the epoch."""
    end: float
    bytes: int
    windows: int


def chunks(database: sqlite3.Connection, node: str, source: str) -> list[Chunk]:
    """What is kept of a source, in the order in which it was heard."""
    rows = database.execute(
        "SELECT id, begin, end, length(data), substr(data, 1, ?) FROM blocks WHERE node = ? AND source = ? ORDER BY id",
        (HEAD_BYTES, node, source),
    )
    return [Chunk(id, begin, end, size, head_of(packed)["windows"]) for id, begin, end, size, packed in rows]


def track(
    database: sqlite3.Connection, node: str, source: str, label: str, among: Sequence[Chunk] | None = None
) -> Track:
    """What is kept of one label, in the order in which it was heard.

    Args:
        among: some rows that follow each other. None: all.
    """
    times, durations, flags, values, activity = [], [], [], [], list[tuple[Samples, float]]()
    entries, after = [], 0
    first, last = (among[0].id, among[-1].id) if among else (0, 2**62)
    rows = database.execute(
        "SELECT labels, data FROM blocks WHERE node = ? AND source = ? AND id BETWEEN ? AND ? ORDER BY id",
        (node, source, first, last),
    )
    for names, data in rows:
        reader = Reader(data)
        head = reader.head
        count, kept, steps = head["windows"], head["entries"], head["steps"]
        times.append(np.cumsum(reader.take(np.int64, count)).view(np.float64))
        durations.append(np.cumsum(reader.take(np.int64, count)).view(np.float64))
        own = reader.take(np.uint8, count).copy()
        own[:1] |= after
        after = head["after"]
        flags.append(own)
        window = np.repeat(np.arange(count), reader.take(np.uint16, count))
        places, scores = reader.take(np.uint16, kept), reader.take(np.float32, kept)
        value, entry = np.zeros(count, np.float32), np.full(count, -1, np.intp)
        labels = json.loads(names)
        if label in labels:
            mine = np.flatnonzero(places == labels.index(label))
            value[window[mine]] = scores[mine]
            entry[window[mine]] = len(activity) + np.arange(len(mine))
            rows_ = reader.take(np.float32, kept * steps).reshape(kept, steps)
            activity.extend((rows_[each], head["step_s"]) for each in mine)
        values.append(value)
        entries.append(entry)
    return Track(
        np.concatenate([np.zeros(0), *times]),
        np.concatenate([np.zeros(0), *durations]),
        np.concatenate([np.zeros(0, np.uint8), *flags, np.array([after], np.uint8)]),
        np.concatenate([np.zeros(0, np.float32), *values]),
        activity,
        np.concatenate([np.zeros(0, np.intp), *entries]),
    )


def labels_of(database: sqlite3.Connection, node: str, source: str) -> dict[str, int]:
    """In how many stretches of up to BLOCK_WINDOWS windows each label reaches FLOOR."""
    counts: dict[str, int] = {}
    for (names,) in database.execute("SELECT labels FROM blocks WHERE node = ? AND source = ?", (node, source)):
        for label in json.loads(names):
            counts[label] = counts.get(label, 0) + 1
    return counts


class ScoreHistory:
    """The database, open for writing. One thread at a time may use it."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UserError: the file is something else, or cannot be written to.
            TaggerError: another process keeps it locked.
        """
        self.path = path
        with _translated_errors(path):
            make_folders(path.parent, is_private=True)
            if path.exists() and path.stat().st_size:
                with reading(path):
                    pass
            make_database_private(path)
            self._database = sqlite.connect(path)
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = NORMAL")
                if not _identity(self._database):
                    self._database.execute(_TABLE)
                    self._database.execute("CREATE INDEX IF NOT EXISTS blocks_source ON blocks (node, source, id)")
                    self._database.execute(f"PRAGMA application_id = {_APPLICATION}")
                    self._database.execute(f"PRAGMA user_version = {_VERSION}")
            except BaseException:
                self._database.close()
                raise

    def write(self, blocks: Sequence[Block]) -> None:
        """Writes blocks, or writes them again with what was added.

        Raises:
            sqlite3.Error: nothing was written.
        """
        made = []
        with transaction(self._database):
            for block in blocks:
                labels, data = block.packed()
                ends = [each.time + each.duration_s for each in block.windows]
                row = (block.id, block.node, block.source, block.windows[0].time, max(ends), labels, data)
                made.append(self._database.execute("REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", row).lastrowid)
        for block, id in zip(blocks, made, strict=True):
            block.id = id

    def ends(self) -> Iterator[float]:
        """Where the blocks end, in order, seconds since the epoch."""
        for (end,) in self._database.execute("SELECT end FROM blocks ORDER BY end"):
            yield end

    def delete(self, start: float, end: float) -> None:
        """Deletes the blocks that end from `start` on and before `end`."""
        self._database.execute("DELETE FROM blocks WHERE end >= ? AND end < ?", (start, end))

    def shrink(self, most_bytes: float) -> None:
        """Deletes the oldest blocks until no more than this is kept, in bytes of blocks."""
        (size,) = self._database.execute("SELECT coalesce(sum(length(data)), 0) FROM blocks").fetchone()
        while size > most_bytes:
            id, length = self._database.execute("SELECT id, length(data) FROM blocks ORDER BY id LIMIT 1").fetchone()
            self._database.execute("DELETE FROM blocks WHERE id = ?", (id,))
            size -= length

    def close(self) -> None:
        self._database.close()


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens a history for reading.

    Raises:
        UserError: the file is missing, damaged, or something else.
        TaggerError: another process keeps it locked.
    """
    with _translated_errors(path):
        if not path.is_file():
            raise UserError(f"{path}: no such file; `tagger listen --score-history {path}` writes it")
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite.connect(address, is_url=True)) as database:
            if _identity(database) != (_APPLICATION, _VERSION):
                raise UserError(f"{path}: is no history of scores, or one of another version; name another file")
            yield database


def _identity(database: sqlite3.Connection) -> tuple[int, int] | None:
    """What the database says that it is; None: it is empty."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return (application, version) if tables or application or version else None


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """Turns the errors of SQLite, of the file's system and of blocks that cannot be unpacked into ours."""
    with translated_errors(path, _WHAT):
        try:
            yield
        except (zlib.error, ValueError, KeyError):
            raise damaged(path, _WHAT) from None
        except OSError as error:
            raise unusable(path, _WHAT, error) from None
