"""ESC-50 in its official layout: `audio/` and `meta/esc50.csv`, in a folder or in GitHub's archive of it.

Piczak, "ESC: Dataset for Environmental Sound Classification" (ACM MM 2015).
"""

import errno
import hashlib
import json
import lzma
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tagger.errors import UserError
from tagger.files import replacing, sha256
from tagger.names import LONGEST_LABEL, label_problem
from tagger.printable import number_of
from tagger.progress import counted
from tagger.table import read_table
from train.data import cache
from train.data.dataset import FOLDS, Clip, Dataset

Subset = Literal["esc50", "esc10"]

TABLE = "meta/esc50.csv"
ARCHIVE_TOP = "ESC-50-master"
_SUFFIXES = (".wav", ".flac", ".ogg")
_MOST_BYTES = 1.5e9
"""Largest archive, unpacked. ESC-50 has 0.88e9."""
_COLUMNS = ("filename", "fold", "target", "category")
LICENCE = (
    "Trained on ESC-50, Karol J. Piczak, https://github.com/karolpiczak/ESC-50, CC BY-NC 3.0 "
    "(clips by the freesound.org users that its LICENSE lists): not for commercial use"
)
ESC10_LICENCE = (
    "Trained on ESC-10, Karol J. Piczak, https://github.com/karolpiczak/ESC-50, CC BY 3.0 "
    "(clips by the freesound.org users that its LICENSE lists)"
)
_IN_TWO_FOLDS = ("131943", "134049", "209698", "234879")
"""Recordings with clips in two official folds, such as a clock's tick in one and its alarm in the other."""


def read(root: Path, subset: Subset = "esc50") -> Dataset:
    """
    Args:
        root: the folder with `audio/` and `meta/esc50.csv`, or the official archive. Clips are found by their stem;
            they may be WAV, FLAC or Ogg, of any sample rate.
        subset: `esc10`: only the ten labels that the table marks, renumbered.

    Raises:
        UserError: the folder, its CSV or a clip is missing or malformed.
    """
    if root.is_file():
        root = _unpacked(root)
    table = root / TABLE
    if not table.is_file():
        raise UserError(
            f"{root}: no ESC-50 here ({TABLE} is missing); get it from "
            "https://github.com/karolpiczak/ESC-50 and name its folder: tagger train DATA"
        )
    rows = _rows(table, subset)
    paths = _paths(root, rows)
    try:
        folds, targets = [int(row["fold"]) for row in rows], [int(row["target"]) for row in rows]
    except ValueError as error:
        raise UserError(f"{table}: {error}") from None
    if len(set(paths)) != len(paths):
        raise UserError(f"{table}: names some clips twice; one in two folds would be trained on and scored")
    if beyond := set(folds) - set(FOLDS):
        raise UserError(f"{table}: folds must be 1 to 5, not {', '.join(map(str, sorted(beyond)))}")
    categories = _categories(table, targets, rows)
    if subset == "esc50" and list(categories) != list(range(len(categories))):
        raise UserError(f"{table}: targets must be 0 to {len(categories) - 1}, each present")
    label_of = {target: label for label, target in enumerate(categories)}
    chosen = list(zip(paths, folds, targets, strict=True))
    clips = tuple(
        Clip(path, label_of[target], fold, source_of(path.stem) or f"esc50/{path.stem}", sha256(path))
        for path, fold, target in counted("reading ESC-50", chosen, "files")
    )
    name, licence = ("ESC-50", LICENCE) if subset == "esc50" else ("ESC-10", ESC10_LICENCE)
    return Dataset(name, tuple(categories.values()), clips, (licence,))


def _rows(table: Path, subset: Subset) -> list[dict[str, str]]:
    """The rows of the table that are of the subset, by column.

    Raises:
        UserError: a column is missing, or there are no such rows.
    """
    rows = [row for _, row in read_table(table, columns=(*_COLUMNS, "esc10"))[1]]
    columns = (*_COLUMNS, "esc10") if subset == "esc10" else _COLUMNS
    if not rows or any(column not in rows[0] for column in columns):
        raise UserError(f"{table}: must have rows, and columns {', '.join(columns)}")
    if subset == "esc50":
        return rows
    marked = [row for row in rows if row["esc10"].strip().lower() in ("true", "1")]
    if not marked:
        raise UserError(f"{table}: marks no clip as one of ESC-10")
    return marked


def _paths(root: Path, rows: Sequence[Mapping[str, str]]) -> list[Path]:
    """The clip of each row.

    Raises:
        UserError: a clip is missing.
    """
    present = {path.stem: path for path in sorted((root / "audio").glob("*")) if path.suffix.lower() in _SUFFIXES}
    if missing := [row["filename"] for row in rows if Path(row["filename"]).stem not in present]:
        are = number_of(len(rows), "clip is", "clips are")
        raise UserError(f"{root / 'audio'}: {len(missing)} of {are} missing, the first {missing[0]}")
    return [present[Path(row["filename"]).stem] for row in rows]


def _categories(table: Path, targets: Sequence[int], rows: Sequence[Mapping[str, str]]) -> dict[int, str]:
    """Each target's category, the lowest target first.

    Raises:
        UserError: two targets have one category, or two categories one target; or one cannot be a label.
    """
    pairs = {(target, row["category"]) for target, row in zip(targets, rows, strict=True)}
    categories = dict(sorted(pairs))
    if not len(pairs) == len(categories) == len(set(categories.values())):
        raise UserError(f"{table}: each target must have one category, and each category one target")
    for name in categories.values():
        if problem := label_problem(name):
            raise UserError(f"{table}: the category {name[: LONGEST_LABEL + 1]!r} cannot be a label: {problem}")
    return categories


def source_of(stem: str) -> str | None:
    """The recording that a clip of ESC-50 was cut from, by its file's stem. None: not a name of ESC-50's.

    >>> source_of("1-100032-A-0")
    'esc50/100032'
    """
    parts = re.fullmatch(r"([1-5])-(\d+)-[A-Z]-\d+", stem)
    if parts is None:
        return None
    return f"esc50/{parts[2]}/{parts[1]}" if parts[2] in _IN_TWO_FOLDS else f"esc50/{parts[2]}"


def _unpacked(archive: Path) -> Path:
    """Unpacks the archive's `audio/`, `meta/` and LICENSE into a folder of the cache. Files that are there stay.

    The folder's name is a hash of the archive's table of contents: names, sizes and checksums.
    """
    with (
        told_of_damage(lambda why: UserError(f"{archive}: not a ZIP archive that can be unpacked ({why})")),
        zipfile.ZipFile(archive) as opened,
    ):
        tables = [name for name in opened.namelist() if f"/{name}".endswith(f"/{TABLE}")]
        if not tables:
            raise UserError(
                f"{archive}: no ESC-50 in it ({TABLE} is missing); unpack an archive of other sounds yourself"
            )
        top = re.escape(min(tables, key=len).removesuffix(TABLE))
        members: dict[str, zipfile.ZipInfo] = {}
        for member in opened.infolist():  # a name that leads elsewhere is none of these
            if found := re.fullmatch(rf"{top}((?:audio/|meta/)[^/\\:.][^/\\:]*|LICENSE)", member.filename):
                members[found[1]] = member
        contents = sorted((name, member.file_size, member.CRC) for name, member in members.items())
        root = cache.folder() / f"esc50-{hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:20]}"
        if size := too_large(members.values()):
            raise UserError(f"{archive}: {size}")
        missing = [name for name, size, _ in contents if not _has_size(root / name, size)]
        if missing:
            for name in counted("unpacking", missing, "files", brief=False):
                with (
                    replacing(root / name) as partial,
                    opened.open(members[name]) as packed,
                    partial.open("wb") as file,
                ):
                    shutil.copyfileobj(packed, file)
    return root


@contextmanager
def told_of_damage(error: Callable[[str], Exception]) -> Iterator[None]:
    """Turns whatever Python raises at a damaged archive into one error.

    Args:
        error: makes it of the reason.
    """
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError) as damage:
        raise error(str(damage)) from None
    except OSError as damage:
        if damage.errno in (None, errno.EINVAL, errno.ENAMETOOLONG):  # of bzip2, of places, of names; not a full disk
            raise error(damage.strerror or str(damage)) from None
        raise


def too_large(members: Iterable[zipfile.ZipInfo]) -> str | None:
    """Why an archive is not unpacked: it would take more than any ESC-50. None: it is small enough."""
    if (size := sum(member.file_size for member in members)) > _MOST_BYTES:
        most = f"ESC-50 has 0.9 GB, and more than {_MOST_BYTES / 1e9:.1f} GB are refused"
        return f"would unpack to {size / 1e9:.1f} GB; {most}"
    return None


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
