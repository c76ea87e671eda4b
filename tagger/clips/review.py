"""`tagger review`: a person says of saved clips what they are, and so makes training data of them.

What was said is `reviewed.csv` in the clips' folder, which `tagger train --add` reads: a clip that was right has its
label, one that was wrong is `background`, and one that was something else has that label.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from tagger.clips.folder import EVENTS, REVIEWED, locked, read_reviews
from tagger.clips.speaker import play as play_aloud
from tagger.errors import AudioError, UserError
from tagger.files import replacing
from tagger.names import slug

Verdict = Literal["right", "wrong", "other"]
Say = Callable[[str], None]
Ask = Callable[[str], str]
"""Shows a question, returns the answer. Raises click.Abort where there is none to come."""
Play = Callable[[Path], None]

UNDO = "undo"
BACKGROUND = "background"
_COLUMNS = ("filename", "label", "source", "fold", "verdict")
_CHOICES = "r(ight) w(rong) o(ther) p(lay again) s(kip) q(uit)"


@dataclass(frozen=True)
class Saved:
    """A saved clip, and what was said of it."""

    file: str
    """Below the folder, with `/`."""
    id: str
    """The event's."""
    label: str
    """As announced."""
    peak_score: float
    onset: float
    """Of the sound, seconds since the epoch; so are the next three."""
    offset: float
    clip_onset: float
    """Of the audio in the file."""
    clip_offset: float
    stream: str
    """`node/source`."""
    is_there: bool = True
    """The file was not deleted."""
    verdict: Verdict | None = None
    """None: not reviewed."""
    told: str | None = None
    """What it is, of one that is right or other."""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "file": self.file,
            "label": self.label,
            "peak_score": self.peak_score,
            "onset": datetime.fromtimestamp(self.onset, UTC).isoformat(timespec="milliseconds"),
            "duration_s": round(self.offset - self.onset, 3),
            "verdict": self.verdict,
            "told": self.told,
        }


def show(root: Path, as_json: bool = False) -> None:
    """`tagger review DIR --list`: a line for each clip on standard output, those that were not reviewed first."""
    clips = load(root, _note)
    for clip in clips:
        click.echo(json.dumps(clip.to_json()) if as_json else f"{clip.id}  {describe(clip)}")
    left = sum(clip.verdict is None for clip in clips)
    _note(f"{len(clips)} clips, {left} of them not reviewed")


def mark_all(root: Path, marks: Sequence[str]) -> None:
    """`tagger review DIR --mark CLIP=VERDICT ...`: all of them, or none if one cannot be used."""
    wanted: dict[str, str] = {}
    for text in marks:
        name, equals, verdict = text.rpartition("=")
        if not (equals and name.strip() and verdict.strip()):
            raise UserError(f"--mark {text}: must be CLIP=right, CLIP=wrong, CLIP=LABEL or CLIP={UNDO}")
        wanted[name.strip()] = verdict.strip()
    for clip in mark(root, wanted, _note):
        click.echo(f"{clip.id}  {describe(clip)}")


def load(root: Path, note: Say = lambda line: None) -> list[Saved]:
    """The clips that are there: those not reviewed first, each kind from the oldest on.

    Args:
        note: is told of lines of `events.jsonl` that are damaged, and so left out.

    Raises:
        UserError: it is no folder of saved clips, or `reviewed.csv` is damaged.
    """
    there = [clip for clip in _known(root, read_reviews(root), note) if clip.is_there]
    return sorted(there, key=lambda clip: (clip.verdict is not None, clip.onset))


def mark(root: Path, verdicts: Mapping[str, str], note: Say = lambda line: None) -> list[Saved]:
    """Writes down what clips are, all of it or nothing.

    Args:
        verdicts: by the event's id, or the clip's file: `right`, `wrong`, a label, or `undo`.

    Returns:
        These clips, as they are now.

    Raises:
        UserError: there is no such clip, it was deleted, or what it is said to be cannot be a label. Or as `load`.
    """
    _check(root)
    with locked(root):
        rows = {row["filename"]: row for row in read_reviews(root)}
        clips = _known(root, list(rows.values()), note)
        labels = {clip.label for clip in clips} | {row["label"] for row in rows.values()} - {"", BACKGROUND}
        changed = [_judged(root, _find(root, clips, name), said, labels) for name, said in verdicts.items()]
        for clip in changed:
            if clip.verdict is None:
                rows.pop(clip.file, None)
            else:
                label = clip.told or BACKGROUND
                rows[clip.file] = rows.get(clip.file, {}) | {
                    "filename": clip.file,
                    "label": label,
                    "verdict": clip.verdict,
                }
        now = {clip.file: clip for clip in clips} | {clip.file: clip for clip in changed}
        _settle(rows, list(now.values()))
        _write(root / REVIEWED, list(rows.values()))
    return changed


def ask(root: Path, answer: Ask | None = None, play: Play = play_aloud, say: Say = click.echo) -> None:
    """`tagger review DIR`: one clip after the other that was not reviewed, played and asked about.

    Each answer is written down at once; Ctrl-C and the end of the input quit.

    Raises:
        UserError: as `load`.
    """
    answer = answer or _prompt
    waiting = [clip for clip in load(root, say) if clip.verdict is None]
    reviewed = 0
    try:
        for number, clip in enumerate(waiting, 1):
            say(f"{number} of {len(waiting)}: {describe(clip)}")
            play = _heard(root / clip.file, play, say)
            while (root / clip.file).is_file():
                choice, _, rest = answer(_CHOICES).strip().partition(" ")
                if choice == "p":
                    play = _heard(root / clip.file, play, say)
                elif choice == "q":
                    raise click.Abort
                elif choice == "s":
                    break
                elif verdict := _verdict(choice, rest, answer):
                    try:
                        (judged,) = mark(root, {clip.id: verdict})
                    except UserError as error:
                        say(str(error))
                        continue
                    say(f"  {_said(judged)}")
                    reviewed += 1
                    break
            else:
                say(f"{clip.file}: was deleted meanwhile; left out")
    except click.Abort:
        say("")
    left = len(waiting) - reviewed
    say(f"{reviewed} reviewed, {left} left" if waiting else "nothing to review: each clip was")


def describe(clip: Saved) -> str:
    """One line: when, in local time, what, how sure, how long; and what was said of it."""
    clock = datetime.fromtimestamp(clip.onset).strftime("%Y-%m-%d %H:%M:%S")
    lasted = clip.offset - clip.onset
    return f"{clock}  {clip.label:<16} score {clip.peak_score:.2f}  {lasted:5.1f} s  {_said(clip)}"


def _said(clip: Saved) -> str:
    return f"other: {clip.told}" if clip.verdict == "other" else clip.verdict or "not reviewed"


def _note(line: str) -> None:
    click.echo(line, err=True)


def _prompt(question: str) -> str:
    text: str = click.prompt(question, default="", show_default=False)
    return text


def _verdict(choice: str, rest: str, answer: Ask) -> str:
    """As `mark` takes it; empty: there is none yet."""
    if choice == "o":
        return rest.strip() or answer("what is it? (a label; nothing: ask again)").strip()
    return {"r": "right", "w": "wrong"}.get(choice, "")


def _heard(path: Path, play: Play, say: Say) -> Play:
    """Plays it; returns what plays the next one: nothing, where there is no loudspeaker."""
    try:
        play(path)
    except KeyboardInterrupt:  # heard enough
        say("")
    except AudioError as error:
        say(str(error))
    except UserError as error:
        say(f"not played: {error}; listen to {path.parent} in another way")
        return lambda _: None
    return play


def _check(root: Path) -> None:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; `tagger listen --save-clips {root}` makes one")
    if not (root / EVENTS).is_file():
        raise UserError(f"{root}: no saved clips here ({EVENTS} is missing); name the folder given to --save-clips")


def _known(root: Path, rows: Iterable[Mapping[str, str]], note: Say) -> list[Saved]:
    """All that `events.jsonl` names."""
    _check(root)
    clips: dict[str, Saved] = {}
    damaged: list[int] = []
    for number, line in enumerate((root / EVENTS).read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            clip = _parsed(line)
        except (ValueError, KeyError, TypeError, OverflowError):
            damaged.append(number)
            continue
        clips[clip.file] = replace(clip, is_there=(root / clip.file).is_file())
    if damaged:
        more = f", and {len(damaged) - 1} more lines" if len(damaged) > 1 else ""
        note(f"{root / EVENTS}, line {damaged[0]}{more}: not an event; left out")
    for row in rows:
        if clip_of_row := clips.get(row["filename"]):
            verdict = _verdict_of(row, clip_of_row)
            told = row["label"] if verdict in ("right", "other") else None
            clips[clip_of_row.file] = replace(clip_of_row, verdict=verdict, told=told)
    return list(clips.values())


def _parsed(line: bytes) -> Saved:
    """
    Raises:
        ValueError, KeyError, TypeError, OverflowError: it is not an event of which a clip was saved.
    """
    event = json.loads(line)
    file, id_, label, stream = event["file"], event["id"], event["label"], f"{event['node']}/{event['source']}"
    for text in (file, id_, label, stream):
        if not isinstance(text, str):
            raise TypeError(text)
        text.encode()  # a lone surrogate is a ValueError
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise ValueError("a file elsewhere")
    onset, offset = _seconds(event["onset"]), _seconds(event["offset"])
    span = (_seconds(event.get("clip_onset", event["onset"])), _seconds(event.get("clip_offset", event["offset"])))
    return Saved(file, id_, label, float(event["peak_score"]), onset, offset, *span, stream)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _verdict_of(row: Mapping[str, str], clip: Saved) -> Verdict | None:
    """By the label, which may have been changed by hand. None: it says nothing."""
    if not row["label"]:
        return "wrong" if row.get("verdict") == "wrong" else None
    if row["label"].lower() == BACKGROUND:
        return "wrong"
    return "right" if row["label"] == clip.label else "other"


def _find(root: Path, clips: Iterable[Saved], name: str) -> Saved:
    file = Path(name).name
    for clip in clips:
        if name in (clip.id, clip.file) or Path(clip.file).name == file:
            return clip
    raise UserError(f"{name}: no clip of that id or file in {root}; `tagger review {root} --list` shows them")


def _judged(root: Path, clip: Saved, said: str, labels: Iterable[str]) -> Saved:
    if said == UNDO:
        return replace(clip, verdict=None, told=None)
    if not clip.is_there:
        raise UserError(f"{root / clip.file}: was deleted meanwhile, so there is nothing to review")
    if said.lower() in ("wrong", BACKGROUND):
        return replace(clip, verdict="wrong", told=None)
    label = clip.label if said == "right" else _spelled(said, labels)
    return replace(clip, verdict="right" if label == clip.label else "other", told=label)


def _spelled(label: str, labels: Iterable[str]) -> str:
    """As it was written before, if it was, but for case and what lies between words.

    Raises:
        UserError: it cannot be a label.
    """
    if bad := re.search(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]", label):
        raise UserError(f"{label!r} cannot be a label: no MQTT topic may contain {bad[0]!r}")
    if slug(label) == "unnamed":  # in letters that topics do not have
        return label
    return next((known for known in sorted(labels) if slug(known) == slug(label)), label)


def _settle(rows: Mapping[str, dict[str, str]], clips: Sequence[Saved]) -> None:
    """What depends on other clips.

    `source`: clips of one stream and one hour are one recording, and so are those whose audio overlaps. `label`: what
    is wrong is background only if no other event was heard in it, or each of those was wrong, too; else it is empty,
    and nothing is trained on it.
    """
    recordings = _recordings(clips)
    by_stream: dict[str, list[Saved]] = {}
    for clip in clips:
        if clip.verdict != "wrong" and (clip.is_there or clip.verdict):
            by_stream.setdefault(clip.stream, []).append(clip)
    spans = {name: np.array([(each.onset, each.offset) for each in of]) for name, of in by_stream.items()}
    for clip in clips:
        if (row := rows.get(clip.file)) is None:
            continue
        row["source"] = recordings[clip.file]
        if clip.verdict == "wrong":
            others = spans.get(clip.stream, np.zeros((0, 2)))
            shared = (others[:, 0] < clip.clip_offset) & (others[:, 1] > clip.clip_onset)
            row["label"] = "" if shared.any() else BACKGROUND


def _recordings(clips: Iterable[Saved]) -> dict[str, str]:
    """By file: `node/source/2026-11-22T19`, in UTC; of those that overlap, the first one's."""
    names: dict[str, str] = {}
    last: dict[str, tuple[float, str]] = {}  # stream -> end of all audio so far, recording
    for clip in sorted(clips, key=lambda clip: clip.clip_onset):
        end, name = last.get(clip.stream, (float("-inf"), ""))
        if clip.clip_onset >= end:
            name = f"{clip.stream}/{datetime.fromtimestamp(clip.clip_onset, UTC):%Y-%m-%dT%H}"
        names[clip.file] = name
        last[clip.stream] = max(end, clip.clip_offset), name
    return names


def _write(table: Path, rows: Sequence[Mapping[str, str]]) -> None:
    columns = list(dict.fromkeys([*_COLUMNS, *(key for row in rows for key in row)]))
    with replacing(table) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
