"""A program that reads WAV files and prints events, as a system of `bench/trust.py`."""

import csv
import json
import math
import shlex
import subprocess
import sys
import tempfile
import wave
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagger.audio.decode import decode
from tagger.checkpoints.opinion import read_classes
from tagger.errors import AudioError, UserError
from train.evaluate.trust import Heard, Recording

FILES = 100
"""Files that a program is asked for together."""
RATE_HZ = 32_000
"""Sample rate of a program's WAV files."""
LEVELS = tuple(1 / (1 + math.exp(-step / 2)) for step in range(-10, 21))
"""Thresholds of the curves: half a logit apart, since scores of others crowd near 0 or near 1."""
AUDIOSET = "audioset"
"""Instead of a file with names: those of AudioSet's classes, as a second opinion translates them."""

Names = Mapping[str, tuple[str, ...]]
"""Our labels that a name of theirs means. Empty: they are the same."""


@dataclass(frozen=True)
class Line:
    """An event, a candidate, or a window in which a sound was heard."""

    labels: tuple[str, ...]
    """Ours that its name means."""
    score: float
    announced: bool = True
    onset_s: float | None = None
    """None: the program does not say when."""
    offset_s: float | None = None

    def label(self, recording: Recording) -> str | None:
        """Which of the labels is taken: the recording's if it is among them, else the first. None: it does not count,
        since the recording may hold one of them.
        """
        if recording.label in self.labels:
            return recording.label
        return None if recording.may.intersection(self.labels) else self.labels[0]


@dataclass(frozen=True)
class Answer:
    """What a program printed of one recording."""

    recording: Recording
    seconds: float
    """Length of the recording."""
    lines: Sequence[Line]

    @property
    def right(self) -> float:
        """Highest score of the recording's label."""
        return max((line.score for line in self.lines if self.recording.label in line.labels), default=0.0)

    def heard(self, threshold: float | None) -> Heard:
        """
        Args:
            threshold: lines from this score on are events. None: those that the program announces.
        """
        found = [(label, line) for line in self.lines if (label := line.label(self.recording)) is not None]
        score, label = max(((line.score, label) for label, line in found), default=(0.0, ""))

        def events(level: float) -> tuple[str, ...]:
            return joined((label, line) for label, line in found if line.score >= level)

        announced = joined(each for each in found if each[1].announced) if threshold is None else events(threshold)
        return Heard(self.seconds, score, label, announced, {level: events(level) for level in LEVELS})


def joined(lines: Iterable[tuple[str, Line]]) -> tuple[str, ...]:
    """Labels of the events that lines make: those of one label whose times touch are one."""
    found: list[str] = []
    ends: dict[str, float] = {}
    for label, line in sorted(lines, key=lambda each: each[1].onset_s or 0.0):
        if line.onset_s is None or line.offset_s is None:
            found.append(label)
            continue
        if label not in ends or line.onset_s > ends[label]:
            found.append(label)
        ends[label] = max(line.offset_s, ends.get(label, 0.0))
    return tuple(found)


class Command:
    """A program that reads WAV files and prints events."""

    def __init__(self, command: str, names: Names, threshold: float | None = None) -> None:
        self.arguments, self.name, self.threshold, self._names = shlex.split(command), command, threshold, names
        self._known: dict[Path, Answer] = {}
        if not self.arguments:
            raise UserError("--command: names no program")

    def hear(self, recordings: Sequence[Recording]) -> Iterator[tuple[Recording, Heard]]:
        for answer in self.ask(recordings):
            yield answer.recording, answer.heard(self.threshold)

    def choose(self, recordings: Sequence[Recording], announced: float) -> float:
        """Sets the threshold at which `threshold_for` finds for these, and keeps the answers."""
        self._known = {answer.recording.path: answer for answer in self.ask(recordings)}
        self.threshold = threshold_for(self._known.values(), announced)
        return self.threshold

    def ask(self, recordings: Sequence[Recording]) -> Iterator[Answer]:
        asked = self._ask([each for each in recordings if each.path not in self._known])
        for each in recordings:
            yield self._known[each.path] if each.path in self._known else next(asked)

    def _ask(self, left: list[Recording]) -> Iterator[Answer]:
        while some := left[:FILES]:
            del left[:FILES]
            with tempfile.TemporaryDirectory(prefix="trust-") as folder:
                files = [Path(folder, f"{number:06d}.wav") for number in range(len(some))]
                seconds = [_as_wav(each.path, file) for each, file in zip(some, files, strict=True)]
                lines = self._asked(files)
            for recording, file, length in zip(some, files, seconds, strict=True):
                yield Answer(recording, length, lines[str(file)])

    def _asked(self, files: Sequence[Path]) -> dict[str, list[Line]]:
        try:
            done = subprocess.run(
                [*self.arguments, *map(str, files)], capture_output=True, text=True, errors="replace", check=False
            )
        except OSError as error:
            raise UserError(f"--command: {self.arguments[0]}: {error.strerror}") from None
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise UserError(f"--command: ended with exit code {done.returncode}: {why}")
        return read_lines(done.stdout, {str(file) for file in files}, self._names)


def threshold_for(answers: Iterable[Answer], announced: float) -> float:
    """The highest threshold at which so large a share of recordings is announced by their label, a mean over labels.

    Raises:
        UserError: there is none: the program prints too few scores below its own threshold.
    """
    right: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        if not answer.recording.is_everyday:
            right[answer.recording.label].append(answer.right)
    for threshold in sorted({score for scores in right.values() for score in scores}, reverse=True):
        reached = float(np.mean([np.mean(np.array(scores) >= threshold) for scores in right.values()]))
        if threshold > 0 and reached >= announced:
            return threshold
    raise UserError(f"--command: announces less than {announced:.3f} of half the labelled recordings at any threshold")


def read_lines(text: str, files: set[str], names: Names) -> dict[str, list[Line]]:
    """What a program printed, by file. Names that mean none of our labels are left out.

    Raises:
        UserError: a line is not one of the format.
    """
    found: dict[str, list[Line]] = defaultdict(list)
    for number, line in enumerate(filter(str.strip, text.splitlines()), 1):
        try:
            row = json.loads(line)
            file, label = row["file"], row["label"]
            score = float(row["score"] if "score" in row else row["peak_score"])
            announced = row.get("announced", True)
            if file not in files or not isinstance(label, str) or announced not in (True, False) or not 0 <= score <= 1:
                raise ValueError("another file, no label, or no score from 0 to 1")
            onset_s, offset_s = (None if row.get(name) is None else float(row[name]) for name in ("onset", "offset"))
            if not (onset_s is None or offset_s is None or 0 <= onset_s <= offset_s < math.inf):
                raise ValueError("offset is before onset, or no number of seconds")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"--command: line {number} is no event ({reason}): {line}") from None
        if labels := names.get(label, ()) if names else (label,):
            found[file].append(Line(labels, score, announced, onset_s, offset_s))
    return found


def read_names(path: Path) -> Names:
    """A CSV with the columns `theirs` and `ours`; a name of theirs may have several rows. `audioset`: AudioSet's."""
    try:
        if str(path) == AUDIOSET:
            pairs = [(name, label) for label, classes in read_classes().items() for name in classes]
        else:
            with path.open(encoding="utf-8", newline="") as file:
                pairs = [(row["theirs"], row["ours"]) for row in csv.DictReader(file)]
    except (OSError, UnicodeError, KeyError, csv.Error) as error:
        raise UserError(f"{path}: needs the columns theirs and ours ({error})") from None
    names: dict[str, tuple[str, ...]] = {}
    for theirs, ours in pairs:
        names[theirs] = tuple(dict.fromkeys((*names.get(theirs, ()), ours)))
    return names


def _as_wav(path: Path, file: Path) -> float:
    """Writes a recording as 16-bit mono WAV. Returns its length, seconds."""
    pieces = [np.zeros(0, np.float32)]
    try:
        pieces.extend(decode(path, RATE_HZ))
    except AudioError as error:
        print(f"{error}; what was read is used", file=sys.stderr)
    sound = np.concatenate(pieces)
    with wave.open(str(file), "wb") as out:
        out.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        out.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return len(sound) / RATE_HZ
