"""The tables of an archive, as Parquet. docs/archive.md describes their columns.

The bytes of a file depend on its rows alone: the writer's settings, the rows of a group and the schema are fixed, and
nothing is written of the time, the machine or the run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

TEXT, SECONDS, SCORE, COUNT = pyarrow.string(), pyarrow.float64(), pyarrow.float32(), pyarrow.int64()
TIME = pyarrow.timestamp("ms", "UTC")
_WINDOW = (("file", TEXT), ("time", TIME), ("start", SECONDS), ("end", SECONDS))
SCHEMAS: Mapping[str, pyarrow.Schema] = {
    "windows": pyarrow.schema([*_WINDOW, ("labels", pyarrow.list_(TEXT)), ("scores", pyarrow.list_(SCORE))]),
    "events": pyarrow.schema(
        [("file", TEXT), ("time", TIME), ("onset", SECONDS), ("offset", SECONDS), ("label", TEXT), ("peak", SCORE)]
    ),
    "embeddings": pyarrow.schema([*_WINDOW, ("embedding", pyarrow.list_(SCORE))]),
    "files": pyarrow.schema(
        [
            *(("file", TEXT), ("began", TIME), ("seconds", SECONDS), ("windows", COUNT), ("events", COUNT)),
            *(("error", TEXT), ("notes", pyarrow.list_(TEXT))),
        ]
    ),
}
_GROUP_ROWS = {"windows": 32_768, "events": 32_768, "embeddings": 2_048, "files": 32_768}
"""Rows of one row group: as many as are kept in memory."""


class TableFile:
    """An open file of a table, as a context manager; its end makes the file whole."""

    def __init__(self, table: str, path: Path) -> None:
        self._schema, self._group = SCHEMAS[table], _GROUP_ROWS[table]
        self._writer = pyarrow.parquet.ParquetWriter(
            str(path), self._schema, version="2.6", compression="zstd", compression_level=3, data_page_version="1.0"
        )
        self._rows: list[Sequence[Any]] = []
        self.count = 0
        """Rows so far."""

    def __enter__(self) -> "TableFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, *row: Any) -> None:
        """Takes a row, in the order of the schema. Times are milliseconds since the epoch."""
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == self._group:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pyarrow.array(column, each.type) for column, each in zip(columns, self._schema, strict=True)]
            self._writer.write_table(pyarrow.table(arrays, schema=self._schema))
        self._rows = []
