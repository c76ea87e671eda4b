"""A day's events as a picture, by matplotlib's object interface. It is imported only when something is drawn."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger import times
from tagger.errors import UserError
from tagger.files import replacing
from tagger.history.log import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

MOST_LABELS = 40
"""Rows; of more labels, the most frequent."""
_MOST_LETTERS = 28
"""Of a label, or a source."""
_TITLE_LETTERS = 60
"""Of all sources in the title."""
_WIDTH, _DOTS_PER_INCH = 12.8, 110
"""1,408 dots."""
_LEAST_SECONDS = 200.0
"""A bar is drawn at least as long: three dots."""
_INK, _GREY, _STRIPE, _GRID = "#222222", "#777777", "#F5F5F5", "#DDDDDD"


def check() -> None:
    """
    Raises:
        UserError: matplotlib is not there.
    """
    if find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib, which is not installed: pip install 'tagger[plot]'")


def write(path: Path, of: date, rows: Sequence[Row]) -> None:
    """Hours across, labels down, a bar for each event; above, how many began in each hour. A PNG.

    Args:
        rows: events that began on this day, or were still heard when it began. Only the former are counted.

    Raises:
        UserError: matplotlib is not there.
        OSError: the file cannot be written.
    """
    check()
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # the same picture whatever the user's matplotlibrc says; labels are no mathematics
        matplotlib.rcParams.update(
            {
                "axes.spines.right": False,
                "axes.spines.top": False,
                "axes.titlesize": 13,
                "font.size": 10,
                "text.parse_math": False,
            }
        )
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a script that the font has no letters of
        with replacing(path) as partial:
            draw(of, rows).savefig(partial, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})


def draw(of: date, rows: Sequence[Row]) -> "Figure":
    """See `write`."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    begin, end = times.bounds(of)
    counted = [row for row in rows if row.onset >= begin and row.cause != "test"]
    numbers = Counter(row.label for row in counted)
    labels = sorted({row.label for row in rows}, key=lambda label: (-numbers[label], label))
    shown = labels[:MOST_LABELS]
    height = 0.27 * max(2, len(shown))
    figure = Figure((_WIDTH, 2.6 + height), layout="constrained")
    strip, axes = figure.subplots(2, 1, sharex=True, height_ratios=[0.95, height])
    # Events have scores above a threshold: the scale begins near the lowest, and at 0.5 at the most.
    lowest = min(0.5, int(10 * min((row.peak_score for row in rows), default=1)) / 10)
    colours = _colours()
    _bars(axes, shown, rows, (begin, end), lambda score: colours((score - lowest) / (1 - lowest)))
    axes.set_yticks(range(len(shown)), [f"{_short(label)}  {numbers[label]:,}" for label in shown])
    _counts(strip, counted, (begin, end))
    marks = _hours(begin, end)
    axes.set_xticks([at for at, _ in marks], [f"{hour:02d}" for _, hour in marks])
    axes.set_xlim(begin, end)
    zones = dict.fromkeys(times.local(at).astimezone().tzname() for at in (begin, end))
    axes.set_xlabel(f"hour, local time ({', then '.join(map(str, zones))})", loc="left")
    notes = ["hollow: tests, not counted"] if any(row.cause == "test" for row in rows) else []
    if left := set(labels[MOST_LABELS:]):
        events = sum(row.label in left for row in rows)
        notes.append(f"{len(left)} rarer labels with {events:,} events are not shown")
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
    strip.set_title(_title(of, rows, len(counted)), loc="left", color=_INK)
    scale = ScalarMappable(Normalize(lowest, 1), colours)
    bar = figure.colorbar(
        scale, ax=axes, pad=0.01, fraction=0.025, aspect=30, shrink=min(1, 2.2 / height), anchor=(0, 1)
    )
    bar.set_label("peak score")
    bar.outline.set_visible(False)
    return figure


def _bars(
    axes: "Axes", labels: Sequence[str], rows: Sequence[Row], day: tuple[float, float], colour: Callable[[float], Any]
) -> None:
    from matplotlib.collections import PolyCollection

    begin, end = day
    place = {label: i for i, label in enumerate(labels)}
    for i in range(0, len(labels), 2):
        axes.axhspan(i - 0.5, i + 0.5, color=_STRIPE, linewidth=0, zorder=0)
    for is_test in (False, True):
        corners, fills = [], []
        # The longest first, so that none hides a shorter one; of equal ones the surest is on top.
        some = [row for row in rows if row.label in place and (row.cause == "test") == is_test]
        for row in sorted(some, key=lambda row: (-(row.duration_s or 0), row.peak_score)):
            right = min(max(_offset(row, end), max(row.onset, begin) + _LEAST_SECONDS), end)
            left = max(begin, min(row.onset, right - _LEAST_SECONDS))  # an event just before midnight is seen, too
            low, high = place[row.label] - 0.36, place[row.label] + 0.36
            corners.append([(left, low), (left, high), (right, high), (right, low)])
            fills.append(colour(row.peak_score))
        style = {"facecolors": "none", "edgecolors": _INK} if is_test else {"facecolors": fills, "edgecolors": "none"}
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


def _counts(axes: "Axes", rows: Sequence[Row], day: tuple[float, float]) -> None:
    """Of each hour, how many events began."""
    begin, end = day
    found = Counter(int((row.onset - begin) // 3600) for row in rows)
    hours = range(round((end - begin) / 3600 + 0.49))
    most = max(found.values(), default=0)
    axes.bar(
        [begin + 3600 * hour for hour in hours],
        [found[hour] for hour in hours],
        3600 * 0.94,
        align="edge",
        color="#56B4E9",
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
                color=_INK,
            )
    axes.set_ylim(0, 1.3 * max(most, 1))
    axes.set_yticks([])
    axes.set_ylabel("events\nan hour", rotation=0, ha="right", va="center")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _offset(row: Row, end: float) -> float:
    """Of an open event of today, now; of one that was never ended, nothing is known."""
    if row.offset is not None:
        return row.offset
    now = time.time()
    return now if row.onset <= now < end else row.onset


def _hours(begin: float, end: float) -> list[tuple[float, int]]:
    """Where the clock shows a full hour, and which. On a day on which clocks change one is twice there, or missing."""
    quarters = (begin + 900 * i for i in range(round((end - begin) / 900) + 1))
    marks = [(at, times.local(at)) for at in quarters]
    return [(at, clock.hour) for at, clock in marks if clock.minute == 0]


def _title(of: date, rows: Sequence[Row], events: int) -> str:
    places = sorted({f"{row.node}/{row.source}" for row in rows})
    named = [_short(place) for place in places]
    while len(", ".join(named)) > _TITLE_LETTERS:
        named.pop()
    more = len(places) - len(named)
    where = ", ".join(named) + (f" and {more} more" if more else "")
    count = f"{events:,} {'event' if events == 1 else 'events'}"
    return "   ".join(part for part in (f"{of:%A}, {of.day} {of:%B %Y}", count, where) if part)


def _short(label: str) -> str:
    return label if len(label) <= _MOST_LETTERS else f"{label[: _MOST_LETTERS - 1]}…"


def _colours() -> "Colormap":
    """From pale to dark, also for those who do not see all colours; without the palest, which would not be seen."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap([colormaps["viridis_r"](0.08 + 0.92 * i / 255) for i in range(256)])
