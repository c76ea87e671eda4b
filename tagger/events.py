"""What flows through the daemon: Block, Window, Scores, Event; what follows it; and the JSON that leaves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from ulid import ULID

from tagger.times import rfc3339

SCHEMA = 1
"""Version of the messages."""

SILENCE_DBFS = -120.0
"""Level that is given to digital silence, whose logarithm does not exist."""

ACTIVE_SHARE = 0.3
"""Least activity of a step in which a sound is heard, as a share of the label's highest activity in the window."""

Samples = NDArray[np.float32]


def new_id(time: float) -> str:
    """The id of an event that is made now: a ULID of a time, seconds since the epoch, so that ids sort by it."""
    return str(ULID.from_timestamp(max(time, 0.0)))


def moved_id(id_: str, seconds: float) -> str:
    """The id of the same event with its time moved, seconds.

    >>> moved_id(moved_id("01M82C9BXHNTRMQRDVRKQ5T24P", 3600.0), -3600.0)
    '01M82C9BXHNTRMQRDVRKQ5T24P'
    """
    made = ULID.from_str(id_)
    return str(ULID(ULID.from_timestamp(max(made.milliseconds + round(1000 * seconds), 0)).bytes[:6] + made.bytes[6:]))


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive samples of one source."""

    samples: Samples
    """[N], mono, full scale -1 to 1."""
    time: float
    """Wall-clock time of the first sample, seconds since the epoch. Only the source sets it."""
    gap: bool = False
    """Whether samples were lost just before this block. No window may contain samples from both sides of a gap."""


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of a stream, of fixed length, as the network sees it."""

    samples: Samples
    """[window], mono; zeros after `valid`."""
    start: int
    """Index of the first sample in its stream. Lost samples are not counted."""
    valid: int
    """Number of real samples; less than the window only at the end of a stream."""
    time: float
    """Wall-clock time of the first sample, seconds since the epoch."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one window."""

    values: Samples
    """[labels], each 0 to 1, in the checkpoint's order."""
    start_s: float
    """Where the window begins in its stream, seconds."""
    end_s: float
    """Where the window's real samples end, seconds."""
    time: float
    """Wall-clock time of the window's first sample, seconds since the epoch."""
    activity: Samples
    """[labels, steps], each 0 to 1: activity of each label over the time of the window. NaN: it is not known when in
    the window the label is heard."""
    step_s: float
    """Distance between steps, seconds. The first is at the window's first sample."""
    plain: Samples | None = None
    """[labels]: scores before the penalty for sounds outside the label set. None: the model has no such head."""
    other: str | tuple[str, ...] = ""
    """The most likely sound outside the label set, or one for each label; empty where `plain` is None."""
    speech: float | None = None
    """Score of somebody speaking in the window, 0 to 1. None: the model cannot tell."""
    embedding: Samples | None = None
    """[size]: what the network makes of the window before it looks for labels. None: the model does not give it, or
    several models listen together."""
    added: Samples | None = None
    """[labels]: what a second opinion added to the logits of `values`, 0 where there is none. None: nowhere is one."""

    def other_of(self, column: int) -> str:
        """The most likely sound outside the label set of this label's model."""
        return self.other if isinstance(self.other, str) else self.other[column]

    @property
    def step_times(self) -> NDArray[np.float64]:
        """[steps], wall-clock times, seconds since the epoch."""
        return self.time + self.step_s * np.arange(self.activity.shape[1], dtype=np.float64)

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def end_time(self) -> float:
        """Wall-clock time at which the window's last real sample ends, seconds since the epoch."""
        return self.time + self.duration_s


@dataclass(frozen=True)
class Stream:
    """One source as subscribers know it."""

    node: str
    """This machine."""
    source: str
    """The source's name."""
    model: str
    labels: tuple[str, ...]
    """In the order of the scores."""
    models: tuple[str, ...] = ()
    """What decides each label, in their order, where that is not always `model`. It may be shorter than `labels`."""

    def model_of(self, label: str) -> str:
        """The model that decides a label; of a group of labels, all of them."""
        return dict(zip(self.labels, self.models, strict=False)).get(label, self.model)


@dataclass(frozen=True)
class Event:
    """A sound that began, or one that has ended. Both carry the same `id`."""

    type: Literal["begin", "end"]
    id: str
    """ULID: unique, and sortable by the time of creation."""
    label: str
    score: float
    """Score of the window that decided."""
    peak_score: float
    """Highest score since the event began."""
    onset: float
    """When the sound began, seconds since the epoch."""
    offset: float | None = None
    """When it ended, seconds since the epoch. None in a begin."""
    cause: Literal["test", "restart", "takeover"] | None = None
    """Why the event exists, if not because a sound was heard. `test`: a user asked for it. `restart`: the daemon died
    while the event was open, and this end is an estimate. `takeover`: the same of a worker of a fleet."""
    level_before: float | None = None
    """Level of the ten seconds before the onset, as `SoundLevel.laeq_db`. None: not known."""

    def to_json(self, stream: Stream, published: float) -> dict[str, Any]:
        """The message of the MQTT contract. Times are in RFC 3339, UTC, with milliseconds."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "type": self.type,
            "label": self.label,
            "score": round(self.score, 6),
            "peak_score": round(self.peak_score, 6),
            "onset": rfc3339(self.onset),
            "offset": None if self.offset is None else rfc3339(self.offset),
            "duration_s": None if self.offset is None else round(self.offset - self.onset, 3),
            "published": rfc3339(published),
            "node": stream.node,
            "source": stream.source,
            "model": stream.model_of(self.label),
            "laeq_before_db": None if self.level_before is None else round(self.level_before, 1),
            **({} if self.cause is None else {"cause": self.cause}),
        }


@dataclass(frozen=True)
class SoundLevel:
    """How loud a source was for ears. In decibels of full scale, where 0 is the mean square of a full-scale square
    wave; of 20 micropascals, if the source is calibrated.
    """

    laeq_db: float
    """Equivalent level, A weighted (IEC 61672-1)."""
    lafmax_db: float
    """Highest level with A and F weighting."""
    la10_db: float | None
    """Level that was exceeded in a tenth of the time, A and F weighted. None: the stream began less than half a second
    ago."""
    la90_db: float | None
    """The same of nine tenths."""
    third_octaves_db: Mapping[str, float]
    """Equivalent level of each band (IEC 61260-1), without weighting, by its nominal middle frequency, Hz: `1000`."""
    is_calibrated: bool
    """Whether these are sound pressure levels."""

    def to_json(self) -> dict[str, Any]:
        return {
            "laeq_db": round(self.laeq_db, 1),
            "lafmax_db": round(self.lafmax_db, 1),
            "la10_db": None if self.la10_db is None else round(self.la10_db, 1),
            "la90_db": None if self.la90_db is None else round(self.la90_db, 1),
            "third_octaves_db": {name: round(level, 1) for name, level in self.third_octaves_db.items()},
            "reference": "calibrated" if self.is_calibrated else "relative",
        }


@dataclass(frozen=True)
class Level:
    """How loud a source was over the last few seconds."""

    rms_dbfs: float
    """Root mean square, decibels, around the mean; 0 is that of a full-scale square wave. At least SILENCE_DBFS."""
    peak_dbfs: float
    """Highest distance of a sample from the mean, decibels; 0 is full scale. At least SILENCE_DBFS."""
    clipped: int
    """Samples at full scale."""
    time: float
    """End of these seconds, seconds since the epoch."""
    sound: SoundLevel | None = None
    """None: not measured."""

    def to_json(self, stream: Stream) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "time": rfc3339(self.time),
            "rms_dbfs": round(self.rms_dbfs, 1),
            "peak_dbfs": round(self.peak_dbfs, 1),
            "clipped": self.clipped,
            **({} if self.sound is None else self.sound.to_json()),
            "node": stream.node,
            "source": stream.source,
        }


@dataclass(frozen=True)
class LabelScore:
    """One label's score in one window, and why it is not announced."""

    label: str
    score: float
    why: str | None
    """Why the label is not announced. None: it is."""


@dataclass(frozen=True, eq=False)
class Report:
    """Result of one window: the message on `scores`."""

    scores: Scores
    top: tuple["LabelScore", ...]
    """The highest scores, highest first."""
    why: str | None
    """Why no label is announced. None: at least one is."""
    latency_s: float
    """From the arrival of the window's last sample to this report, seconds."""

    def to_json(self, stream: Stream) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "start": round(self.scores.start_s, 6),
            "end": round(self.scores.end_s, 6),
            "time": rfc3339(self.scores.end_time),
            "top": [{"label": each.label, "score": round(each.score, 6), "why": each.why} for each in self.top],
            "why": self.why,
            "latency_ms": round(1000 * self.latency_s, 3),
            "node": stream.node,
            "source": stream.source,
            "model": stream.model,
        }


def top(values: Samples, labels: tuple[str, ...], k: int) -> tuple[tuple[str, float], ...]:
    """The `k` highest scores with their labels, highest first; equal scores in the labels' order."""
    order = np.argsort(-values, kind="stable")[:k]
    return tuple((labels[i], float(values[i])) for i in order)


class AudioTap:
    """Takes a stream's audio and its events, as a clip saver or a level meter does. One thread at a time calls it.

    Its methods do nothing, so that a subclass implements only those it needs.
    """

    def heard(self, block: Block) -> None:
        """Called with each block, before its windows are classified."""

    def scored(self, scores: Scores) -> None:
        """Called with the scores of each window, before its events."""

    def event(self, event: Event) -> None:
        """Called with each event, after the sinks."""

    def pause(self) -> None:
        """The source was paused: the next block does not follow the one before."""

    def close(self) -> None:
        """The stream is over; all its events have ended."""
