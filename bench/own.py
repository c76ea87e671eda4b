"""How many clips of a sound of one's own are enough? Event F1 in streams against the number of clips of each label.

    tagger models download mn04
    python bench/own.py ESC-50/ home/ [--draws 5] [--first 0] [--out runs/own-sounds/]

Each seeded draw takes five of ESC-50's labels and one of its folds. It makes the folder that a user would make: 1, 2,
5, ... clips of each label, from the other folds, and a background of everyday recordings; and trains as

    tagger train FOLDER --background BACKGROUND --freeze --all-clips

does, with its defaults, and with what `scripts/negatives.py` made of other sounds, if it did. 32 clips are all that
four folds have of a label; `tagger train` itself asks for two or more. Labels are called `own dog`, so that no table
of AudioSet's classes knows them. The network is AudioSet's `mn04`, which never heard ESC-50; but AudioSet has classes
for what ESC-50's labels mean. Every model is asked twice: with the second opinion that the recipe gives it, and
without (`--no-opinion`).

Each model hears the soundscapes that `tagger eval --streamed` would make of the held-out fold's clips of the five
labels, over everyday recordings by others, and is then asked for false alarms: in these recordings alone, and in two
clips of each of the other 45 labels. `home/` is a set of `bench/trust.py`: the half `choose` of its sources gives the
background of trainings, the half `report` is heard in tests.

What the frozen network makes of a stream is kept in `--out`, since it is the same for all heads; so is each finished
training. The same command goes on where it was stopped. It prints a table, and draws `own-sounds.png`. Other labels:
`--first 100`.
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tagger.audio.decode import decode
from tagger.audio.window import SlidingWindows
from tagger.checkpoints import checkpoint
from tagger.engine.runtime_torch import Classifier
from tagger.engine.scores import NetworkOutputs
from tagger.errors import AudioError, TaggerError
from tagger.events import Samples, Scores, Window
from tagger.figures import BLUE, GREEN, INK, ORANGE, save
from tagger.files import replacing
from tagger.models.efficientat import outputs_from
from tagger.policy import policy
from tagger.progress import Progress
from tagger.tag.recording import in_blocks
from train.data import esc50, own, waveforms
from train.data.corpus import Corpus
from train.data.dataset import FOLDS, Dataset, combined
from train.evaluate import detection, inputs, trust
from train.evaluate.event_based import event_based
from train.evaluate.found import Found
from train.evaluate.inputs import StreamOptions
from train.evaluate.soundscape import Annotation
from train.evaluate.streams import decided
from train.fit.job import WINDOW_SECONDS, Job
from train.fit.run import run
from train.recipe import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = 5
COUNTS = (1, 2, 5, 10, 20, 32)
BACKGROUND = 12
"""Recordings of the background that is trained on."""
MINUTES = 10.0
"""Soundscapes of a draw."""
HOP_S = 0.5
OTHERS = 2
"""Clips of each label that is none of the user's."""
PREFIX = "own "
SILENT = {"share": 0.0, "own": 0.0, "other": 0.0, "rank": 1.0, "common": 0.0, "strong": 0.0, "bias": 0.0}
"""Weights of a second opinion that changes no score."""
BATCH = 64
BOOTSTRAP = 10_000

Array = NDArray[np.float64]
silent = lambda text: None  # noqa: E731


@dataclass(frozen=True)
class Draw:
    """Five labels, the fold that tests them, and the clips of the other folds in the order in which they are taken."""

    number: int
    fold: int
    labels: tuple[str, ...]
    clips: dict[str, list[Path]]

    @classmethod
    def of(cls, dataset: Dataset, number: int) -> "Draw":
        rng, fold = np.random.default_rng(number), FOLDS[number % len(FOLDS)]
        chosen = sorted(rng.choice(len(dataset.labels), LABELS, replace=False).tolist())
        clips = {}
        for label in chosen:
            paths = [clip.path for clip in dataset.clips if clip.label == label and clip.fold != fold]
            clips[dataset.labels[label]] = [paths[place] for place in rng.permutation(len(paths))]
        return cls(number, fold, tuple(clips), clips)


@dataclass(frozen=True)
class Result:
    """What a training with `count` clips of each label gave."""

    draw: int
    count: int
    opinion: bool
    """Whether the second opinion counts."""
    fold: int
    labels: tuple[str, ...]
    truth: int
    found: int
    right: int
    """Sounds in soundscapes, events, and pairs of them with onsets within 1 s."""
    announced: dict[str, tuple[int, int]]
    """By label: sounds that were announced, and sounds."""
    alarms: dict[str, int]
    """Events where none of the labels sounds, by kind of recording."""
    hours: dict[str, float]
    wall_s: float
    processor_s: float
    threads: int

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.truth + self.found)

    @property
    def recall(self) -> float:
        return sum(heard for heard, _ in self.announced.values()) / sum(of for _, of in self.announced.values())

    def rate(self, kinds: Iterable[str]) -> float:
        """False alarms an hour."""
        return sum(self.alarms[kind] for kind in kinds) / sum(self.hours[kind] for kind in kinds)

    def __str__(self) -> str:
        return (
            f"draw {self.draw} ({', '.join(self.labels)}), {self.count} of each, "
            f"{'with' if self.opinion else 'without'} a second opinion: F1 {self.f1:.3f}, announced {self.recall:.0%}, "
            f"{self.rate(self.hours):.0f} false alarms an hour; trained in {self.wall_s:.0f} s, "
            f"{self.processor_s:.0f} s of processor time"
        )


class Heads(Classifier):
    """A checkpoint's heads, over the maps that its frozen network made of a stream."""

    def maps(self, pieces: Iterable[Samples]) -> tuple[Array, Array]:
        """What the network makes of each window, mean over frequency, [windows, C, 1, steps]; start and valid samples,
        [windows, 2].
        """
        sliding = SlidingWindows.of_seconds(self.info.window_seconds, HOP_S, self.rate_hz)
        prepare = self.preparer(sliding.window_samples, sliding.hop_samples)
        made, places = [], []
        for window in sliding.cut(in_blocks(pieces, self.rate_hz), True):
            with torch.inference_mode():
                features = self.joined([prepare(window)]).to(memory_format=torch.channels_last)
                made.append(self._model.features(features).mean(2, keepdim=True).numpy())
            places.append((window.start, window.valid))
        return np.concatenate(made), np.array(places)

    @property
    def rate_hz(self) -> int:
        return self.info.mel.sample_rate_hz

    def outputs_of(self, maps: Tensor) -> NetworkOutputs:
        with torch.inference_mode():
            outputs = outputs_from(self._model, maps, len(self._model.blocks))
        return NetworkOutputs(*(None if each is None else each.numpy() for each in outputs))

    def scores(self, maps: Array, places: Array) -> list[Scores]:
        """Scores of a stream, as the daemon has them."""
        windows = [
            Window(np.empty(0, np.float32), int(start), int(valid), start / self.rate_hz) for start, valid in places
        ]
        scores: list[Scores] = []
        for first in range(0, len(windows), BATCH):
            scores += self.scores_of([torch.from_numpy(maps[first : first + BATCH])], windows[first : first + BATCH])
        return scores


@dataclass(frozen=True)
class Tests:
    """Everything that models hear, and where it is kept."""

    dataset: Dataset
    everyday: Sequence[trust.Recording]
    folder: Path

    def soundscapes(self, draw: Draw, heads: Heads) -> Iterator[tuple[str, Sequence[Annotation], list[Scores]]]:
        corpus = self._corpus(draw.fold, draw.labels, heads.rate_hz)
        backgrounds = [each.path for each in self._everyday(draw)]
        options = StreamOptions(minutes=MINUTES, hop_s=HOP_S, seed=draw.number, backgrounds=backgrounds)
        for scape in inputs.soundscapes(corpus, draw.fold, heads.rate_hz, options):
            pieces = inputs.pieces(scape.samples, heads.rate_hz)
            yield scape.name, scape.annotations, self._heard(f"draw{draw.number}-{scape.name}", pieces, heads)

    def nothing(self, draw: Draw, heads: Heads) -> Iterator[tuple[str, list[Scores]]]:
        """Streams without the draw's labels, by kind."""
        for each in self._everyday(draw):
            pieces = undamaged(each.path, heads.rate_hz)
            yield "everyday", self._heard(f"{each.label}-{each.path.stem}", pieces, heads)
        others = [label for label in self.dataset.labels if label not in draw.labels]
        corpus = None
        for label in others:
            name = f"fold{draw.fold}-{label}"
            if corpus is None and not self._path(name).is_file():
                corpus = self._corpus(draw.fold, others, heads.rate_hz)
            sounds = [] if corpus is None else self._of_label(corpus, label)
            yield "other labels", self._heard(name, iter(sounds), heads)

    def _everyday(self, draw: Draw) -> list[trust.Recording]:
        return [each for each in self.everyday if each.half == "report" and not each.may & set(draw.labels)]

    def _corpus(self, fold: int, labels: Sequence[str], rate_hz: int) -> Corpus:
        """The fold's clips of these labels, under the names that models have for them."""
        clips = tuple(
            replace(clip, label=labels.index(name))
            for clip in self.dataset.clips
            if clip.label is not None and clip.fold == fold and (name := self.dataset.labels[clip.label]) in labels
        )
        named_so = Dataset("ESC-50", tuple(PREFIX + label for label in labels), clips)
        return Corpus.of(*waveforms.load(named_so, rate_hz, WINDOW_SECONDS, False, print))

    @staticmethod
    def _of_label(corpus: Corpus, label: str) -> list[Samples]:
        number = corpus.dataset.labels.index(PREFIX + label)
        rows = [row for row, clip in enumerate(corpus.dataset.clips) if clip.label == number]
        return [corpus.waveforms[row] for row in rows[:OTHERS]]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _heard(self, name: str, pieces: Iterator[Samples], heads: Heads) -> list[Scores]:
        path = self._path(name)
        if not path.is_file():
            maps, places = heads.maps(pieces)
            with replacing(path) as partial, partial.open("wb") as file:
                np.savez(file, maps=maps, places=places)
        with np.load(path) as stored:
            return heads.scores(stored["maps"], stored["places"])


def undamaged(path: Path, rate_hz: int) -> Iterator[Samples]:
    """A recording, up to where it is damaged."""
    with contextlib.suppress(AudioError):
        yield from decode(path, rate_hz)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/own-sounds"))
    options = parser.parse_args()

    tests = Tests(
        esc50.read(options.data),
        [each for each in trust.read_set(options.home) if each.is_everyday],
        options.out / "heard",
    )
    stored = options.out / "results.jsonl"
    wanted = [(number, count) for number in range(options.first, options.first + options.draws) for count in COUNTS]
    results = [each for each in read(stored) if (each.draw, each.count) in wanted]
    ahead = [pair for pair in wanted if not any((each.draw, each.count) == pair for each in results)]
    stored.parent.mkdir(parents=True, exist_ok=True)
    with Progress("trainings", len(ahead)) as progress:
        for number, count in ahead:
            both = tried(Draw.of(tests.dataset, number), count, tests)
            results += both
            with stored.open("a", encoding="utf-8") as file:
                file.write("".join(f"{json.dumps(asdict(each))}\n" for each in both))
            print("\n".join(map(str, both)), flush=True)
            progress.update(1)
    for opinion in (True, False):
        print(f"\n{'with' if opinion else 'without'} a second opinion:\n")
        print("\n".join(table([each for each in results if each.opinion == opinion])))
    save(options.out / "own-sounds.png", lambda: picture(results), 70)
    print(f"picture: {options.out / 'own-sounds.png'}")


def read(path: Path) -> list[Result]:
    """Results of an earlier run. A line that was not written to its end is left out."""
    results = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            results.append(Result(**document | {"labels": tuple(document["labels"])}))
    return results


def tried(draw: Draw, count: int, tests: Tests) -> list[Result]:
    """Trains with this number of clips, and plays everything to the result, with its second opinion and without."""
    with tempfile.TemporaryDirectory() as folder:
        path, wall_s, processor_s = train(draw, count, tests.everyday, Path(folder))
        trained = checkpoint.load(path)
    if trained.info.opinion is None or trained.model.config.shared != len(trained.model.blocks):
        raise TaggerError("the head was expected to have a second opinion that shares all of its layers")
    results = []
    for opinion in (trained.info.opinion, replace(trained.info.opinion, **SILENT)):
        heads = Heads(replace(trained, info=replace(trained.info, opinion=opinion)), "cpu")
        heard = played(draw, heads, tests)
        result = Result(
            draw.number,
            count,
            opinion is trained.info.opinion,
            draw.fold,
            draw.labels,
            *heard,
            wall_s,
            processor_s,
            torch.get_num_threads(),
        )
        results.append(result)
    return results


def played(draw: Draw, heads: Heads, tests: Tests) -> tuple[Any, ...]:
    """What a model makes of everything, by the daemon's rules: `truth` to `hours` of a `Result`."""
    info = heads.info
    rules = policy(info.labels, info.thresholds, info.window_seconds, HOP_S)
    streams: dict[str, tuple[Sequence[Annotation], Sequence[Found], float]] = {}
    for name, truth, scores in tests.soundscapes(draw, heads):
        streams[name] = truth, decided(scores, rules), scores[-1].end_s
    alarms, hours = {"everyday": 0, "other labels": 0}, {"everyday": 0.0, "other labels": 0.0}
    for kind, scores in tests.nothing(draw, heads):
        alarms[kind] += len(decided(scores, rules))
        hours[kind] += scores[-1].end_s / 3600
    counts = event_based(streams, 1.0, False).micro
    announced = detection.announced(streams, info.window_seconds).by_label
    return counts.truth, counts.found, counts.right, dict(announced), alarms, hours


def train(draw: Draw, count: int, everyday: Sequence[trust.Recording], folder: Path) -> tuple[Path, float, float]:
    """Trains on a folder of the draw's first clips; returns the checkpoint, and wall and processor time, seconds."""
    for label, paths in draw.clips.items():
        (folder / "sounds" / f"{PREFIX}{label}").mkdir(parents=True)
        for path in paths[:count]:
            (folder / "sounds" / f"{PREFIX}{label}" / path.name).symlink_to(path.resolve())
    (folder / "background").mkdir()
    free = [each for each in everyday if each.half == "choose" and not each.may & set(draw.labels)]
    for place in np.random.default_rng([draw.number, 1]).permutation(len(free))[:BACKGROUND]:
        chosen = free[place]
        (folder / "background" / f"{chosen.label}-{chosen.path.name}").symlink_to(chosen.path.resolve())
    wall_s, processor_s = time.perf_counter(), time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):
        sounds = own.read(folder / "sounds", silent, known=[PREFIX + label for label in draw.labels])
        dataset = combined([sounds, own.read_background(folder / "background")])
        job = Job(dataset, "mn04", named("head", {}), "head", folder / "run", everything=True, name="own")
        run(job, silent)
    return folder / "run" / "own.safetensors", time.perf_counter() - wall_s, time.process_time() - processor_s


def interval(values: Array) -> tuple[float, float, float]:
    """Mean over draws, and its 95 % interval: percentile bootstrap over draws."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(BOOTSTRAP, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def measures(results: Sequence[Result]) -> dict[str, dict[int, Array]]:
    """By measure and by number of clips: [draws]."""

    def of(measure: Any) -> dict[int, Array]:
        pairs = [(count, [each for each in results if each.count == count]) for count in COUNTS]
        return {count: np.array([measure(each) for each in these]) for count, these in pairs if these}

    return {
        "event F1, 1 s": of(lambda each: each.f1),
        "announced": of(lambda each: each.recall),
        "false alarms an hour, everyday": of(lambda each: each.rate(["everyday"])),
        "false alarms an hour, other labels": of(lambda each: each.rate(["other labels"])),
        "training, s": of(lambda each: each.wall_s),
        "its processor time, s": of(lambda each: each.processor_s),
    }


def table(results: Sequence[Result]) -> list[str]:
    """Markdown."""
    found = measures(results)
    lines = [f"| clips of each label | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    for count in found["event F1, 1 s"]:
        cells = []
        for name, by_count in found.items():
            mean, low, high = interval(by_count[count])
            digits = ".3f" if name.startswith("event") else ".0%" if name == "announced" else ".0f"
            cells.append(f"{mean:{digits}} ({low:{digits}} to {high:{digits}})")
        lines.append(f"| {count} | {' | '.join(cells)} |")
    draws = len({each.draw for each in results})
    return [*lines, f"{draws} draws of {LABELS} labels; in brackets, 95 % intervals: bootstrap over draws"]


def picture(results: Sequence[Result]) -> "Figure":
    from matplotlib.figure import Figure

    seconded, alone = (measures([each for each in results if each.opinion == opinion]) for opinion in (True, False))
    figure = Figure((9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    curve(left, seconded["announced"], ORANGE, "announced")
    curve(left, seconded["event F1, 1 s"], BLUE, "event F1, onset within 1 s", each_draw=True)
    dashed(left, alone["event F1, 1 s"], BLUE)
    left.set_ylim(0, 1)
    left.set_title("in streams")
    others, everyday = (f"false alarms an hour, {kind}" for kind in ("other labels", "everyday"))
    curve(right, seconded[others], ORANGE, "other sounds of ESC-50, one after another")
    dashed(right, alone[others], ORANGE)
    curve(right, seconded[everyday], GREEN, "everyday recordings")
    dashed(right, alone[everyday], GREEN)
    right.set_ylim(bottom=0)
    right.set_title("false alarms an hour")
    for axes in (left, right):
        axes.plot([], [], "--", color=INK, linewidth=1, label="without a second opinion")
        axes.set_xscale("log")
        axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axes.minorticks_off()
        axes.set_xlabel("clips of each label")
        axes.legend(frameon=False, fontsize=8)
    return figure


def curve(axes: "Axes", by_count: dict[int, Array], colour: str, name: str, each_draw: bool = False) -> None:
    """Means over draws and their intervals; with `each_draw`, a faint line for each draw as well."""
    counts = list(by_count)
    means, lows, highs = np.array([interval(values) for values in by_count.values()]).T
    axes.fill_between(counts, lows, highs, color=colour, alpha=0.18, linewidth=0)
    axes.plot(counts, means, "o-", color=colour, markersize=4, label=name)
    if each_draw:
        draws = min(map(len, by_count.values()))
        for draw in range(draws):
            axes.plot(counts, [values[draw] for values in by_count.values()], color=INK, alpha=0.25, linewidth=0.7)


def dashed(axes: "Axes", by_count: dict[int, Array], colour: str) -> None:
    """Means over draws."""
    axes.plot(list(by_count), [values.mean() for values in by_count.values()], "--", color=colour, linewidth=1)


if __name__ == "__main__":
    main()
