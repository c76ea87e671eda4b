"""What `bench/gpu_train.py` trains: the jobs, and what each of its processes does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from train.data import esc50, own, waveforms
from train.data.corpus import Corpus
from train.data.dataset import FOLDS, Dataset, combined
from train.fit.backbone import load_backbone
from train.fit.distributed import joined
from train.fit.job import EVERYTHING, WINDOW_SECONDS, Job
from train.fit.run import run
from train.fit.stored_spectrograms import Spectrograms
from train.fit.stream import StreamTrainer
from train.fit.trainer import Setup, TrainingStoppedError
from train.recipe import named

STREAMS: dict[str, dict[str, str]] = {
    "stream": {"opinion": "no"},
    "stream-rooms": {"opinion": "no", "scenes": "20", "epochs": "8", "batch": "128", "channel": "0.5"},
}
"""Changes of the recipe `stream`, the most wanted first. A second opinion is given later: `tagger models opinion`."""
PARTS = "head", "finetune", "crnn", *STREAMS
TINY = {"epochs": "1", "batch": "8", "crop_seconds": "0.5"}
TINY_CRNN = {"crop_seconds": "0.5", "stored_views": "1", "pretrain_batch": "8", "pretrain_epochs": "1"}
TINY_STREAM = {"epochs": "1", "batch": "8", "scenes": "2", "frozen_blocks": "14"}


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
    """Processes that make the windows of a recipe of `STREAMS`."""
    pretrain_epochs: int = 0
    """0: as many as the recipe `crnn-pretrained` has."""
    what: tuple[str, ...] = PARTS

    @property
    def stages(self) -> tuple[int, ...]:
        """All clips, and the folds."""
        return (EVERYTHING, *self.folds)

    @cached_property
    def clips(self) -> Dataset:
        return esc50.read(self.data)

    @cached_property
    def clips_and_background(self) -> Dataset:
        if self.background is None:
            return self.clips
        return combined([self.clips, own.read_background(self.background)])

    def job(self, part: str, stage: int) -> Job:
        """The training of a part.

        Args:
            part: one of `PARTS`.
            stage: the fold to hold out, or EVERYTHING.
        """
        recipe, changes, dataset = part, dict[str, str](), self.clips
        given: dict[str, Any] = {"model": "mn01", "start": "nothing"} if self.tiny else {"model": "mn04"}
        if part == "head":
            recipe, changes = ("finetune", TINY | {"frozen_blocks": "0"}) if self.tiny else ("head", {"opinion": "no"})
        elif part == "finetune":
            changes = TINY if self.tiny else {}
        elif part == "crnn":
            recipe, given = "crnn-pretrained", {"model": "crnn"}
            changes = {"pretrain_epochs": str(self.pretrain_epochs)} if self.pretrain_epochs else {}
            changes |= TINY_CRNN if self.tiny else {}
        else:
            recipe, dataset = "stream", self.clips_and_background
            changes = STREAMS[part] | (TINY_STREAM if self.tiny else {})
        return Job(
            dataset=dataset,
            recipe=named(recipe, changes),
            recipe_name=recipe,
            output=self.folder(part, stage),
            folds=() if stage == EVERYTHING else (stage,),
            everything=stage == EVERYTHING,
            device=self.device,
            resume=True,
            **given,
        )

    def folder(self, part: str, stage: int) -> Path:
        return self.out / part / ("all" if stage == EVERYTHING else f"fold{stage}")

    def checkpoint(self, part: str, stage: int) -> Path:
        return self.folder(part, stage) / ("esc50.safetensors" if stage == EVERYTHING else f"fold{stage}.safetensors")

    def finished(self) -> dict[str, dict[int, Path]]:
        """By part and fold (EVERYTHING: none is held out): checkpoints that are there."""
        found: dict[str, dict[int, Path]] = {part: {} for part in PARTS}
        for part in PARTS:
            for stage in (EVERYTHING, *FOLDS):
                path = self.checkpoint(part, stage)
                predictions = path.with_name("esc50.npz" if stage == EVERYTHING else f"esc50-{path.stem}.npz")
                if path.is_file() and predictions.is_file():
                    found[part][stage] = path
        return found

    def decode(self) -> None:
        """Decodes everything once, and not in every process."""
        rate_hz = load_backbone("crnn", None, named("finetune", {})).mel.sample_rate_hz
        waveforms.load(self.clips_and_background, rate_hz, WINDOW_SECONDS, True, print)

    def train(self, part: str, stage: int, say: Callable[[str], None]) -> None:
        """Runs a job, or what is left of it.

        Raises:
            TrainingStoppedError: by SIGINT or SIGTERM.
        """
        job = self.job(part, stage)
        if not job.is_done(stage):
            run(job, say)

    def make_spectrograms(self, number: int) -> None:
        """Makes one view of those that the CRNNs learn from."""
        self._prepare("crnn", lambda setup: _make_spectrograms(setup, number))

    def make_windows(self, name: str, maker: int) -> None:
        """Makes each `makers`-th part of the windows that one of `STREAMS` learns from."""
        self._prepare(name, lambda setup: _make_windows(setup, slice(maker, None, self.makers)))

    def _prepare(self, part: str, make: Callable[[Setup], None]) -> None:
        """Calls `make` with what `tagger train` gives the trainer of that part."""
        job = self.job(part, EVERYTHING)
        with joined(self.device) as place:
            backbone = load_backbone(job.model, job.start, job.recipe)
            found, sounds = waveforms.load(job.dataset, backbone.mel.sample_rate_hz, WINDOW_SECONDS, True, print)
            make(Setup(backbone, job.recipe, Corpus.of(found, sounds), job.seed, place))


def _make_spectrograms(setup: Setup, number: int) -> None:
    mel, views = setup.backbone.mel, setup.recipe.stored_views
    Spectrograms(setup.corpus, mel, views, setup.seed, setup.place, only=number)


def _make_windows(setup: Setup, numbers: slice) -> None:
    activations = StreamTrainer(setup).activations()
    for view, draw in activations.parts[numbers]:
        activations.part(view, draw, None)


@dataclass(frozen=True)
class Task:
    """What one process does."""

    kind: str
    """spectrograms or windows, which others need; or train."""
    part: str
    stage: int
    """The fold, or EVERYTHING; of spectrograms and windows: the number of the part."""
    plan: Plan
    needs: tuple[str, ...] = ()
    """Tasks whose names begin so are to be finished first."""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.part} {self.stage}."

    def __call__(self) -> None:
        torch.set_num_threads(1)
        try:
            if self.kind == "spectrograms":
                self.plan.make_spectrograms(self.stage)
            elif self.kind == "windows":
                self.plan.make_windows(self.part, self.stage)
            else:
                self.plan.train(self.part, self.stage, self._say)
        except TrainingStoppedError as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        print(f"{self.name}: {text}", flush=True)


def tasks(plan: Plan) -> Iterator[Task]:
    """All tasks, the most urgent first: what is short, then what is long."""
    views = plan.job("crnn", EVERYTHING).recipe.stored_views + 2
    for number in range(views if "crnn" in plan.what else 0):
        yield Task("spectrograms", "crnn", number, plan)
    for part in PARTS:
        if part not in plan.what:
            continue
        for maker in range(plan.makers if part in STREAMS else 0):
            yield Task("windows", part, maker, plan)
        for stage in plan.stages:
            yield Task("train", part, stage, plan, _needs(plan, part, stage))


def _needs(plan: Plan, part: str, stage: int) -> tuple[str, ...]:
    if part == "head":  # the first one computes the features of all
        return () if stage == plan.stages[0] else (f"train head {plan.stages[0]}.",)
    if part == "crnn":
        return ("spectrograms",)
    return (f"windows {part} ",) if part in STREAMS else ()
