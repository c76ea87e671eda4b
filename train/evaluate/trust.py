"""How far a system's events can be trusted in homes: recordings by many people, some of which hold none of its labels.

A set is a folder `LABEL/recording`, and `other_KIND/recording` for everyday sounds that are none of the labels. Its
`manifest.csv` may have the columns `path`, `source`, `original_file`, and `may`: labels that an everyday recording may
rightly hold, which are left out of account.
"""

import csv
import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tagger.errors import UserError
from tagger.folders import folders_in, is_audio_file
from train.evaluate import intervals
from train.evaluate.detection import Point

EVERYDAY = "other_"
"""Begins the names of the folders whose recordings hold none of the labels."""
MANIFEST = "manifest.csv"
RIGHT_SHARE = 0.65
"""Share of labelled recordings that must be rightly named, where it is asked how many everyday recordings pass."""
DRAWS = 1000
"""Draws of the bootstrap."""
Half = Literal["choose", "report"]


@dataclass(frozen=True)
class Recording:
    """One file of a set."""

    path: Path
    label: str
    """Its folder's name."""
    may: frozenset[str] = frozenset()
    """Labels that are left out of account."""
    source: str = ""
    """Whom it comes from; recordings of one source are alike."""
    original: str = ""
    """The file that it was cut from."""

    @property
    def is_everyday(self) -> bool:
        """Whether it holds none of the labels."""
        return self.label.startswith(EVERYDAY)

    @property
    def half(self) -> Half:
        """The half of the set that its source is in: one is for choosing settings, the other for reporting.

        The source's MD5 decides: an even first byte is for choosing.
        """
        digest = hashlib.md5(self.source.encode(), usedforsecurity=False).digest()
        return "report" if digest[0] % 2 else "choose"


@dataclass(frozen=True)
class Heard:
    """What a system made of one recording. Labels that the recording may hold are left out."""

    seconds: float
    """Length of the recording."""
    score: float = 0.0
    """Highest score of any label."""
    label: str = ""
    """The label that has it. Empty: there was none."""
    events: tuple[str, ...] = ()
    """Labels of the events, as the system announces them."""
    points: Mapping[float, tuple[str, ...]] = field(default_factory=dict)
    """Labels of the events by threshold, where all labels have the same one."""


def read_set(folder: Path) -> list[Recording]:
    """The recordings of a set, by label and name.

    Raises:
        UserError: it holds none, or its manifest cannot be read.
    """
    manifest = folder / MANIFEST
    rows: dict[str, dict[str, str]] = {}
    if manifest.is_file():
        try:
            with manifest.open(encoding="utf-8", newline="") as file:
                rows = {row["path"]: row for row in csv.DictReader(file)}
        except (OSError, UnicodeError, csv.Error, KeyError) as error:
            raise UserError(f"{manifest}: cannot be read: it needs a column `path` ({error})") from None
    found = []
    for inside in sorted(folders_in(folder)):
        for path in sorted(each for each in inside.iterdir() if is_audio_file(each)):
            name = path.relative_to(folder).as_posix()
            row = rows.get(name, {})
            may = frozenset((row.get("may") or "").split())
            found.append(Recording(path, inside.name, may, row.get("source") or name, row.get("original_file") or name))
    if not found:
        raise UserError(f"{folder}: no folders with recordings here, such as dog/ and other_home/")
    return found


@dataclass(frozen=True)
class Measure:
    """A number, and its 95 % intervals: percentile bootstrap over recordings, and over sources with all of theirs."""

    value: float
    by_recording: tuple[float, float]
    by_source: tuple[float, float]


@dataclass(frozen=True)
class LabelRow:
    """Results of one label's recordings."""

    label: str
    recordings: int
    announced: float
    """Share of recordings of which the right label becomes an event."""
    named: float
    """Share of recordings whose highest score is the right label's."""


@dataclass(frozen=True)
class KindRow:
    """Results of one kind of recordings that hold none of the labels."""

    kind: str
    recordings: int
    hours: float
    events: int
    alarmed: float
    """Share of recordings with an event."""
    most: tuple[tuple[str, int], ...]
    """The most frequent labels of events, with their numbers."""

    @property
    def per_hour(self) -> float:
        """Events an hour."""
        return self.events / self.hours

    @property
    def per_hour_interval(self) -> tuple[float, float]:
        """95 % interval of `per_hour`, exact for independent events."""
        return intervals.of_rate(self.events, self.hours)


Rows = Sequence[tuple[Recording, Heard]]


def by_label(rows: Rows) -> list[LabelRow]:
    """Results of each label that has recordings."""
    return [
        LabelRow(
            label,
            len(heard),
            float(np.mean([label in each.events for each in heard])),
            float(np.mean([each.label == label for each in heard])),
        )
        for label, heard in _grouped(rows).items()
        if not label.startswith(EVERYDAY)
    ]


def by_kind(rows: Rows, most: int = 5) -> list[KindRow]:
    """Results of each kind of recordings that hold none of the labels."""
    found = []
    for kind, heard in _grouped(rows).items():
        if not kind.startswith(EVERYDAY):
            continue
        labels = [label for each in heard for label in each.events]
        counts = sorted(((label, labels.count(label)) for label in set(labels)), key=lambda each: (-each[1], each[0]))
        hours = sum(each.seconds for each in heard) / 3600
        alarmed = float(np.mean([bool(each.events) for each in heard]))
        found.append(KindRow(kind, len(heard), hours, len(labels), alarmed, tuple(counts[:most])))
    return found


def _grouped(rows: Rows) -> dict[str, list[Heard]]:
    groups: dict[str, list[Heard]] = defaultdict(list)
    for recording, heard in rows:
        groups[recording.label].append(heard)
    return dict(sorted(groups.items()))


@dataclass(frozen=True)
class _Table:
    """Rows as arrays, of which the bootstrap draws."""

    label: NDArray[np.int64]
    """[N], number of the label."""
    is_everyday: NDArray[np.bool_]
    announced: NDArray[np.float64]
    named: NDArray[np.float64]
    score: NDArray[np.float64]
    wrong: NDArray[np.float64]
    """[N], number of other labels among the events."""

    def of(self, rows: NDArray[np.integer]) -> "_Table":
        """These rows."""
        return _Table(**{name: values[rows] for name, values in vars(self).items()})


def _table(rows: Rows) -> _Table:
    labels = sorted({recording.label for recording, _ in rows})
    return _Table(
        np.array([labels.index(recording.label) for recording, _ in rows], np.int64),
        np.array([recording.is_everyday for recording, _ in rows], bool),
        np.array([recording.label in heard.events for recording, heard in rows], float),
        np.array([heard.label == recording.label for recording, heard in rows], float),
        np.array([heard.score for _, heard in rows], float),
        np.array([len(set(heard.events) - {recording.label}) for recording, heard in rows], float),
    )


def measures(rows: Rows, seed: int = 0, draws: int = DRAWS) -> dict[str, Measure]:
    """The measures of a set by name, with their intervals. A measure without the recordings that it needs is absent.

    - announced, named: means over labels of `LabelRow`'s.
    - others: number of other labels among the events of a labelled recording.
    - alarmed: share of everyday recordings with an event.
    - auroc: probability that a labelled recording has a higher score than an everyday one; ties count half.
    - passing: share of everyday recordings whose highest score is at least the score at which `RIGHT_SHARE` of the
      labelled ones are rightly named. 1 where so many never are.
    """
    table = _table(rows)
    values = _values(table)
    rng = np.random.default_rng(seed)
    drawn = {
        "recording": _drawn(table, [recording.original for recording, _ in rows], rng, draws),
        "source": _drawn(table, [recording.source for recording, _ in rows], rng, draws),
    }

    def interval(name: str, over: str) -> tuple[float, float]:
        found = [each[name] for each in drawn[over] if name in each]
        low, high = np.quantile(found, [0.025, 0.975]) if found else (math.nan, math.nan)
        return float(low), float(high)

    return {
        name: Measure(value, interval(name, "recording"), interval(name, "source")) for name, value in values.items()
    }


def _drawn(table: _Table, groups: Sequence[str], rng: np.random.Generator, draws: int) -> list[dict[str, float]]:
    """Measures of sets of as many groups, drawn with replacement."""
    members: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    parts = [np.array(each) for each in members.values()]
    return [
        _values(table.of(np.concatenate([parts[i] for i in rng.integers(0, len(parts), len(parts))])))
        for _ in range(draws)
    ]


def _values(table: _Table) -> dict[str, float]:
    known, everyday = table.of(np.flatnonzero(~table.is_everyday)), table.of(np.flatnonzero(table.is_everyday))
    values: dict[str, float] = {}
    if known.label.size:
        each = [known.label == label for label in np.unique(known.label)]
        values["announced"] = float(np.mean([known.announced[mask].mean() for mask in each]))
        values["named"] = float(np.mean([known.named[mask].mean() for mask in each]))
        values["others"] = float(known.wrong.mean())
    if everyday.label.size:
        values["alarmed"] = float((everyday.wrong > 0).mean())
    if known.label.size and everyday.label.size:
        values["auroc"] = auroc(known.score, everyday.score)
        values["passing"] = passing(known.score, known.named > 0, everyday.score)
    return values


def auroc(known: NDArray[np.float64], everyday: NDArray[np.float64]) -> float:
    """Probability that one of `known` is higher than one of `everyday`; ties count half."""
    order = np.sort(everyday)
    below = np.searchsorted(order, known, "left") + np.searchsorted(order, known, "right")
    return float(below.mean() / 2 / len(everyday))


def passing(
    known: NDArray[np.float64],
    is_right: NDArray[np.bool_],
    everyday: NDArray[np.float64],
    share: float = RIGHT_SHARE,
) -> float:
    """Share of everyday recordings whose score reaches the one at which `share` of the known are rightly named.

    1 where fewer than `share` are named rightly at any score.
    """
    right = np.sort(np.where(is_right, known, -1.0))[::-1]
    return float((everyday >= right[max(0, int(share * len(right)) - 1)]).mean())


def curves(rows: Rows) -> dict[str, list[Point]]:
    """DET curves by kind: recordings of labels that were not announced against events an hour in this kind's."""
    known = [row for row in rows if not row[0].is_everyday]
    return {
        kind.removeprefix(EVERYDAY): curve(known, [row for row in rows if row[0].label == kind])
        for kind in _grouped(rows)
        if known and kind.startswith(EVERYDAY)
    }


def curve(known: Rows, everyday: Rows) -> list[Point]:
    """One DET curve: recordings of labels that were not announced against events an hour in all the everyday ones."""
    hours = max(sum(heard.seconds for _, heard in everyday), 1.0) / 3600
    points = []
    for at in sorted({threshold for _, heard in (*known, *everyday) for threshold in heard.points}):
        events = sum(len(heard.points.get(at, ())) for _, heard in everyday)
        announced = float(np.mean([recording.label in heard.points.get(at, ()) for recording, heard in known]))
        points.append(Point(at, events / hours, 1 - announced))
    return points


def to_document(rows: Rows) -> list[dict[str, Any]]:
    """The rows as JSON, by the recordings' names."""
    return [
        {
            "file": f"{recording.label}/{recording.path.name}",
            "source": recording.source,
            "original": recording.original,
            **{key: value for key, value in asdict(heard).items() if key != "points"},
        }
        for recording, heard in rows
    ]
