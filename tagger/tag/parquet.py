"""Parquet: the columns of the CSV, with types. Needs the extra `parquet`."""

from pathlib import Path

import pyarrow
import pyarrow.parquet

from tagger.printable import printable
from tagger.tag.formats import Cell, Item, as_row, columns
from tagger.tag.inputs import Recording

SUFFIX = ".parquet"
_GROUP_ROWS = 65_536
"""Rows of one row group: as many as are kept in memory."""


class ParquetSheet:
    """An open file. `close` makes it whole."""

    def __init__(self, path: Path, events: bool) -> None:
        self._columns = columns(events)
        text, seconds = pyarrow.string(), pyarrow.float64()
        types = (text, seconds, seconds, text, pyarrow.float32())
        self._schema = pyarrow.schema(list(zip(self._columns, types, strict=True)))
        self._writer = pyarrow.parquet.ParquetWriter(str(path), self._schema)
        self._rows: list[list[Cell]] = []

    def begin(self, recording: Recording) -> None:
        self._file = printable(str(recording.path))  # names need not be Unicode, and Parquet's text is

    def add(self, recording: Recording, item: Item) -> None:
        self._rows += [[self._file, *row.values()] for row in as_row(item)]
        if len(self._rows) >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            values = list(zip(*self._rows, strict=True))
            arrays = [pyarrow.array(column, each.type) for column, each in zip(values, self._schema, strict=True)]
            self._writer.write_table(pyarrow.table(arrays, schema=self._schema))
        self._rows = []
