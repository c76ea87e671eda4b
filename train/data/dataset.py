"""A data set, wherever it comes from: clips, their labels, their folds, and the recordings they were cut from."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagger.printable import number_of, printable

FOLDS = (1, 2, 3, 4, 5)

Rows = NDArray[np.intp]
"""Positions in `Dataset.clips`."""


@dataclass(frozen=True)
class Clip:
    path: Path
    label: int | None
    """Index into `Dataset.labels`. None: background, in which nothing must be announced."""
    fold: int
    """One of FOLDS."""
    source: str
    """The recording that it was cut from. Clips of one recording are always on the same side of a split."""
    sha256: str
    """Hash of the file."""
    start_seconds: float | None = None
    """Begin of this window in a file of any length, seconds. None: the file is one window, from its beginning."""
    any_length: bool = False
    """Whether it is a user's file that is not cut yet: `waveforms.load` makes a clip of each of its windows."""
    root: Path | None = None
    """The folder that its title is relative to. None: the file's name alone is unique, as in ESC-50."""

    @property
    def title(self) -> str:
        """Its name in reports: `1-100032-A-0.wav`, `dog/1.wav`; `dog/1.wav@5` if it begins 5 s into the file."""
        is_below = self.root is not None and self.path.is_relative_to(self.root)
        name = self.path.relative_to(self.root).as_posix() if self.root and is_below else self.path.name
        return printable(name + (f"@{self.start_seconds:g}" if self.start_seconds else ""))


@dataclass(frozen=True)
class Dataset:
    name: str
    """`ESC-50`, `ESC-10`, `own`, `ESC-50 + own`."""
    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    """Labelled clips and background."""
    licences: tuple[str, ...] = ()
    """Notices for every checkpoint that is trained on it."""

    def held_out(self, fold: int) -> Rows:
        """Test clips of the fold: those that have a label."""
        chosen = [row for row, clip in enumerate(self.clips) if clip.fold == fold and clip.label is not None]
        return np.array(chosen, np.intp)

    def all_but(self, fold: int) -> Rows:
        """Training clips where the fold is held out, with background."""
        return np.array([row for row, clip in enumerate(self.clips) if clip.fold != fold], np.intp)

    @property
    def fingerprint(self) -> str:
        """sha256 over every clip's content, fold, label and start. The same clips in another format differ."""
        digest = hashlib.sha256()
        for clip in self.clips:
            label = None if clip.label is None else self.labels[clip.label]
            digest.update(json.dumps([clip.sha256, clip.fold, label, clip.start_seconds]).encode() + b"\n")
        return digest.hexdigest()


def combined(datasets: Sequence[Dataset]) -> Dataset:
    """One data set of them all. Labels of the same name become one label; they are in the order of first appearance.

    A recording that is in an earlier data set too (same source, or same content) takes its fold from there.
    """
    labels = tuple(dict.fromkeys(label for dataset in datasets for label in dataset.labels))
    clips: list[Clip] = []
    known: dict[str, Clip] = {}  # by content and by source
    for dataset in datasets:
        same: dict[str, Clip] = {}  # this data set's sources -> where they were before
        for clip in dataset.clips:
            if before := known.get(clip.sha256) or known.get(clip.source):
                same.setdefault(clip.source, before)
        for clip in dataset.clips:
            label = None if clip.label is None else labels.index(dataset.labels[clip.label])
            before = same.get(clip.source, clip)
            clips.append(replace(clip, label=label, fold=before.fold, source=before.source))
        for clip in clips:
            known.setdefault(clip.sha256, clip)
            known.setdefault(clip.source, clip)
    licences = dict.fromkeys(licence for dataset in datasets for licence in dataset.licences)
    names = dict.fromkeys(dataset.name for dataset in datasets)
    return Dataset(" + ".join(names), labels, tuple(clips), tuple(licences))


def inner_split(dataset: Dataset, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Splits `rows` into an inner split and the rest; both sorted.

    The inner split has about `share` of each label's clips, and of the background's. All clips of a source go to one
    side. A label of two or more sources has at least one on either side, unless sources that it shares with other
    labels leave no choice. The order in which sources are taken depends only on their names and the seed.
    """
    clips_of: dict[int | None, Counter[str]] = {}  # label -> source -> clips
    for row in rows:
        clip = dataset.clips[row]
        clips_of.setdefault(clip.label, Counter())[clip.source] += 1
    is_inner: dict[str, bool] = {}
    for label in sorted(clips_of, key=lambda label: len(dataset.labels) if label is None else label):
        counts = clips_of[label]
        free = sorted(counts.keys() - is_inner.keys(), key=lambda source: _digest(f"{seed} {source}"))
        wanted, have = share * counts.total(), sum(counts[source] for source in counts if is_inner.get(source))
        chosen: list[str] = []
        for source in free if len(counts) > 1 else ():
            if abs(have + counts[source] - wanted) < abs(have - wanted):
                chosen.append(source)
                have += counts[source]
        if not have and free and len(counts) > 1:
            chosen = [min(free, key=counts.__getitem__)]
        elif chosen and have == counts.total():
            chosen.pop()
        is_inner |= {source: source in chosen for source in free}
    inner = np.array([is_inner[dataset.clips[row].source] for row in rows], bool)
    return np.sort(rows[inner]), np.sort(rows[~inner])


def trained_on(dataset: Dataset, rows: Rows) -> list[str]:
    """Identifies these clips in a checkpoint: for each its source's and its file's sha256, the first 10 hexadecimal
    digits, sorted.
    """
    return sorted({identity for row in rows for identity in _identities(dataset.clips[row])})


def leak(what: str, dataset: Dataset, fold: int, trained: Collection[str]) -> str | None:
    """A warning if `what`, which was trained on these clips, has heard test clips of the fold. None: it has not."""
    held_out = dataset.held_out(fold)
    leaked = leaks(dataset, held_out, trained)
    if not len(leaked):
        return None
    return f"{what} was trained on {len(leaked)} of the {number_of(len(held_out), 'clip')} of fold {fold}"


def leaks(dataset: Dataset, rows: Rows, trained: Collection[str]) -> Rows:
    """Those of `rows` whose file or recording is in `trained`, as `trained_on` gives it."""
    known = set(trained)
    return np.array([row for row in rows if known.intersection(_identities(dataset.clips[row]))], np.intp)


def _identities(clip: Clip) -> tuple[str, str]:
    return _digest(clip.source)[:10], clip.sha256[:10]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
