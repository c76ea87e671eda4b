"""What queries need of a database of events, whichever it is: SQLite's event log, or PostgreSQL with many machines'."""

from collections.abc import Sequence
from typing import Any, Protocol

URLS = ("postgresql://", "postgres://")
"""How the URL of a PostgreSQL database begins."""


class Database(Protocol):
    """Runs SELECTs in the words that SQLite and PostgreSQL have in common, with `?` for each value."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:
        """A cursor: iterable, with `fetchone`."""
