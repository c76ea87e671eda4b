"""What a second opinion gives: the label network's scores, and AudioSet's network as it was before training, together.

    tagger models download mn04; tagger export mn04_as
    tagger train ESC-50/ --freeze       # FOLDS is its output folder; `tagger export` each fold, for speed
    python bench/opinion.py hear  home/ ESC-50/ FOLDS/ --cache cache/   # once: what the networks make of both
    python bench/opinion.py first home/ ESC-50/ FOLDS/ --cache cache/   # the plain sums of docs/opinion.md
    python bench/opinion.py choose home/ ESC-50/ FOLDS/ --cache cache/  # weights, on the half `choose` of the sources
    python bench/opinion.py report home/ ESC-50/ FOLDS/ --cache cache/  # the other half: once
    python bench/opinion.py streams home/ ESC-50/ FOLDS/ --cache cache/ --background nontarget/test [--half report]

MODEL (`--model`, the bundled one) needs a second opinion with a last layer (`tagger models opinion MODEL --head FILE`).
ESC-50's folds say what the weights cost there. Their networks never heard the fold that they are asked about; and
AudioSet's network learnt from none of it. Their last layer is the second opinion's as well, so that its share says
nothing there.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from tagger.audio.decode import decode
from tagger.audio.window import SlidingWindows
from tagger.checkpoints import store
from tagger.checkpoints.graph import graph_of
from tagger.checkpoints.info import read_info
from tagger.checkpoints.opinion import Opinion, read_classes, read_constants
from tagger.checkpoints.release import audioset_labels
from tagger.decide import Decider
from tagger.engine.runtime import described, open_model
from tagger.engine.runtime_onnx import OnnxClassifier
from tagger.engine.scores import WindowClassifier, calibrated_logits
from tagger.engine.smoothing import Smoothing
from tagger.errors import AudioError, TaggerError, UserError
from tagger.events import Block, Scores, Window
from tagger.files import replacing
from tagger.policy import Policy, policy
from tagger.tag.recording import windows
from train.data import esc50
from train.data.dataset import FOLDS
from train.evaluate import detection, synthesis, trust
from train.evaluate.event_based import event_based
from train.evaluate.found import Streams, hours_of
from train.evaluate.inputs import recordings_in
from train.evaluate.streams import decided, windows_of
from train.evaluate.trust import Heard, Recording
from train.fit.opinion import neutral_bias

HOP_S = 0.5
SCAPES, SCAPE_S = 6, 240.0
BATCH = 8
CONSTANTS = read_constants()
CHOSEN: dict[str, float] = CONSTANTS["weights"]
"""Chosen on the half `choose`, like the bias, which makes the scores of windows in streams true, and the thresholds."""
ALONE = 0.7735
"""Threshold of all labels by the label network alone."""
SHARES = (0.60, 0.65, 0.70)
ALIKE = CHOSEN | {"smoothing": 0.0}
"""The chosen weights for windows by themselves."""
NONE = {"share": 0.0, "own": 0.0, "other": 0.0, "rank": 1.0, "common": 0.0}
GRID: list[dict[str, float]] = [
    NONE | {"own": 1.0, "other": 2.0, "rank": 0.1, "common": 0.5},
    NONE | {"own": 0.1},
    NONE | {"other": 0.2},
    NONE | {"own": 0.1, "other": 0.2},
    NONE | {"own": 0.3, "other": 0.4},
    NONE | {"strong": 1.2, "strong_from": 4.2},
    ALIKE | {"share": 0.0},
    *(NONE | {"share": share} for share in (0.3, 0.5, 1.0)),
    *(ALIKE | {"share": share} for share in (0.15, 0.3, 0.5, 1.0)),
    *(ALIKE | {"other": other} for other in (0.2, 0.4)),
]
Array = NDArray[np.float64]


COLUMNS = "logits", "steps", "audioset", "second", "times"


@dataclass(frozen=True, eq=False)
class Outputs:
    """What both networks make of the windows of one recording."""

    logits: Array
    """[windows, labels], less the surprise, calibrated."""
    steps: Array
    """[windows, steps, labels]."""
    audioset: Array
    """[windows, classes]."""
    second: Array
    """[windows, labels], logits of the second opinion's last layer."""
    times: Array
    """[windows, 2], begin and end, seconds."""

    @classmethod
    def read(cls, path: Path) -> "Outputs":
        if not path.is_file():
            raise UserError(f"{path}: not there; `hear` first")
        with np.load(path) as file:
            return cls(*(file[name].astype(float) for name in COLUMNS))


def audioset_beside(labels: WindowClassifier) -> WindowClassifier:
    """AudioSet's network behind the label network's front end."""
    path = store.find("mn04_as")
    if not graph_of(path).is_file():
        raise UserError("mn04_as has no graph: tagger export mn04_as")
    return OnnxClassifier(replace(read_info(path), mel=labels.info.mel), path, graph_of(path))


def hear(heard: Iterable[Window], labels: WindowClassifier, audioset: WindowClassifier | None, out: Path) -> None:
    """Writes what the networks make of the windows of a recording.

    Args:
        audioset: for networks without a second opinion, whose last layer is then its last layer, too. It hears their
            features.
    """
    info = labels.info
    rows: list[tuple[Array, ...]] = []
    waiting = []

    def take() -> None:
        waveforms = np.stack([window.samples for window in waiting])
        one = labels.outputs(waveforms)
        logits = calibrated_logits(one, info)
        if audioset is not None:
            classes, second = audioset.outputs(waveforms).logits, logits
        elif one.opinion is not None and one.second is not None:
            classes, second = one.opinion, one.second
        else:
            raise UserError(f"{info.name} has no second opinion with a last layer: tagger models opinion --head")
        for i, window in enumerate(waiting):
            start = window.start / info.mel.sample_rate_hz
            times = np.array([start, start + window.valid / info.mel.sample_rate_hz])
            rows.append((logits[i], one.steps[i], classes[i], second[i], times))
        waiting.clear()

    try:
        for window in heard:
            waiting.append(window)
            if len(waiting) == BATCH:
                take()
    except AudioError as error:
        print(f"{error}; what was read is used", file=sys.stderr)
    if waiting:
        take()
    if rows:
        out.parent.mkdir(parents=True, exist_ok=True)
        columns = [np.array(each, np.float32) for each in zip(*rows, strict=True)]
        with replacing(out) as part, part.open("wb") as file:
            np.savez(file, **dict(zip(COLUMNS, columns, strict=True)))


def hear_file(path: Path, labels: WindowClassifier, audioset: WindowClassifier | None, out: Path) -> None:
    info = labels.info
    if not out.is_file():
        hear(windows(path, info.mel.sample_rate_hz, info.window_seconds, HOP_S), labels, audioset, out)


def home_path(cache: Path, recording: Recording) -> Path:
    return cache / "home" / recording.label / f"{recording.path.stem}.npz"


def esc_path(cache: Path, clip: Path) -> Path:
    return cache / "esc50" / f"{clip.stem}.npz"


def hear_all(home: Path, data: Path, folds: Path, cache: Path, model: str) -> None:
    labels = open_model(model)
    with click.progressbar(trust.read_set(home), label="home", file=sys.stderr) as bar:
        for recording in bar:
            hear_file(recording.path, labels, None, home_path(cache, recording))
    audioset, dataset = audioset_beside(labels), esc50.read(data)
    for fold in FOLDS:
        held_out = open_model(str(folds / f"fold{fold}.safetensors"))
        with click.progressbar(dataset.held_out(fold), label=f"fold {fold}", file=sys.stderr) as rows:
            for row in rows:
                path = dataset.clips[int(row)].path
                hear_file(path, held_out, audioset, esc_path(cache, path))


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that `hear` wrote."""

    labels: tuple[str, ...]
    home: list[tuple[Recording, Outputs]]
    clips: Array
    """[clips, labels], logits of ESC-50's clips, each by the network that never heard its fold."""
    audioset: Array
    """[clips, classes]."""
    truth: NDArray[np.int64]
    """[clips]."""

    @classmethod
    def read(cls, home: Path, data: Path, cache: Path, model: str) -> "Material":
        dataset, labels = esc50.read(data), described(model)[1].labels
        clips = [clip for clip in dataset.clips if clip.label is not None]
        first = [Outputs.read(esc_path(cache, clip.path)) for clip in clips]
        order = [dataset.labels.index(label) for label in labels]
        recordings = [each for each in trust.read_set(home) if home_path(cache, each).is_file()]
        return cls(
            labels,
            [(each, Outputs.read(home_path(cache, each))) for each in recordings],
            np.array([each.logits[0][order] for each in first]),
            np.array([each.audioset[0] for each in first]),
            np.array([order.index(clip.label) for clip in clips if clip.label is not None]),
        )

    def opinion(self, **weights: float) -> Opinion:
        known = read_classes()
        usual = (tuple(map(float, each)) for each in (self.audioset.mean(0), self.audioset.std(0)))
        return Opinion(audioset_labels(), tuple(known[label] for label in self.labels), *usual, **weights)

    def accuracy(self, opinion: Opinion) -> float:
        """Share of ESC-50's clips."""
        return float((opinion(self.clips, self.audioset).argmax(1) == self.truth).mean())

    def chosen(self) -> Opinion:
        """With its own bias, which goes with its own thresholds."""
        return self.opinion(**CHOSEN, bias=CONSTANTS["models"]["esc50"]["bias"])

    def neutral(self, opinion: Opinion) -> Opinion:
        """The opinion with a bias that keeps the logits of ESC-50's clips, as `neutral_bias` has it."""
        return replace(opinion, bias=opinion.bias + neutral_bias(opinion, self.clips, self.audioset, self.truth))

    def half(self, half: str) -> list[tuple[Recording, Outputs]]:
        return [each for each in self.home if each[0].half == half]


Score = Callable[[Outputs], Array]


def scored(opinion: Opinion) -> Score:
    return lambda each: _smoothed(each, opinion(each.logits, each.audioset, each.second), opinion.smoothing)


def _smoothed(outputs: Outputs, logits: Array, share: float) -> Array:
    """[windows, labels], logits as a stream has them: smoothed over time."""
    if not share:
        return logits
    added = (logits - outputs.logits).astype(np.float32)
    alone = [replace(each, added=added[row]) for row, each in enumerate(_scores(outputs, logits, 0.0))]
    smooth = Smoothing(np.full(logits.shape[1], share, np.float32))
    values = np.array([each.values for each in smooth(alone)], float).clip(1e-7, 1 - 1e-7)
    found: Array = np.log(values / (1 - values))
    return found


def alone(outputs: Outputs) -> Array:
    return outputs.logits


def lasting(score: Score, count: int) -> Score:
    """The mean of the scores of a window and of those before it, `count` windows in all; as a logit."""

    def found(outputs: Outputs) -> Array:
        each = sigmoid(score(outputs))
        mean = np.array([each[max(0, i - count + 1) : i + 1].mean(0) for i in range(len(each))]).clip(1e-7, 1 - 1e-7)
        logits: Array = np.log(mean / (1 - mean))
        return logits

    return found


def rules_of(model: str, is_chosen: bool) -> Policy:
    """The daemon's rules with the label network's threshold, or with those that were chosen."""
    _, info = described(model)
    chosen = CONSTANTS["models"]["esc50"]["thresholds"]
    thresholds = [chosen[label] if is_chosen else ALONE for label in info.labels]
    return policy(info.labels, thresholds, info.window_seconds, HOP_S)


def sigmoid(x: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-x))
    return found


def _scores(outputs: Outputs, logits: Array, step_s: float) -> list[Scores]:
    values = sigmoid(logits).astype(np.float32)
    activity = sigmoid(outputs.steps).transpose(0, 2, 1).astype(np.float32)
    return [
        Scores(values[i], float(start), float(end), float(start), activity[i], step_s)
        for i, (start, end) in enumerate(outputs.times)
    ]


def heard(
    material: Material, some: Sequence[tuple[Recording, Outputs]], score: Score, model: str, rules: Policy
) -> trust.Rows:
    """What a system with these scores makes of recordings, by the daemon's rules."""
    classifier = open_model(model)
    rows = []
    for recording, outputs in some:
        allowed = np.array([label not in recording.may for label in material.labels])
        logits = score(outputs)
        decider, events = Decider(rules), []
        for scores in _scores(outputs, logits, classifier.step_s):
            events += [each.label for each in decider.update(scores) if each.type == "begin"]
        events += [each.label for each in decider.close() if each.type == "begin"]
        best = logits[:, allowed]
        label = np.array(material.labels)[allowed][best.max(0).argmax()]
        kept = tuple(each for each in events if each not in recording.may)
        rows.append((recording, Heard(float(outputs.times.max()), float(best.max()), str(label), kept)))
    return rows


def line(rows: trust.Rows) -> str:
    """Measures without intervals."""
    found = {name: each.value for name, each in trust.measures(rows, draws=0).items()}
    known = np.array([each.score for recording, each in rows if not recording.is_everyday])
    right = np.array([each.label == recording.label for recording, each in rows if not recording.is_everyday])
    everyday = np.array([each.score for recording, each in rows if recording.is_everyday])
    passing = " / ".join(f"{100 * trust.passing(known, right, everyday, share):.0f}" for share in SHARES)
    return (
        f"announced {found['announced']:.3f}  named {found['named']:.3f}  others {found['others']:.3f}  "
        f"alarmed {found['alarmed']:.3f}  AUROC {found['auroc']:.3f}  passing {passing} %"
    )


def first(material: Material, model: str) -> Iterator[str]:
    """Plain sums of the two: the logit, plus a times the label's own classes, less b times the surprise."""
    base = material.opinion()
    scale = 1 / described(model)[1].temperature  # a and b are for logits as the network gives them
    plain = replace(base, spread=(1.0,) * len(base.spread), rank=scale, common=0.0)
    for a, b in ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        rows = heard(material, material.home, scored(replace(plain, own=a, other=b)), model, rules_of(model, False))
        yield f"a {a:g} b {b:g}: {line(rows)}"


def choose(material: Material, model: str) -> Iterator[str]:
    """Every weight of the grid, on one half, with the bias that keeps the median score of ESC-50's clips. Then the
    chosen ones with their own bias and thresholds.
    """
    some, rules = material.half("choose"), rules_of(model, False)

    def shown(opinion: Opinion, rules: Policy) -> str:
        found = line(heard(material, some, scored(opinion), model, rules))
        return f"ESC-50 {100 * material.accuracy(opinion):.2f} %, bias {opinion.bias:.2f}: {found}"

    yield f"alone: {shown(material.opinion(**NONE), rules)}"
    for weights in GRID:
        yield f"{weights}: {shown(material.neutral(material.opinion(**weights)), rules)}"
    yield f"chosen: {shown(material.chosen(), rules_of(model, True))}"
    for name, score, rules in tried(material, model):
        yield f"{name}: {line(heard(material, some, score, model, rules))}"


def streams(material: Material, backgrounds: Sequence[Path], half: str, cache: Path, model: str) -> Iterator[str]:
    """Sounds announced in soundscapes of a half's recordings, four over backgrounds and two over noise. At the
    defaults, and at equal numbers of wrong labels an hour, for which all scores are moved together.
    """
    labels = open_model(model)
    info, rate_hz = labels.info, labels.info.mel.sample_rate_hz
    sounds = [
        synthesis.Recording(each.path.name, partial(_sound, each.path, rate_hz), each.label)
        for each, _ in material.half(half)
        if not each.is_everyday
    ]
    beds = [
        synthesis.Recording(each.name, partial(_sound, each, rate_hz, 120.0)) for each in recordings_in(backgrounds)
    ]
    played = []
    for number in range(SCAPES):
        scape = synthesis.make(f"{half}{number}", SCAPE_S, rate_hz, number, sounds, beds if number < 4 else ())
        out = cache / "streams" / f"{scape.name}.npz"
        if not out.is_file():
            sliding = SlidingWindows.of_seconds(info.window_seconds, HOP_S, rate_hz)
            hear(sliding.feed(Block(scape.samples, 0.0)), labels, None, out)
        played.append((scape, Outputs.read(out)))
    for name, score, rules in systems(material, model) + (tried(material, model) if half == "choose" else []):
        points = []
        for shift in np.arange(-3, 3.1, 0.5):
            shifted = {scape.name: _scores(each, score(each) + shift, labels.step_s) for scape, each in played}
            found: Streams = {
                scape.name: (scape.annotations, decided(shifted[scape.name], rules), scape.duration_s)
                for scape, _ in played
            }
            heard_ = detection.announced(found, info.window_seconds)
            wrong = sum(detection.false_alarms(found).values()) / hours_of(found)
            points.append((wrong, heard_.recall or 0.0, heard_.delay.median_s or np.nan))
            if shift == 0:
                windows_ = [windows_of(scape, shifted[scape.name], info.labels) for scape, _ in played]
                error = detection.calibration(*(np.concatenate(each) for each in zip(*windows_, strict=True))).highest
                f1 = event_based(found, 1.0, False).micro.f1 or 0.0
                yield (
                    f"{name}: {100 * (heard_.recall or 0):.1f} % announced, median delay "
                    f"{heard_.delay.median_s:.2f} s, {wrong:.0f} wrong labels an hour, F1 {f1:.3f}, "
                    f"calibration error {100 * error:.1f} %"
                )
        wrongs, recalls, delays = np.array(sorted(points)).T
        for rate in (20, 50, 100):
            recall, delay = np.interp(rate, wrongs, recalls), np.interp(rate, wrongs, delays)
            yield f"{name}: {rate} wrong labels an hour, {100 * recall:.1f} % announced, median delay {delay:.2f} s"


def systems(material: Material, model: str) -> list[tuple[str, Score, Policy]]:
    """Name, scores, and rules."""
    return [
        ("alone", alone, rules_of(model, False)),
        ("with a second opinion", scored(material.chosen()), rules_of(model, True)),
    ]


def tried(material: Material, model: str) -> list[tuple[str, Score, Policy]]:
    """What was not taken: no smoothing; and without it, means of several windows' scores, with and without confirmation
    by the next window.
    """
    score, rules = scored(replace(material.chosen(), smoothing=0.0)), rules_of(model, True)
    at_once = replace(rules, each=tuple(replace(each, confirm_s=0.0) for each in rules.each))
    return [
        ("not smoothed", score, rules),
        ("mean of 3 windows", lasting(score, 3), rules),
        ("mean of 4 windows, not confirmed", lasting(score, 4), at_once),
        ("mean of 5 windows, not confirmed", lasting(score, 5), at_once),
    ]


def _sound(path: Path, rate_hz: int, longest_s: float = 10.0) -> NDArray[np.float32]:
    pieces = [np.zeros(0, np.float32)]
    with contextlib.suppress(AudioError):  # `hear` has said so; what was read is used
        pieces.extend(decode(path, rate_hz))
    return np.concatenate(pieces)[: round(longest_s * rate_hz)]


def report(material: Material, model: str) -> Iterator[str]:
    """The chosen weights on the other half, and without them."""
    some = material.half("report")
    yield f"ESC-50 {100 * material.accuracy(material.chosen()):.2f} %"
    for name, score, rules in systems(material, model):
        yield name
        rows = heard(material, some, score, model, rules)
        for key, each in trust.measures(rows).items():
            (low, high), (least, most) = each.by_recording, each.by_source
            yield f"{key:10} {each.value:.3f}   {low:.3f} to {high:.3f}   {least:.3f} to {most:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hear", "first", "choose", "report", "streams"))
    parser.add_argument("home", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("folds", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="esc50")
    parser.add_argument("--background", type=Path, action="append", default=[])
    parser.add_argument("--half", choices=("choose", "report"), default="choose")
    options = parser.parse_args()
    try:
        if options.what == "hear":
            hear_all(options.home, options.data, options.folds, options.cache, options.model)
            return 0
        material = Material.read(options.home, options.data, options.cache, options.model)
        if options.what == "streams":
            given = options.background, options.half, options.cache, options.model
            lines = streams(material, *given)
        else:
            lines = {"first": first, "choose": choose, "report": report}[options.what](material, options.model)
        for text in lines:
            print(text, flush=True)
    except TaggerError as error:
        print(f"opinion: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
