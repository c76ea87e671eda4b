"""One reader for every CSV, as spreadsheets of all countries write them."""

import codecs
from pathlib import Path

import pytest

from tagger.errors import UserError
from tagger.table import read_table

ROWS = [("filename", "label", "fold"), ("a.wav", "dog, big", "1"), ("b;.wav", "Tür", ""), ("c.wav", "rain", "")]


def written(separator: str, end: str = "\n") -> str:
    """ROWS, with values in quotes where the separator is in them."""
    return "".join(separator.join(f'"{each}"' if separator in each else each for each in row) + end for row in ROWS)


def read(path: Path, content: bytes) -> list[tuple[str, ...]]:
    path.write_bytes(content)
    columns, rows = read_table(path)
    return [tuple(columns), *(tuple(row[column] for column in columns) for _, row in rows)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_as_spreadsheets_write_it(tmp_path: Path, separator: str, end: str, encoding: str) -> None:
    assert read(tmp_path / "a.csv", written(separator, end).encode(encoding)) == ROWS


@pytest.mark.parametrize("empty", ["\n", ",,\n", " , ,\n", ",,", ",,,,\n,,,,\n", " \n", "\n\n\n", '"",,\n'])
def test_empty_rows_are_no_rows(tmp_path: Path, empty: str) -> None:
    assert read(tmp_path / "a.csv", (written(",") + empty).encode()) == ROWS


def test_empty_columns_are_no_columns(tmp_path: Path) -> None:
    content = b"filename,label,,\na.wav,dog,,,,\n"
    _, [(line, row)] = read_table_of(tmp_path, content)
    assert (line, row["filename"], row["label"], None in row) == (2, "a.wav", "dog", False)


def test_values_beyond_the_columns_are_told_from_them(tmp_path: Path) -> None:
    _, [(_, row)] = read_table_of(tmp_path, b"filename,label\na.wav,dog,,more\n")
    assert row[None] == ["", "more"]


def test_lines_are_counted_over_empty_ones(tmp_path: Path) -> None:
    _, rows = read_table_of(tmp_path, b"filename;label\n\n;\na.wav;dog\n")
    assert [line for line, _ in rows] == [4]


@pytest.mark.parametrize(
    "content", [b"filename,label\n\xff", codecs.BOM_UTF16_LE + b"a", b'filename,label\n"a', b"a,b\n" + b"x" * 200_000]
)
def test_what_is_no_table_is_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"t\.csv: not a CSV in UTF-8 \([^\n]*\)"):
        read_table_of(tmp_path, content)


def test_a_table_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("wb") as file:
        file.truncate(3_000_000_000)
    with pytest.raises(UserError, match="3000 MB are more than any table of clips has; mend it"):
        read_table(tmp_path / "t.csv", "; mend it")


def read_table_of(folder: Path, content: bytes):
    (folder / "t.csv").write_bytes(content)
    return read_table(folder / "t.csv")


@pytest.mark.parametrize("header", ["filename,label,label", "filename,label,Label", "Filename , filename,label"])
def test_a_column_is_there_once(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\na.wav,dog,cat\n")
    with pytest.raises(UserError, match=r"a\.csv: the column '(filename|label)' is there more than once"):
        read_table(tmp_path / "a.csv", columns=["filename", "label"])


def test_other_columns_may_have_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("filename,label,note,note,,\na.wav,dog,cat,,,\n")
    assert read_table(tmp_path / "a.csv", columns=["filename", "label"])[1][0][1]["label"] == "dog"
