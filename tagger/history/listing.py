"""`tagger events`: prints events as a table, as JSON, as counts or as a chart, or draws a day."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import chain, islice
from pathlib import Path

from tagger import times
from tagger.errors import UserError, near
from tagger.history.database import Database, reading
from tagger.history.log import EventRow
from tagger.history.query import Column, LabelCount, Query, count_by_label, find, has_name, names, to_json
from tagger.printable import echo, echo_lines, number_of

_LINES_AT_ONCE = 1_000
"""Lines in one write to standard output."""
_LABEL_WIDTH, _WIDEST_LABEL = 20, 60
"""Narrowest and widest column of labels, characters. A label that is longer moves the rest of its line."""
_BLOCKS = " ▁▂▃▄▅▆▇█"
_CELL_SECONDS = 1_800.0
"""Time of one character in the chart."""
_LOOK_BACK_SECONDS = 86_400.0
"""Longest time from an event's onset to the begin of a day in whose picture it is drawn."""
_MARKS = {"test": "  (a test)", "restart": "  (end estimated)", "takeover": "  (end estimated)"}


def show(
    place: str,
    day: str | None,
    since: str | None,
    until: str | None,
    query: Query,
    as_json: bool = False,
    count: bool = False,
    chart: bool = False,
    plot: Path | None = None,
) -> None:
    """`tagger events`. Results go to standard output, remarks to standard error.

    Args:
        place: path of the event log, or the URL of the database of `tagger collect`.
        day, since, until: as the user wrote them; they set the query's `since` and `until`.
        query: the other conditions.
        count, chart, plot: what to show instead of the table; `plot` is the PNG to write.

    Raises:
        UserError: two options exclude each other, a time or a name is wrong, or there is no event log.
    """
    if day is not None and (since is not None or until is not None):
        raise UserError("--day and --since or --until: choose one; --since 2026-11-26T08:00 takes a time of day")
    if day is None and (chart or plot is not None):
        raise UserError(f"{'--chart' if chart else '--plot'} shows a day: name it with --day, such as --day today")
    if sum((as_json or count, chart, plot is not None)) > 1:
        raise UserError("--json and --count, --chart, and --plot show different things: choose one")
    if plot is not None:
        from tagger.history.chart import check

        check()
    chosen_day = None if day is None else times.day("--day", day)
    begin, end = _span(chosen_day, since, until)
    selected = replace(query, since=begin, until=end)
    with reading(place) as database:
        _check_names(database, "--label", "label", query.labels)
        _check_names(database, "--source", "source", query.sources)
        _check_names(database, "--node", "node", query.nodes)
        if count:
            show_counts(count_by_label(database, selected), as_json)
        elif chart and chosen_day is not None:
            _show_chart(chosen_day, list(find(database, selected)))
        elif plot is not None and chosen_day is not None:
            longer = replace(selected, since=times.bounds(chosen_day)[0] - _LOOK_BACK_SECONDS)
            _plot(plot, chosen_day, [row for row in find(database, longer) if _is_audible(row, chosen_day)])
        else:
            _show_rows(find(database, selected), as_json)


def describe(row: EventRow, width: int = _LABEL_WIDTH) -> str:
    """One line of the table, with the onset in local time.

    Args:
        width: characters of the column of labels.
    """
    lasted = "open" if row.duration_s is None else f"{row.duration_s:.1f} s"
    at = times.local(row.onset).strftime("%Y-%m-%d %H:%M:%S.%f")[:-5]
    where = f"{row.node}/{row.source}"
    return f"{at}  {lasted:>9}  {row.peak_score:4.2f}  {row.label:<{width}} {where}{_MARKS.get(row.cause or '', '')}"


def day_chart(day: date, rows: Sequence[EventRow]) -> list[str]:
    """A day as lines of text: half hours across, labels down, the most frequent first.

    The height of a block shows how many events began; the highest is the most of any half hour. Tests are left out.
    """
    begin, end = times.bounds(day)
    cells = round((end - begin) / _CELL_SECONDS)
    counted = [row for row in rows if row.cause != "test"]
    found = Counter((row.label, int((row.onset - begin) // _CELL_SECONDS)) for row in counted)
    labels = [label for label, _ in Counter(row.label for row in counted).most_common()]
    most, width = max(found.values(), default=0), max((len(label) for label in labels), default=0)
    every_third = range(0, cells, 6)
    hours = "".join(f"{times.local(begin + i * _CELL_SECONDS):%H}".ljust(6) for i in every_third)
    lines = [f"{'':{width}}  {hours}".rstrip()]
    for label in labels:
        row = [found[label, i] for i in range(cells)]
        blocks = "".join(_BLOCKS[-(-n * (len(_BLOCKS) - 1) // max(most, 1))] for n in row)
        lines.append(f"{label:{width}} |{blocks}| {sum(row):,}")
    if labels:
        lines.append(f"{'':{width}}  {_BLOCKS[-1]} = {most} in half an hour")
    return lines


def _span(day: date | None, since: str | None, until: str | None) -> tuple[float | None, float | None]:
    """Begin and end, seconds since the epoch; None: no limit."""
    if day is not None:
        return times.bounds(day)
    begin = None if since is None else times.moment("--since", since)
    end = None if until is None else times.moment("--until", until, end=True)
    if begin is not None and end is not None and not begin < end:
        raise UserError(f"--until {until}: is not after --since {since}")
    return begin, end


def _check_names(database: Database, flag: str, column: Column, given: Iterable[str]) -> None:
    """Warns of names that no event has. What is nearly another's name, or several in one text, is taken for a typo.

    Raises:
        UserError: a name is a typo.
    """
    for name in given:
        if has_name(database, column, name):
            continue
        known = near(name, names(database, column))
        if known and not known.startswith("; there is"):
            raise UserError(f"{flag} {name}: no event has it{known}")
        echo(f"{flag} {name}: no event has it", err=True)


def _show_rows(rows: Iterator[EventRow], as_json: bool) -> None:
    if as_json:
        _print(json.dumps(to_json(row)) for row in rows)
        return
    first = list(islice(rows, _LINES_AT_ONCE))
    if not first:
        echo("no events", err=True)
        return
    width = min(max([_LABEL_WIDTH, *(len(row.label) for row in first)]), _WIDEST_LABEL)
    _print([f"{'onset':<21}  {'lasted':>9}  {'peak':<4}  {'label':<{width}} node/source"])
    shown = _print(describe(row, width) for row in chain(first, rows))
    echo(number_of(shown, "event"), err=True)


def show_counts(found: Sequence[LabelCount], as_json: bool) -> None:
    """Prints totals to standard output, and their sum to standard error."""
    if as_json:
        _print(json.dumps(each.to_json()) for each in found)
        return
    with_events = [each for each in found if each.events]
    width = max([_LABEL_WIDTH, *(len(each.label) for each in with_events)])
    if with_events:
        _print([f"{'label':<{width}} {'events':>8} {'together':>12}  highest"])
    _print(
        f"{each.label:<{width}} {each.events:>8,} {_duration(each.duration_s):>12}  {each.peak_score:.2f}"
        for each in with_events
    )
    total = sum(each.events for each in with_events)
    together = _duration(sum(each.duration_s for each in with_events))
    tests = sum(each.tests for each in found)
    note = f"; {number_of(tests, 'test')} not counted" if tests else ""
    of = number_of(len(with_events), "label")
    echo(f"{number_of(total, 'event')} of {of}, {together} together{note}", err=True)


def _is_audible(row: EventRow, day: date) -> bool:
    """Whether an event began on a day or later, or lasted into it."""
    begin, _ = times.bounds(day)
    return row.onset >= begin or (row.offset is not None and row.offset > begin)


def _show_chart(day: date, rows: Sequence[EventRow]) -> None:
    _print(day_chart(day, rows))
    tests = sum(row.cause == "test" for row in rows)
    note = f"; {number_of(tests, 'test')} not shown" if tests else ""
    echo(f"{number_of(len(rows) - tests, 'event')}{note}", err=True)


def _plot(path: Path, day: date, rows: Sequence[EventRow]) -> None:
    from tagger.history.chart import write

    write(path, day, rows)
    echo(str(path))


def _duration(seconds: float) -> str:
    """
    >>> _duration(59.96), _duration(3_725), _duration(200_000)
    ('60.0 s', '1 h 02 min', '55 h 33 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def _print(lines: Iterable[str]) -> int:
    """Prints lines to standard output. Returns how many."""
    printed, rest = 0, iter(lines)
    while some := list(islice(rest, _LINES_AT_ONCE)):
        printed += len(some)
        echo_lines(some)
    return printed
