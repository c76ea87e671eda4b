"""One call of `tagger train`: what is asked for, and whether it can be done. How it is done: `train.fit.run`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagger.checkpoints import store
from tagger.checkpoints.header import read_header
from tagger.checkpoints.info import NAMES, is_name
from tagger.errors import CheckpointError, UserError
from tagger.files import replacing
from train.data.dataset import FOLDS, Dataset, leak
from train.fit.backbone import Backbone, Start
from train.fit.finetune import FineTuneTrainer
from train.fit.head import HeadTrainer
from train.fit.stream import StreamTrainer
from train.fit.trainer import Trainer
from train.messages import Say
from train.recipe import Recipe

TRAINERS: dict[str, type[Trainer]] = {
    "all": FineTuneTrainer,
    "gradual": FineTuneTrainer,
    "head": HeadTrainer,
    "upper": StreamTrainer,
}
"""Every way of training, by `Recipe.trainable`."""
WINDOW_SECONDS = 5.0
_RUN = "job.json"
"""File in the output folder with what must not change when a run is resumed."""
_MOST_NAME_BYTES = 255 - len(".safetensors") - len("01234567.partial")
"""Longest name of a run whose files can be written, bytes; a file's name has 255."""
EVERYTHING = 0
"""Stands for the number of the held-out fold where none is held out."""


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
    strangers: Path | None = None
    """ESC-50, where it is at hand: sounds that none of the labels is, in which announcements are counted."""

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise UserError(
                f"--name {self.name}: must be the name of a file in the output folder, of {NAMES} and "
                f"{_MOST_NAME_BYTES} bytes, and not fold1 ..."
            )
        if self.recipe.crop_seconds > WINDOW_SECONDS:
            raise UserError(f"crop_seconds {self.recipe.crop_seconds:g}: a window has only {WINDOW_SECONDS:g} s")
        if self.teacher and not self.trainer.takes_teacher:
            raise UserError("--teacher: a last layer alone (--freeze) learns from the labels, not from a teacher")
        if self.teacher and not self.recipe.epochs:
            raise UserError("--teacher: with epochs=0 a last layer alone learns, from the labels, not from a teacher")

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


def _is_name(name: str) -> bool:
    return (
        bool(name.strip("."))
        and re.search(r"[/\\\x00-\x1f]|^fold\d$", name) is None
        and is_name(name)
        and len(name.encode(errors="surrogateescape")) <= _MOST_NAME_BYTES
    )


def own_name(data: Path | None, dataset: Dataset) -> str | None:
    """Name of a run on a user's sounds alone, where none is given: the folder's. None: it is on ESC-50 too."""
    if data is None or "ESC-" in dataset.name:
        return None
    name = data.absolute().name if data.is_dir() else data.stem
    return name if _is_name(name) else "own"


def name_of_run(output: Path) -> str | None:
    """Name of the run that the folder holds. None: it holds none."""
    try:
        name = json.loads((output / _RUN).read_text("utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and _is_name(name) else None


def stages_of(job: Job, dataset: Dataset, say: Say) -> list[int]:
    """Stages to train, and those that an earlier run has trained, in order. Folds without clips are left out.

    Raises:
        UserError: no stage is left, or one has nothing to learn from.
    """
    empty = folds_without_clips(dataset)
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


def folds_without_clips(dataset: Dataset) -> list[int]:
    """Folds without labelled clips: nothing can be scored."""
    return [fold for fold in FOLDS if not len(dataset.held_out(fold))]


def of_stage(name: str, stage: int) -> str:
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


def leak_warnings(job: Job, backbone: Backbone, stage: int) -> list[str]:
    """Warnings about this fold's result: what it starts or learns from has heard its held-out clips.

    Raises:
        UserError: there is one, and the job does not allow it.
    """
    marks = []
    for what, clips in heard_clips(job, backbone, stage).items():
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


def heard_clips(job: Job, backbone: Backbone, stage: int) -> dict[str, tuple[str, ...]]:
    """The backbone and the teacher by name, and the clips that each has heard.

    Raises:
        UserError: there is no such teacher, or it does not know a label.
    """
    heard = {backbone.name: backbone.trained_on}
    if teacher := job.teacher and of_stage(job.teacher, stage):
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


def check_folder(job: Job, backbone: Backbone) -> None:
    """Makes sure that no other run's results are overwritten.

    Raises:
        UserError: the output folder holds a run that this one does not resume.
    """
    path = job.output / _RUN
    if not path.is_file():
        return
    if not job.resume:
        raise UserError(
            f"{job.output}: holds a run already; --resume continues it (or shows its result), "
            "another --name or --output starts a new one"
        )
    mine = json.loads(json.dumps(_document(job, backbone)))
    try:
        theirs = json.loads(path.read_text("utf-8"))
        if not isinstance(theirs, dict):
            raise ValueError("no table")
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}), so --resume cannot tell what was trained here") from None
    other = [key for key in mine if theirs.get(key) != mine[key]]
    if "recipe" in other and isinstance(theirs.get("recipe"), dict):
        both = mine["recipe"], theirs["recipe"]
        fields = [field for field in {**both[0], **both[1]} if both[0].get(field) != both[1].get(field)]
        other[other.index("recipe")] = f"recipe ({', '.join(fields)})"
    if other:
        raise UserError(f"{job.output}: --resume cannot continue it: the {', '.join(other)} of that run differs")


def claim_folder(job: Job, backbone: Backbone) -> None:
    """Makes the output folder this job's."""
    with replacing(job.output / _RUN) as partial:
        partial.write_text(json.dumps(_document(job, backbone), indent=2) + "\n", "utf-8")
