"""Trains the networks of docs/results.md on a GPU that is there for some minutes only.

    python bench/gpu_train.py pack ESC-50/ clips.zip               # where the data is: 16 kHz, about 38 MB
    tagger models download mn04
    python bench/gpu_train.py train clips.zip --background nontarget/train --out gpu/ --what choose [--minutes 6]
    python bench/gpu_train.py train clips.zip --out gpu/ --what crnn [--pretrain-seconds 150]
    python bench/gpu_train.py train ESC-50/ --out tiny/ --device cpu --tiny       # every step; learns nothing

What is trained, the most wanted first; `--what` names parts of it, with commas:

- `head`, of each fold and of all clips: a last layer on the frozen `mn04`. It teaches that fold's `crnn`.
- `pretrain`, likewise: the first part of the recipe `crnn-distilled`, without labels. A GPU's speed decides its length.
- `choose`: `CHOICES`, the rest of that recipe with other settings, judged by each fold's inner split. No test clip is
  scored.
- `crnn`: the recipe `crnn-distilled`, of each fold and of all clips, from what was pretrained.
- `streams`: `STREAMS`, of all clips and of each fold: the recipe `stream` with other settings. The windows that they
  learn from are made first, by many processes.

Trainings go on at the same time, each in a process of its own. When the time is over, all stop, with their state in
`--out`: the same command with the same folder goes on, and what was finished is kept. `--out` has `results.json`, and
`checkpoints-1.zip`, ... with everything that is finished, 15 MB each or less. These may also be all that is brought
back: what is unpacked from them into `--out` is not trained again.
"""

import argparse
import io
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tagger.audio.decode import decode
from tagger.checkpoints import checkpoint
from tagger.checkpoints.header import read_header
from tagger.errors import TaggerError
from tagger.files import replacing
from tagger.progress import counted
from tagger.stop import Stop
from train.data import esc50, own, waveforms
from train.data.corpus import Corpus
from train.data.dataset import FOLDS, Dataset, Rows, combined, inner_split
from train.fit.backbone import load_backbone
from train.fit.distributed import joined
from train.fit.finetune import FineTuneTrainer
from train.fit.job import EVERYTHING, WINDOW_SECONDS, Job
from train.fit.pretrain import PRETRAINED, PretrainLearner, official_of, pretrained
from train.fit.run import run
from train.fit.stored_spectrograms import Spectrograms
from train.fit.stream import StreamTrainer
from train.fit.teacher import Teacher
from train.fit.trainer import Setup, TrainingStoppedError
from train.recipe import Recipe, named

PACKED_HZ = 16_000
COMPRESSION = 0.8
"""0 to 1; libsndfile's for Vorbis."""
TO_STOP_S = 20.0
"""Time that processes have to save their state, seconds."""
EVERY_S = 60.0
ARCHIVE_BYTES = 15_000_000
CHOICES: dict[str, dict[str, str]] = {
    "usual": {},
    "gentle": {"learning_rate": "2e-4", "head_learning_rate": "5e-4"},
    "strong": {"learning_rate": "1.5e-3", "head_learning_rate": "1.5e-3", "epochs": "60"},
    "patient": {"distill": "1.0", "epochs": "60"},
    "labels": {"distill": "0"},
}
"""Changes of the recipe `crnn-distilled` after its pretraining."""
_LONGER = {"opinion": "no", "scenes": "20", "epochs": "8", "batch": "128"}
STREAMS: dict[str, dict[str, str]] = {
    "stream-rooms": _LONGER | {"channel": "0.5"},
    "stream-scenes": _LONGER,
    "stream": {"opinion": "no"},
    "stream-gentle": _LONGER | {"channel": "0.5", "learning_rate": "3e-4", "head_learning_rate": "1e-3"},
}
"""Changes of the recipe `stream`, the most wanted first. A second opinion can be given later: `tagger models opinion`.
"""
MADE_BY = {
    "stream": "stream",
    "stream-scenes": "stream-scenes",
    "stream-rooms": "stream-rooms",
    "stream-gentle": "stream-rooms",
}
"""For each of `STREAMS`, the one whose windows are the same; those that are made quickest first."""
TINY = {"epochs": "1", "batch": "8", "crop_seconds": "0.5"}
TINY_CRNN = TINY | {"stored_views": "1", "pretrain_batch": "8", "pretrain_epochs": "1"}
TINY_STREAM = {"epochs": "1", "batch": "8", "scenes": "2", "frozen_blocks": "14"}
PARTS = "head", "pretrain", "choose", "crnn", "streams"
NETWORKS = "head", "crnn", *STREAMS
STAGES = *FOLDS, EVERYTHING
_TIMED_STEPS = 40
Action = Callable[[Callable[[str], None]], None]


@dataclass(frozen=True)
class Plan:
    """What is trained, where and how. Processes get it."""

    data: Path
    out: Path
    device: str = "auto"
    tiny: bool = False
    background: Path | None = None
    folds: tuple[int, ...] = FOLDS
    makers: int = 1
    """Processes that make the windows of the recipe `stream`."""
    pretrain_s: float = 0.0
    """Time of the pretraining, seconds; 0: as many epochs as the recipe has."""
    what: tuple[str, ...] = PARTS
    streams: tuple[str, ...] = tuple(STREAMS)

    @property
    def stages(self) -> tuple[int, ...]:
        """The folds, and all clips."""
        return (*self.folds, EVERYTHING)

    @cached_property
    def clips(self) -> Dataset:
        return esc50.read(self.data)

    @cached_property
    def clips_and_background(self) -> Dataset:
        if self.background is None:
            return self.clips
        return combined([self.clips, own.read_background(self.background)])

    def head_job(self, stage: int) -> Job:
        """The training of a teacher."""
        name, changes = ("finetune", TINY | {"frozen_blocks": "0"}) if self.tiny else ("head", {"opinion": "no"})
        return Job(
            recipe=named(name, changes),
            recipe_name=name,
            output=self.folder("head", stage),
            **self._network,
            **self._common(stage),
        )

    def crnn_job(self, stage: int, changes: dict[str, str] | None = None) -> Job:
        """The training of a student."""
        folder = self.folder("head", stage)
        return Job(
            model="crnn",
            recipe=self.crnn_recipe(stage, changes or {}),
            recipe_name="crnn-distilled",
            output=self.folder("crnn", stage),
            teacher=str(folder / ("esc50.safetensors" if stage == EVERYTHING else f"fold{stage}.safetensors")),
            **self._common(stage),
        )

    def crnn_recipe(self, stage: int, changes: dict[str, str]) -> Recipe:
        """The recipe, with as many epochs of pretraining as this stage has had, or will have."""
        length = self.folder("pretrain", stage) / "epochs"
        epochs = {"pretrain_epochs": length.read_text()} if length.is_file() else {}
        return named("crnn-distilled", changes | epochs | (TINY_CRNN if self.tiny else {}))

    def _common(self, stage: int) -> dict[str, Any]:
        stages: dict[str, Any] = {"everything": True} if stage == EVERYTHING else {"folds": (stage,)}
        return {"dataset": self.clips, "device": self.device, "resume": True, **stages}

    def stream_job(self, name: str, stage: int) -> Job:
        """The training of one of `STREAMS`.

        Args:
            stage: the fold to hold out, or EVERYTHING.
        """
        return Job(
            recipe=self.stream_recipe(name),
            recipe_name="stream",
            output=self.folder(name, stage),
            **self._network,
            **self._common(stage) | {"dataset": self.clips_and_background},
        )

    def stream_recipe(self, name: str) -> Recipe:
        return named("stream", STREAMS[name] | (TINY_STREAM if self.tiny else {}))

    @property
    def _network(self) -> dict[str, Any]:
        return {"model": "mn01", "start": "nothing"} if self.tiny else {"model": "mn04"}

    def folder(self, network: str, stage: int) -> Path:
        return self.out / network / ("all" if stage == EVERYTHING else f"fold{stage}")

    def finished(self) -> dict[str, dict[int, Path]]:
        """By network and fold (EVERYTHING: none is held out): checkpoints that are there."""
        found: dict[str, dict[int, Path]] = {network: {} for network in NETWORKS}
        for network in NETWORKS:
            for stage in (EVERYTHING, *FOLDS):
                name = "esc50" if stage == EVERYTHING else f"fold{stage}"
                path = self.folder(network, stage) / f"{name}.safetensors"
                predictions = path.with_name("esc50.npz" if stage == EVERYTHING else f"esc50-{name}.npz")
                if path.is_file() and predictions.is_file():
                    found[network][stage] = path
        return found

    def decode(self) -> None:
        """Decodes everything once, and not in every process."""
        rate_hz = load_backbone("crnn", None, named("finetune", {})).mel.sample_rate_hz
        waveforms.load(self.clips_and_background, rate_hz, WINDOW_SECONDS, True, print)

    @contextmanager
    def setup(self, job: Job, teacher: Teacher | None = None) -> Iterator[Setup]:
        """What `tagger train` gives the job's trainer."""
        with joined(self.device) as place:
            backbone = load_backbone(job.model, job.start, job.recipe)
            found, sounds = waveforms.load(job.dataset, backbone.mel.sample_rate_hz, WINDOW_SECONDS, True, print)
            yield Setup(backbone, job.recipe, Corpus.of(found, sounds), job.seed, place, teacher)

    def make_spectrograms(self, number: int) -> None:
        """Makes one view of those that the CRNNs learn from."""
        with self.setup(self.crnn_job(EVERYTHING)) as setup:
            _spectrograms(setup, number)

    def state_folder(self, stage: int) -> Path:
        """Where the student's job keeps its state."""
        job = self.crnn_job(stage)
        return job.output / "state" / job.title(stage)

    def pretrain(self, stage: int, say: Callable[[str], None]) -> None:
        """The first part of a student's training: the file that its job goes on from."""
        folder, length = self.state_folder(stage), self.folder("pretrain", stage) / "epochs"
        folder.mkdir(parents=True, exist_ok=True)
        length.parent.mkdir(parents=True, exist_ok=True)
        with self.setup(self.crnn_job(stage)) as setup, Stop() as stop:
            (rows, inner), spectrograms = _split(setup, stage), _spectrograms(setup)
            if self.pretrain_s and not length.is_file():
                learner = PretrainLearner(setup, spectrograms, rows, inner, official_of(setup.recipe))
                took_s = _seconds_of_a_step(learner)
                epochs = max(1, round(self.pretrain_s / took_s / learner.steps_per_epoch))
                say(f"a step takes {1000 * took_s:.1f} ms: {epochs} epochs of {learner.steps_per_epoch} steps")
                length.write_text(str(epochs))
            measured = replace(setup, recipe=self.crnn_recipe(stage, {}))
            pretrained(measured, spectrograms, rows, inner, folder, say, stop)

    def choose(self, choice: str, stage: int, say: Callable[[str], None]) -> None:
        """Goes on from what was pretrained with one of `CHOICES`; writes how it does on the inner split."""
        folder, job = self.folder(f"choose-{choice}", stage), self.crnn_job(stage, CHOICES[choice])
        with self.setup(job) as setup, Stop() as stop:
            labels, recipe = setup.corpus.dataset.labels, setup.recipe
            loaded = checkpoint.load(Path(str(job.teacher)))
            teacher = Teacher(loaded, labels, recipe.activation, recipe.distill_temperature, setup.place.device)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.state_folder(stage) / PRETRAINED, folder)
            trained = FineTuneTrainer(replace(setup, teacher=teacher)).run(*_split(setup, stage), folder, say, stop)
            with replacing(folder / "choice.json") as partial:
                partial.write_text(json.dumps(trained.details | {"epochs": len(trained.curve)}), "utf-8")

    def make_windows(self, name: str, maker: int) -> None:
        """Makes each `makers`-th part of the windows that one of `STREAMS` learns from."""
        with joined(self.device) as place:
            recipe, job = self.stream_recipe(name), self.stream_job(name, EVERYTHING)
            backbone = load_backbone(job.model, job.start, recipe)
            found, sounds = waveforms.load(job.dataset, backbone.mel.sample_rate_hz, WINDOW_SECONDS, True, print)
            setup = Setup(backbone, recipe, Corpus.of(found, sounds), job.seed, place)
            activations = StreamTrainer(setup).activations()
            for part in activations.parts[maker :: self.makers]:
                activations.part(*part, None)


def _split(setup: Setup, stage: int) -> tuple[Rows, Rows]:
    """Clips to learn from, and the inner split, as `tagger train` has them."""
    dataset = setup.corpus.dataset
    inner, rest = inner_split(dataset, dataset.all_but(stage), setup.recipe.inner_share, setup.seed)
    return rest, inner


def _spectrograms(setup: Setup, only: int | None = None) -> Spectrograms:
    mel, views = setup.backbone.mel, setup.recipe.stored_views
    return Spectrograms(setup.corpus, mel, views, setup.seed, setup.place, only=only)


def _seconds_of_a_step(learner: PretrainLearner) -> float:
    """Time of a step, while others compute at the same time. The learner is of no use afterwards."""
    began = 0.0
    for step, batch in enumerate(
        itertools.chain.from_iterable(learner.batches(epoch, 0) for epoch in itertools.count())
    ):
        if step == _TIMED_STEPS // 2:
            began = time.monotonic()
        float(learner.step(batch, 0, step)[0])
        if step == _TIMED_STEPS:
            break
    return (time.monotonic() - began) / (_TIMED_STEPS - _TIMED_STEPS // 2 + 1)


def train_all(jobs: Sequence[Job], say: Callable[[str], None]) -> None:
    """Runs the jobs, or what is left of them, one after the other.

    Raises:
        TrainingStoppedError: by SIGINT or SIGTERM.
    """
    for job in jobs:
        if not all(job.is_done(stage) for stage in job.stages):
            run(job, say)


@dataclass(frozen=True)
class Task:
    """What one process does."""

    kind: str
    """A part (head, pretrain, choose, crnn, stream), or what it needs (spectrograms, windows)."""
    network: str
    stage: int
    """The fold, or EVERYTHING; of spectrograms and windows: the number of the part."""
    plan: Plan
    needs: tuple[str, ...] = ()
    """Tasks whose names begin so are to be finished first."""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.network} {self.stage}."

    def __call__(self) -> None:
        torch.set_num_threads(1)
        plan, stage = self.plan, self.stage
        actions: dict[str, Callable[[], None]] = {
            "spectrograms": lambda: plan.make_spectrograms(stage),
            "windows": lambda: plan.make_windows(self.network, stage),
            "head": lambda: train_all([plan.head_job(stage)], self._say),
            "pretrain": lambda: plan.pretrain(stage, self._say),
            "choose": lambda: plan.choose(self.network, stage, self._say),
            "crnn": lambda: train_all([plan.crnn_job(stage)], self._say),
            "stream": lambda: train_all([plan.stream_job(self.network, stage)], self._say),
        }
        try:
            actions[self.kind]()
        except TrainingStoppedError as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        print(f"{self.name}: {text}", flush=True)


def tasks(plan: Plan) -> Iterator[Task]:
    """All tasks, the most urgent first."""
    of_crnn, of_streams = {"pretrain", "choose", "crnn"} & set(plan.what), "streams" in plan.what
    views = named("crnn-distilled", {}).stored_views + 2 if not plan.tiny else 3
    for number in range(views if of_crnn else 0):
        yield Task("spectrograms", "crnn", number, plan)
    for stage in plan.stages if "pretrain" in plan.what else ():
        yield Task("pretrain", "crnn", stage, plan, ("spectrograms",))
    for number, stage in enumerate(plan.stages if "head" in plan.what else ()):
        yield Task("head", "mn04", stage, plan, (f"head mn04 {plan.stages[0]}.",) if number else ())
    makers = [name for name in dict.fromkeys(MADE_BY.values()) if any(MADE_BY[each] == name for each in plan.streams)]
    for name in makers if of_streams else ():
        for maker in range(plan.makers):
            yield Task("windows", name, maker, plan)
    for name in plan.streams if of_streams else ():
        yield Task("stream", name, EVERYTHING, plan, (f"windows {MADE_BY[name]} ",))
    for choice in CHOICES if "choose" in plan.what else ():
        for stage in plan.folds:
            yield Task("choose", choice, stage, plan, (f"pretrain crnn {stage}.", f"head mn04 {stage}."))
    for stage in plan.stages if "crnn" in plan.what else ():
        yield Task("crnn", "crnn", stage, plan, ("spectrograms", f"pretrain crnn {stage}.", f"head mn04 {stage}."))
    for name in plan.streams if of_streams else ():
        for stage in plan.folds:
            yield Task("stream", name, stage, plan, (f"windows {MADE_BY[name]} ",))


def train(plan: Plan, seconds: float, processes: int) -> dict[str, Any]:
    """Does all tasks, as many at once as there may be; returns what `results.json` says. It is written every minute."""
    began = time.monotonic()
    plan.decode()
    print(f"decoded: {time.monotonic() - began:.0f} s", flush=True)
    context = multiprocessing.get_context("spawn")
    waiting, running = list(tasks(plan)), dict[str, BaseProcess]()
    ends, written_at = began + seconds - TO_STOP_S, began
    while (waiting or running) and time.monotonic() < ends:
        for name in [name for name, process in running.items() if not process.is_alive()]:
            print(f"{time.monotonic() - began:.0f} s: {name} ended, {running.pop(name).exitcode}", flush=True)
        unfinished = [*running, *(task.name for task in waiting)]
        ready = [task for task in waiting if not any(name.startswith(task.needs) for name in unfinished if task.needs)]
        for task in ready[: max(0, processes - len(running))]:
            running[task.name] = context.Process(target=task)
            running[task.name].start()
            waiting.remove(task)
        if time.monotonic() > written_at + EVERY_S:
            written(plan, time.monotonic() - began)
            written_at = time.monotonic()
        time.sleep(0.2)
    for process in running.values():
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGTERM)  # its state is saved
    for process in running.values():
        process.join(TO_STOP_S)
        process.kill()
    return written(plan, time.monotonic() - began)


def written(plan: Plan, seconds: float) -> dict[str, Any]:
    """Writes `results.json`, and archives, of everything that is finished; returns the former."""
    finished = plan.finished()
    results: dict[str, Any] = {"seconds": round(seconds, 1), "tiny": plan.tiny}
    files: list[Path] = []
    for network, paths in finished.items():
        found = {fold: read_header(path)["metrics"]["accuracy"] for fold, path in paths.items() if fold != EVERYTHING}
        mean = float(np.mean(list(found.values()))) if len(found) == len(FOLDS) else None
        results[network] = {"accuracy": found, "mean": mean}
    of_all_clips = [
        paths.pop(EVERYTHING) for name, paths in finished.items() if name in STREAMS and EVERYTHING in paths
    ]
    chosen = {
        path.parent.relative_to(plan.out).as_posix(): path for path in sorted(plan.out.glob("choose-*/*/choice.json"))
    }
    results["choose"] = {name: json.loads(path.read_text("utf-8")) for name, path in chosen.items()}
    files += [*chosen.values(), *plan.out.glob(f"crnn/*/state/*/{PRETRAINED}"), *plan.out.glob("pretrain/*/epochs")]
    every = [*of_all_clips, *(finished[name][stage] for name in ("crnn", "head", *STREAMS) for stage in finished[name])]
    files += [each for path in every for each in sorted(path.parent.iterdir()) if each.is_file()]
    for old in plan.out.glob("checkpoints-*.zip"):
        old.unlink()
    archives: list[list[Path]] = [[]]
    for each in [file for file in files if file.name != "state.pt"]:
        if sum(file.stat().st_size for file in archives[-1]) + each.stat().st_size > ARCHIVE_BYTES:
            archives.append([])
        archives[-1].append(each)
    for number, members in enumerate(archives, 1):
        with replacing(plan.out / f"checkpoints-{number}.zip") as partial, zipfile.ZipFile(partial, "w") as archive:
            for each in members:
                archive.write(each, each.relative_to(plan.out))
    with replacing(plan.out / "results.json") as partial:
        partial.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return results


def pack(data: Path, target: Path) -> None:
    """Writes ESC-50's clips as an archive in its own layout: 16 kHz, Ogg Vorbis."""
    import soundfile

    dataset = esc50.read(data)
    with replacing(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        for inside in (esc50.TABLE, "LICENSE"):
            if (data / inside).is_file():
                archive.write(data / inside, f"{esc50.ARCHIVE_TOP}/{inside}")
        for clip in counted("packing", dataset.clips, "clips"):
            samples, file = np.concatenate(list(decode(clip.path, PACKED_HZ))), io.BytesIO()
            soundfile.write(file, samples, PACKED_HZ, format="OGG", subtype="VORBIS", compression_level=COMPRESSION)
            archive.writestr(f"{esc50.ARCHIVE_TOP}/audio/{clip.path.stem}.ogg", file.getvalue())
    print(f"{target}: {target.stat().st_size / 1e6:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("data", type=Path)
    packing.add_argument("target", type=Path)
    training = commands.add_parser("train")
    training.add_argument("data", type=Path)
    training.add_argument("--background", type=Path)
    training.add_argument("--out", type=Path, default=Path("runs/gpu"))
    training.add_argument("--minutes", type=float, default=9.5)
    training.add_argument("--device", default="auto")
    training.add_argument("--processes", type=int, default=14)
    training.add_argument("--makers", type=int, default=6)
    training.add_argument("--pretrain-seconds", type=float, default=0.0)
    training.add_argument("--what", default=",".join(PARTS), help=f"parts, with commas: {', '.join(PARTS)}")
    training.add_argument("--streams", default=",".join(STREAMS), help="names of STREAMS, with commas")
    training.add_argument("--tiny", action="store_true")
    training.add_argument("--fold", type=int, action="append", choices=FOLDS)
    options = parser.parse_args()
    try:
        if options.command == "pack":
            pack(options.data, options.target)
            return
        folds = tuple(options.fold or FOLDS)
        plan = Plan(
            options.data,
            options.out,
            options.device,
            options.tiny,
            options.background,
            folds,
            options.makers,
            options.pretrain_seconds,
            tuple(options.what.split(",")),
            tuple(options.streams.split(",")),
        )
        print(json.dumps(train(plan, 60 * options.minutes, options.processes), indent=2))
    except TaggerError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
