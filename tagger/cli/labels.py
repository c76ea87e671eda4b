"""The command `tagger labels`."""

import json
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.common import model_option
from tagger.errors import UserError, near
from tagger.printable import echo, echo_lines

if TYPE_CHECKING:
    from tagger.checkpoints.joint import ModelInfo


@click.command("labels")
@click.argument("words", nargs=-1, metavar="[WORD]...")
@model_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each label.")
def labels(words: tuple[str, ...], models: tuple[str, ...], as_json: bool) -> None:
    """List the labels of a model, and the classes of its second opinion that can be named.

    With WORDs: only those that are called so, or have these words in their name. What is listed below `audioset` is
    announced only where settings name it, in --allow, events.allow, [events.labels] or a source's labels.
    """
    from tagger.checkpoints.joint import joined
    from tagger.engine.runtime import described
    from tagger.words import fits

    info = joined([described(model)[1] for model in models])
    rows, has_classes, has_measured = _rows(info)
    if words:
        everything = [row["label"] for row in rows]
        wanted = {label for word in words for label in fits(word, everything)}
        if not wanted:
            raise UserError(f"no label {' '.join(words)!r}{near(' '.join(words), everything)}")
        rows = [row for row in rows if row["label"] in wanted]
    if as_json:
        echo_lines(json.dumps(row) for row in rows)
        return
    at = ""
    for row in rows:
        if row["model"] != at:
            at = row["model"]
            echo(f"{at}:")
        echo(f"  {row['label']}{_remark(row)}")
    if note := _note(models[0], has_classes, has_measured):
        echo("", err=True)
        echo(note, err=True)


def _rows(info: "ModelInfo") -> tuple[list[dict[str, Any]], bool, bool]:
    """What is told of each label, and then of each class that can be named; whether there are classes; and whether it
    is known how well they are heard.
    """
    from tagger.checkpoints.classes import MODEL, THRESHOLD, thresholds_of
    from tagger.checkpoints.joint import models_of
    from tagger.checkpoints.named import choosable, seconded

    classes, part = choosable(info), seconded(info)
    measured = thresholds_of(part) if part is not None else {}
    deciders = models_of(info) or (info.name,) * len(info.labels)
    rows: list[dict[str, Any]] = [
        {"label": label, "model": model, "enter": round(enter, 4)}
        for label, model, enter in zip(info.labels, deciders, info.thresholds, strict=True)
    ]
    for name, means in classes.items():
        known = measured.get(name)
        rows.append(
            {
                "label": name,
                "model": MODEL,
                "enter": THRESHOLD,
                "means": list(means),
                "recall": None if known is None else known.recall,
                "recordings": 0 if known is None else known.recordings,
            }
        )
    return rows, bool(classes), bool(measured)


def _note(model: str, has_classes: bool, has_measured: bool) -> str:
    """What to know of the classes, behind the list. Empty: nothing."""
    from tagger.checkpoints.classes import PER_HOUR

    if not has_classes:
        return (
            "AudioSet's 527 classes can be named too, with a model that has a second opinion: `tagger models opinion "
            f"{model}` makes one (docs/classes.md)"
        )
    if has_measured:
        return (
            f"audioset: announced only where settings name it; thresholds aim at {PER_HOUR:g} false alarms an hour "
            "each. heard: share of recordings of the sound that are announced, where there were any (docs/classes.md)"
        )
    return ""


def _remark(row: dict[str, Any]) -> str:
    """What is known of a class, in brackets. Empty: nothing, as of every label."""
    found = []
    if row.get("means"):
        found.append(f"means {', '.join(row['means'])}")
    if row.get("recall") is not None:
        found.append(f"heard {row['recall']:.0%} of {row['recordings']}")
    return f"  ({'; '.join(found)})" if found else ""
