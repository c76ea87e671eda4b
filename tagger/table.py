"""Tables in CSV, as spreadsheets write them: one reader for every list of clips."""

import csv
from pathlib import Path
from typing import Any

from tagger.errors import UserError

TableRow = dict[str | Any, str | Any]
"""A row's values by column; None is the key of values beyond the last column."""


def read_table(path: Path, advice: str = "") -> tuple[list[str], list[tuple[int, TableRow]]]:
    """The columns' names, stripped, and the rows with their line numbers (from 1).

    Args:
        advice: ends the error message.

    Raises:
        UserError: not a CSV in UTF-8.
        FileNotFoundError: there is no such file.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.DictReader(file, restval="", strict=True)
            reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or ()]
            return columns, [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV in UTF-8 ({error}){advice}") from None
