"""The first question of `tagger config init`: which sounds, and so which model."""

import re
from collections.abc import Iterable, Sequence

import click

from tagger.config.prompt import prompt, until
from tagger.config.sounds import Model, models, near, related, split
from tagger.errors import UserError
from tagger.errors import near as near_names
from tagger.printable import echo, echo_lines
from tagger.settings import DEFAULT_MODEL

_MOST = 100
"""Number of labels up to which all of a model's are listed without being asked for."""
_EXAMPLES = ("Doorbell", "Smoke detector, smoke alarm", "Speech", "Telephone bell ringing", "Gunshot, gunfire", "Purr")
"""Labels of AudioSet that stand for the others."""
_SHOWN = 5
"""Number of labels that are shown of those that one word fits."""
_ALL = "all"


def ask_sounds() -> tuple[Model | None, list[str]]:
    """Asks which sounds to be told of.

    Returns:
        The model to listen with and its labels to announce. None and none: all sounds of the default model.
    """
    known = models()
    echo("1. Which sounds do you want to be told of? In your own words, with commas between, such as")
    echo("   dog, breaking glass, doorbell. Empty: all that the model knows. ?: lists what each model knows.")
    _list(known)
    wanted = _wanted(known)
    if not wanted:
        return None, []
    model = _model(wanted, known)
    labels = [label for sound in wanted for label in _labels(sound, model)]
    if missing := [sound for sound in wanted if not model.fits(sound)]:
        echo(f"   Left out, as {model.name} does not know them: {_listed(missing)}.{_elsewhere(missing, known)}")
    echo(f"   Told of, by the model {model.name}: {_listed(dict.fromkeys(labels))}")
    return model, list(dict.fromkeys(labels))


def _list(known: Sequence[Model], every: bool = False) -> None:
    """Prints the labels of all models, models of the same labels together.

    Args:
        every: list all labels, also of models that have hundreds.
    """
    same: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Model]] = {}
    for model in known:
        same.setdefault((model.labels, model.classes), []).append(model)
    for (labels, classes), of in same.items():
        title = ", ".join(map(_title, of))
        text = _some(labels, every) + (f"; and of AudioSet, {_some(classes, every)}" if classes else "")
        echo_lines(click.wrap_text(f"{title}: {text}", 100, "   ", "     ").split("\n"))


def _some(labels: Sequence[str], every: bool) -> str:
    """All of few labels; of many, their number and examples."""
    if len(labels) <= _MOST or every:
        return _listed(labels)
    shown = [label for label in _EXAMPLES if label in labels] or labels[:_SHOWN]
    return f"{len(labels)} sounds, such as {_listed(shown)}"


def _title(model: Model) -> str:
    return f"{model.name} (to download)" if model.command else model.name


def _wanted(known: Sequence[Model]) -> list[str]:
    """The sounds that were asked for, each known to some model. Names all others at once, and asks again."""
    default = ""
    while True:
        try:
            text = prompt("   Sounds", default).strip()
        except UserError as error:
            echo(f"   {error}")
            continue
        if text == "?":
            _list(known, every=True)
            continue
        sounds = [] if text.casefold() == _ALL else split(text, known)
        unknown = {sound: near(sound, known) for sound in sounds if not any(model.fits(sound) for model in known)}
        if not unknown:
            return sounds
        for sound, meant in unknown.items():
            echo(f"   {sound!r}: {_not_known(sound, meant, known)}")
        kept = (unknown[sound][:1] if sound in unknown else [sound] for sound in sounds)
        default = ", ".join(dict.fromkeys(name for names in kept for name in names))
        empty = "Enter takes what is in brackets; " if default else ""
        echo(f"   {empty}{_ALL}: every sound that the model knows")


def _not_known(sound: str, meant: Sequence[str], known: Sequence[Model]) -> str:
    if meant:
        return f"did you mean {_any_of(meant)}?"
    teach = "? lists all, and `tagger train` can teach it, from some recordings of it"
    found = related(sound, known)
    return f"no label is called so; there is {_any_of(found)}; {teach}" if found else f"no label is called so; {teach}"


def _any_of(labels: Sequence[str]) -> str:
    return " or ".join(repr(label) if "," in label else label for label in labels)


def _model(wanted: Sequence[str], known: Sequence[Model]) -> Model:
    """The model that knows most of the sounds; asks which, if that is not the default one alone."""
    counts = {model.name: sum(bool(model.fits(sound)) for sound in wanted) for model in known}
    best = max(known, key=lambda model: counts[model.name])  # the first of those with as many
    own = any(model.is_own and counts[model.name] == counts[best.name] for model in known)
    if counts[best.name] == len(wanted) and best.name == DEFAULT_MODEL and not own:
        return best
    for model in known:
        if counts[model.name]:
            found = _listed(label for sound in wanted for label in model.fits(sound)[:_SHOWN])
            share = "all" if counts[model.name] == len(wanted) else f"{counts[model.name]} of {len(wanted)}"
            echo(f"   {_title(model)} knows {share}: {found}")

    def chosen(name: str) -> Model:
        for model in known:
            if name == model.name and counts[name]:
                return model
        usable = [model.name for model in known if counts[model.name]]
        raise UserError(f"no model {name!r} that knows any of these{near_names(name, usable)}")

    return until("   Model", best.name, chosen)


def _labels(sound: str, model: Model) -> list[str]:
    """The labels of the model that a sound means; asks which, if several fit."""
    found = model.fits(sound)
    if len(found) < 2:
        return found
    echo(f"   {sound!r} is part of several labels:")
    for number, label in enumerate(found, 1):
        echo(f"   {number}  {label}")

    def chosen(text: str) -> list[str]:
        numbers = [int(each) if each.isdecimal() else 0 for each in re.split(r"[\s,;]+", text) if each]
        if text.casefold() == _ALL:
            return found
        if not numbers or not all(1 <= number <= len(found) for number in numbers):
            raise UserError(f"numbers from 1 to {len(found)}, with commas between, or {_ALL}")
        return [found[number - 1] for number in numbers]

    return until("   Which", _ALL, chosen)


def _elsewhere(missing: Sequence[str], known: Sequence[Model]) -> str:
    """Where the missing sounds are known."""
    others = [model.name for model in known if any(model.fits(sound) for sound in missing)]
    return f" {' and '.join(others)} would know {'it' if len(missing) == 1 else 'some'}" if others else ""


def _listed(labels: Iterable[str]) -> str:
    """Labels in a row. Semicolons separate them if one has a comma."""
    labels = tuple(labels)
    return ("; " if any("," in label for label in labels) else ", ").join(labels)
