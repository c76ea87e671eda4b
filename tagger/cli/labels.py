"""The command `tagger labels`."""

import json
from typing import Any

import click

from tagger.cli.common import model_option
from tagger.errors import UserError, near
from tagger.printable import echo, echo_lines


@click.command("labels")
@click.argument("words", nargs=-1, metavar="[WORD]...")
@model_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each label.")
def labels(words: tuple[str, ...], models: tuple[str, ...], as_json: bool) -> None:
    """List the labels of a model, and the classes of its second opinion that can be named.

    With WORDs: only those that are called so, or have these words in their name. What is listed below `audioset` is
    announced only where settings name it, in --allow, events.allow, [events.labels] or a source's labels.
    """
    from tagger.checkpoints.classes import MODEL, PER_HOUR, THRESHOLD, thresholds_of
    from tagger.checkpoints.joint import joined, models_of
    from tagger.checkpoints.named import choosable, seconded
    from tagger.engine.runtime import described
    from tagger.words import fits

    info = joined([described(model)[1] for model in models])
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
    if not classes:
        echo("", err=True)
        echo(
            f"AudioSet's 527 classes can be named too, with a model that has a second opinion: `tagger models opinion "
            f"{models[0]}` makes one (docs/classes.md)",
            err=True,
        )
    elif measured:
        echo("", err=True)
        echo(
            f"audioset: announced only where settings name it; thresholds aim at {PER_HOUR:g} false alarms an hour "
            "each. heard: share of recordings of the sound that are announced, where there were any (docs/classes.md)",
            err=True,
        )


def _remark(row: dict[str, Any]) -> str:
    found = []
    if row.get("means"):
        found.append(f"means {', '.join(row['means'])}")
    if row.get("recall") is not None:
        found.append(f"heard {row['recall']:.0%} of {row['recordings']}")
    return f"  ({'; '.join(found)})" if found else ""
