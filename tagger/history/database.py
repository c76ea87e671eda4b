"""What queries need of a database of events, whichever it is: SQLite's event log, or PostgreSQL with many machines'."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from tagger.history import log
from tagger.names import DATABASE_URLS


class Database(Protocol):
    """Runs SELECTs in the words that SQLite and PostgreSQL have in common, with `?` for each value."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:
        """A cursor: iterable, with `fetchone`."""


def reading(place: str | Path, longest_s: float | None = None) -> AbstractContextManager[Database]:
    """Opens a database of events for reading.

    Args:
        place: path of an event log, or the URL of the database of `tagger collect`.
        longest_s: time after which what is asked in the `with` block is given up, seconds.

    Raises:
        UserError: there is no such database, or it is something else; or, within the block, it takes too long.
        TaggerError: it cannot be reached, or another process keeps it locked.
        ModuleNotFoundError: a URL is given, and psycopg is not installed.
    """
    if isinstance(place, str) and place.startswith(DATABASE_URLS):
        from tagger.history import postgres

        return postgres.reading(place, longest_s)
    return log.reading(Path(place), longest_s)
