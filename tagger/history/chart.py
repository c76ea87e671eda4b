"""A day's events as a picture. matplotlib is imported only when a picture is drawn."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger import times
from tagger.errors import UserError, to_install
from tagger.figures import INK, SKY, save, shortened
from tagger.history.log import EventRow
from tagger.printable import number_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

MOST_LABELS = 40
"""Most rows of the picture; of more labels, the most frequent are drawn."""
_TITLE_LETTERS = 60
"""Longest list of sources in the title, letters."""
_WIDTH_INCHES, _DOTS_PER_INCH = 12.8, 110
"""Together 1,408 dots."""
SHORTEST_BAR_SECONDS = 200.0
"""Shortest bar: three dots."""
_GREY, _STRIPE, _GRID = "#777777", "#F5F5F5", "#DDDDDD"


def check() -> None:
    """
    Raises:
        UserError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise UserError(f"--plot needs matplotlib, which is not installed: {to_install('plot')}")


def write(path: Path, day: date, rows: Sequence[EventRow]) -> None:
    """Writes a PNG: hours across, labels down, a bar for each event; above, how many events began in each hour.

    Args:
        rows: events that began on the day, and events that lasted into it. Only the former are counted.

    Raises:
        UserError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    check()
    save(path, lambda: draw(day, rows), _DOTS_PER_INCH, {"axes.titlesize": 13})


def draw(day: date, rows: Sequence[EventRow]) -> "Figure":
    """The picture of `write` as a figure."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    begin, end = times.bounds(day)
    of_the_day = [row for row in rows if row.onset >= begin and row.cause != "test"]
    numbers = Counter(row.label for row in of_the_day)
    labels = sorted({row.label for row in rows}, key=lambda label: (-numbers[label], label))
    shown = labels[:MOST_LABELS]
    height = 0.27 * max(2, len(shown))
    figure = Figure((_WIDTH_INCHES, 2.6 + height), layout="constrained")
    strip, axes = figure.subplots(2, 1, sharex=True, height_ratios=[0.95, height])
    # The colour scale begins near the lowest peak score, at 0.5 at most: no event is below its threshold.
    lowest = min(0.5, int(10 * min((row.peak_score for row in rows), default=1)) / 10)
    colours = _colours()
    _bars(axes, shown, rows, (begin, end), lambda score: colours((score - lowest) / (1 - lowest)))
    axes.set_yticks(range(len(shown)), [f"{shortened(label)}  {numbers[label]:,}" for label in shown])
    _hourly_counts(strip, of_the_day, (begin, end))
    marks = hour_marks(begin, end)
    axes.set_xticks([at for at, _ in marks], [f"{hour:02d}" for _, hour in marks])
    axes.set_xlim(begin, end)
    zones = dict.fromkeys(times.local(at).astimezone().tzname() for at in (begin, end))
    axes.set_xlabel(f"hour, local time ({', then '.join(map(str, zones))})", loc="left")
    notes = ["hollow: tests, not counted"] if any(row.cause == "test" for row in rows) else []
    if hidden := set(labels[MOST_LABELS:]):
        events = number_of(sum(row.label in hidden for row in rows), "event")
        notes.append(f"not shown: {number_of(len(hidden), 'rarer label')} with {events}")
    if notes:
        axes.annotate(
            "; ".join(notes),
            (1, 0),
            (0, -30),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="top",
            color=_GREY,
        )
    strip.set_title(title(day, rows, len(of_the_day)), loc="left", color=INK)
    scale = ScalarMappable(Normalize(lowest, 1), colours)
    bar = figure.colorbar(
        scale, ax=axes, pad=0.01, fraction=0.025, aspect=30, shrink=min(1, 2.2 / height), anchor=(0, 1)
    )
    bar.set_label("peak score")
    bar.outline.set_visible(False)
    return figure


def _bars(
    axes: "Axes",
    labels: Sequence[str],
    rows: Sequence[EventRow],
    day: tuple[float, float],
    colour: Callable[[float], Any],
) -> None:
    from matplotlib.collections import PolyCollection

    """Draws a bar for each event, coloured by peak score; tests are hollow.

    Args:
        day: begin and end, seconds since the epoch.
        colour: of a peak score.
    """
    begin, end = day
    place = {label: i for i, label in enumerate(labels)}
    for i in range(0, len(labels), 2):
        axes.axhspan(i - 0.5, i + 0.5, color=_STRIPE, linewidth=0, zorder=0)
    for is_test in (False, True):
        corners, fills = [], []
        # Long bars first, so that none hides a shorter one; of equally long ones the highest score is on top.
        some = [row for row in rows if row.label in place and (row.cause == "test") == is_test]
        for row in sorted(some, key=lambda row: (-(row.duration_s or 0), row.peak_score)):
            right = min(max(_offset(row, end), max(row.onset, begin) + SHORTEST_BAR_SECONDS), end)
            left = max(begin, min(row.onset, right - SHORTEST_BAR_SECONDS))  # also shows an event just before midnight
            low, high = place[row.label] - 0.36, place[row.label] + 0.36
            corners.append([(left, low), (left, high), (right, high), (right, low)])
            fills.append(colour(row.peak_score))
        style = {"facecolors": "none", "edgecolors": INK} if is_test else {"facecolors": fills, "edgecolors": "none"}
        axes.add_collection(
            PolyCollection(corners, linewidths=0.9 if is_test else 0, zorder=4 if is_test else 3, **style)
        )
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    if not labels:
        axes.text((begin + end) / 2, 0, "no events", ha="center", va="center", color=_GREY)


def _hourly_counts(axes: "Axes", rows: Sequence[EventRow], day: tuple[float, float]) -> None:
    """Draws how many events began in each hour."""
    begin, end = day
    found = Counter(int((row.onset - begin) // 3600) for row in rows)
    hours = range(round((end - begin) / 3600 + 0.49))
    most = max(found.values(), default=0)
    axes.bar(
        [begin + 3600 * hour for hour in hours],
        [found[hour] for hour in hours],
        3600 * 0.94,
        align="edge",
        color=SKY,
        zorder=3,
    )
    for hour in hours:
        if found[hour]:
            axes.annotate(
                f"{found[hour]:,}",
                (begin + 3600 * (hour + 0.47), found[hour]),
                (0, 1),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8,
                color=INK,
            )
    axes.set_ylim(0, 1.3 * max(most, 1))
    axes.set_yticks([])
    axes.set_ylabel("events\nan hour", rotation=0, ha="right", va="center")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _offset(row: EventRow, end: float) -> float:
    """End of an event. An open one ends now, or, if it is not of today, at its onset, because its end is unknown."""
    if row.offset is not None:
        return row.offset
    now = time.time()
    return now if row.onset <= now < end else row.onset


def hour_marks(begin: float, end: float) -> list[tuple[float, int]]:
    """Times of the full hours, seconds since the epoch, and the hours, local time.

    On a day on which clocks change, an hour appears twice or not at all.
    """
    quarters = (begin + 900 * i for i in range(round((end - begin) / 900) + 1))
    marks = [(at, times.local(at)) for at in quarters]
    return [(at, clock.hour) for at, clock in marks if clock.minute == 0]


def title(day: date, rows: Sequence[EventRow], events: int) -> str:
    """Date, number of events, and the rows' sources as far as they fit."""
    places = sorted({f"{row.node}/{row.source}" for row in rows})
    named = [shortened(place) for place in places]
    while len(", ".join(named)) > _TITLE_LETTERS:
        named.pop()
    more = len(places) - len(named)
    where = ", ".join(named) + (f" and {more} more" if more else "")
    date_ = f"{day:%A}, {day.day} {day:%B %Y}"
    return "   ".join(part for part in (date_, number_of(events, "event"), where) if part)


def _colours() -> "Colormap":
    """Viridis from pale to dark, which colour-blind people can read, without its palest part, invisible on white."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap([colormaps["viridis_r"](0.08 + 0.92 * i / 255) for i in range(256)])
