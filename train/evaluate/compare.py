"""Two or more models on the same clips: one table, with the uncertainty of each number and of each difference.

A difference is paired: only clips that one model has right and the other wrong tell the models apart.
"""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagger.files import replacing
from tagger.printable import number_of
from train.evaluate import metrics
from train.evaluate.predictions import NO_LABEL, Predictions

_DRAWS = 10_000


@dataclass(frozen=True)
class Difference:
    """How much more often the second model is right than the first, on the same clips."""

    accuracy: float
    """Second minus first, -1 to 1."""
    interval: tuple[float, float]
    """95 % interval of it (`paired_interval`)."""
    only_first: int
    """Number of clips that only the first model has right."""
    only_second: int
    p_value: float
    """McNemar's exact test (`train.evaluate.metrics.mcnemar`)."""

    def __str__(self) -> str:
        low, high = self.interval
        lost, gained = self.only_first, self.only_second
        return (
            f"{100 * self.accuracy:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}), p {p_in_words(self.p_value)}: "
            f"{number_of(gained, 'clip')} gained, {lost} lost"
        )


def difference(p: Predictions, q: Predictions) -> Difference:
    """
    Raises:
        ValueError: the clips or their labels are not the same, or there are none.
    """
    test = metrics.mcnemar(p, q)
    clips = len(p.known.clips)
    return Difference(
        (test.only_second - test.only_first) / clips,
        paired_interval(p, q),
        test.only_first,
        test.only_second,
        test.p_value,
    )


def paired_interval(p: Predictions, q: Predictions, seed: int = 0, draws: int = _DRAWS) -> tuple[float, float]:
    """95 % interval of the difference in accuracy, q's minus p's: percentile bootstrap of paired differences.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. Recordings are drawn, with all of their
    clips and both models' results, because clips of one recording are not independent. Where the models differ in no
    recording, or in all of them alike, every draw is the same, however few there are. Then the exact limit of Clopper
    and Pearson (1934) is used, for the share of recordings in which they may differ otherwise.

    Raises:
        ValueError: the clips are not the same.
    """
    right = dict(zip(q.known.clips, q.known.right.tolist(), strict=True))
    of_recording: dict[str, list[int]] = defaultdict(list)
    for clip, before in zip(p.known.clips, p.known.right.tolist(), strict=True):
        if clip not in right:
            raise ValueError("only predictions of the same clips can be compared")
        of_recording[metrics.recording(clip)].append(int(right[clip]) - int(before))
    n = len(of_recording)
    shares = {sum(each) / len(each) for each in of_recording.values()}
    if len(shares) == 1 and shares <= {-1.0, 0.0, 1.0}:
        (share,) = shares
        other = 1 - 0.025 ** (1 / n)
        return max(-1.0, share - other * (1 + abs(share))), min(1.0, share + other * (1 + abs(share)))
    kinds = Counter((sum(each), len(each)) for each in of_recording.values())
    times = np.random.default_rng(seed).multinomial(n, [count / n for count in kinds.values()], draws)
    differences, clips = np.array(list(kinds)).T
    low, high = np.quantile(times @ differences / (times @ clips), [0.025, 0.975])
    return float(low), float(high)


def rows(models: Mapping[str, Predictions]) -> list[list[str]]:
    """The table: a header, and a row for each model; every model but the first is compared with the first."""
    names = list(models)
    first = models[names[0]]
    found = [["model", "accuracy", "95 % interval", "calibration error", f"against {names[0]}"]]
    for name, p in models.items():
        low, high = metrics.accuracy_interval(p)
        against = "" if p is first else str(difference(first, p))
        accuracy = f"{100 * metrics.accuracy(p):.2f} %"
        error = f"{100 * metrics.calibration_error(p):.2f} %"
        found.append([name, accuracy, f"{100 * low:.1f} to {100 * high:.1f} %", error, against])
    return found


def explained(models: Mapping[str, Predictions]) -> Iterator[str]:
    """What the table's numbers are."""
    p = next(iter(models.values())).known
    recordings = len({metrics.recording(clip) for clip in p.clips})
    folds = ", ".join(str(fold) for fold in sorted(set(p.folds.tolist())))
    yield f"{number_of(len(p.clips), 'clip')} of fold {folds}, the same for each model"
    yield (
        f"difference: 95 % interval by paired bootstrap over the {recordings} recordings (Efron and Tibshirani 1993); "
        "p: McNemar's exact test over clips (1947)"
    )


def write(
    folder: Path, title: str, models: Mapping[str, Predictions], marks: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Writes `comparison.md`, `comparison.json` and `comparison.csv`, with a row for each clip."""
    names = list(models)
    first = models[names[0]]
    document = {
        "title": title,
        "marks": list(marks),
        "facts": dict(facts),
        "models": {
            name: {
                "clips": len(p.known.clips),
                "accuracy": metrics.accuracy(p),
                "accuracy_interval_95": metrics.accuracy_interval(p),
                "accuracy_by_fold": metrics.accuracy_by_fold(p),
                "calibration_error": metrics.calibration_error(p),
                "against_first": None if p is first else asdict(difference(first, p)),
            }
            for name, p in models.items()
        },
    }
    with replacing(folder / "comparison.json") as partial:
        partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    with replacing(folder / "comparison.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(_clips(models))
    with replacing(folder / "comparison.md") as partial:
        partial.write_text("\n".join(_markdown(title, models, marks, facts)) + "\n", "utf-8")


def aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """The table's rows in columns, for a terminal."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _markdown(
    title: str, models: Mapping[str, Predictions], marks: Sequence[str], facts: Mapping[str, Any]
) -> Iterator[str]:
    yield from (f"# {title}", "", f"`{facts['command']}`", "")
    yield from (f"> **WARNING: {mark}**\n" for mark in marks)
    header, *body = rows(models)
    yield from (row(header), f"|{'---|' * len(header)}", *map(row, body), "")
    yield from (f"- {line}" for line in explained(models))
    by_fold = {name: metrics.accuracy_by_fold(p) for name, p in models.items()}
    folds = list(next(iter(by_fold.values())))
    if len(folds) > 1:
        yield from ("", "## Folds", "", row(["accuracy, %", *(f"fold {fold}" for fold in folds)]))
        yield f"|{'---|' * (1 + len(folds))}"
        yield from (row([name, *(f"{100 * of[fold]:.2f}" for fold in folds)]) for name, of in by_fold.items())
    yield from ("", "Every clip is in [comparison.csv](comparison.csv).")


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _clips(models: Mapping[str, Predictions]) -> Iterator[list[object]]:
    """A header, and a row for each clip: what each model said, and whether that was right."""
    yield ["clip", "fold", "truth", *(f"{what} {name}" for name in models for what in ("said by", "right:"))]
    first = next(iter(models.values()))
    place = [{clip: row for row, clip in enumerate(p.clips)} for p in models.values()]
    for row, (clip, fold, target) in enumerate(zip(first.clips, first.folds, first.targets, strict=True)):
        if target == NO_LABEL:
            continue
        cells: list[object] = [clip, int(fold), first.labels[first.targets[row]]]
        for p, row_of in zip(models.values(), place, strict=True):
            mine = row_of[clip]
            cells += [p.labels[p.said[mine]], int(p.right[mine])]
        yield cells


def p_in_words(value: float) -> str:
    """
    >>> p_in_words(0.00004), p_in_words(0.049), p_in_words(0.3456)
    ('< 0.001', '0.049', '0.35')
    """
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
