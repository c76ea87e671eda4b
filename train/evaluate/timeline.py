"""Pictures of a streamed evaluation: sounds and events over time, and false alarms against missed sounds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tagger import figures
from tagger.figures import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY, shortened
from train.evaluate.detection import Point, belongs
from train.evaluate.found import Found
from train.evaluate.soundscape import Annotation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH_INCHES, _DOTS_PER_INCH = 12.8, 110
"""Together 1,408 dots."""
_NAMED_POINTS = 6
"""Most thresholds that are written beside a curve."""
_STRIPE = "#F4F4F4"
_STYLE = {"axes.titlesize": 12, "legend.frameon": False, "legend.fontsize": 9}


def write(
    path: Path,
    truth: Sequence[Annotation],
    found: Sequence[Found],
    stretch_s: tuple[float, float],
    title: str,
) -> None:
    """Writes a stretch of a stream as a PNG: a row for each label; in its upper half the sounds, below them the events.

    Args:
        stretch_s: begin and end of the stretch, seconds of the stream.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the stretch ends before it begins.
    """
    if not stretch_s[0] < stretch_s[1]:
        raise ValueError(f"a stretch of {stretch_s[0]:g} to {stretch_s[1]:g} s has no length")
    figures.save(path, lambda: timeline(truth, found, stretch_s, title), _DOTS_PER_INCH, _STYLE)


def write_curves(path: Path, curves: Mapping[str, Sequence[Point]]) -> None:
    """Writes a PNG of false alarms against missed sounds over thresholds, one curve for each name.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figures.save(path, lambda: tradeoff(curves), _DOTS_PER_INCH, _STYLE)


def timeline(
    truth: Sequence[Annotation], found: Sequence[Found], stretch_s: tuple[float, float], title: str
) -> "Figure":
    """The picture of `write`. False alarms (`train.evaluate.detection.false_alarms`) have a colour of their own."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    low, high = stretch_s
    sounds = [each for each in truth if each.onset_s < high and each.offset_s > low]
    events = [each for each in found if each.onset_s < high and max(each.offset_s, each.published_s) > low]
    onsets = [(each.onset_s, each.label) for each in sounds] + [(each.onset_s, each.label) for each in events]
    labels = list(dict.fromkeys(label for _, label in sorted(onsets)))
    row = {label: i for i, label in enumerate(labels)}
    figure = Figure((_WIDTH_INCHES, 1.7 + 0.36 * max(2, len(labels))), layout="constrained")
    axes = figure.subplots()
    for i in range(0, len(labels), 2):
        axes.axhspan(i - 0.5, i + 0.5, color=_STRIPE, linewidth=0, zorder=0)
    for sound in sounds:
        _bar(axes, row[sound.label] - 0.2, sound.onset_s, sound.offset_s, BLUE)
    for event in events:
        right = any(event.label == sound.label and belongs(event, sound) for sound in truth)
        _bar(axes, row[event.label] + 0.2, event.onset_s, event.offset_s, GREEN if right else RED)
    published = [(event.published_s, row[event.label]) for event in events if low <= event.published_s <= high]
    axes.vlines(
        [time for time, _ in published],
        [i + 0.02 for _, i in published],
        [i + 0.44 for _, i in published],
        color=INK,
        linewidth=1.8,
        zorder=4,
    )
    axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.set_xlim(low, high)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color="#D8D8D8", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("seconds")
    axes.set_title(title, loc="left")
    if not labels:
        axes.text((low + high) / 2, 0, "no sound, no event", ha="center", va="center", color=INK)
    handles = [
        Patch(color=BLUE, label="sound"),
        Patch(color=GREEN, label="event"),
        Patch(color=RED, label="false alarm"),
        Line2D(
            [],
            [],
            color=INK,
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
    """The picture of `write_curves`."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure((_WIDTH_INCHES * 0.7, 5.6), layout="constrained")
    axes = figure.subplots()
    colours = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
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
