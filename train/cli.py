"""The commands `train`, `eval` and `recipes`: turns flags into a job."""

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tagger import files
from tagger.checkpoints import release
from tagger.errors import UserError
from tagger.models.config import ARCHITECTURES
from tagger.printable import echo
from train.data import download as downloads
from train.data import esc50, own
from train.data import layouts as sources
from train.data.dataset import FOLDS, Dataset, combined
from train.recipe import RECIPES, Recipe, named


def train(
    data: Path | None,
    esc10: bool,
    added: Sequence[Path],
    backgrounds: Sequence[Path],
    download: bool,
    settings_: Sequence[str],
    freeze: bool,
    no_opinion: bool,
    epochs: int | None,
    recipe: str | None,
    **flags: Any,
) -> None:
    from train.fit.job import Job, name_of_run, own_name
    from train.fit.run import run

    model: str = flags.pop("model") or ("crnn" if "crnn" in (recipe or "") else "mn04")
    name = "head" if freeze else recipe or _usual_recipe(model, flags["teacher"])
    if freeze and recipe not in (None, "head"):
        raise UserError(f"--freeze is the recipe `head`, not {recipe}")
    changes = dict(_pair(each) for each in settings_)
    if flags.get("start") == "nothing":
        changes.setdefault("frozen_norm", "false")  # an untrained network has no statistics to keep
        changes.setdefault("frozen_blocks", "0")
        changes.setdefault("start_share", "0")
    if no_opinion:
        changes["opinion"] = "false"
    if epochs is not None:
        changes["epochs"] = str(epochs)
    chosen = named(name, changes)
    folds = tuple(dict.fromkeys(flags.pop("folds")))
    everything = flags.pop("all_clips")
    if everything and folds:
        raise UserError("--all-clips holds nothing out, so --fold says nothing")
    dataset = _read(data, esc10, added, backgrounds, download)
    output, title = flags.pop("output"), flags["name"]
    if title is None:
        title = (flags["resume"] and output and name_of_run(output)) or own_name(data, dataset)
    output = output or Path("runs") / (title or f"{Path(model).stem}-{name}")
    flags["name"] = "esc50" if title is None else title
    if "ESC-" not in dataset.name:
        flags["strangers"] = _esc50_at_home()
    job = Job(
        dataset=dataset,
        model=model,
        recipe=chosen,
        recipe_name=name,
        output=output,
        folds=folds,
        everything=everything,
        **flags,
    )
    run(job, _say)


def evaluate(
    data: Path | None,
    esc10: bool,
    added: Sequence[Path],
    models_: Sequence[str],
    folds: str,
    streamed: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    from tagger.config.file import load_right
    from tagger.config.places import placed
    from train.evaluate import clips
    from train.evaluate.inputs import StreamOptions

    wanted = _folds(folds)
    chosen = {name: flags.pop(name) for name in ("minutes", "hop", "seed", "backgrounds", "nontarget")}
    given = {name: value for name, value in chosen.items() if value not in (None, ())}
    if not streamed and (given or config is not None):
        names = {"backgrounds": "background"}
        raise UserError(f"--{names.get(name := next(iter(given), 'config'), name)} is for --streamed")
    options, document = None, load_right(config) if config is not None else None
    if streamed:
        if flags["shifts"] != 1:
            raise UserError("--shifts is for whole clips: --streamed hears streams as the daemon does")
        given["hop_s"] = given.pop("hop", StreamOptions.hop_s)
        options = StreamOptions(config=document.events if document is not None else None, **given)
    dataset = _read(data, esc10, added, (), False)
    with placed(document):
        clips.evaluate(dataset, models_, wanted, say=_say, streamed=options, **flags)


def recipes(as_json: bool) -> None:
    usual = RECIPES["finetune"]
    for name, recipe in RECIPES.items():
        if as_json:
            echo(json.dumps({"name": name, "settings": recipe.to_document()}))
            continue
        changed = {
            field.name: getattr(recipe, field.name)
            for field in fields(Recipe)
            if getattr(recipe, field.name) != getattr(usual, field.name)
        }
        changes_text = ", ".join(f"{key}={value}" for key, value in changed.items())
        echo(f"{name:18} {changes_text or 'the usual settings, which --json shows; the others change them'}")


def _say(text: str) -> None:
    """Prints a line; of several processes under torchrun, only the first does."""
    if os.environ.get("RANK", "0") == "0":
        echo(text)


def _usual_recipe(model: str, teacher: str | None) -> str:
    """Fine-tuning for published weights and checkpoints; the CRNN's recipe for a network that starts from nothing."""
    if model in ARCHITECTURES and not ARCHITECTURES[model].family:
        return "crnn-distilled" if teacher else "crnn"
    return "finetune"


def _pair(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: must be FIELD=VALUE")
    return field.strip(), value.strip()


def _folds(text: str) -> tuple[int, ...]:
    """Numbers of folds; empty: each checkpoint's own fold."""
    if text == "own":
        return ()
    if text == "all":
        return FOLDS
    try:
        folds = tuple(dict.fromkeys(int(each) for each in text.split(",")))
    except ValueError:
        folds = (0,)
    if not set(folds) <= set(FOLDS):
        raise UserError(f"--folds {text}: must be own, all, or numbers from 1 to 5 with commas")
    return folds


def _esc50_at_home() -> Path | None:
    """ESC-50 in $TAGGER_HOME, as a folder or as the archive. None: it is not there."""
    home = files.home()
    folders = [home / "esc50", home / "esc50" / esc50.ARCHIVE_TOP]
    archive = home / downloads.ARCHIVE_NAME
    found = [folder for folder in folders if (folder / esc50.TABLE).is_file()]
    return found[0] if found else archive if archive.is_file() else None


def _read(path: Path | None, esc10: bool, added: Sequence[Path], backgrounds: Sequence[Path], fetch: bool) -> Dataset:
    subset: esc50.Subset = "esc10" if esc10 else "esc50"
    if path is None:
        path = files.home() / "esc50"
        if not path.is_dir() and (fetch or (files.home() / downloads.ARCHIVE_NAME).is_file()):
            with release.progress_bar("ESC-50") as progress:
                path = downloads.esc50_archive(files.home(), progress)
    parts = [sources.read_any(path, subset, _say)]
    parts += [own.read(each, _say, known=parts[0].labels) for each in added]
    parts += [own.read_background(each, _say) for each in backgrounds]
    return combined(parts) if len(parts) > 1 else parts[0]
