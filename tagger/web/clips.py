"""Saved clips, for the page: listed, played, drawn and marked. What `tagger review` does on a terminal, with its store.

A clip is found by the id of its event alone, in the table of the clips' folder; no name that a request holds is ever
opened, nor what a link leads to.
"""

import os
import stat
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tagger.clips import verdicts
from tagger.clips.folder import EVENTS, is_linked
from tagger.clips.verdicts import SavedClip
from tagger.errors import TaggerError, UserError
from tagger.features.config import MelConfig
from tagger.times import rfc3339
from tagger.web.asked import names, number, time, unknown
from tagger.web.pictures import picture_of

MOST_CLIPS = 1_000
"""Most clips in an answer."""
_CLIPS = 200
"""The same where a request does not say."""
MOST_MARKS = 500
"""Most clips that are marked at once."""
_MOST_BYTES = 32_000_000
"""Largest file that is sent; a clip of 30 s has 1 to 2 MB."""
_PICTURES = 32
"""Most spectrograms that are remembered."""
_STATES = ("none", "right", "wrong", "other", "reviewed", "all")
_SUFFIX = ".flac"


class NoClipError(UserError):
    """No clip was kept of this event, or it is gone."""


@dataclass(frozen=True)
class ClipFile:
    """A clip's file."""

    name: str
    content: bytes
    tag: str
    """Changes with the content."""


class Clips:
    """The clips of a folder. Any thread calls it; its methods wait for the disk."""

    def __init__(self, root: Path, mel: MelConfig) -> None:
        """
        Args:
            root: the folder that `--save-clips` names.
            mel: the model's front end, by which clips are drawn.
        """
        self.root, self._mel = root, mel
        self._lock, self._drawing = threading.Lock(), threading.Lock()
        self._stamp: Hashable = None
        self._clips: dict[str, SavedClip] = {}
        self._pictures: OrderedDict[tuple[str, str], Mapping[str, Any]] = OrderedDict()

    def by_id(self) -> Mapping[str, SavedClip]:
        """All clips, by the id of their event; none where the folder holds none yet.

        Raises:
            TaggerError: `reviewed.csv` is damaged, or the folder cannot be read: no mistake of whoever asks.
        """
        with self._lock:
            try:
                stamp = verdicts.stamp(self.root)
                if stamp != self._stamp:
                    self._clips = {clip.id: clip for clip in verdicts.load(self.root) if _is_ours(clip.file)}
                    self._stamp = stamp
            except OSError as error:
                raise TaggerError(f"{self.root}: cannot be read ({error.strerror or error})") from None
            except UserError as error:
                if (self.root / EVENTS).is_file():
                    raise TaggerError(str(error)) from None
                self._clips, self._stamp = {}, None  # nothing was saved yet
            return self._clips

    def ids(self) -> Set[str]:
        """The ids of the events of which a clip is there; none where the folder cannot be read."""
        try:
            return self.by_id().keys()
        except TaggerError:
            return frozenset()

    def list(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """The newest clips that meet some conditions, newest first, and what the reviews say so far.

        Args:
            wanted: the parameters of the request.

        Raises:
            UserError: a parameter is wrong.
            TaggerError: as `by_id`.
        """
        unknown(wanted, {"since", "until", "label", "source", "verdict", "limit"})
        limit = int(number(wanted, "limit", _CLIPS))
        if not 1 <= limit <= MOST_CLIPS:
            raise UserError(f"limit: must be from 1 to {MOST_CLIPS}")
        state = wanted.get("verdict", "all")
        if state not in _STATES:
            raise UserError(f"verdict: must be one of {', '.join(_STATES)}")
        since, until = time(wanted, "since"), time(wanted, "until")
        labels, sources = names(wanted, "label"), names(wanted, "source")
        clips = self.by_id().values()
        found = [
            clip
            for clip in clips
            if (since is None or clip.onset >= since)
            and (until is None or clip.onset < until)
            and (not labels or clip.label in labels)
            and (not sources or _source(clip) in sources)
            and (state in ("all", clip.verdict or "none") or (state == "reviewed" and clip.verdict is not None))
        ]
        found.sort(key=lambda clip: (clip.onset, clip.id), reverse=True)
        return {
            "clips": [_json(clip) for clip in found[:limit]],
            "more": len(found) > limit,
            **self._summary(clips),
        }

    def mark(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Writes verdicts: all, or none if one cannot be used.

        Args:
            wanted: `{"marks": {ID: "right", "wrong", a label, or "undo"}}`.

        Returns:
            The clips with their new verdicts, what undoes them, and what the reviews say now.

        Raises:
            NoClipError: one of them is no clip.
            UserError: a verdict cannot be a label.
            TaggerError: the folder cannot be written to. Or as `by_id`.
        """
        marks = wanted.get("marks")
        if set(wanted) != {"marks"} or not isinstance(marks, dict) or not marks or len(marks) > MOST_MARKS:
            raise UserError(f'the body must be {{"marks": {{ID: VERDICT}}}}, with 1 to {MOST_MARKS} of them')
        clips = self.by_id()
        for id, verdict in marks.items():
            if not isinstance(verdict, str) or not verdict.strip():
                raise UserError('a verdict must be "right", "wrong", "undo", or a label')
            if id not in clips:
                raise NoClipError(f"{id[:60]}: no clip was kept of this event, or it is gone")
        before = {id: verdict_text(clips[id]) for id in marks}
        try:
            marked = verdicts.mark(self.root, {id: verdict.strip() for id, verdict in marks.items()})
        except OSError as error:
            raise TaggerError(f"{self.root}: cannot be written to ({error.strerror or error})") from None
        return {"clips": [_json(clip) for clip in marked], "undo": before, **self._summary(self.by_id().values())}

    def file(self, id: str) -> ClipFile:
        """A clip's file.

        Raises:
            NoClipError: there is none.
        """
        clip = self._clip(id)
        try:
            content, status = _read(self.root, clip.file)
        except OSError:
            raise NoClipError(f"{id}: its clip is gone") from None
        return ClipFile(PurePosixPath(clip.file).name, content, f'"{status.st_mtime_ns:x}-{status.st_size:x}"')

    def picture(self, id: str) -> Mapping[str, Any]:
        """A clip's spectrogram, as the page's live ones: bytes of mel bands.

        Raises:
            NoClipError: there is no such clip.
            AudioError: its file is damaged.
        """
        file = self.file(id)
        key = (id, file.tag)
        with self._drawing:  # one at a time
            if (made := self._pictures.get(key)) is None:
                made = self._pictures[key] = picture_of(file.name, file.content, self._mel)
            self._pictures.move_to_end(key)
            while len(self._pictures) > _PICTURES:
                self._pictures.popitem(last=False)
        return made

    def _clip(self, id: str) -> SavedClip:
        clip = self.by_id().get(id)
        if clip is None:
            raise NoClipError(f"{id[:60]}: no clip was kept of this event, or it is gone")
        return clip

    def _summary(self, clips: Iterable[SavedClip]) -> dict[str, Any]:
        """Counts by label, the most reviewed first, and the command that learns from them."""
        counts: dict[str, Counter[str]] = {}
        for clip in clips:
            counts.setdefault(clip.label, Counter())[clip.verdict or "unreviewed"] += 1
        reviewed = {label: of.total() - of["unreviewed"] for label, of in counts.items()}
        return {
            "labels": [
                {
                    "label": label,
                    **{each: counts[label][each] for each in ("right", "wrong", "other", "unreviewed")},
                    "precision": round(counts[label]["right"] / reviewed[label], 4) if reviewed[label] else None,
                }
                for label in sorted(counts, key=lambda label: (-reviewed[label], label))
            ],
            "train": verdicts.train_line(self.root) if any(reviewed.values()) else None,
        }


def verdict_text(clip: SavedClip) -> str:
    """The verdict that makes a clip's mark what it is now."""
    if clip.verdict is None:
        return verdicts.UNDO
    return clip.verdict if clip.verdict != "other" else clip.given_label or verdicts.UNDO


def _source(clip: SavedClip) -> str:
    return clip.stream.rpartition("/")[2]


def _json(clip: SavedClip) -> dict[str, Any]:
    return {
        "id": clip.id,
        "label": clip.label,
        "source": _source(clip),
        "onset": rfc3339(clip.onset),
        "offset": rfc3339(clip.offset),
        "duration_s": round(clip.offset - clip.onset, 3),
        "peak_score": round(clip.peak_score, 6),
        "clip_onset": rfc3339(clip.clip_onset),
        "clip_s": round(clip.clip_offset - clip.clip_onset, 3),
        "verdict": clip.verdict,
        "told": clip.given_label,
    }


def _is_ours(file: str) -> bool:
    """Whether a name of the table may be a clip's: a file in a folder of a label."""
    parts = PurePosixPath(file).parts
    return len(parts) == 2 and ".." not in parts and file.endswith(_SUFFIX) and "\\" not in file and "\0" not in file


def _read(root: Path, file: str) -> tuple[bytes, os.stat_result]:
    """The content of a file below `root`. No link is followed, but for `root` itself.

    Raises:
        OSError: it is missing, a link or no file, or too large.
    """
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        if is_linked(root, file):
            raise OSError("a link is in the way")
        return _content(os.open(root / file, os.O_RDONLY | getattr(os, "O_BINARY", 0)))
    folder, name = PurePosixPath(file).parts
    above = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        try:
            return _content(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=inside))
        finally:
            os.close(inside)
    finally:
        os.close(above)


def _content(descriptor: int) -> tuple[bytes, os.stat_result]:
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise OSError("no clip")
        return opened.read(_MOST_BYTES), status


def ranges(header: str | None, size: int) -> Sequence[int] | None:
    """First and last byte that a request's `Range` asks for. None: all of it.

    Several ranges at once, and what is no range of bytes, are answered with all.

    Raises:
        ValueError: nothing of it is there.
    """
    unit, _, spec = (header or "").partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not (first + last).isascii() or "," in spec:
        return None
    if not all(each.isdecimal() or not each for each in (first, last)) or not first + last or len(spec) > 40:
        return None
    if not first:
        if not int(last):
            raise ValueError(spec)
        return max(0, size - int(last)), size - 1
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise ValueError(spec)
    return int(first), min(int(last), size - 1) if last else size - 1
