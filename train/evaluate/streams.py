"""`tagger eval --streamed`: scores checkpoints on long annotated streams, as the daemon hears them."""

import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from tagger.audio.decode import decode
from tagger.audio.window import SlidingWindows
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.decide import Decider
from tagger.engine.runtime_torch import Classifier
from tagger.engine.scores import WindowClassifier
from tagger.errors import AudioError, UserError
from tagger.events import Event, Scores
from tagger.files import replacing
from tagger.listen import follow
from tagger.policy import EventsConfig, Policy, policy
from tagger.tag import in_blocks
from train.augment.waveform import coloured
from train.data.corpus import Corpus
from train.data.own import sounds_in
from train.evaluate import detection, soundscape, synthesis, timeline
from train.evaluate.detection import Detection
from train.evaluate.found import Found
from train.evaluate.soundscape import Annotation, Soundscape
from train.evaluate.synthesis import Recording
from train.messages import Say

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Thresholds of the curves."""
_BLOCK_SECONDS = 0.1
_QUIET_SECONDS = 1200.0
"""Length of a made stream without events."""
_SCAPE_SECONDS = 300.0
"""Longest soundscape; the next one has another background."""
_PICTURE_SECONDS = 120.0
"""Longest stretch in the picture."""


@dataclass(frozen=True)
class StreamOptions:
    """The streams that are made, and how they are scored."""

    minutes: float = 20.0
    """Length of the soundscapes for each checkpoint, minutes."""
    hop_s: float = 0.5
    seed: int = 0
    per_minute: float = 8.0
    overlapping: float = 0.2
    snr_db: tuple[float, float] = (0.0, 20.0)
    backgrounds: Sequence[Path] = ()
    """Recordings under the sounds. Empty: noise."""
    nontarget: Sequence[Path] = ()
    """Recordings in which every event is a false alarm, besides the noise, hum and silence that are made."""
    config: EventsConfig | None = None


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
    scores = list(follow(in_blocks(counted(), rate_hz), classifier, sliding))
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


def evaluate(
    pairs: Sequence[tuple[Checkpoint, int]],
    corpora: Callable[[Checkpoint], Corpus],
    options: StreamOptions,
    output: Path,
    device: str,
    marks: Sequence[str],
    facts: Mapping[str, Any],
    say: Say,
) -> None:
    """Writes streams and a report.

    Args:
        pairs: checkpoints, and the fold whose clips each hears.
        corpora: clips at a checkpoint's rate.
        output: folder of streams, JSON, Markdown and pictures.

    Raises:
        UserError: a folder holds no recordings, or a background is silent or too short.
    """
    streams: dict[str, tuple[Sequence[Annotation], Sequence[Found], float]] = {}
    points: dict[float, dict[str, list[Found]]] = {threshold: {} for threshold in THRESHOLDS}
    quiet: dict[str, Played] = {}
    all_scores: list[NDArray[np.float32]] = []
    all_truth: list[NDArray[np.bool_]] = []
    drawn = False
    recordings = _recordings(options.nontarget)
    for number, (loaded, fold) in enumerate(pairs):
        info, corpus, classify = loaded.info, corpora(loaded), Classifier(loaded, device)
        rate_hz = info.mel.sample_rate_hz
        rules = policy(info.labels, info.thresholds, info.window_seconds, options.hop_s, options.config)
        rules = replace(rules, groups={})  # groups have no ground truth
        of_fold: dict[str, tuple[Sequence[Annotation], Sequence[Found], float]] = {}
        for scape in _soundscapes(corpus, fold, rate_hz, options):
            soundscape.write(output / "streams", scape)
            played = play(_pieces(scape.samples, rate_hz, scape.name), classify, rules, options.hop_s)
            of_fold[scape.name] = (scape.annotations, played.found, scape.duration_s)
            for threshold, by_stream in points.items():
                by_stream[scape.name] = decided(played.scores, at(threshold, rules))
            scores, truth = windows_of(scape, played.scores, info.labels)
            all_scores.append(scores)
            all_truth.append(truth)
        streams |= of_fold
        if not drawn:
            end_s = min(scape.duration_s, 60.0 + _PICTURE_SECONDS)
            stretch = (max(0.0, end_s - _PICTURE_SECONDS), end_s)
            timeline.write(
                output / "timeline.png", scape.annotations, played.found, stretch, f"{scape.name}, {info.name}"
            )
            drawn = True
        part = detection.evaluate(of_fold, info.window_seconds)
        say(f"fold {fold}: {_line(part)}")
        for name, pieces in _nothing(recordings[number :: len(pairs)], number, rate_hz, options.seed):
            title = _title(f"{name} (fold {fold})", quiet)
            if (heard := _quiet(title, pieces, classify, rules, options.hop_s, say)) is not None:
                quiet[title] = heard
    window_s = pairs[0][0].info.window_seconds
    calibrated = detection.calibration(np.concatenate(all_scores), np.concatenate(all_truth))
    result = detection.evaluate(streams, window_s, points, calibrated)
    hours = sum(each.duration_s for each in quiet.values()) / 3600
    alarms = [found for each in quiet.values() for found in each.found]
    curve = _quiet_curve(quiet, rules, hours)
    timeline.write_curves(
        output / "curves.png", {"soundscapes": result.curve, "non-target audio": _joint(result, curve)}
    )
    document = {
        **facts,
        "marks": list(marks),
        "hop_s": options.hop_s,
        "seed": options.seed,
        "soundscapes": result.to_document(),
        "nontarget": {
            "hours": hours,
            "false_alarms": len(alarms),
            "false_alarms_per_hour": len(alarms) / hours,
            "by_threshold": curve,
            "by_stream": {
                name: {"hours": each.duration_s / 3600, "events": [vars(found) for found in each.found]}
                for name, each in quiet.items()
            },
        },
    }
    with replacing(output / "streamed.json") as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    text = "\n".join(_markdown(result, hours, alarms, marks, facts)) + "\n"
    with replacing(output / "streamed.md") as partial:
        partial.write_text(text, "utf-8")
    say(f"all:    {_line(result)}")
    say(f"non-target audio: {len(alarms)} events in {hours:.1f} hours, {len(alarms) / hours:.2f} an hour")
    say(f"report: {output / 'streamed.md'}")


def _soundscapes(corpus: Corpus, fold: int, rate_hz: int, options: StreamOptions) -> Iterator[Soundscape]:
    dataset = corpus.dataset
    sounds = [
        Recording(dataset.clips[row].title, _loader(corpus, int(row)), dataset.labels[label])
        for row in dataset.held_out(fold)
        if (label := dataset.clips[row].label) is not None and corpus.waveforms[int(row)].any()
    ]
    backgrounds = [Recording(path.name, _decoder(path, rate_hz)) for path in _recordings(options.backgrounds)]
    left_s, number = 60 * options.minutes, 0
    while left_s > 0:
        number += 1
        try:
            scape = synthesis.make(
                f"fold{fold}-{number}",
                min(left_s, _SCAPE_SECONDS),
                rate_hz,
                10_000 * options.seed + 100 * fold + number,
                sounds,
                backgrounds,
                per_minute=options.per_minute,
                overlapping=options.overlapping,
                snr_db=options.snr_db,
            )
        except ValueError as error:
            raise UserError(str(error)) from None
        yield scape
        left_s -= _SCAPE_SECONDS


def _recordings(folders: Sequence[Path]) -> list[Path]:
    for folder in folders:
        if not sounds_in(folder):
            raise UserError(f"{folder}: no recordings here")
    return [path for folder in folders for path in sounds_in(folder)]


def _title(name: str, taken: Mapping[str, Any]) -> str:
    """A title that is not taken: files in different folders may have the same name."""
    titles = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
    return next(title for title in titles if title not in taken)


def _loader(corpus: Corpus, row: int) -> Callable[[], NDArray[np.float32]]:
    def load() -> NDArray[np.float32]:
        return corpus.waveforms[row]

    return load


def _decoder(path: Path, rate_hz: int) -> Callable[[], NDArray[np.float32]]:
    return lambda: np.concatenate(list(decode(path, rate_hz)))


def _pieces(samples: NDArray[np.float32], rate_hz: int, title: str) -> Iterator[NDArray[np.float32]]:
    block = round(_BLOCK_SECONDS * rate_hz)
    starts = range(0, len(samples), block)
    with click.progressbar(starts, label=title, file=sys.stderr) as bar:
        for start in bar:
            yield samples[start : start + block]


def _nothing(
    recordings: Sequence[Path], number: int, rate_hz: int, seed: int
) -> Iterator[tuple[str, Iterator[NDArray[np.float32]]]]:
    """Streams without events, by name: one that is made, and the recordings."""
    rng = np.random.default_rng([seed, number])
    samples = round(_QUIET_SECONDS * rate_hz)
    kinds = ("white", "pink", "brown", "hum", "silence")
    kind = kinds[number % len(kinds)]
    if kind == "silence":
        made = np.zeros(samples, np.float32)
    elif kind == "hum":
        made = _hum(samples, rate_hz, rng)
    else:
        made = coloured(samples, float(kinds.index(kind)), rng) * np.float32(10 ** (rng.uniform(-50, -30) / 20))
    yield kind, _pieces(made, rate_hz, kind)
    for path in recordings:
        yield path.name, decode(path, rate_hz)


def _hum(samples: int, rate_hz: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A fan, [samples]: a hum and its overtones over brown noise."""
    time = np.arange(samples) / rate_hz
    tones = np.sum([0.5**k * np.sin(2 * np.pi * (100.0 * (k + 1) * time + rng.random())) for k in range(5)], axis=0)
    level: NDArray[np.float32] = (0.01 * tones + 0.01 * coloured(samples, 2.0, rng)).astype(np.float32)
    return level


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


def _line(result: Detection) -> str:
    wide = next(each for each in result.event_based if each.collar_s == 1.0 and not each.with_offset)
    heard = result.announced
    return (
        f"event F1 {wide.micro.f1 or 0:.3f} (collar 1 s), announced {100 * (heard.recall or 0):.1f} %, "
        f"onset error {heard.onset_error.median_abs_s or 0:.2f} s, delay {heard.delay.median_s or 0:.2f} s (medians), "
        f"{result.false_alarms_per_hour:.1f} false alarms an hour"
    )


def _markdown(
    result: Detection, hours: float, alarms: Sequence[Found], marks: Sequence[str], facts: Mapping[str, Any]
) -> Iterator[str]:
    yield "# Streamed evaluation\n"
    yield f"`{facts['command']}`\n"
    yield from (f"**{mark}**\n" for mark in marks)
    yield f"{result.sounds} sounds in {result.hours:.2f} hours of soundscapes; {hours:.2f} hours of non-target audio.\n"
    yield "| measure | value |\n|---|---|"
    for each in result.event_based:
        what = "onset and offset" if each.with_offset else "onset"
        micro = each.micro
        numbers = (
            f"precision {micro.precision or 0:.3f}, recall {micro.recall or 0:.3f}, macro {each.macro_f1 or 0:.3f}"
        )
        yield f"| event F1, collar {each.collar_s:g} s, {what} | {micro.f1 or 0:.3f} ({numbers}) |"
    heard = result.announced
    yield f"| sounds announced by their label | {100 * (heard.recall or 0):.1f} % |"
    for title, spread in (
        ("onset to publication", heard.delay),
        ("onset error", heard.onset_error),
        ("offset error", heard.offset_error),
    ):
        if spread.median_s is not None:
            yield (
                f"| {title} | median {spread.median_s:.2f} s, median of magnitudes {spread.median_abs_s:.2f} s, "
                f"nine in ten below {spread.p90_abs_s:.2f} s |"
            )
    yield f"| PSDS, scenarios 1 and 2 | {result.psds1 or 0:.3f}, {result.psds2 or 0:.3f} |"
    yield f"| false alarms in soundscapes | {result.false_alarms_per_hour:.1f} an hour |"
    yield f"| **false alarms in non-target audio** | **{len(alarms) / hours:.2f} an hour** ({len(alarms)}) |"
    if result.calibration is not None:
        yield f"| calibration error of windows' highest scores | {100 * result.calibration.highest:.1f} % |"
    yield "\n![truth and events](timeline.png)\n\n![missed sounds against false alarms](curves.png)\n"
    yield "| label | sounds | announced | F1, collar 1 s | false alarms an hour, soundscapes | non-target events |"
    yield "|---|---|---|---|---|---|"
    wide = next(each for each in result.event_based if each.collar_s == 1.0 and not each.with_offset)
    for label, (announced, sounds) in heard.by_label.items():
        f1 = wide.by_label[label].f1
        rate = result.false_alarms.get(label, 0) / result.hours
        wrong = sum(each.label == label for each in alarms)
        yield f"| {label} | {sounds} | {announced} | {f1 or 0:.2f} | {rate:.1f} | {wrong} |"
