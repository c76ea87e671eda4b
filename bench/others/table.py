"""Several systems on the same recordings: tables for docs/trust.md, and their DET curves by kind of sound.

    python bench/others/table.py ours=trust-esc50/ YAMNet=trust-yamnet/ [--picture others.png]

Each is a name and the folder that `bench/trust.py --out` wrote. The first table is of all recordings, the second of the
half that no threshold was chosen by; in brackets, 95 % intervals over sources. In the last one, each system misses no
more recordings than the first does in the others.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.others import results
from tagger.errors import TaggerError, UserError
from tagger.figures import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY, save
from train.evaluate import intervals, trust
from train.evaluate.detection import Point
from train.evaluate.trust import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, INK)
LEAST_PER_HOUR = 1.0
"""Fewer false alarms an hour stand at the left edge of a picture, whose axis is logarithmic."""
COLUMNS = 3
EVERY = "all of these"
DOTS_PER_INCH = 80


def measures(rows: Mapping[str, Rows]) -> Iterator[str]:
    """A line for each system."""
    found = {name: trust.measures(some) for name, some in rows.items()}
    columns = next(iter(found.values()))
    yield f"| system | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for name, of in found.items():
        cells = [f"{each.value:.3f} ({each.by_source[0]:.3f} to {each.by_source[1]:.3f})" for each in of.values()]
        yield f"| {name} | {' | '.join(cells)} |"


def kinds(rows: Mapping[str, Rows]) -> Iterator[str]:
    """Events an hour in recordings without any of the labels: a line for each kind, a column for each system."""
    found = {name: {each.kind: each for each in trust.by_kind(some)} for name, some in rows.items()}
    yield f"| everyday sounds | hours | {' | '.join(found)} |"
    yield "|---" * (2 + len(found)) + "|"
    for kind, first in next(iter(found.values())).items():
        cells = [f"{of[kind].per_hour:.1f}, {100 * of[kind].alarmed:.0f} %" for of in found.values()]
        yield f"| {kind.removeprefix(trust.EVERYDAY)} | {first.hours:.2f} | {' | '.join(cells)} |"
    cells = []
    for some in rows.values():
        everyday = [heard for recording, heard in some if recording.is_everyday]
        events, hours = sum(len(each.events) for each in everyday), sum(each.seconds for each in everyday) / 3600
        low, high = intervals.of_rate(events, hours)
        cells.append(f"{events / hours:.1f} ({low:.1f} to {high:.1f})")
    yield f"| all | {hours:.2f} | {' | '.join(cells)} |"


def equal(
    curves: Mapping[str, Mapping[str, Sequence[Point]]], tables: Mapping[str, Mapping[str, tuple[float, float]]]
) -> Iterator[str]:
    """Events an hour in everyday sounds where no system misses more recordings than the first does in the tables."""
    first, *others = curves
    rate, missed = tables[first][EVERY]
    yield f"| system, at most {100 * missed:.1f} % missed | threshold | events an hour |"
    yield "|---|---|---|"
    yield f"| {first} | as in the tables | {rate:.0f} |"
    for name in others:
        enough = [each for each in curves[name][EVERY] if each.missed <= missed]
        best = min(enough, key=lambda each: each.false_alarms_per_hour, default=None)
        yield (
            f"| {name} | {best.threshold:.3f} | {best.false_alarms_per_hour:.0f} |" if best else f"| {name} | none | |"
        )


def picture(
    curves: Mapping[str, Mapping[str, Sequence[Point]]],
    hours: Mapping[str, float],
    tables: Mapping[str, Mapping[str, tuple[float, float]]],
) -> "Figure":
    """Missed labels against false alarms an hour: a panel for each kind, a curve for each system, and a point on it.

    Args:
        tables: where the tables are, false alarms an hour and share that was missed, by system and kind.
    """
    from matplotlib.figure import Figure

    shown = list(hours)
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure((2.5 * columns, 2.6 * lines + 0.4), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes, kind in zip(panels, shown, strict=False):
        for (name, of), colour in zip(curves.items(), COLOURS, strict=False):
            points = of[kind]
            alarms = [max(LEAST_PER_HOUR, each.false_alarms_per_hour) for each in points]
            missed = [100 * each.missed for each in points]
            axes.plot(alarms, missed, color=colour, linewidth=1.4, label=name.replace("`", ""))
            rate, share = tables[name][kind]
            axes.plot(max(LEAST_PER_HOUR, rate), 100 * share, "o", color=colour, markersize=4)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set_ylim(0, 100)
        axes.set_title(f"{kind} ({hours[kind]:.2f} h)", fontsize=9)
        axes.grid(color="#dddddd", linewidth=0.6)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("events an hour where none of the labels sounds", fontsize=9)
    figure.supylabel("labelled recordings missed, %", fontsize=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=COLUMNS, frameon=False)
    return figure


def hours_by_kind(rows: Rows) -> dict[str, float]:
    return {each.kind.removeprefix(trust.EVERYDAY): each.hours for each in trust.by_kind(rows)}


def chosen(rows: Rows) -> dict[str, tuple[float, float]]:
    """False alarms an hour and share that was missed, by kind, where the system announces."""
    known = [recording.label in heard.events for recording, heard in rows if not recording.is_everyday]
    missed = 1 - sum(known) / max(1, len(known))
    kinds = trust.by_kind(rows)
    found = {each.kind.removeprefix(trust.EVERYDAY): (each.per_hour, missed) for each in kinds}
    found[EVERY] = sum(each.events for each in kinds) / sum(each.hours for each in kinds), missed
    return found


def together(curves: Mapping[str, Sequence[Point]], hours: Mapping[str, float]) -> list[Point]:
    """The curve of all these kinds."""
    at = zip(*(curves[kind] for kind in hours), strict=True)
    rates = [[each.false_alarms_per_hour for each in points] for points in at]
    every = [sum(map(mul, rate, hours.values())) / sum(hours.values()) for rate in rates]
    some = curves[next(iter(hours))]
    return [replace(point, false_alarms_per_hour=rate) for point, rate in zip(some, every, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="+", metavar="NAME=OUT")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args(arguments)
    try:
        given = [each.partition("=") for each in options.systems]
        read = {name: results.read(Path(out)) for name, _, out in given}
        if len({tuple(recording.path for recording, _ in rows) for rows, _, _ in read.values()}) > 1:
            raise UserError("these systems did not hear the same recordings")
        home = {name: rows for name, (rows, _, _) in read.items()}
        quiet = {name: rows for name, (_, rows, _) in read.items() if rows}
        report = {name: [row for row in rows if row[0].half == "report"] for name, rows in home.items()}
        rows, others, _ = next(iter(read.values()))
        hours = hours_by_kind([*rows, *others])
        curves = {name: {**of, EVERY: together(of, hours)} for name, (_, _, of) in read.items()}
        points = {name: chosen([*rows, *others]) for name, (rows, others, _) in read.items()}
        tables = measures(home), measures(report), kinds(home), kinds(quiet) if quiet else (), equal(curves, points)
        for lines in tables:
            print("\n".join(lines), end="\n\n")
        if options.picture:
            hours[EVERY] = sum(hours.values())
            save(options.picture, lambda: picture(curves, hours, points), DOTS_PER_INCH)
    except TaggerError as error:
        print(f"table: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
