"""`tagger train`: holds out each fold once, then trains a checkpoint from all clips. Resumes after any interruption.

What is asked for, and whether the folder, the folds and the teacher allow it, is in `train.fit.job`.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tagger import files, progress
from tagger.checkpoints import checkpoint, store
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.header import read_header
from tagger.checkpoints.info import CheckpointInfo
from tagger.errors import UserError
from tagger.models.network import network_class
from tagger.printable import number_of
from tagger.stop import Stop
from train.curve import Epoch
from train.data import esc50, waveforms
from train.data.corpus import Corpus
from train.data.dataset import FOLDS, Rows, inner_split, trained_on
from train.evaluate import announcements, report
from train.evaluate.announcements import ONE_LABEL, Announced
from train.evaluate.clips import predict
from train.evaluate.metrics import accuracy
from train.evaluate.predictions import Predictions
from train.fit.backbone import Backbone, load_backbone
from train.fit.distributed import Place, joined
from train.fit.job import (
    EVERYTHING,
    WINDOW_SECONDS,
    Job,
    check_folder,
    claim_folder,
    folds_without_clips,
    heard_clips,
    leak_warnings,
    of_stage,
    stages_of,
)
from train.fit.memory import keep_memory
from train.fit.opinion import second_opinion
from train.fit.pretrain import PRETRAINED, official_of
from train.fit.result import (
    Result,
    announced_in,
    in_words,
    mean_in_words,
    metrics_of,
    read_result,
    write_result,
)
from train.fit.teacher import Teacher
from train.fit.trainer import Setup, Trained, Trainer, TrainingStoppedError
from train.messages import Say, silent

_LONG_S = 60.0
"""Time left from which on it is said, seconds."""


def run(job: Job, say: Say) -> None:
    """Writes `fold1.safetensors`, ..., `NAME.safetensors`, and `report/`, to the output folder.

    Raises:
        UserError: the data, the network or the teacher cannot be used, or the folder holds another run.
        TrainingStoppedError: by SIGINT or SIGTERM; with `resume` the same job goes on.
    """
    keep_memory()
    with joined(job.device) as place:
        talk: Say = say if place.leads else silent
        filled = [stage for stage in job.stages if stage not in folds_without_clips(job.dataset)] or job.stages
        ahead = [stage for stage in filled if not job.is_done(stage)]
        backbones = {
            stage: load_backbone(of_stage(job.model, stage), job.start, job.recipe) for stage in ahead or filled
        }
        backbone = next(iter(backbones.values()))
        network = network_class(backbone.architecture)
        if job.trainer.needs_linear_head and not network.has_linear_head:
            raise UserError(
                f"{backbone.name}: a {network.__name__} has no last layer that could be fitted alone (--freeze); "
                "mn and dymn networks have, and checkpoints of them"
            )
        if ahead and job.recipe.pretrain_epochs:
            official_of(job.recipe)
        if job.recipe.batch < place.ranks:
            raise UserError(f"batch {job.recipe.batch} is less than one clip for each of {place.ranks} processes")
        if place.leads:
            check_folder(job, backbone)
        marks = {stage: leak_warnings(job, backbones[stage], stage) for stage in ahead}
        if not place.leads:
            place.wait()  # the first process decodes
        found, sounds = waveforms.load(job.dataset, backbone.mel.sample_rate_hz, WINDOW_SECONDS, job.strict, talk)
        stages = stages_of(job, found, talk)
        if place.leads:
            claim_folder(job, backbone)
            place.wait()
        corpus = Corpus.of(found, sounds)
        talk(
            f"{number_of(len(found.clips), 'clip')} of {number_of(len(found.labels), 'label')} ({found.name}); "
            f"{backbone.name}, recipe {job.recipe_name}"
        )
        with Stop() as stop:
            _Stages(job, backbones, corpus, place, talk, stop, marks).all(stages)


class _Stages:
    """Trains, scores and saves one stage after the other."""

    def __init__(
        self,
        job: Job,
        backbones: dict[int, Backbone],
        corpus: Corpus,
        place: Place,
        say: Say,
        stop: Stop,
        marks: dict[int, list[str]],
    ) -> None:
        self._job, self._backbones, self._corpus, self._place = job, backbones, corpus, place
        self._backbone = next(iter(backbones.values()))
        self._started = {"name": self._backbone.name, "sha256": self._backbone.digest}
        if "{fold}" in job.model:
            self._started = {"name": job.model}
        self._say, self._stop = say, stop
        self._trainers: dict[tuple[str, str | None], Trainer] = {}
        """The last one, by its backbone's digest and its teacher."""
        self._curves: dict[str, Sequence[Epoch]] = {}
        self._chosen: dict[str, int] = {}
        self._marks = marks
        """Warnings about each stage's result."""
        self._results: dict[int, Result] = {}

    def all(self, stages: Sequence[int]) -> None:
        parts: list[Predictions] = []
        began, ahead = time.monotonic(), [stage for stage in stages if not self._job.is_done(stage)]
        for stage in stages:
            predictions = self._stage(stage, parts, stage == stages[-1])
            if predictions is not None:
                parts.append(predictions)
                self._say(f"fold {stage}: {in_words(self._results[stage])}   {self._job.checkpoint(stage)}")
            if stage in ahead[:-1]:
                self._say_time_left(ahead.index(stage) + 1, len(ahead), time.monotonic() - began)
        if not self._place.leads:
            return
        joint = Predictions.joined(parts) if parts else None
        if joint is not None and len(parts) > 1 and not self._is_one_label:
            self._say(mean_in_words(joint))
        marks = [mark for stage in stages for mark in self._marks[stage]]
        if self._is_one_label and joint is not None:
            marks.append(ONE_LABEL)
        for mark in marks:
            self._say(mark)
        heard = announced_in(self._results.values())
        if heard:
            self._say("announcements where none of the labels sounds:")
        for each in heard:
            self._say(f"  {each}")
        if not heard and self._is_one_label:
            self._say(
                "to learn how often it announces what it should not: --background FOLDER, or ESC-50 in "
                f"{files.home() / 'esc50'} (--download)"
            )
        report.write(
            self._job.output / "report",
            f"Training of {self._started['name']} on {self._corpus.dataset.name}, recipe {self._job.recipe_name}",
            joint,
            self._curves,
            self._facts(),
            marks,
            self._chosen,
        )
        self._say(f"report: {self._job.output / 'report' / 'report.md'}")

    @property
    def _is_one_label(self) -> bool:
        return len(self._corpus.dataset.labels) == 1

    def _say_time_left(self, done: int, of: int, seconds: float) -> None:
        left_s = seconds / done * (of - done)
        if left_s > _LONG_S:
            self._say(f"{done} of {of} trainings done, about {progress.in_words(left_s)} left")

    def _listened(self, loaded: Checkpoint, stage: int, is_last: bool) -> list[Announced]:
        """Plays what has none of the labels to a stage's checkpoint; ESC-50 only to the last."""
        dataset, device, heard = self._corpus.dataset, str(self._place.device), list[Announced | None]()
        folds = [fold for fold in self._job.stages if fold != EVERYTHING]
        if stage != EVERYTHING:
            heard.append(announcements.in_background(loaded, dataset, stage, len(folds), self._stop, device))
        if is_last and self._job.strangers is not None:
            strangers = esc50.read(self._job.strangers)
            heard.append(announcements.in_strangers(loaded, strangers, self._stop, device))
        return [each for each in heard if each is not None]

    def _stage(self, stage: int, parts: Sequence[Predictions], is_last: bool) -> Predictions | None:
        """Trains, scores and saves one stage; or reads it, where an earlier run has finished it."""
        path, result = self._job.checkpoint(stage), self._job.result(stage)
        if not self._job.is_done(stage):
            if self._place.agreed(float(self._stop.interrupted))[0]:
                raise TrainingStoppedError
            self._backbone = self._backbones[stage]
            dataset = self._corpus.dataset
            rows = dataset.all_but(stage)
            trained = self._train(stage, rows)
            self._place.wait()
            if self._place.leads:
                self._save(trained, path, stage, rows, self._metrics(parts) if stage == EVERYTHING else {})
                predictions, found = None, None
                loaded: Checkpoint = checkpoint.load(path)  # what is scored is what was written
                if stage != EVERYTHING:
                    predictions = predict(loaded, self._corpus, dataset.held_out(stage), str(self._place.device))
                    found = announcements.found(predictions, loaded.info.thresholds)
                    if not self._marks[stage]:
                        share = {"found": found[0] / found[1]} if self._is_one_label else {}
                        self._save(trained, path, stage, rows, share or {"accuracy": accuracy(predictions)})
                announced = self._listened(loaded, stage, is_last)
                write_result(result, predictions, trained, self._marks[stage], found, announced)
            self._place.wait()
        read = self._results[stage] = read_result(result, self._corpus.dataset)
        self._marks[stage] = read.marks
        if read.curve:
            name = f"fold {stage}" if stage != EVERYTHING else "all clips"
            self._curves[name] = read.curve
            self._chosen[name] = read.kept_epoch
        if stage == EVERYTHING:
            self._say(f"all clips: {path}")
        return read.predictions

    def _train(self, stage: int, rows: Rows) -> Trained:
        job, corpus = self._job, self._corpus
        inner, rest = inner_split(corpus.dataset, rows, job.recipe.inner_share, job.seed)
        if not corpus.targets[torch.from_numpy(inner)].any():
            self._say("too few recordings to keep any aside: choices are made on what is learnt from")
            inner = rest
        folder = job.output / "state" / job.title(stage)
        if not job.resume:
            for name in ("state.pt", "pretrain.pt", PRETRAINED):
                (folder / name).unlink(missing_ok=True)
        trainer = self._trainer(stage)
        trained = trainer.run(rest, inner, folder, self._say, self._stop)
        if not job.recipe.opinion:
            return trained
        return second_opinion(trained, trainer.setup, rest, inner, self._say, self._stop)

    def _trainer(self, stage: int) -> Trainer:
        """The trainer of the stage before, where it starts and learns from the same networks; else a new one."""
        job, backbone = self._job, self._backbone
        teacher = of_stage(job.teacher, stage) if job.teacher else None
        key = backbone.digest, teacher
        if key not in self._trainers:
            setup = Setup(backbone, job.recipe, self._corpus, job.seed, self._place, self._teacher(teacher))
            self._trainers = {key: job.trainer(setup)}
        return self._trainers[key]

    def _teacher(self, name: str | None) -> Teacher | None:
        if name is None:
            return None
        loaded = checkpoint.load(store.find(name))
        recipe, labels = self._job.recipe, self._corpus.dataset.labels
        return Teacher(loaded, labels, recipe.activation, recipe.distill_temperature, self._place.device)

    def _teacher_licences(self, stage: int) -> tuple[str, ...]:
        """Licences of the teachers' weights, which hold for their student's too."""
        found = official_of(self._job.recipe).info.licences if self._job.recipe.pretrain_epochs else ()
        if self._job.teacher is None:
            return found
        return (*found, *read_header(store.find(of_stage(self._job.teacher, stage)))["licences"])

    def _metrics(self, parts: Sequence[Predictions]) -> dict[str, Any]:
        """Results of all folds, for the checkpoint from all clips. Empty if a fold is missing, or leaks."""
        dataset = self._corpus.dataset
        folds = [fold for fold in FOLDS if fold not in folds_without_clips(dataset)]
        if len(parts) != len(folds) or len(parts) < 2 or any(self._marks[fold] for fold in folds):
            return {}
        return metrics_of([self._results[fold] for fold in folds])

    def _save(self, trained: Trained, path: Path, stage: int, rows: Rows, metrics: dict[str, Any]) -> None:
        job, backbone, dataset = self._job, self._backbone, self._corpus.dataset
        heard = [clip for clips in heard_clips(job, backbone, stage).values() for clip in clips]
        info = CheckpointInfo(
            name=job.title(stage),
            architecture=backbone.architecture,
            config=trained.model.config,
            mel=backbone.mel,
            window_seconds=WINDOW_SECONDS,
            labels=dataset.labels,
            activation=trained.activation,
            thresholds=(trained.threshold,) * len(dataset.labels),
            temperature=trained.temperature,
            bias=trained.bias,
            surprise=trained.surprise,
            others=trained.others,
            opinion=trained.opinion,
            training={
                "recipe": job.recipe_name,
                "settings": job.recipe.to_document(),
                "backbone": {"name": backbone.name, "sha256": backbone.digest},
                "teacher": job.teacher,
                "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "clips": len(dataset.clips)},
                "folds": [fold for fold in FOLDS if fold != stage],
                "held_out_fold": None if stage == EVERYTHING else stage,
                "seed": job.seed,
                **trained.details,
                "trained_on": sorted({*trained_on(dataset, rows), *heard}),
            },
            metrics=metrics,
            licences=tuple(dict.fromkeys((*backbone.licences, *self._teacher_licences(stage), *dataset.licences))),
        )
        checkpoint.save(path, info, trained.model, half=True)

    def _facts(self) -> dict[str, Any]:
        return {
            **report.circumstances(),
            "data": {"name": self._corpus.dataset.name, "fingerprint": self._corpus.dataset.fingerprint},
            "start": self._started,
            "teacher": self._job.teacher,
            "recipe": {"name": self._job.recipe_name} | self._job.recipe.to_document(),
            "seed": self._job.seed,
            "test-time options": "none",
            **(
                {"announcements": [str(each) for each in heard]}
                if (heard := announced_in(self._results.values()))
                else {}
            ),
        }
