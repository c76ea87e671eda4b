"""`tagger events`: what the event log holds, as a table, as JSON, counted, or as a picture of a day."""

import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import click

from tagger import files, times
from tagger.errors import UserError, near
from tagger.history.log import Row, reading

_LINES_AT_ONCE = 1_000
_BLOCKS = " ▁▂▃▄▅▆▇█"
_CELL_SECONDS = 1_800.0
"""Of a chart: half an hour."""
_LOOK_BACK_SECONDS = 86_400.0
"""An event that is longer is not seen in the pictures of the days after its first two."""
_MARKS = {"test": "  (a test)", "restart": "  (end estimated)"}


def file() -> Path:
    """The event log, where none is named."""
    return files.home() / "events.sqlite"


@dataclass(frozen=True)
class Query:
    """Which events: all that meet every condition."""

    since: float | None = None
    """Began then or later, seconds since the epoch."""
    until: float | None = None
    """Began before then."""
    labels: tuple[str, ...] = ()
    """One of these; none: any."""
    sources: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    min_score: float | None = None
    """Of the peak score."""
    min_s: float | None = None
    """Lasted at least so long; an open one has no duration yet."""
    last: int | None = None
    """Of those, the last so many."""

    def sql(self) -> tuple[str, list[Any]]:
        """A SELECT of whole rows, by onset, and its parameters."""
        terms: list[str] = []
        values: list[Any] = []
        for term, value in (
            ("onset >= ?", self.since),
            ("onset < ?", self.until),
            ("peak_score >= ?", self.min_score),
            ("offset - onset >= ?", self.min_s),
        ):
            if value is not None:
                terms.append(term)
                values.append(value)
        for column, names in (("label", self.labels), ("source", self.sources), ("node", self.nodes)):
            if names:
                terms.append(f"{column} IN ({', '.join('?' * len(names))})")
                values.extend(names)
        select = f"SELECT * FROM events{' WHERE ' if terms else ''}{' AND '.join(terms)}"
        if self.last is None:
            return f"{select} ORDER BY onset, id", values
        newest = f"{select} ORDER BY onset DESC, id DESC LIMIT ?"
        return f"SELECT * FROM ({newest}) ORDER BY onset, id", [*values, self.last]


@dataclass(frozen=True)
class Count:
    """The events of one label."""

    label: str
    events: int
    """Tests apart."""
    duration_s: float
    """Together; open ones apart."""
    peak_score: float | None
    tests: int

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "events": self.events,
            "duration_s": round(self.duration_s, 3),
            "peak_score": None if self.peak_score is None else round(self.peak_score, 6),
            "tests": self.tests,
        }


def show(
    path: Path,
    day: str | None,
    since: str | None,
    until: str | None,
    query: Query,
    as_json: bool = False,
    count: bool = False,
    chart: bool = False,
    plot: Path | None = None,
) -> None:
    """`tagger events`. Results on standard output, what is to be said of them on standard error.

    Args:
        query: its `since` and `until` are set from `day`, `since` and `until`, as the user wrote them.

    Raises:
        UserError: options that do not go together, a time or a name that cannot be, or no event log.
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
    of = None if day is None else times.day("--day", day)
    begin, end = _span(of, since, until)
    asked = replace(query, since=begin, until=end)
    with reading(path) as database:
        for flag, column, names in (
            ("--label", "label", query.labels),
            ("--source", "source", query.sources),
            ("--node", "node", query.nodes),
        ):
            _check_names(database, flag, column, names)
        if count:
            _show_counts(counts(database, asked), as_json)
        elif chart and of is not None:
            _show_chart(of, list(find(database, asked)))
        elif plot is not None and of is not None:
            begun = replace(asked, since=times.bounds(of)[0] - _LOOK_BACK_SECONDS)
            _plot(plot, of, [row for row in find(database, begun) if _is_heard(row, of)])
        else:
            _show_rows(find(database, asked), as_json)


def find(database: sqlite3.Connection, query: Query) -> Iterator[Row]:
    """By onset."""
    return (Row(*row) for row in database.execute(*query.sql()))


def counts(database: sqlite3.Connection, query: Query) -> list[Count]:
    """The most frequent first."""
    of, values = query.sql()
    heard = "FILTER (WHERE cause IS NOT 'test')"
    return [
        Count(*row)
        for row in database.execute(
            f"SELECT label, count(*) {heard} AS events, coalesce(sum(offset - onset) {heard}, 0.0), "
            f"max(peak_score) {heard}, count(*) FILTER (WHERE cause IS 'test') "
            f"FROM ({of}) GROUP BY label ORDER BY events DESC, label",
            values,
        )
    ]


def to_json(row: Row) -> dict[str, Any]:
    """As the MQTT message of its end, without what belongs to messages alone."""
    return {
        "id": row.id,
        "label": row.label,
        "score": round(row.score, 6),
        "peak_score": round(row.peak_score, 6),
        "onset": times.rfc3339(row.onset),
        "offset": None if row.offset is None else times.rfc3339(row.offset),
        "duration_s": None if row.duration_s is None else round(row.duration_s, 3),
        "node": row.node,
        "source": row.source,
        "model": row.model,
        **({} if row.cause is None else {"cause": row.cause}),
    }


def describe(row: Row) -> str:
    """One line of the table; local time."""
    lasted = "open" if row.duration_s is None else f"{row.duration_s:.1f} s"
    at = times.local(row.onset).strftime("%Y-%m-%d %H:%M:%S.%f")[:-5]
    where = f"{row.node}/{row.source}"
    return f"{at}  {lasted:>9}  {row.peak_score:4.2f}  {row.label:<20} {where}{_MARKS.get(row.cause or '', '')}"


def day_chart(of: date, rows: Sequence[Row]) -> list[str]:
    """Lines of text: half hours across, labels down, the most frequent first; a block is the higher, the more events
    began, up to the most of any half hour. Tests are left out.
    """
    begin, end = times.bounds(of)
    cells = round((end - begin) / _CELL_SECONDS)
    heard = [row for row in rows if row.cause != "test"]
    found = Counter((row.label, int((row.onset - begin) // _CELL_SECONDS)) for row in heard)
    labels = [label for label, _ in Counter(row.label for row in heard).most_common()]
    most, width = max(found.values(), default=0), max((len(label) for label in labels), default=0)
    hours = "".join(
        f"{times.local(begin + i * _CELL_SECONDS):%H}".ljust(6) for i in range(0, cells, 6)
    )  # every third hour
    lines = [f"{'':{width}}  {hours}".rstrip()]
    for label in labels:
        row = [found[label, i] for i in range(cells)]
        blocks = "".join(_BLOCKS[-(-n * (len(_BLOCKS) - 1) // max(most, 1))] for n in row)
        lines.append(f"{label:{width}} |{blocks}| {sum(row):,}")
    if labels:
        lines.append(f"{'':{width}}  {_BLOCKS[-1]} = {most} in half an hour")
    return lines


def _span(of: date | None, since: str | None, until: str | None) -> tuple[float | None, float | None]:
    if of is not None:
        return times.bounds(of)
    begin = None if since is None else times.moment("--since", since)
    end = None if until is None else times.moment("--until", until, end=True)
    if begin is not None and end is not None and not begin < end:
        raise UserError(f"--until {until}: is not after --since {since}")
    return begin, end


def _check_names(database: sqlite3.Connection, flag: str, column: str, names: Iterable[str]) -> None:
    """A name that no event has may be right all the same; one that is nearly another's is a typo.

    Raises:
        UserError: it is.
    """
    for name in names:
        if database.execute(f"SELECT 1 FROM events WHERE {column} = ? LIMIT 1", (name,)).fetchone():
            continue
        known = near(name, (each for (each,) in database.execute(f"SELECT DISTINCT {column} FROM events")))
        if "did you mean" in known:
            raise UserError(f"{flag} {name}: no event has it{known}")
        click.echo(f"{flag} {name}: no event has it", err=True)


def _show_rows(rows: Iterator[Row], as_json: bool) -> None:
    if as_json:
        _print(json.dumps(to_json(row)) for row in rows)
        return
    first = next(rows, None)
    if first is None:
        click.echo("no events", err=True)
        return
    _print([f"{'onset':<21}  {'lasted':>9}  {'peak':<4}  {'label':<20} node/source", describe(first)])
    shown = 1 + _print(describe(row) for row in rows)
    click.echo(f"{shown:,} {'event' if shown == 1 else 'events'}", err=True)


def _show_counts(found: Sequence[Count], as_json: bool) -> None:
    if as_json:
        _print(json.dumps(each.to_json()) for each in found)
        return
    heard = [each for each in found if each.events]
    width = max([20, *(len(each.label) for each in heard)])
    if heard:
        _print([f"{'label':<{width}} {'events':>8} {'together':>12}  highest"])
    _print(
        f"{each.label:<{width}} {each.events:>8,} {_duration(each.duration_s):>12}  {each.peak_score:.2f}"
        for each in heard
    )
    total = sum(each.events for each in heard)
    together = _duration(sum(each.duration_s for each in heard))
    tests = sum(each.tests for each in found)
    told = f"; {tests:,} tests not counted" if tests else ""
    click.echo(f"{total:,} events of {len(heard)} labels, {together} together{told}", err=True)


def _is_heard(row: Row, of: date) -> bool:
    """Whether it began on this day, or was still heard when it began."""
    begin, _ = times.bounds(of)
    return row.onset >= begin or (row.offset is not None and row.offset > begin)


def _show_chart(of: date, rows: Sequence[Row]) -> None:
    _print(day_chart(of, rows))
    tests = sum(row.cause == "test" for row in rows)
    click.echo(f"{len(rows) - tests:,} events{f'; {tests:,} tests not shown' if tests else ''}", err=True)


def _plot(path: Path, of: date, rows: Sequence[Row]) -> None:
    from tagger.history.chart import write

    write(path, of, rows)
    click.echo(click.format_filename(path))


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
    """Returns how many they were."""
    printed, rest = 0, iter(lines)
    while some := list(islice(rest, _LINES_AT_ONCE)):
        printed += len(some)
        click.echo("\n".join(some), file=sys.stdout)
    return printed
