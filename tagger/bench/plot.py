"""The picture of how cost grows: points, and the straight line nearest to them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tagger.bench.results import Growth, Point
from tagger.figures import BLUE, INK, ORANGE, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES, _DOTS_PER_INCH = (10.5, 3.4), 110


def line(points: Sequence[Point]) -> tuple[float, float, float]:
    """The straight line nearest to the points, by least squares.

    Returns:
        Its value at 0, its slope, and the largest distance of a point from it as a share of the largest value.

    >>> line([Point(1, 3.0), Point(2, 5.0), Point(3, 7.0)])[:2]
    (1.0, 2.0)
    """
    x = np.array([point.x for point in points])
    y = np.array([point.ms for point in points])
    slope, start = np.polyfit(x, y, 1) if len(points) > 1 else (0.0, float(y[0]))
    off = np.abs(y - start - slope * x).max() / y.max()
    return round(float(start), 9), round(float(slope), 9), float(off)


def draw(growth: Growth, path: Path) -> None:
    """Writes the picture, a PNG."""
    save(path, lambda: _figure(growth), _DOTS_PER_INCH)


def _figure(growth: Growth) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots(1, 3)
    shape = f"window {growth.window_s:g} s"
    panels: tuple[tuple[str, str, Sequence[Point]], ...] = (
        (f"one source, {shape}", "windows a second", growth.hops),
        (f"one source, hop {growth.hop_s:g} s", "length of a window, s", growth.windows),
        (f"live sources, hop {growth.hop_s:g} s, {shape}", "sources", growth.sources),
    )
    for each, (title, label, points) in zip(axes, panels, strict=True):
        _panel(each, title, label, points)
    axes[0].set_ylabel("processor time a second, ms")
    return figure


def _panel(axes: "Axes", title: str, label: str, points: Sequence[Point]) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(label)
    if not points:  # the machine was too busy
        return
    start, slope, off = line(points)
    ends = np.array([0.0, max(point.x for point in points)])
    axes.plot(ends, start + slope * ends, color=ORANGE, linewidth=1.2)
    axes.plot([point.x for point in points], [point.ms for point in points], "o", color=BLUE, markersize=5)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=min(0.0, start))
    words = f"{start:.3g} + {slope:.3g} x; off by {100 * off:.0f} %"
    axes.text(0.04, 0.93, words, transform=axes.transAxes, color=INK, fontsize=9)
