"""Trains the networks of docs/results.md on a GPU that is there for some minutes only.

    python bench/gpu_train.py pack ESC-50/ clips.zip               # where the data is: 16 kHz, about 40 MB
    tagger models download mn04
    python bench/gpu_train.py train clips.zip --background nontarget/train --out gpu/ [--minutes 9.5]
    python bench/gpu_train.py train ESC-50/ --out tiny/ --device cpu --tiny       # every step; learns nothing

- `mn04`, of each fold: the whole network, gently and long, with a moving average of its weights. The settings are those
  of its authors for ESC-50 (80 epochs, a low rate), not chosen by us. Then `crnn`, which that fold's `mn04` teaches.
- `STREAMS`, of each fold and of all clips: the recipe `stream` with other settings. The windows that they learn from
  are made first, by many processes.

Trainings go on at the same time, each in a process of its own, since one does not fill a GPU: clips are prepared on the
processor. On an H200 with 16 cores, 16 processes were too many: in 9 minutes the five `mn04` were finished and nothing
else; a step of the others took 78 ms, and 40 ms with three processes.

When the time is over, all stop, with their state in `--out`: the same command with the same folder goes on, and what
was finished is kept. `--out` has `results.json`, and `checkpoints-1.zip`, ... with every finished checkpoint, 15 MB
each or less. These may also be all that is brought back: what is unpacked from them into `--out` is not trained again.
"""

import argparse
import io
import json
import multiprocessing
import os
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tagger.audio.decode import decode
from tagger.checkpoints.header import read_header
from tagger.errors import TaggerError
from tagger.files import replacing
from tagger.progress import counted
from train.data import esc50, own, waveforms
from train.data.corpus import Corpus
from train.data.dataset import FOLDS, Dataset, combined
from train.fit.backbone import load_backbone
from train.fit.distributed import joined
from train.fit.job import EVERYTHING, WINDOW_SECONDS, Job
from train.fit.run import run
from train.fit.stream import StreamTrainer
from train.fit.trainer import Setup, TrainingStoppedError
from train.recipe import Recipe, named

PACKED_HZ = 16_000
COMPRESSION = 0.8
"""0 to 1; libsndfile's for Vorbis."""
TO_STOP_S = 20.0
"""Time that processes have to save their state, seconds."""
ARCHIVE_BYTES = 15_000_000
WHOLE = {
    "epochs": "80",
    "patience": "80",
    "batch": "64",
    "frozen_blocks": "0",
    "learning_rate": "1e-4",
    "average": "0.999",
    "start_share": "0",
    "warmup_epochs": "5",
}
_LONGER = {"opinion": "no", "scenes": "40", "epochs": "8", "batch": "128"}
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
TINY_STREAM = {"epochs": "1", "batch": "8", "scenes": "2", "frozen_blocks": "14"}
NETWORKS = "mn04", "crnn", *STREAMS
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

    @cached_property
    def clips(self) -> Dataset:
        return esc50.read(self.data)

    @cached_property
    def clips_and_background(self) -> Dataset:
        if self.background is None:
            return self.clips
        return combined([self.clips, own.read_background(self.background)])

    def jobs(self, fold: int) -> list[Job]:
        """The trainings of a fold that follow each other: the teacher, and its student."""
        teacher, student = self.folder("mn04", fold), self.folder("crnn", fold)
        common: dict[str, Any] = {"dataset": self.clips, "folds": (fold,), "device": self.device, "resume": True}
        whole = named("finetune", TINY | {"frozen_blocks": "0"} if self.tiny else WHOLE)
        taught = named("crnn-distilled", TINY | {"stored_views": "1"} if self.tiny else {})
        return [
            Job(recipe=whole, recipe_name="finetune", output=teacher, **self._network, **common),
            Job(
                model="crnn",
                recipe=taught,
                recipe_name="crnn-distilled",
                output=student,
                teacher=str(teacher / f"fold{fold}.safetensors"),
                **common,
            ),
        ]

    def stream_job(self, name: str, stage: int) -> Job:
        """The training of one of `STREAMS`.

        Args:
            stage: the fold to hold out, or EVERYTHING.
        """
        stages: dict[str, Any] = {"everything": True} if stage == EVERYTHING else {"folds": (stage,)}
        return Job(
            dataset=self.clips_and_background,
            recipe=self.stream_recipe(name),
            recipe_name="stream",
            output=self.folder(name, stage),
            device=self.device,
            resume=True,
            **self._network,
            **stages,
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
    """fold: mn04 and then the CRNN; windows: a part of the windows of a stream; stream: a training on them."""
    network: str
    stage: int
    """The fold; or the number of the maker of windows."""
    plan: Plan
    needs: str = ""
    """Tasks whose names begin so are to be finished first; empty: none."""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.network} {self.stage}"

    def __call__(self) -> None:
        torch.set_num_threads(1)
        if self.kind == "windows":
            self.plan.make_windows(self.network, self.stage)
            return
        is_fold = self.kind == "fold"
        jobs = self.plan.jobs(self.stage) if is_fold else [self.plan.stream_job(self.network, self.stage)]
        try:
            train_all(jobs, lambda text: print(f"{self.name}: {text}", flush=True))
        except TrainingStoppedError as error:
            print(f"{self.name}: {error}", flush=True)


def tasks(plan: Plan) -> Iterator[Task]:
    """All tasks, the most urgent first."""
    for fold in plan.folds:
        yield Task("fold", "mn04", fold, plan)
    for name in dict.fromkeys(MADE_BY.values()):
        for maker in range(plan.makers):
            yield Task("windows", name, maker, plan)
    for name in STREAMS:
        for stage in (EVERYTHING, *plan.folds):
            yield Task("stream", name, stage, plan, f"windows {MADE_BY[name]} ")


def train(plan: Plan, seconds: float, processes: int) -> dict[str, Any]:
    """Does all tasks, as many at once as there may be; returns what `results.json` says."""
    began = time.monotonic()
    plan.decode()
    print(f"decoded: {time.monotonic() - began:.0f} s", flush=True)
    context = multiprocessing.get_context("spawn")
    waiting, running = list(tasks(plan)), dict[str, BaseProcess]()
    ends = began + seconds - TO_STOP_S
    while (waiting or running) and time.monotonic() < ends:
        for name in [name for name, process in running.items() if not process.is_alive()]:
            print(f"{time.monotonic() - began:.0f} s: {name} ended, {running.pop(name).exitcode}", flush=True)
        unfinished = [*running, *(task.name for task in waiting)]
        ready = [task for task in waiting if not task.needs or not any(n.startswith(task.needs) for n in unfinished)]
        for task in ready[: max(0, processes - len(running))]:
            running[task.name] = context.Process(target=task)
            running[task.name].start()
            waiting.remove(task)
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
    for network in sorted(finished, key=lambda network: min(finished[network], default=len(FOLDS))):
        paths = finished[network]
        found = {fold: read_header(path)["metrics"]["accuracy"] for fold, path in paths.items() if fold != EVERYTHING}
        mean = float(np.mean(list(found.values()))) if len(found) == len(FOLDS) else None
        results[network] = {"accuracy": found, "mean": mean}
        files += [each for path in paths.values() for each in sorted(path.parent.iterdir()) if each.is_file()]
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
    training.add_argument("--processes", type=int, default=6)
    training.add_argument("--tiny", action="store_true")
    training.add_argument("--fold", type=int, action="append", choices=FOLDS)
    options = parser.parse_args()
    try:
        if options.command == "pack":
            pack(options.data, options.target)
            return
        folds = tuple(options.fold or FOLDS)
        plan = Plan(
            options.data, options.out, options.device, options.tiny, options.background, folds, options.processes
        )
        print(json.dumps(train(plan, 60 * options.minutes, options.processes), indent=2))
    except TaggerError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
