"""`tagger eval --streamed`: scores checkpoints on long annotated streams, as the daemon hears them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger.audio.window import SlidingWindows
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.decide import Decider
from tagger.engine.runtime_torch import Classifier
from tagger.engine.scores import WindowClassifier
from tagger.errors import AudioError
from tagger.events import Event, Scores
from tagger.listen import follow
from tagger.policy import Policy, policy
from tagger.progress import Progress
from tagger.tag.recording import in_blocks
from train.data.corpus import Corpus
from train.evaluate import detection, inputs, intervals, soundscape, streamed_report, timeline
from train.evaluate.detection import Detection
from train.evaluate.found import Found
from train.evaluate.inputs import StreamOptions
from train.evaluate.soundscape import Annotation, Soundscape
from train.messages import Say

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Thresholds of the curves."""
_PICTURE_SECONDS = 120.0
"""Longest stretch in the picture."""


@dataclass
class Played:
    """Events and scores of one stream."""

    found: list[Found]
    scores: list[Scores]
    duration_s: float


def play(
    pieces: Iterator[NDArray[np.float32]],
    classifier: WindowClassifier,
    rules: Policy,
    hop_s: float,
) -> Played:
    """Scores and events of a stream, as the daemon has them: its windows, its classifier, its decisions.

    Args:
        pieces: of the stream, [any number of samples] each, at the classifier's rate.

    Raises:
        TaggerError: `pieces` raised it.
    """
    info = classifier.info
    rate_hz = info.mel.sample_rate_hz
    heard = 0

    def counted() -> Iterator[NDArray[np.float32]]:
        nonlocal heard
        for samples in pieces:
            heard += len(samples)
            yield samples

    sliding = SlidingWindows.of_seconds(info.window_seconds, hop_s, rate_hz)
    scores = list(follow(in_blocks(counted(), rate_hz), classifier.lane(sliding), sliding))
    return Played(decided(scores, rules), scores, heard / rate_hz)


def _quiet(
    title: str, pieces: Iterator[NDArray[np.float32]], classify: WindowClassifier, rules: Policy, hop_s: float, say: Say
) -> Played | None:
    """Plays a stream without events. None: it is damaged and left out."""
    try:
        heard = play(pieces, classify, rules, hop_s)
    except AudioError as error:
        say(f"  {error}; left out")
        return None
    if heard.found:
        say(f"  {title}: {', '.join(f'{each.label} at {each.onset_s:.1f} s' for each in heard.found[:5])}")
    return heard


def decided(scores: Sequence[Scores], rules: Policy) -> list[Found]:
    """The events that these scores give under these rules."""
    decider, open_at, found = Decider(rules), dict[str, float](), list[Found]()
    end_s = scores[-1].end_time if scores else 0.0

    def take(events: Sequence[Event], now: float) -> None:
        for event in events:
            if event.offset is None:
                open_at[event.id] = now
            else:
                found.append(Found(event.label, event.onset, event.offset, event.peak_score, open_at[event.id]))

    for each in scores:
        take(decider.update(each), each.end_time)
    take(decider.close(), end_s)
    return found


def at(threshold: float, rules: Policy) -> Policy:
    """The same rules with this `enter` for all labels, and half of it as `exit`."""
    return replace(rules, each=tuple(replace(each, enter=threshold, exit=threshold / 2) for each in rules.each))


@dataclass
class Heard:
    """Everything that the checkpoints heard, and what they made of it. Streams are known by their names."""

    streams: dict[str, tuple[Sequence[Annotation], Sequence[Found], float]] = field(default_factory=dict)
    points: dict[float, dict[str, list[Found]]] = field(default_factory=lambda: {each: {} for each in THRESHOLDS})
    """Events in soundscapes, by threshold."""
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    truth: list[NDArray[np.bool_]] = field(default_factory=list)
    quiet: dict[str, Played] = field(default_factory=dict)
    """Audio in which every event is a false alarm."""

    @property
    def hours(self) -> float:
        """Length of the audio without events."""
        return sum(each.duration_s for each in self.quiet.values()) / 3600

    @property
    def alarms(self) -> list[Found]:
        """All events in it."""
        return [found for each in self.quiet.values() for found in each.found]


def evaluate(
    pairs: Sequence[tuple[Checkpoint, int]],
    corpora: Callable[[Checkpoint], Corpus],
    options: StreamOptions,
    output: Path,
    device: str,
    marks: Sequence[str],
    facts: Mapping[str, Any],
    say: Say,
) -> tuple[Heard, detection.Detection]:
    """Writes streams and a report, and returns what they are made of.

    Args:
        pairs: checkpoints, and the fold whose clips each hears.
        corpora: clips at a checkpoint's rate.
        output: folder of streams, JSON, Markdown and pictures.

    Raises:
        UserError: a folder holds no recordings, or a background is silent or too short.
    """
    heard = Heard()
    recordings = inputs.recordings_in(options.nontarget)
    for number, (loaded, fold) in enumerate(pairs):
        info, classify = loaded.info, Classifier(loaded, device)
        rules = policy(info.labels, info.thresholds, info.window_seconds, options.hop_s, options.config)
        rules = replace(rules, groups={})  # groups have no ground truth
        of_fold = _hear_soundscapes(heard, corpora(loaded), fold, classify, rules, options, output)
        say(f"fold {fold}: {streamed_report.line(detection.evaluate(of_fold, info.window_seconds))}")
        _hear_nothing(heard, recordings[number :: len(pairs)], number, fold, classify, rules, options, say)
    window_s = pairs[0][0].info.window_seconds
    calibrated = detection.calibration(np.concatenate(heard.scores), np.concatenate(heard.truth))
    result = detection.evaluate(heard.streams, window_s, heard.points, calibrated)
    curve = _quiet_curve(heard.quiet, rules, heard.hours)
    timeline.write_curves(
        output / "curves.png", {"soundscapes": result.curve, "non-target audio": _joint(result, curve)}
    )
    nontarget = {
        "hours": heard.hours,
        "false_alarms": len(heard.alarms),
        "false_alarms_per_hour": len(heard.alarms) / heard.hours,
        "false_alarms_per_hour_interval_95": intervals.of_rate(len(heard.alarms), heard.hours),
        "by_threshold": curve,
        "by_stream": {
            name: {"hours": each.duration_s / 3600, "events": [vars(found) for found in each.found]}
            for name, each in heard.quiet.items()
        },
    }
    settings = {"marks": list(marks), "hop_s": options.hop_s, "seed": options.seed}
    streamed_report.write(output, result, nontarget, heard.alarms, marks, {**facts, **settings})
    say(f"all:    {streamed_report.line(result)}")
    for line in streamed_report.widths(result, len(heard.alarms), heard.hours):
        say(line)
    say(f"report: {output / 'streamed.md'}")
    return heard, result


def _hear_soundscapes(
    heard: Heard,
    corpus: Corpus,
    fold: int,
    classify: Classifier,
    rules: Policy,
    options: StreamOptions,
    output: Path,
) -> dict[str, tuple[Sequence[Annotation], Sequence[Found], float]]:
    """Makes a fold's soundscapes, and plays them to its checkpoint. Draws the first."""
    info, is_first = classify.info, not heard.streams
    rate_hz = info.mel.sample_rate_hz
    of_fold: dict[str, tuple[Sequence[Annotation], Sequence[Found], float]] = {}
    with Progress(f"fold {fold}, soundscapes", 60 * options.minutes, "min", 60) as progress:
        for scape in inputs.soundscapes(corpus, fold, rate_hz, options):
            soundscape.write(output / "streams", scape)
            pieces = _shown(inputs.pieces(scape.samples, rate_hz), rate_hz, progress)
            played = play(pieces, classify, rules, options.hop_s)
            of_fold[scape.name] = (scape.annotations, played.found, scape.duration_s)
            for threshold, by_stream in heard.points.items():
                by_stream[scape.name] = decided(played.scores, at(threshold, rules))
            scores, truth = windows_of(scape, played.scores, info.labels)
            heard.scores.append(scores)
            heard.truth.append(truth)
    heard.streams |= of_fold
    if is_first:
        end_s = min(scape.duration_s, 60.0 + _PICTURE_SECONDS)
        stretch = (max(0.0, end_s - _PICTURE_SECONDS), end_s)
        timeline.write(output / "timeline.png", scape.annotations, played.found, stretch, f"{scape.name}, {info.name}")
    return of_fold


def _hear_nothing(
    heard: Heard,
    recordings: Sequence[Path],
    number: int,
    fold: int,
    classify: Classifier,
    rules: Policy,
    options: StreamOptions,
    say: Say,
) -> None:
    """Plays audio without events to a fold's checkpoint."""
    rate_hz, notes = classify.info.mel.sample_rate_hz, list[str]()
    with Progress(f"fold {fold}, non-target audio", 1 + len(recordings), "recordings") as progress:
        for name, pieces in inputs.nothing(recordings, number, rate_hz, options.seed):
            title = inputs.free_title(f"{name} (fold {fold})", heard.quiet)
            played = _quiet(title, _noted(pieces, rate_hz, progress), classify, rules, options.hop_s, notes.append)
            if played is not None:
                heard.quiet[title] = played
            progress.update()
    for note in notes:
        say(note)


def _shown(pieces: Iterator[NDArray[np.float32]], rate_hz: int, progress: Progress) -> Iterator[NDArray[np.float32]]:
    """The pieces, whose seconds are the steps of the progress."""
    for samples in pieces:
        yield samples
        progress.update(len(samples) / rate_hz)


def _noted(pieces: Iterator[NDArray[np.float32]], rate_hz: int, progress: Progress) -> Iterator[NDArray[np.float32]]:
    """The pieces, whose minutes are noted beside the progress."""
    heard = 0
    for samples in pieces:
        yield samples
        heard += len(samples)
        progress.note = f"{heard / rate_hz / 60:.1f} min of this one"
        progress.update(0)


def windows_of(
    scape: Soundscape, scores: Sequence[Scores], labels: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores and truth, [windows, labels] each. A label is true if the window has half a second of its sound."""
    truth = np.zeros((len(scores), len(labels)), bool)
    for row, each in enumerate(scores):
        for sound in scape.annotations:
            heard_s = min(each.end_s, sound.offset_s) - max(each.start_s, sound.onset_s)
            if heard_s >= min(0.5, 0.5 * (sound.offset_s - sound.onset_s)):
                truth[row, labels.index(sound.label)] = True
    return np.stack([each.values for each in scores]), truth


def _quiet_curve(quiet: Mapping[str, Played], rules: Policy, hours: float) -> dict[float, float]:
    """False alarms per hour, by threshold."""
    return {
        threshold: sum(len(decided(each.scores, at(threshold, rules))) for each in quiet.values()) / hours
        for threshold in THRESHOLDS
    }


def _joint(result: Detection, alarms: Mapping[float, float]) -> list[detection.Point]:
    """Sounds that were missed in soundscapes, against false alarms in audio without sounds."""
    return [replace(point, false_alarms_per_hour=alarms[point.threshold]) for point in result.curve]
