"""ESC-50 in its official layout: `audio/` and `meta/esc50.csv`.

Piczak, "ESC: Dataset for Environmental Sound Classification" (ACM MM 2015).
"""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from tagger.errors import UserError
from tagger.files import sha256

FOLDS = (1, 2, 3, 4, 5)
_SUFFIXES = (".wav", ".flac", ".ogg")
_COLUMNS = ("filename", "fold", "target", "category")
LICENCE = (
    "Trained on ESC-50, Karol J. Piczak, https://github.com/karolpiczak/ESC-50, CC BY-NC 3.0 "
    "(clips by the freesound.org users that its LICENSE lists): not for commercial use"
)


@dataclass(frozen=True)
class Clip:
    path: Path
    fold: int
    target: int


@dataclass(frozen=True)
class Esc50:
    clips: tuple[Clip, ...]
    """In the order of the CSV."""
    labels: tuple[str, ...]
    """Category names by target number."""
    fingerprint: str
    """sha256 over every clip's content, fold and target: the same clips in another format are other data."""


def read(root: Path) -> Esc50:
    """
    Args:
        root: the folder that holds `audio/` and `meta/esc50.csv`. Clips are found by stem, as WAV, FLAC or Ogg.

    Raises:
        UserError: the folder, its CSV or a clip is missing or malformed.
    """
    table = root / "meta" / "esc50.csv"
    if not table.is_file():
        raise UserError(
            f"{root}: no ESC-50 here (meta/esc50.csv is missing); get it from "
            "https://github.com/karolpiczak/ESC-50 and name its folder: tagger train DATA"
        )
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            rows = list(csv.DictReader(file, restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not a CSV in UTF-8 ({error})") from None
    if not rows or any(column not in rows[0] for column in _COLUMNS):
        raise UserError(f"{table}: must have rows, and columns {', '.join(_COLUMNS)}")
    present = {path.stem: path for path in sorted((root / "audio").glob("*")) if path.suffix.lower() in _SUFFIXES}
    missing = [row["filename"] for row in rows if Path(row["filename"]).stem not in present]
    if missing:
        raise UserError(f"{root / 'audio'}: {len(missing)} of {len(rows)} clips are missing, the first {missing[0]}")
    try:
        clips = tuple(Clip(present[Path(row["filename"]).stem], int(row["fold"]), int(row["target"])) for row in rows)
    except ValueError as error:
        raise UserError(f"{table}: {error}") from None
    if len({clip.path for clip in clips}) != len(clips):
        raise UserError(f"{table}: names some clips twice; one in two folds would be trained on and scored")
    if beyond := {clip.fold for clip in clips} - set(FOLDS):
        raise UserError(f"{table}: folds must be 1 to 5, not {', '.join(map(str, sorted(beyond)))}")
    pairs = {(clip.target, row["category"]) for clip, row in zip(clips, rows, strict=True)}
    categories = dict(pairs)
    if not len(pairs) == len(categories) == len(set(categories.values())):
        raise UserError(f"{table}: each target must have one category, and each category one target")
    if sorted(categories) != list(range(len(categories))):
        raise UserError(f"{table}: targets must be 0 to {len(categories) - 1}, each present")
    if absent := set(FOLDS) - {clip.fold for clip in clips}:
        raise UserError(f"{table}: has no clips of fold {', '.join(map(str, sorted(absent)))}")
    return Esc50(clips, tuple(categories[target] for target in sorted(categories)), _fingerprint(clips))


def _fingerprint(clips: tuple[Clip, ...]) -> str:
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(bytes.fromhex(sha256(clip.path)))
        digest.update(f"{clip.fold} {clip.target}\n".encode())
    return digest.hexdigest()
