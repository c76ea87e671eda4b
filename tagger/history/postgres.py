"""The event log of many machines: a PostgreSQL database. Any number of collectors write it at the same time.

The only module that imports psycopg.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from importlib import resources
from operator import attrgetter
from typing import Any

import psycopg
from psycopg import conninfo

from tagger.errors import TaggerError, UserError
from tagger.history import migrations
from tagger.history.log import EventRow
from tagger.names import DATABASE_URLS

WAIT_SECONDS = 10
"""Longest wait for a connection, seconds."""
_STATEMENT_SECONDS = 60
"""Longest time of one statement."""
_LOCK = 0x7461_6767_6572
"""Number of PostgreSQL's advisory lock under which the tables are made: `tagger` in ASCII."""
_values = attrgetter(*(field.name for field in fields(EventRow)))
_WRITE = """
INSERT INTO events (id, node, source, label, onset, "offset", score, peak_score, model, cause{key})
SELECT *{key_value} FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[],
    %s::float8[], %s::float8[], %s::text[], %s::text[]) AS given(id)
ON CONFLICT (id{key}) DO UPDATE SET
    "offset" = excluded."offset", score = excluded.score,
    peak_score = greatest(events.peak_score, excluded.peak_score), cause = coalesce(events.cause, excluded.cause)
WHERE events."offset" IS NULL AND excluded."offset" IS NOT NULL AND events.node = excluded.node
"""
_MADE = "SELECT FROM pg_attribute WHERE attrelid = 'events'::regclass AND attname = 'made' AND NOT attisdropped"
"""Finds the column that only a hypertable of TimescaleDB has: the time in the id, a part of its key."""
_FOR_GOOD = ("28", "3D", "42")
"""SQLSTATE classes of what no second try mends: who may log in, which database, rights and tables."""
_OF_A_ROW = ("22", "54000")
"""SQLSTATE class and code of what is wrong with a row itself: a value that no column takes, or that no index holds."""
_REFUSALS = ("authentication failed", "does not exist", "invalid", "no password supplied", "certificate")
"""Words of libpq for what no second try mends; before there is a connection, it gives no SQLSTATE."""


class RowRefusedError(ValueError):
    """The database cannot hold one of the rows, now or later. The text says why."""


def shown(url: str) -> str:
    """The URL for people: without user, password and parameters.

    >>> shown("postgresql://me:secret@db.example.org:5433/sounds?sslmode=require")
    'postgresql://db.example.org:5433/sounds'
    """
    try:
        parts = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return DATABASE_URLS[0]
    host, port = parts.get("host") or "", f":{parts['port']}" if parts.get("port") else ""
    host = "" if str(host).startswith("/") else host
    return f"{DATABASE_URLS[0]}{host}{port}/{parts.get('dbname') or ''}"


class PostgresLog:
    """The event log of many machines, open for writing. One thread at a time may use it.

    After an error the connection is closed; the next call of `write` makes another.
    """

    def __init__(self, url: str) -> None:
        """
        Args:
            url: `postgresql://user:password@host:port/database?sslmode=...`, as libpq takes it. What it leaves out
                comes from libpq's environment variables (PGPASSWORD, PGPASSFILE, PGSSLMODE ...).

        Raises:
            UserError: no such database, user or password; it cannot hold all letters; or the tables are not ours.
            TaggerError: the database cannot be reached.
        """
        self._url = url
        self._connection = _connect(url)
        with _translated_errors(url):
            try:
                _check_encoding(self._connection, url)
                _migrate(self._connection, url)
                is_hypertable = self._connection.execute(_MADE).fetchone() is not None
                self._connection.commit()
            except BaseException:
                self._connection.close()
                raise

        key, key_value = (", made", ", tagger_made(given.id)") if is_hypertable else ("", "")
        self._write = _WRITE.format(key=key, key_value=key_value)

    def write(self, rows: Sequence[EventRow]) -> None:
        """Writes all rows, or none, in one transaction. Begins have no offset. A row that is there changes nothing, an
        end completes it; another node's row is left alone.

        Args:
            rows: no two with the same id.

        Raises:
            RowRefusedError: no row was written; without one of them, or some, the others can be.
            UserError, TaggerError: no row was written, or it is not known; writing them again is right in any case.
        """
        if self._connection.closed:
            self._connection = _connect(self._url)
        # In the order of ids: two collectors that write the same events then never wait for each other.
        columns = [list(column) for column in zip(*map(_values, sorted(rows, key=lambda row: row.id)), strict=True)]
        try:
            with _translated_errors(self._url), _refused_rows(), self._connection.transaction():
                self._connection.execute(self._write, columns)
        except RowRefusedError:
            raise
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


class _Reader:
    """Reads with the queries of the event log, which are SQLite's."""

    def __init__(self, connection: "psycopg.Connection[Any]", deadline: float | None) -> None:
        """
        Args:
            deadline: time on the monotonic clock at which what is asked is given up. None: never.
        """
        self._connection, self._deadline = connection, deadline
        self._cursors: list[psycopg.ServerCursor[Any]] = []

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Rows of a SELECT, from a cursor on the server: a year of a thousand machines does not fit into memory."""
        if self._deadline is not None:
            left_ms = max(1, round(1_000 * (self._deadline - time.monotonic())))
            self._connection.execute(f"SET statement_timeout = {left_ms}")
        cursor = self._connection.cursor(name=f"tagger_{len(self._cursors)}")
        self._cursors.append(cursor)
        cursor.itersize = 5_000
        return cursor.execute(sql.replace("%", "%%").replace("?", "%s"), values)

    def close(self) -> None:
        """Closes all cursors."""
        for cursor in self._cursors:
            with suppress(psycopg.Error):
                cursor.close()


@contextmanager
def reading(url: str, longest_s: float | None = None) -> Iterator[_Reader]:
    """Opens the database for reading.

    Args:
        longest_s: time after which what is asked in the `with` block is given up, seconds.

    Raises:
        UserError: there is no such database, or it holds no events of ours; or, within the block, it takes too long.
        TaggerError: it cannot be reached.
    """
    connection = _connect(url)
    deadline = None if longest_s is None else time.monotonic() + longest_s
    with _translated_errors(url), connection:
        connection.read_only = True
        if connection.execute("SELECT to_regclass('tagger_schema')").fetchone() == (None,):
            raise UserError(f"{shown(url)}: has no events; `tagger collect` writes them")
        _check_version(connection, url)
        reader = _Reader(connection, deadline)
        try:
            yield reader
        except psycopg.errors.QueryCanceled:
            raise UserError(f"{shown(url)}: this takes too long to find; ask for a shorter time") from None
        finally:
            reader.close()


def _connect(url: str) -> "psycopg.Connection[Any]":
    try:
        conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise UserError(
            f"{shown(url)}: is no URL of a database ({_first_line(error)}); "
            "write postgresql://user@host/database, and the password in PGPASSWORD or ~/.pgpass"
        ) from None
    with _translated_errors(url):
        return psycopg.connect(
            url,
            connect_timeout=WAIT_SECONDS,
            application_name="tagger",
            keepalives_idle=15,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=30_000,
            options=f"-c statement_timeout={_STATEMENT_SECONDS}s -c lock_timeout={_STATEMENT_SECONDS // 2}s",
        )


def _check_encoding(connection: "psycopg.Connection[Any]", url: str) -> None:
    """
    Raises:
        UserError: the database cannot hold every name.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise UserError(
            f"{shown(url)}: holds text as {encoding}, which lacks letters that names may have; make it with "
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def _migrate(connection: "psycopg.Connection[Any]", url: str) -> None:
    """Brings the tables to the newest version. Of several collectors that start together, one does it."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS tagger_schema (version integer PRIMARY KEY, applied timestamptz DEFAULT now())"
        )
        version = _check_version(connection, url)
        for number, statements in _migrations():
            if number > version:
                connection.execute(statements)
                connection.execute("INSERT INTO tagger_schema (version) VALUES (%s)", (number,))


def _migrations() -> list[tuple[int, str]]:
    files = [each for each in resources.files(migrations).iterdir() if each.name.endswith(".sql")]
    return sorted((int(each.name[:4]), each.read_text("utf-8")) for each in files)


def _check_version(connection: "psycopg.Connection[Any]", url: str) -> int:
    """
    Raises:
        UserError: a newer version of tagger has made the tables.
    """
    row = connection.execute("SELECT coalesce(max(version), 0) FROM tagger_schema").fetchone()
    version, newest = int(row[0]) if row else 0, _migrations()[-1][0]
    if version > newest:
        raise UserError(
            f"{shown(url)}: was written by a newer version of tagger (tables {version}, this one knows {newest}); "
            "upgrade"
        )
    return version


@contextmanager
def _refused_rows() -> Iterator[None]:
    """Turns psycopg's error into ours where a row is at fault."""
    try:
        yield
    except psycopg.Error as error:
        if (error.sqlstate or "").startswith(_OF_A_ROW):
            raise RowRefusedError(_first_line(error)) from None
        raise


@contextmanager
def _translated_errors(url: str) -> Iterator[None]:
    """Turns psycopg's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        state, why = error.sqlstate or "", _first_line(error)
        message = f"{shown(url)}: {why}"
        if state[:2] in _FOR_GOOD or any(words in str(error) for words in _REFUSALS):
            raise UserError(f"{message}; check database, user and password") from None
        raise TaggerError(message) from None


def _first_line(error: BaseException) -> str:
    """The line of libpq's message that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "FATAL" in line), lines[0] if lines else type(error).__name__)
