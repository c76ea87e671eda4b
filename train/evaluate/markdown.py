"""Report of a training or an evaluation as Markdown. The other files of a report: `train.evaluate.report`."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tagger.printable import number_of
from train.curve import Epoch
from train.evaluate import intervals, metrics, plots
from train.evaluate.categories import categories
from train.evaluate.predictions import NO_LABEL, Predictions

_WORST = 10
_CLIPS_NAMED = 6


def markdown_of(
    title: str,
    p: Predictions | None,
    results: dict[str, Any] | None,
    curves: Mapping[str, Sequence[Epoch]],
    facts: Mapping[str, Any],
    marks: Sequence[str],
    chosen: Mapping[str, int],
    pictures: Sequence[str],
    no_pictures: str | None,
) -> Iterator[str]:
    """Lines of `report.md`. The other arguments are those of `train.evaluate.report.write`.

    Args:
        results: measures of the predictions, as `report.json` has them.
        facts: as JSON has them.
        pictures: names of the files that were drawn.
        no_pictures: why none was drawn.
    """

    def picture(name: str, text: str) -> Iterator[str]:
        if name in pictures:
            yield from (f"![{text}]({name})", "")

    yield from (f"# {_line(title)}", "")
    for mark in marks:
        yield from (f"> **WARNING: {_line(mark)}**", "")
    if p is not None and results is not None:
        yield from _headline(p, results)
    yield from (_MEANINGS[p is not None, bool(curves)], "")
    if no_pictures is not None:
        yield from (no_pictures, "")
    if announcements := facts.get("announcements"):
        yield from ("## Announcements where none of the labels sounds", "")
        yield from (f"- {_line(each)}" for each in announcements)
        yield ""
    if p is not None and p.known.clips:
        yield from _folds(p)
        yield from _categories(p)
        yield from _labels(p)
        yield from picture(plots.RECALLS, "Share of each label's clips that were found")
        yield from _pairs(p)
        yield from picture(plots.CONFUSION, "Every label against what was said")
        if plots.RELIABILITY in pictures:
            yield from ("## Calibration", "")
        yield from picture(plots.RELIABILITY, "Confidence against accuracy")
    if curves:
        yield from _curves(curves, chosen)
        yield from picture(plots.LEARNING_CURVES, "Loss and accuracy after each epoch")
    if facts:
        yield from ("## Made with", "")
        rows = ([name, _code(value)] for name, value in _flat(facts))
        yield from _table(["what", "value"], rows)
    if p is not None:
        yield "Every clip is in [predictions.csv](predictions.csv), every number in [report.json](report.json)."
    else:
        yield "Every number is in [report.json](report.json)."


_TRAIN = (
    "**Train**: the clips that weights were fitted to; loss and accuracy are of what the network was fed, augmented "
    "and with dropout, so they may be worse than validation's. **Inner validation**: clips that no weight was fitted "
    "to, but that decisions were made on, such as which epoch to keep; too kind for a result."
)
_TEST = "**Test**: the clips that {}, each scored once; {}, unless a warning above says otherwise."
_MEANINGS = {
    (
        True,
        True,
    ): f"{_TRAIN} {_TEST.format('all other numbers here are of', 'nothing was fitted to or decided on them')}",
    (True, False): _TEST.format("all numbers here are of", "the network was not trained or chosen on them"),
    (False, True): f"{_TRAIN} **Test**: none; this is a training without a result.",
    (False, False): "Neither predictions nor epochs were given.",
}


def _headline(p: Predictions, found: dict[str, Any]) -> Iterator[str]:
    rows = []
    if len(p.labels) == 1 and found["clips"]:
        rows.append(["accuracy", f"means nothing: {p.labels[0]} is the only label, so it is right of all clips"])
        rows.append(["clips", str(found["clips"])])
    elif found["clips"]:
        method = "bootstrap" if 0 < found["right"] < found["clips"] else "exact"
        low, high = found["accuracy_interval_95"]
        recordings = "clips" if found["recordings"] == found["clips"] else number_of(found["recordings"], "recording")
        if found["accuracy_std"] is not None:
            several = number_of(len(found["accuracy_by_fold"]), "fold")
            mean_std = f"{100 * found['accuracy_mean']:.2f} ± {100 * found['accuracy_std']:.2f}"
            rows.append([f"accuracy, mean ± standard deviation over {several}", f"**{mean_std} %**"])
        rows += [
            ["accuracy, all clips", f"**{_percent(found['accuracy'])}** ({found['right']} of {found['clips']})"],
            ["its 95 % interval", f"{100 * low:.1f} to {100 * high:.1f} % ({method}, over {recordings})"],
            [f"calibration error (ECE, {metrics.BINS} bins)", _percent(found["calibration_error"])],
            ["mean confidence", _percent(found["mean_confidence"])],
            ["mean average precision", f"{found['mean_average_precision']:.4f}"],
        ]
    else:
        rows.append(["accuracy", "none: no clip of a label"])
    if found["background"]:
        scores = p.only(p.targets == NO_LABEL).confidence
        half, most = np.quantile(scores, [0.5, 0.95])
        rows.append(["clips of none of the labels", f"{len(scores)}, not in the numbers above but average precision"])
        rows.append(["their highest scores", f"half below {half:.2f}, 95 % below {most:.2f}"])
    yield from _table(["test", "result"], rows)


def _folds(p: Predictions) -> Iterator[str]:
    by_fold = metrics.accuracy_by_fold(p)
    if len(by_fold) < 2:
        return
    rows = []
    for fold, accuracy in by_fold.items():
        part = p.known.of_fold(fold)
        low, high = metrics.accuracy_interval(part)
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        error = f"{100 * metrics.calibration_error(part):.2f}"
        rows.append([str(fold), str(len(part.clips)), f"{100 * accuracy:.2f}", interval, error])
    yield from ("## Folds", "")
    yield from _table(["test fold", "clips", "accuracy, %", "95 % interval", "ECE, %"], rows)


def _categories(p: Predictions) -> Iterator[str]:
    found = metrics.per_category(p)
    if len(set(categories(p.labels))) < 2:
        return
    yield from ("## Categories", "")
    yield from _table(
        ["category", "labels", "clips", "right label, %", "right category, %"],
        [
            [
                each.category,
                str(each.labels),
                str(each.clips),
                f"{100 * each.accuracy:.2f}",
                f"{100 * each.category_accuracy:.2f}",
            ]
            for each in found
        ],
    )


def _labels(p: Predictions) -> Iterator[str]:
    yield from ("## Labels", "")
    missed = [label for label in metrics.per_label(p) if label.recall is not None and label.recall < 1]
    if not missed:
        yield from ("Every clip was found.", "")
        return
    missed.sort(key=lambda label: label.recall or 0.0)
    if len(missed) > _WORST:
        yield from (f"The {_WORST} that were missed most.", "")
    yield from _table(
        ["label", "clips", "recall, % (95 % interval)", "precision, %", "F1", "average precision"],
        [
            [
                _code(each.label),
                str(each.support),
                _optional(each.recall, "{:.1f}", 100) + _within(each.right, each.support),
                _optional(each.precision, "{:.1f}", 100),
                _optional(each.f1, "{:.3f}"),
                _optional(each.average_precision, "{:.3f}"),
            ]
            for each in missed[:_WORST]
        ],
    )


def _pairs(p: Predictions) -> Iterator[str]:
    pairs = metrics.most_confused(p, _WORST)
    if not pairs:
        return
    rows = []
    for each in pairs:
        clips = ", ".join(map(_code, each.clips[:_CLIPS_NAMED]))
        more = each.count - _CLIPS_NAMED
        rows.append([_code(each.true), _code(each.said), str(each.count), clips + (f" and {more} more" * (more > 0))])
    yield from ("## Confused most", "")
    yield from _table(["truth", "said", "clips", "which"], rows)


def _curves(curves: Mapping[str, Sequence[Epoch]], chosen: Mapping[str, int]) -> Iterator[str]:
    rows = []
    for name, epochs in curves.items():
        kept = next((each for each in epochs if each.epoch == chosen.get(name)), epochs[-1])
        last = epochs[-1]
        rows.append(
            [
                _line(name),
                str(len(epochs)),
                str(kept.epoch),
                _optional(kept.train_loss, "{:.3f}"),
                _optional(kept.validation_loss, "{:.3f}"),
                _optional(last.validation_loss, "{:.3f}"),
                _optional(kept.train_accuracy, "{:.2f}", 100),
                _optional(kept.validation_accuracy, "{:.2f}", 100),
                _optional(last.validation_accuracy, "{:.2f}", 100),
                f"{sum(each.seconds for each in epochs) / 60:.1f}",
            ]
        )
    yield from ("## Training", "")
    header = ["curve", "epochs", "kept epoch"]
    header += [f"{what} {when}" for what in ("loss:", "accuracy, %:") for when in ("train", "inner", "inner, last")]
    yield from _table([*header, "minutes"], rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values; facts within facts get names with dots."""
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
            yield _line(prefix + key), ", ".join(map(str, value))
        else:
            yield _line(prefix + key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _optional(value: float | None, shape: str, factor: float = 1) -> str:
    return "–" if value is None or not math.isfinite(value) else shape.format(factor * value)


def _within(count: int, of: int) -> str:
    """The 95 % interval of a share, per cent."""
    low, high = intervals.of_share(count, of)
    return f" ({100 * low:.0f} to {100 * high:.0f})"


def _line(text: str) -> str:
    """The text on one line, escaped for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    """The text as code, for a cell of a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`" if text else ""
