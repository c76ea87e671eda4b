"""What was found in a stream against what there was, drawn: over time, and over thresholds.

By matplotlib's object interface. It is imported only when something is drawn.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.files import replacing
from train.evaluate.detection import Found, Point, belongs
from train.evaluate.soundscape import Annotation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _DOTS_PER_INCH = 12.8, 110
"""1,408 dots."""
_MOST_LETTERS = 28
"""Of a label."""
_NAMED_POINTS = 6
"""Thresholds that are written at a curve."""

# Okabe and Ito, "Color Universal Design" (2008): told apart also by people who do not see all colours.
_BLUE, _GREEN, _RED, _ORANGE, _PURPLE, _SKY = "#0072B2", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#56B4E9"
_INK, _STRIPE = "#222222", "#F4F4F4"


def write(
    path: Path,
    truth: Sequence[Annotation],
    found: Sequence[Found],
    stretch_s: tuple[float, float],
    title: str,
) -> None:
    """A stretch of a stream, as a PNG: a row for each label that occurs; above, its sounds; below, its events.

    Args:
        stretch_s: where it begins and ends, seconds of the stream.

    Raises:
        ImportError: matplotlib is not there.
        ValueError: the stretch ends before it begins.
    """
    if not stretch_s[0] < stretch_s[1]:
        raise ValueError(f"a stretch of {stretch_s[0]:g} to {stretch_s[1]:g} s has no length")
    _save(path, lambda: timeline(truth, found, stretch_s, title))


def write_curves(path: Path, curves: Mapping[str, Sequence[Point]]) -> None:
    """False alarms against missed sounds over thresholds, as a PNG; a curve for each name.

    Raises:
        ImportError: matplotlib is not there.
    """
    _save(path, lambda: tradeoff(curves))


def timeline(
    truth: Sequence[Annotation], found: Sequence[Found], stretch_s: tuple[float, float], title: str
) -> "Figure":
    """See `write`. False alarms, as `train.evaluate.detection.false_alarms` counts them, are of another colour."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    low, high = stretch_s
    sounds = [each for each in truth if each.onset_s < high and each.offset_s > low]
    events = [each for each in found if each.onset_s < high and max(each.offset_s, each.published_s) > low]
    onsets = [(each.onset_s, each.label) for each in sounds] + [(each.onset_s, each.label) for each in events]
    labels = list(dict.fromkeys(label for _, label in sorted(onsets)))
    row = {label: i for i, label in enumerate(labels)}
    figure = Figure((_WIDTH, 1.7 + 0.36 * max(2, len(labels))), layout="constrained")
    axes = figure.subplots()
    for i in range(0, len(labels), 2):
        axes.axhspan(i - 0.5, i + 0.5, color=_STRIPE, linewidth=0, zorder=0)
    for sound in sounds:
        _bar(axes, row[sound.label] - 0.2, sound.onset_s, sound.offset_s, _BLUE)
    for event in events:
        right = any(event.label == sound.label and belongs(event, sound) for sound in truth)
        _bar(axes, row[event.label] + 0.2, event.onset_s, event.offset_s, _GREEN if right else _RED)
    published = [(event.published_s, row[event.label]) for event in events if low <= event.published_s <= high]
    axes.vlines(
        [time for time, _ in published],
        [i + 0.02 for _, i in published],
        [i + 0.44 for _, i in published],
        color=_INK,
        linewidth=1.8,
        zorder=4,
    )
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.set_xlim(low, high)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color="#D8D8D8", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("seconds")
    axes.set_title(title, loc="left")
    if not labels:
        axes.text((low + high) / 2, 0, "no sound, no event", ha="center", va="center", color=_INK)
    handles = [
        Patch(color=_BLUE, label="sound"),
        Patch(color=_GREEN, label="event"),
        Patch(color=_RED, label="false alarm"),
        Line2D(
            [],
            [],
            color=_INK,
            linewidth=1.8,
            label="published",
            marker="|",
            linestyle="",
            markersize=11,
            markeredgewidth=1.8,
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def tradeoff(curves: Mapping[str, Sequence[Point]]) -> "Figure":
    """See `write_curves`."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure((_WIDTH * 0.7, 5.6), layout="constrained")
    axes = figure.subplots()
    colours = (_BLUE, _RED, _GREEN, _PURPLE, _ORANGE, _SKY)
    for i, (name, points) in enumerate(curves.items()):
        colour = colours[i % len(colours)]
        across, up = [p.false_alarms_per_hour for p in points], [100 * p.missed for p in points]
        axes.plot(across, up, ".-", color=colour, linewidth=1.8, markersize=7, label=name, clip_on=False, zorder=3)
        for point in points[:: max(1, -(-len(points) // _NAMED_POINTS))]:
            axes.annotate(
                f"{point.threshold:g}",
                (point.false_alarms_per_hour, 100 * point.missed),
                (5, 5),
                textcoords="offset points",
                fontsize=8,
                color=colour,
            )
    # Straight below one an hour, where there may be none; logarithmic above.
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    axes.grid(True, color="#D8D8D8", linewidth=0.6)
    axes.set_xlabel("false alarms an hour")
    axes.set_ylabel("sounds missed, %")
    axes.set_title("False alarms against missed sounds; numbers are thresholds", loc="left")
    if len(curves) > 1:
        axes.legend()
    return figure


def _bar(axes: "Axes", middle: float, onset_s: float, offset_s: float, colour: str) -> None:
    axes.barh(middle, offset_s - onset_s, 0.34, onset_s, color=colour, edgecolor=colour, linewidth=1.2, zorder=3)


def _short(label: str) -> str:
    return label if len(label) <= _MOST_LETTERS else f"{label[: _MOST_LETTERS - 1]}…"


def _save(path: Path, draw: Callable[[], "Figure"]) -> None:
    """The same picture whatever the user's matplotlibrc says; labels are text, not mathematics."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "axes.spines.right": False,
                "axes.spines.top": False,
                "axes.titlesize": 12,
                "font.size": 10,
                "legend.frameon": False,
                "legend.fontsize": 9,
                "text.parse_math": False,
            }
        )
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a script that the font has no letters of
        with replacing(path) as partial:
            draw().savefig(partial, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
