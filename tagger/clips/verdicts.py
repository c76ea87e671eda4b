"""A person's verdicts on saved clips: `reviewed.csv` in the clips' folder, which `tagger train --add` reads.

A clip that was right has its label, one that was wrong is `background`, and one that was something else has that label.
"""

import csv
import json
import os
import shlex
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tagger.clips.folder import EVENTS, REVIEWED, is_linked, locked, read_reviews
from tagger.errors import UserError
from tagger.files import is_file, private_mode, replacing
from tagger.names import LONGEST_LABEL, label_problem
from tagger.printable import number_of

Verdict = Literal["right", "wrong", "other"]
Warn = Callable[[str], None]
"""Shows one line to the user."""

UNDO = "undo"
BACKGROUND_LABEL = "background"
_COLUMNS = ("filename", "label", "source", "fold", "verdict")


@dataclass(frozen=True)
class SavedClip:
    """A saved clip and its verdict. Times are seconds since the epoch."""

    file: str
    """Path below the folder, with `/`."""
    id: str
    """The event's id."""
    label: str
    """The event's label, as it was announced."""
    peak_score: float
    onset: float
    """Begin of the sound."""
    offset: float
    """End of the sound."""
    clip_onset: float
    """Begin of the audio in the file."""
    clip_offset: float
    """End of the audio in the file."""
    stream: str
    """Node and source, `node/source`."""
    exists: bool = True
    """False: the file was deleted."""
    verdict: Verdict | None = None
    """None: not reviewed."""
    given_label: str | None = None
    """The label that the person gave; None without a verdict and with `wrong`."""

    def to_json(self) -> dict[str, Any]:
        """A line of `tagger review --list --json`."""
        return {
            "id": self.id,
            "file": self.file,
            "label": self.label,
            "peak_score": self.peak_score,
            "onset": datetime.fromtimestamp(self.onset, UTC).isoformat(timespec="milliseconds"),
            "duration_s": round(self.offset - self.onset, 3),
            "verdict": self.verdict,
            "told": self.given_label,
        }


def load(root: Path, warn: Warn = lambda line: None) -> list[SavedClip]:
    """The clips whose files exist: first those without a verdict, then the others; each from the oldest on.

    Args:
        warn: is called where lines of `events.jsonl` are damaged; they are left out.

    Raises:
        UserError: `root` is no folder of saved clips, or `reviewed.csv` is damaged.
    """
    clips = [clip for clip in _all_clips(root, read_reviews(root), warn) if clip.exists]
    return sorted(clips, key=lambda clip: (clip.verdict is not None, clip.onset))


def stamp(root: Path) -> Hashable:
    """Changes whenever a clip came, went, or got a verdict.

    Raises:
        OSError: `root` cannot be read.
    """
    found: list[tuple[str, int, int, int]] = []
    with os.scandir(root) as entries:
        for each in entries:
            if each.name in (EVENTS, REVIEWED) or each.is_dir(follow_symlinks=False):
                status = each.stat(follow_symlinks=False)
                found.append((each.name, status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(sorted(found))


def train_line(root: Path) -> str:
    """The command that trains on ESC-50 and the reviewed clips."""
    return f"tagger train ESC-50/ --add {shlex.quote(str(root))} --recipe stream --all-clips --name mine"


def mark(root: Path, verdicts: Mapping[str, str], warn: Warn = lambda line: None) -> list[SavedClip]:
    """Writes verdicts into `reviewed.csv`: all of them, or none if one cannot be used.

    Args:
        verdicts: the event's id or the clip's file, and `right`, `wrong`, a label, or `undo`.

    Returns:
        The clips named, with their new verdicts.

    Raises:
        UserError: a clip is unknown or was deleted, or a verdict cannot be a label. Or as `load`.
    """
    _check_folder(root)
    with locked(root):
        rows = {row["filename"]: row for row in read_reviews(root)}
        clips = _all_clips(root, list(rows.values()), warn)
        labels = {clip.label for clip in clips} | {row["label"] for row in rows.values()} - {"", BACKGROUND_LABEL}
        changed = [_with_verdict(root, _find(root, clips, name), verdict, labels) for name, verdict in verdicts.items()]
        for clip in changed:
            if clip.verdict is None:
                rows.pop(clip.file, None)
            else:
                label = clip.given_label or BACKGROUND_LABEL
                rows[clip.file] = rows.get(clip.file, {}) | {
                    "filename": clip.file,
                    "label": label,
                    "verdict": clip.verdict,
                }
        now = {clip.file: clip for clip in clips} | {clip.file: clip for clip in changed}
        _fill_columns(rows, list(now.values()))
        _write_reviews(root / REVIEWED, list(rows.values()))
    return changed


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; `tagger listen --save-clips {root}` makes one")
    if not (root / EVENTS).is_file():
        raise UserError(f"{root}: no saved clips here ({EVENTS} is missing); name the folder given to --save-clips")


def _all_clips(root: Path, rows: Iterable[Mapping[str, str]], warn: Warn) -> list[SavedClip]:
    """Every clip that `events.jsonl` names, also deleted ones.

    Args:
        rows: the rows of `reviewed.csv`.
    """
    _check_folder(root)
    clips: dict[str, SavedClip] = {}
    damaged: list[int] = []
    for number, line in enumerate((root / EVENTS).read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            clip = _parse(line)
        except (ValueError, KeyError, TypeError, OverflowError):
            damaged.append(number)
            continue
        clips[clip.file] = replace(clip, exists=_exists(root, clip.file))
    if damaged:
        more = f", and {number_of(len(damaged) - 1, 'more line')}" if len(damaged) > 1 else ""
        warn(f"{root / EVENTS}, line {damaged[0]}{more}: not an event; left out")
    for row in rows:
        if clip_of_row := clips.get(row["filename"]):
            verdict = _verdict_of(row, clip_of_row)
            given_label = row["label"] if verdict in ("right", "other") else None
            clips[clip_of_row.file] = replace(clip_of_row, verdict=verdict, given_label=given_label)
    return list(clips.values())


def _exists(root: Path, file: str) -> bool:
    return is_file(root / file) and not is_linked(root, file)


def _parse(line: bytes) -> SavedClip:
    """
    Raises:
        ValueError, KeyError, TypeError, OverflowError: the line is not an event with a clip.
    """
    event = json.loads(line)
    file, id_, label, stream = event["file"], event["id"], event["label"], f"{event['node']}/{event['source']}"
    for text in (file, id_, label, stream):
        if not isinstance(text, str):
            raise TypeError(text)
        text.encode()  # raises a ValueError for a lone surrogate
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise ValueError("a file elsewhere")
    onset, offset = _seconds(event["onset"]), _seconds(event["offset"])
    span = (_seconds(event.get("clip_onset", event["onset"])), _seconds(event.get("clip_offset", event["offset"])))
    return SavedClip(file, id_, label, float(event["peak_score"]), onset, offset, *span, stream)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _verdict_of(row: Mapping[str, str], clip: SavedClip) -> Verdict | None:
    """The verdict that a row's label means; people may have edited it by hand. None: the row has no verdict."""
    if not row["label"]:
        return "wrong" if row.get("verdict") == "wrong" else None
    if row["label"].lower() == BACKGROUND_LABEL:
        return "wrong"
    return "right" if row["label"] == clip.label else "other"


def _find(root: Path, clips: Iterable[SavedClip], name: str) -> SavedClip:
    """The clip of that id, file name or path.

    Raises:
        UserError: no clip fits.
    """
    file = Path(name).name
    for clip in clips:
        if name in (clip.id, clip.file) or Path(clip.file).name == file:
            return clip
    raise UserError(f"{name}: no clip of that id or file in {root}; `tagger review {root} --list` shows them")


def _with_verdict(root: Path, clip: SavedClip, verdict: str, labels: Iterable[str]) -> SavedClip:
    """
    Args:
        verdict: `right`, `wrong`, a label, or `undo`.
        labels: those in use, for their spelling.

    Raises:
        UserError: the clip was deleted, or `verdict` cannot be a label.
    """
    if verdict == UNDO:
        return replace(clip, verdict=None, given_label=None)
    if not clip.exists:
        raise UserError(f"{root / clip.file}: was deleted meanwhile, so there is nothing to review")
    if verdict.lower() in ("wrong", BACKGROUND_LABEL):
        return replace(clip, verdict="wrong", given_label=None)
    label = clip.label if verdict == "right" else _spelled(verdict, labels)
    return replace(clip, verdict="right" if label == clip.label else "other", given_label=label)


def _spelled(label: str, labels: Iterable[str]) -> str:
    """The spelling in `labels` of a label that differs only in case and in what separates words; else the label itself.

    Raises:
        UserError: MQTT topics cannot have such a label.
    """
    if problem := label_problem(label):
        raise UserError(f"{label[: LONGEST_LABEL + 1]!r} cannot be a label: {problem}")
    words = _words(label)
    return next((known for known in sorted(labels) if words and _words(known) == words), label)


def _words(label: str) -> list[str]:
    """The words of a label, in any script, without case."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return "".join(" " if unicodedata.category(letter)[0] in "PZ" else letter for letter in folded).split()


def _fill_columns(rows: Mapping[str, dict[str, str]], clips: Sequence[SavedClip]) -> None:
    """Sets the columns of `rows` that depend on other clips: `source` of all, `label` of those that are wrong.

    `source` is the recording: clips of one stream and one hour, and clips whose audio overlaps, share one. A wrong clip
    is background only if it contains no other event, or only wrong ones; else its label is empty, and nothing is
    trained on it.
    """
    recordings = _recordings(clips)
    by_stream: dict[str, list[SavedClip]] = {}
    for clip in clips:
        if clip.verdict != "wrong" and (clip.exists or clip.verdict):
            by_stream.setdefault(clip.stream, []).append(clip)
    spans = {name: np.array([(each.onset, each.offset) for each in of]) for name, of in by_stream.items()}
    for clip in clips:
        if (row := rows.get(clip.file)) is None:
            continue
        row["source"] = recordings[clip.file]
        if clip.verdict == "wrong":
            others = spans.get(clip.stream, np.zeros((0, 2)))
            shared = (others[:, 0] < clip.clip_offset) & (others[:, 1] > clip.clip_onset)
            row["label"] = "" if shared.any() else BACKGROUND_LABEL


def _recordings(clips: Iterable[SavedClip]) -> dict[str, str]:
    """Each file's recording, `node/source/2026-11-22T19` (UTC). Clips that overlap have the first one's."""
    names: dict[str, str] = {}
    last: dict[str, tuple[float, str]] = {}  # stream -> end of all audio so far, recording
    for clip in sorted(clips, key=lambda clip: clip.clip_onset):
        end, name = last.get(clip.stream, (float("-inf"), ""))
        if clip.clip_onset >= end:
            name = f"{clip.stream}/{datetime.fromtimestamp(clip.clip_onset, UTC):%Y-%m-%dT%H}"
        names[clip.file] = name
        last[clip.stream] = max(end, clip.clip_offset), name
    return names


def _write_reviews(table: Path, rows: Sequence[Mapping[str, str]]) -> None:
    columns = list(dict.fromkeys([*_COLUMNS, *(key for row in rows for key in row)]))
    with replacing(table, private_mode(table)) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
