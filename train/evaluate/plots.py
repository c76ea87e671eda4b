"""Pictures of a report: learning curves, confusions, recalls, reliability."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tagger import figures
from tagger.figures import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY, shortened
from tagger.printable import number_of
from train.evaluate import intervals, metrics
from train.evaluate.categories import categories
from train.evaluate.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from train.curve import Epoch

LEARNING_CURVES, CONFUSION, RECALLS, RELIABILITY = NAMES = (
    "learning_curves.png",
    "confusion.png",
    "recall.png",
    "reliability.png",
)
MOST_LABELS = 100
"""Most labels in one picture; of more, those with most mistakes are drawn."""
_DOTS_PER_INCH = 110
_CATEGORIES = (BLUE, GREEN, ORANGE, PURPLE, RED, SKY)
_GREY = "#8C8C8C"
STYLE: Mapping[str, Any] = {
    "axes.titlesize": 12,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
"""Changes of `tagger.figures.style`."""


def write(
    folder: Path, predictions: Predictions | None, curves: Mapping[str, Sequence["Epoch"]], chosen: Mapping[str, int]
) -> tuple[str, ...]:
    """Draws every picture that there is data for; returns the files' names.

    Raises:
        ImportError: matplotlib is not installed.
    """
    drawn: dict[str, Callable[[], Figure]] = {}
    if curves:
        drawn[LEARNING_CURVES] = lambda: learning_curves(curves, chosen)
    if predictions is not None and predictions.known.clips:
        drawn[CONFUSION] = lambda: confusion(predictions)
        drawn[RECALLS] = lambda: recalls(predictions)
        drawn[RELIABILITY] = lambda: reliability(predictions)
    for name, draw in drawn.items():
        figures.save(folder / name, draw, _DOTS_PER_INCH, STYLE)
    return tuple(drawn)


def learning_curves(curves: Mapping[str, Sequence["Epoch"]], chosen: Mapping[str, int]) -> "Figure":
    """Loss and accuracy of training and inner validation: curves thin, their mean thick, kept epochs marked."""
    from matplotlib.ticker import MaxNLocator

    last = max(epochs[-1].epoch for epochs in curves.values())
    figure = _figure(11, 5)
    loss, accuracy = figure.subplots(1, 2)
    averaged = any(epoch.ema_loss is not None for epochs in curves.values() for epoch in epochs)
    marked = "inner validation, averaged weights" if averaged else "inner validation"
    for axes, what, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        for name, field, colour in (
            ("train, augmented", f"train_{what}", BLUE),
            ("inner validation", f"inner_{what}", ORANGE if averaged else RED),
            ("inner validation, averaged weights", f"ema_{what}", RED),
        ):
            rows = {key: _series(epochs, field, factor) for key, epochs in curves.items()}
            rows = {key: row for key, row in rows.items() if row}
            thick = {"color": colour, "linewidth": 2.4, "label": name}
            thin = thick if len(rows) == 1 else {"color": colour, "linewidth": 0.8, "alpha": 0.5}
            for key, row in rows.items():
                axes.plot(*_columns(row), marker="." if len(row) == 1 else None, **thin)
                if name == marked and chosen.get(key) in row:
                    axes.plot(chosen[key], row[chosen[key]], "o", color=colour, markeredgecolor=INK, zorder=5)
            if len(rows) > 1:
                axes.plot(*_columns(_mean(list(rows.values()))), **thick)
        axes.set_xlabel("epoch")
        axes.grid(True, alpha=0.3)
        axes.set_xlim(0, max(1.02 * last, last + 0.3))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    loss.set_title("Loss")
    _stretch_loss(loss, curves)
    accuracy.set_title("Accuracy, %")
    _stretch_accuracy(accuracy, curves)
    if any(chosen.get(name) for name in curves):
        loss.plot([], [], "o", color="white", markeredgecolor=INK, label="kept epoch")
    if len(curves) > 1:
        loss.plot([], [], color=_GREY, linewidth=0.8, label=f"each of {len(curves)} trainings; thick: their mean")
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def confusion(p: Predictions) -> "Figure":
    """Confusion matrix: truth by row, prediction by column; lines between categories. Single confusions are visible."""
    from matplotlib import colormaps

    shown = shown_labels(p)
    counts = metrics.confusion(p)[np.ix_(shown, shown)]
    support = np.bincount(p.known.targets, minlength=len(p.labels))[shown]
    n = len(shown)
    # Right and wrong in scales of their own: the diagonal by recall, the rest by the root of the count.
    recall = np.diagonal(counts) / np.maximum(support, 1)
    wrong = counts - np.diag(np.diagonal(counts))
    shade = np.where(wrong > 0, 0.18 + 0.62 * np.sqrt(wrong / max(5, wrong.max())), 0)
    colours = np.where(wrong[..., None] > 0, colormaps["Oranges"](shade), 1.0)[..., :3]
    diagonal = np.arange(n)
    colours[diagonal, diagonal] = np.where(support[:, None] > 0, colormaps["Blues"](0.12 + 0.68 * recall)[:, :3], 1.0)

    side = max(3.6, 0.29 * n)
    figure = _figure(side + 2.8, side + 2.6)
    axes = figure.subplots()
    axes.imshow(colours, interpolation="nearest")
    size = 11.0 if n < 12 else 7.5
    filled = counts + np.diag(support) > 0
    for i, j in np.argwhere(filled).tolist():
        ink = "white" if colours[i, j] @ (0.299, 0.587, 0.114) < 0.55 else INK
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=size, color=ink)
    names = [shortened(p.labels[i]) for i in shown]
    axes.set_xticks(diagonal, names, rotation=90)
    axes.set_yticks(diagonal, names)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(True, which="minor", color="#E6E6E6", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("said")
    axes.set_ylabel("truth")
    of_label = categories(p.labels)
    _separate(axes, [of_label[i] for i in shown])
    right, clips = int(p.known.right.sum()), len(p.known.clips)
    few = f"; the {n} of {len(p.labels)} labels with most mistakes" if n < len(p.labels) else ""
    axes.set_title(
        f"{right} of {number_of(clips, 'clip')} right (blue), {clips - right} wrong (orange){few}", loc="left", pad=10
    )
    return figure


def recalls(p: Predictions) -> "Figure":
    """Recall of each label with its exact 95 % interval, lowest first, coloured by category."""
    from matplotlib.patches import Patch

    found = metrics.per_label(p)
    of_label = categories(p.labels)
    colour = dict(zip(dict.fromkeys(of_label), _CATEGORIES, strict=False))
    shown = sorted((i for i in shown_labels(p) if found[i].support), key=lambda i: found[i].recall or 0.0)
    figure = _figure(9, 1.6 + 0.21 * max(3, len(shown)))
    axes = figure.subplots()
    rows = np.arange(len(shown))
    shares = [100 * (found[i].recall or 0.0) for i in shown]
    axes.barh(rows, shares, height=0.72, color=[colour[of_label[i]] for i in shown])
    bars = _error_bars([(found[i].right, found[i].support) for i in shown], 100)
    axes.errorbar(shares, rows, xerr=bars, fmt="none", ecolor=INK, elinewidth=0.9, capsize=1.5)
    for row, i in enumerate(shown):
        axes.text(101.5, row, f"{found[i].right} of {found[i].support}", va="center", fontsize=8, color=INK)
    axes.set_yticks(rows, [shortened(p.labels[i]) for i in shown])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 111)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(True, axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    mean = 100 * metrics.accuracy(p)
    axes.axvline(mean, color=INK, linewidth=1, linestyle="--")
    axes.set_xlabel(f"recall, % (dashed: {mean:.1f}, all clips), and its 95 % interval")
    few = f", the {len(shown)} labels with most mistakes" if len(shown_labels(p)) < len(p.labels) else ""
    axes.set_title(f"Clips that were found, of each label{few}", loc="left")
    if len(colour) > 1:
        handles = [Patch(color=each, label=name) for name, each in colour.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def reliability(p: Predictions) -> "Figure":
    """Accuracy against confidence; below it, the number of clips of each confidence."""
    bins = metrics.reliability(p)
    figure = _figure(6.5, 7)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.2])
    left = np.array([each.low for each in bins])
    width = np.array([each.high - each.low for each in bins])
    share = np.array([each.accuracy for each in bins])
    sure = np.array([each.confidence for each in bins])
    count = np.array([each.count for each in bins])
    upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="as often right as it says")
    upper.bar(left, share, width, align="edge", color=SKY, edgecolor="white", label="accuracy", zorder=0)
    counted = [(round(each.accuracy * each.count), each.count) for each in bins]
    spread = _error_bars(counted, 1)
    upper.errorbar(sure, share, spread, fmt="none", ecolor=_GREY, elinewidth=1, capsize=2, label="its 95 % interval")
    upper.vlines(sure, np.minimum(share, sure), np.maximum(share, sure), color=RED, linewidth=2.5, label="difference")
    upper.plot(sure, share, "o", color=BLUE, markersize=5, label="at the mean confidence")
    upper.set_ylim(0, 1.03)
    upper.set_ylabel("accuracy")
    error, mean = metrics.calibration_error(p), metrics.accuracy(p)
    confidence = float(p.known.confidence.mean())
    upper.set_title(f"ECE {100 * error:.1f} %; confidence {100 * confidence:.1f} %, accuracy {100 * mean:.1f} %")
    lower.bar(left, count, width, align="edge", color=BLUE, edgecolor="white")
    for x, n in zip(left + width / 2, count, strict=True):
        lower.text(x, n * 1.1, str(n), ha="center", va="bottom", fontsize=8)
    lower.set_yscale("log")
    lower.set_ylim(0.7, 4 * count.max())
    _plain_ticks(lower, (1,))
    lower.set_ylabel("clips")
    lower.set_xlabel("confidence: the highest score")
    lower.set_xlim(0, 1)
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _error_bars(counts: Sequence[tuple[int, int]], factor: float) -> NDArray[np.float64]:
    """[2, N]: from each share down and up to the ends of its 95 % interval.

    Args:
        counts: number that is right, and number of all, for each share.
    """
    ends = [(count / of, *intervals.of_share(count, of)) for count, of in counts]
    bars = [(max(0.0, share - low), max(0.0, high - share)) for share, low, high in ends]
    return factor * np.array(bars).reshape(-1, 2).T


def _stretch_loss(axes: "Axes", curves: Mapping[str, Sequence["Epoch"]]) -> None:
    """Draws losses that fall far on a logarithmic scale, so that their ends can be read."""
    fields = ("train_loss", "inner_loss", "ema_loss")
    values = [v for epochs in curves.values() for field in fields for v in _series(epochs, field, 1).values()]
    if values and min(values) > 0 and max(values) > 5 * min(values):
        axes.set_yscale("log")
        _plain_ticks(axes, (1, 2, 3, 5))
        axes.set_title("Loss, logarithmic")
    else:
        axes.set_ylim(0, 1.05 * max(values, default=1) or 1)


def _stretch_accuracy(axes: "Axes", curves: Mapping[str, Sequence["Epoch"]]) -> None:
    """Cuts off the low accuracies of the first fifth of a training."""
    fields = ("train_accuracy", "inner_accuracy", "ema_accuracy")
    rows = [_series(epochs, field, 100) for epochs in curves.values() for field in fields]
    later = [value for row in rows for epoch, value in row.items() if epoch > max(row) / 5]
    if later and max(max(row, default=0) for row in rows) >= 10:
        axes.set_ylim(max(0, min(later) - 3), min(101, axes.get_ylim()[1]))


def _plain_ticks(axes: "Axes", digits: tuple[int, ...]) -> None:
    """Labels a logarithmic axis with numbers, not with powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.yaxis.set_major_locator(LogLocator(subs=digits, numticks=99))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def shown_labels(p: Predictions) -> NDArray[np.intp]:
    """Indices of the labels that a picture has room for, in order."""
    counts = metrics.confusion(p)
    mistakes = counts.sum(0) + counts.sum(1) - 2 * np.diagonal(counts)
    return np.sort(np.argsort(-mistakes, kind="stable")[:MOST_LABELS])


def _separate(axes: "Axes", categories: list[str]) -> None:
    """Draws lines between categories, and their names on the right, if there are several."""
    starts = [i for i, name in enumerate(categories) if i == 0 or name != categories[i - 1]]
    if len(starts) < 2:
        return
    for start, end in zip(starts, [*starts[1:], len(categories)], strict=True):
        if start:
            axes.axhline(start - 0.5, color=INK, linewidth=1.2)
            axes.axvline(start - 0.5, color=INK, linewidth=1.2)
        middle, name = (start + end - 1) / 2, categories[start]
        axes.text(len(categories) - 0.1, middle, name, rotation=-90, ha="left", va="center", fontsize=11)


def _series(epochs: Sequence["Epoch"], field: str, factor: float) -> dict[int, float]:
    """A column of the learning curve, by epoch; only epochs in which it was measured."""
    found = ((each.epoch, getattr(each, field)) for each in epochs)
    return {epoch: factor * value for epoch, value in found if value is not None and math.isfinite(value)}


def _mean(rows: Sequence[dict[int, float]]) -> dict[int, float]:
    """Mean over the epochs that all rows have: after a row's end, the mean of the others would jump."""
    shared = sorted(set.intersection(*[set(row) for row in rows]))
    return {epoch: sum(row[epoch] for row in rows) / len(rows) for epoch in shared}


def _columns(row: dict[int, float]) -> tuple[list[int], list[float]]:
    return list(row), list(row.values())


def _figure(width: float, height: float) -> "Figure":
    """An empty figure of this size, inches."""
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")
