"""`tagger train`: holds out each fold once, then trains a checkpoint from all clips. Resumes after any interruption."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tagger.checkpoints import checkpoint, store
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.header import read_header
from tagger.checkpoints.info import CheckpointInfo
from tagger.errors import CheckpointError, UserError
from tagger.files import replacing
from tagger.models.network import network_class
from tagger.stop import Stop
from train.curve import Epoch
from train.data import waveforms
from train.data.corpus import Corpus
from train.data.dataset import FOLDS, Dataset, Rows, inner_split, leak, trained_on
from train.evaluate import report
from train.evaluate.clips import predict
from train.evaluate.metrics import Predictions, accuracy, accuracy_by_fold, calibration_error, mean_and_std
from train.fit.backbone import Backbone, Start, load_backbone
from train.fit.distributed import Place, joined
from train.fit.finetune import FineTuneTrainer
from train.fit.head import HeadTrainer
from train.fit.memory import keep_memory
from train.fit.stream import StreamTrainer
from train.fit.teacher import Teacher
from train.fit.trainer import Setup, Trained, Trainer, TrainingStoppedError
from train.messages import Say, silent
from train.recipe import Recipe

TRAINERS: dict[str, type[Trainer]] = {
    "all": FineTuneTrainer,
    "gradual": FineTuneTrainer,
    "head": HeadTrainer,
    "upper": StreamTrainer,
}
"""Every way of training, by `Recipe.trainable`."""

WINDOW_SECONDS = 5.0
EVERYTHING = 0
"""Stands for the number of the held-out fold where none is held out."""
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True)
class Job:
    """One call of `tagger train`."""

    dataset: Dataset
    model: str
    """A network's name, or a checkpoint's name or path, to start from; `{fold}` as in `teacher`."""
    recipe: Recipe
    recipe_name: str
    output: Path
    folds: tuple[int, ...] = ()
    """Folds to hold out, in turn. Empty: all five, and then a checkpoint from all clips."""
    everything: bool = False
    """Whether to train only the checkpoint from all clips."""
    start: Start | None = None
    teacher: str | None = None
    """A checkpoint's name or path. `FOLDER/fold{fold}.safetensors` stands for the one that held the same fold out, or,
    where no fold is held out, for that folder's checkpoint from all clips."""
    name: str = "esc50"
    seed: int = 0
    device: str = "auto"
    strict: bool = False
    resume: bool = False
    allow_leak: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip(".") or re.search(r"[/\\\x00-\x1f]|^fold\d$", self.name):
            raise UserError(f"--name {self.name}: must be the name of a file in the output folder, and not fold1 ...")
        if self.recipe.crop_seconds > WINDOW_SECONDS:
            raise UserError(f"crop_seconds {self.recipe.crop_seconds:g}: a window has only {WINDOW_SECONDS:g} s")
        if self.teacher and not self.trainer.takes_teacher:
            raise UserError("--teacher: a last layer alone (--freeze) learns from the labels, not from a teacher")

    @property
    def trainer(self) -> type[Trainer]:
        """How the recipe trains."""
        return TRAINERS[self.recipe.trainable]

    @property
    def stages(self) -> tuple[int, ...]:
        """The fold that each training holds out, or EVERYTHING, in their order."""
        if self.everything:
            return (EVERYTHING,)
        return self.folds or (*FOLDS, EVERYTHING)

    def is_done(self, stage: int) -> bool:
        """Whether the run that this one resumes has finished the stage."""
        return self.resume and self.result(stage).is_file() and self.checkpoint(stage).is_file()

    def title(self, stage: int) -> str:
        """Name of the stage's checkpoint."""
        return self.name if stage == EVERYTHING else f"{self.name}-fold{stage}"

    def checkpoint(self, stage: int) -> Path:
        """Path of the stage's checkpoint."""
        name = self.name if stage == EVERYTHING else f"fold{stage}"
        return self.output / f"{name}.safetensors"

    def result(self, stage: int) -> Path:
        """Path of the stage's predictions and learning curve."""
        return self.output / f"{self.title(stage)}.npz"


def run(job: Job, say: Say) -> None:
    """Writes `fold1.safetensors`, ..., `NAME.safetensors`, and `report/`, to the output folder.

    Raises:
        UserError: the data, the network or the teacher cannot be used, or the folder holds another run.
        TrainingStoppedError: by SIGINT or SIGTERM; with `resume` the same job goes on.
    """
    keep_memory()
    with joined(job.device) as place:
        talk: Say = say if place.leads else silent
        filled = [stage for stage in job.stages if stage not in _without_clips(job.dataset)] or job.stages
        ahead = [stage for stage in filled if not job.is_done(stage)]
        backbones = {
            stage: load_backbone(_of_stage(job.model, stage), job.start, job.recipe) for stage in ahead or filled
        }
        backbone = next(iter(backbones.values()))
        network = network_class(backbone.architecture)
        if job.trainer.needs_linear_head and not network.has_linear_head:
            raise UserError(
                f"{backbone.name}: a {network.__name__} has no last layer that could be fitted alone (--freeze)"
            )
        if job.recipe.batch < place.ranks:
            raise UserError(f"batch {job.recipe.batch} is less than one clip for each of {place.ranks} processes")
        if place.leads:
            _check_folder(job, backbone)
        marks = {stage: _leaks(job, backbones[stage], stage) for stage in ahead}
        if not place.leads:
            place.wait()  # the first process decodes
        found, sounds = waveforms.load(job.dataset, backbone.mel.sample_rate_hz, WINDOW_SECONDS, job.strict, talk)
        stages = _stages(job, found, talk)
        if place.leads:
            _claim(job, backbone)
            place.wait()
        corpus = Corpus.of(found, sounds)
        talk(
            f"{len(found.clips)} clips of {len(found.labels)} labels ({found.name}); "
            f"{backbone.name}, recipe {job.recipe_name}"
        )
        with Stop() as stop:
            _Stages(job, backbones, corpus, place, talk, stop, marks).all(stages)


def _stages(job: Job, dataset: Dataset, say: Say) -> list[int]:
    """Stages to train, and those that an earlier run has trained, in order. Folds without clips are left out.

    Raises:
        UserError: no stage is left, or one has nothing to learn from.
    """
    empty = _without_clips(dataset)
    wanted = [stage for stage in job.stages if stage not in empty]
    if skipped := [str(stage) for stage in job.stages if stage in empty]:
        said = f"no clip of a label is in fold {', '.join(skipped)}"
        if not wanted:
            raise UserError(f"{dataset.name}: {said}")
        say(f"{said}, which is left out")
    for stage in wanted:
        if all(dataset.clips[row].label is None for row in dataset.all_but(stage)):
            raise UserError(f"{dataset.name}: all labelled clips are in fold {stage}; nothing is left to learn from")
    done = [stage for stage in (*FOLDS, EVERYTHING) if stage not in empty and job.is_done(stage)]
    return sorted({*wanted, *done}, key=lambda stage: (stage == EVERYTHING, stage))


def _without_clips(dataset: Dataset) -> list[int]:
    """Folds without labelled clips: nothing can be scored."""
    return [fold for fold in FOLDS if not len(dataset.held_out(fold))]


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

    def all(self, stages: Sequence[int]) -> None:
        parts: list[Predictions] = []
        for stage in stages:
            predictions = self._stage(stage, parts)
            if predictions is not None:
                parts.append(predictions)
                self._say(f"fold {stage}: {_percent(accuracy(predictions))}   {self._job.checkpoint(stage)}")
        if not self._place.leads:
            return
        joint = Predictions.joined(parts) if parts else None
        if joint is not None and len(parts) > 1:
            self._say(_in_words(joint))
        marks = [mark for stage in stages for mark in self._marks[stage]]
        for mark in marks:
            self._say(mark)
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

    def _stage(self, stage: int, parts: Sequence[Predictions]) -> Predictions | None:
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
                predictions = None
                if stage != EVERYTHING:  # what is scored is what was written
                    loaded: Checkpoint = checkpoint.load(path)
                    predictions = predict(loaded, self._corpus, dataset.held_out(stage), str(self._place.device))
                    if not self._marks[stage]:
                        self._save(trained, path, stage, rows, {"accuracy": accuracy(predictions)})
                _write_result(result, predictions, trained, self._marks[stage])
            self._place.wait()
        predictions, curve, best, self._marks[stage] = _read_result(result, self._corpus.dataset)
        if curve:
            name = f"fold {stage}" if stage != EVERYTHING else "all clips"
            self._curves[name] = curve
            self._chosen[name] = best
        if stage == EVERYTHING:
            self._say(f"all clips: {path}")
        return predictions

    def _train(self, stage: int, rows: Rows) -> Trained:
        job, corpus = self._job, self._corpus
        inner, rest = inner_split(corpus.dataset, rows, job.recipe.inner_share, job.seed)
        if not corpus.targets[torch.from_numpy(inner)].any():
            self._say("too few recordings to keep any aside: choices are made on what is learnt from")
            inner = rest
        folder = job.output / "state" / job.title(stage)
        if not job.resume:
            (folder / "state.pt").unlink(missing_ok=True)
        return self._trainer(stage).run(rest, inner, folder, self._say, self._stop)

    def _trainer(self, stage: int) -> Trainer:
        """The trainer of the stage before, where it starts and learns from the same networks; else a new one."""
        job, backbone = self._job, self._backbone
        teacher = _of_stage(job.teacher, stage) if job.teacher else None
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
        """Licences of the teacher's weights, which hold for its student's too."""
        if self._job.teacher is None:
            return ()
        return tuple(read_header(store.find(_of_stage(self._job.teacher, stage)))["licences"])

    def _metrics(self, parts: Sequence[Predictions]) -> dict[str, Any]:
        """Results of all folds, for the checkpoint from all clips. Empty if a fold is missing, or leaks."""
        dataset = self._corpus.dataset
        folds = [fold for fold in FOLDS if fold not in _without_clips(dataset)]
        if len(parts) != len(folds) or len(parts) < 2 or any(self._marks[fold] for fold in folds):
            return {}
        joint = Predictions.joined(parts)
        mean, spread = mean_and_std(list(accuracy_by_fold(joint).values()))
        found = {"accuracy": mean, "std": spread, "ece": calibration_error(joint)}
        return {f"{_NUMBERS[len(parts)]}_fold_{name}": value for name, value in found.items()}

    def _save(self, trained: Trained, path: Path, stage: int, rows: Rows, metrics: dict[str, Any]) -> None:
        job, backbone, dataset = self._job, self._backbone, self._corpus.dataset
        heard = [clip for clips in _heard(job, backbone, stage).values() for clip in clips]
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
        }


def _of_stage(name: str, stage: int) -> str:
    """The checkpoint that `FOLDER/fold{fold}.safetensors` stands for while this fold is held out, or none is.

    Raises:
        UserError: none is held out, and the folder has not exactly one checkpoint from all clips.
    """
    if "{fold}" not in name:
        return name
    if stage != EVERYTHING:
        return name.replace("{fold}", str(stage))
    folder = Path(name).parent
    whole = [path for path in folder.glob("*.safetensors") if not re.fullmatch(r"fold\d", path.stem)]
    if len(whole) != 1:
        raise UserError(
            f"{name}: for the checkpoint from all clips, {folder} must hold one that is from all clips too; "
            f"it holds {len(whole)}. Use --fold for the folds alone"
        )
    return str(whole[0])


def _leaks(job: Job, backbone: Backbone, stage: int) -> list[str]:
    """Warnings about this fold's result: what it starts or learns from has heard its held-out clips.

    Raises:
        UserError: there is one, and the job does not allow it.
    """
    marks = []
    for what, clips in _heard(job, backbone, stage).items():
        said = leak(what, job.dataset, stage, clips)
        if said is None:
            continue
        if not job.allow_leak:
            raise UserError(
                f"{said}, which is held out, so the result would mean nothing; use one that was not (a teacher of each "
                "fold: `fold{fold}.safetensors`), --all-clips, or --allow-leak"
            )
        marks.append(f"LEAK: {said}; not a result")
    return marks


def _heard(job: Job, backbone: Backbone, stage: int) -> dict[str, tuple[str, ...]]:
    """The backbone and the teacher by name, and the clips that each has heard.

    Raises:
        UserError: there is no such teacher, or it does not know a label.
    """
    heard = {backbone.name: backbone.trained_on}
    if teacher := job.teacher and _of_stage(job.teacher, stage):
        try:
            document = read_header(store.find(teacher))
        except CheckpointError as error:
            raise UserError(f"--teacher: {error}") from None
        if unknown := [label for label in job.dataset.labels if label not in document["labels"]]:
            raise UserError(f"--teacher {teacher} does not know {', '.join(unknown[:5])}")
        heard[f"--teacher {teacher}"] = tuple(document["training"].get("trained_on", ()))
    return heard


def _document(job: Job, backbone: Backbone) -> dict[str, Any]:
    """What must not change when a run is resumed."""
    document: dict[str, Any] = {
        "recipe": job.recipe.to_document(),
        "start": job.model if "{fold}" in job.model else backbone.digest,
        "teacher": job.teacher,
        "data": job.dataset.fingerprint,
        "name": job.name,
        "seed": job.seed,
    }
    return document


def _check_folder(job: Job, backbone: Backbone) -> None:
    """Makes sure that no other run's results are overwritten.

    Raises:
        UserError: the output folder holds a run that this one does not resume.
    """
    path = job.output / "job.json"
    if not path.is_file():
        return
    if not job.resume:
        raise UserError(
            f"{job.output}: holds a run already; --resume continues it (or shows its result), "
            "another --output starts a new one"
        )
    mine = json.loads(json.dumps(_document(job, backbone)))
    try:
        theirs = json.loads(path.read_text("utf-8"))
    except ValueError:
        theirs = {}
    other = [key for key in mine if theirs.get(key) != mine[key]]
    if "recipe" in other and isinstance(theirs.get("recipe"), dict):
        both = mine["recipe"], theirs["recipe"]
        fields = [field for field in {**both[0], **both[1]} if both[0].get(field) != both[1].get(field)]
        other[other.index("recipe")] = f"recipe ({', '.join(fields)})"
    if other:
        raise UserError(f"{job.output}: --resume cannot continue it: the {', '.join(other)} of that run differs")


def _claim(job: Job, backbone: Backbone) -> None:
    """Makes the output folder this job's."""
    with replacing(job.output / "job.json") as partial:
        partial.write_text(json.dumps(_document(job, backbone), indent=2) + "\n", "utf-8")


def _in_words(joint: Predictions) -> str:
    mean, spread = mean_and_std(list(accuracy_by_fold(joint).values()))
    return (
        f"mean  : {_percent(mean)}   standard deviation {100 * (spread or 0):.2f}   "
        f"calibration error {_percent(calibration_error(joint))}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:6.2f} %"


def _write_result(path: Path, predictions: Predictions | None, trained: Trained, marks: Sequence[str]) -> None:
    """Saves what `--resume` needs of a stage that is done."""
    document: dict[str, Any] = {
        "curve": [asdict(epoch) for epoch in trained.curve],
        "kept": trained.kept_epoch,
        "marks": list(marks),
    }
    arrays: dict[str, Any] = {}
    if predictions is not None:
        document["clips"] = list(predictions.clips)
        arrays = {"scores": predictions.scores, "targets": predictions.targets, "folds": predictions.folds}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, document=np.array(json.dumps(document)), **arrays)


def _read_result(path: Path, dataset: Dataset) -> tuple[Predictions | None, list[Epoch], int, list[str]]:
    with np.load(path, allow_pickle=False) as arrays:
        document = json.loads(str(arrays["document"]))
        predictions = None
        if "scores" in arrays:
            predictions = Predictions(
                dataset.labels, arrays["scores"], arrays["targets"], tuple(map(str, document["clips"])), arrays["folds"]
            )
    curve = [Epoch(**each) for each in document["curve"]]
    return predictions, curve, document["kept"] or 0, document.get("marks", [])
