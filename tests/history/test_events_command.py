"""`tagger events`: what the event log holds, as a table, as JSON, counted, and as a picture."""

import json
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tagger import times
from tagger.errors import UserError
from tagger.events import Event, Stream
from tagger.history import chart, listing, query
from tagger.history.log import EventLog, EventRow, reading
from tagger.history.query import Query
from tests.programs import refused, run, tagger

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
"""In POSIX form, which needs no table of time zones."""
HAVANA = "CST5CDT,M3.2.0/0,M11.1.0/1"
"""Clocks go forward at midnight."""
DAY = date(2026, 11, 26)
ID = "01M82C9BXHNTRMQRDVRKQ5T24"


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    set_zone(monkeypatch, BERLIN)
    yield
    monkeypatch.undo()
    time.tzset()


def set_zone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TZ", name)
    time.tzset()


def at(hour: float) -> float:
    """Time of an hour of DAY in Berlin, seconds since the epoch."""
    return datetime(2026, 11, 25, 23, tzinfo=UTC).timestamp() + 3600 * hour


def row(number: int, hour: float, label: str = "dog", duration_s: float | None = 2.0, **others: object) -> EventRow:
    onset = at(hour)
    offset = None if duration_s is None else onset + duration_s
    values = {"node": "attic", "source": "mic", "score": 0.5, "peak_score": 0.9, "model": "esc50", "cause": None}
    return EventRow(id=f"{ID}{number}", label=label, onset=onset, offset=offset, **values | others)  # type: ignore[arg-type]


ROWS = [
    row(0, -0.01, duration_s=100),  # began the day before, still heard on the day
    row(1, 0),
    row(2, 8.5, "siren", 60, node="hall", peak_score=0.7),
    row(3, 8.6, duration_s=None, source="garden"),
    row(4, 12, cause="test"),
    row(5, 13, "car_horn", 4, cause="restart", peak_score=0.95),
    row(6, 23.99),
    row(7, 24),  # on the next day
]


@pytest.fixture
def log(home: Path) -> Path:
    return filled(home / "events.sqlite", ROWS)


def filled(path: Path, rows: list[EventRow]) -> Path:
    with closing(EventLog(path)) as events:
        events.write(rows)
    return path


def ids(*args: object) -> str:
    """Last letters of the ids of the events that the command finds."""
    result = run("events", "--json", *args)
    assert result.exit_code == 0, result.output
    return "".join(json.loads(line)["id"][-1] for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ([], "01234567"),
        (["--day", "2026-11-26"], "123456"),
        (["--day", "2026-11-25"], "0"),
        (["--day", "2020-01-01"], ""),
        (["--since", "2026-11-26"], "1234567"),
        (["--until", "2026-11-26"], "0123456"),
        (["--since", "2026-11-26T12:00", "--until", "2026-11-26 13:00:00.001"], "45"),
        (["--since", "2026-11-26T11:00Z"], "4567"),
        (["--since", "2026-11-26T12:00+01:00"], "4567"),
        (["--label", "siren"], "2"),
        (["--label", "siren", "--label", "car_horn"], "25"),
        (["--source", "garden"], "3"),
        (["--node", "hall"], "2"),
        (["--node", "hall", "--source", "garden"], ""),
        (["--min-score", "0.9"], "0134567"),
        (["--min-score", "0.91"], "5"),
        (["--min-s", "4"], "025"),
        (["--last", "3"], "567"),
        (["--last", "100"], "01234567"),
        (["--day", "2026-11-26", "--label", "dog", "--last", "2"], "46"),
    ],
)
def test_what_is_asked_for(log: Path, args: list[str], found: str) -> None:
    assert ids(*args) == found
    assert ids(log, *args) == found


def test_today_and_yesterday(home: Path) -> None:
    begin, end = times.bounds(datetime.now().date())
    rows = [replace(row(i, 0), onset=onset) for i, onset in enumerate([begin - 1, begin, end - 1, end])]
    filled(home / "events.sqlite", rows)
    assert (ids("--day", "today"), ids("--day", "Yesterday"), ids("--since", "today")) == ("12", "0", "123")


def test_json_names_things_as_the_message_does(log: Path) -> None:
    stream = Stream("attic", "mic", "esc50", ())
    for wanted in (ROWS[5], ROWS[3], ROWS[1]):
        event = Event("end", wanted.id, wanted.label, 0.5, wanted.peak_score, wanted.onset, wanted.offset, wanted.cause)  # type: ignore[arg-type]
        message = event.to_json(replace(stream, source=wanted.source), 0)
        found = query.to_json(wanted)
        left_out = ("schema", "type", "published", "laeq_before_db")  # the log keeps no levels
        assert list(found) == [key for key in message if key not in left_out]
        assert found.items() <= message.items()
    (line,) = run("events", "--json", "--label", "car_horn").stdout.splitlines()
    assert json.loads(line) == query.to_json(ROWS[5])


@pytest.mark.parametrize("label", ["dog", "Smoke detector, smoke alarm", "a" * 60])
def test_the_columns_stand_below_their_headings_whatever_the_label(home: Path, label: str) -> None:
    filled(home / "events.sqlite", [replace(row(1, 0), label="siren"), replace(row(2, 0), label=label)])
    header, *lines = run("events").stdout.splitlines()
    at = header.index("node/source")
    assert [line[at - 1 : at] + line[at:].split("/")[0] for line in lines] == [" attic", " attic"]


def test_the_table(log: Path) -> None:
    result = run("events", "--day", "2026-11-26")
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["onset", "lasted", "peak", "label", "node/source"]
    assert lines[1].split() == ["2026-11-26", "08:30:00.0", "60.0", "s", "0.70", "siren", "hall/mic"]
    assert lines[2].split() == ["2026-11-26", "08:36:00.0", "open", "0.90", "dog", "attic/garden"]
    assert lines[3].endswith("attic/mic  (a test)")
    assert lines[4].endswith("attic/mic  (end estimated)")
    assert result.stderr == "6 events\n"


def test_counts_of_a_long_label_stay_in_their_columns(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = [
        query.LabelCount("Vehicle horn, car horn, honking", 3, 4.0, 0.9, 0),
        query.LabelCount("dog", 1, 2.0, 0.8, 0),
    ]
    listing.show_counts(counts, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert len({line.rindex("  ") for line in lines}) == 1


def test_a_picture_cannot_take_a_folders_place(log: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "day.png").mkdir()
    result = run("events", "--day", "2026-11-26", "--plot", tmp_path / "day.png")
    refused(result, f"{tmp_path / 'day.png'}: Is a directory")


def test_counts(log: Path) -> None:
    result = run("events", "--count", "--day", "2026-11-26")
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["label", "events", "together", "highest"]
    assert [line.split() for line in lines] == [
        ["dog", "3", "4.0", "s", "0.90"],
        ["car_horn", "1", "4.0", "s", "0.95"],
        ["siren", "1", "1", "min", "0.70"],
    ]
    assert result.stderr == "5 events of 3 labels, 1 min together; 1 test not counted\n"
    first, *_ = map(json.loads, run("events", "--count", "--json").stdout.splitlines())
    assert first == {"label": "dog", "events": 5, "duration_s": 106.0, "peak_score": 0.9, "tests": 1}
    (last,) = map(json.loads, run("events", "--count", "--json", "--last", 1).stdout.splitlines())
    assert (last["label"], last["events"]) == ("dog", 1)


def test_nothing_found_is_no_error(log: Path) -> None:
    result = run("events", "--day", "2020-01-01")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no events\n")
    assert run("events", "--day", "2020-01-01", "--count").stdout == ""


def test_a_typo_is_told_from_what_was_not_heard(log: Path) -> None:
    refused(run("events", "--label", "sirens"), "--label sirens", "did you mean siren?")
    refused(run("events", "--source", "gardn"), "did you mean garden?")
    refused(run("events", "--node", "Hall"), "did you mean hall?")
    result = run("events", "--label", "vacuum_cleaner", "--json")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "--label vacuum_cleaner: no event has it" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--day", "26.11.2026"], ["--day 26.11.2026", "2026-11-26, today or yesterday"]),
        (["--day", "2026-02-30"], ["--day 2026-02-30"]),
        (["--day", "0001-01-01"], ["--day 0001-01-01"]),
        (["--since", "noon"], ["--since noon", "2026-11-26T14:30"]),
        (["--until", "2026-13-01T00:00"], ["--until"]),
        (["--day", "today", "--since", "today"], ["choose one"]),
        (["--since", "2026-11-26", "--until", "2026-11-25"], ["--until 2026-11-25"]),
        (["--chart"], ["--chart", "--day today"]),
        (["--plot", "day.png"], ["--plot", "--day today"]),
        (["--day", "today", "--json", "--plot", "day.png"], ["choose one"]),
        (["--day", "today", "--count", "--chart"], ["choose one"]),
    ],
)
def test_what_cannot_be_is_refused(log: Path, args: list[str], words: list[str]) -> None:
    refused(run("events", *args), *words)


def test_a_log_that_is_missing_or_damaged_is_refused(tmp_path: Path, home: Path) -> None:
    refused(run("events"), str(home / "events.sqlite"), "no such event log; `tagger listen --event-log ")
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"nonsense" * 1000)
    refused(run("events", damaged), str(damaged), "left as it is")
    assert damaged.read_bytes() == b"nonsense" * 1000


@pytest.mark.parametrize("is_written", [False, True])
def test_it_can_be_read_by_a_group_that_may_not_write(is_written: bool) -> None:
    """Also while a daemon of another user has it open."""
    with tempfile.TemporaryDirectory() as name:
        path = filled(Path(name, "events.sqlite"), ROWS)
        path.chmod(0o640)
        with closing(EventLog(path)) if is_written else nullcontext() as events:
            if events is not None:
                events.write([row(8, 25)])
            Path(name).chmod(0o555)
            is_root = os.geteuid() == 0
            if is_root:
                os.seteuid(65_534)
            try:
                assert ids(path) == ("012345678" if is_written else "01234567")
                if not is_written:  # otherwise SQLite shares within a process what the other user has opened
                    with pytest.raises(UserError, match="cannot be used"):
                        EventLog(path)
            finally:
                if is_root:
                    os.seteuid(0)
                Path(name).chmod(0o755)


def test_damage_that_is_met_on_the_way_is_one_line(tmp_path: Path) -> None:
    path = filled(tmp_path / "events.sqlite", [row(i, i / 1000) for i in range(5_000)])
    content = bytearray(path.read_bytes())
    content[8 * 4096 : -8 * 4096] = b"\xff" * (len(content) - 16 * 4096)
    path.write_bytes(content)
    result = run("events", path, "--json")
    refused(result, "is damaged")


def test_it_reads_while_a_daemon_writes(log: Path) -> None:
    with closing(EventLog(log)) as events, closing(sqlite3.connect(log)) as other:
        events.write([row(8, 25)])
        other.execute("BEGIN IMMEDIATE")
        assert ids("--last", "2") == "78"


@pytest.mark.parametrize(
    ("zone_name", "day", "hours"),
    [
        (BERLIN, date(2026, 3, 29), 23),
        (BERLIN, date(2026, 10, 25), 25),
        (BERLIN, date(2026, 10, 26), 24),
        (HAVANA, date(2026, 3, 8), 23),
        (HAVANA, date(2026, 11, 1), 25),
        ("UTC0", date(2026, 3, 29), 24),
    ],
)
def test_a_day_is_as_long_as_it_is(
    monkeypatch: pytest.MonkeyPatch, home: Path, zone_name: str, day: date, hours: int
) -> None:
    """The events of its first and last second are its own, those just outside are not."""
    set_zone(monkeypatch, zone_name)
    begin, end = times.bounds(day)
    assert (end - begin) / 3600 == hours
    assert times.local(begin).date() == day
    assert times.local(begin - 1).date() < day <= times.local(end - 1).date() < times.local(end).date()
    rows = [replace(row(i, 0), onset=onset) for i, onset in enumerate([begin - 0.001, begin, end - 0.001, end])]
    filled(home / "events.sqlite", rows)
    assert ids("--day", day) == "12"
    marks = chart.hour_marks(begin, end)
    assert len(marks) == hours + 1
    header = listing.day_chart(day, rows[1:3])[0]
    assert len(listing.day_chart(day, rows[1:3])[1].partition("|")[2].partition("|")[0]) == 2 * hours
    assert header.split()[0] == f"{marks[0][1]:02d}"


@pytest.mark.slow
def test_a_year_is_answered_from_the_index(tmp_path: Path) -> None:
    """100,000 events: the answers are right, and found without reading the whole table."""
    draw = random.Random(0)
    begin, _ = times.bounds(date(2026, 1, 1))
    rows = _year(draw, begin)
    path = filled(tmp_path / "events.sqlite", rows)
    day = date(2026, 7, 14)
    since, until = times.bounds(day)
    for index, asked in (
        ("events_onset", Query(since=since, until=until)),
        ("events_label", Query(since=since, until=until, labels=("label 7",))),
        ("events_label", Query(since=since, until=until, labels=("label 7", "rare"), min_s=2)),
        ("events_label", Query(labels=("rare",), last=5)),
        ("events_onset", Query(last=5)),
    ):
        expected = sorted(
            (
                each
                for each in rows
                if (asked.since is None or each.onset >= asked.since)
                and (asked.until is None or each.onset < asked.until)
                and (not asked.labels or each.label in asked.labels)
                and (asked.min_s is None or (each.duration_s or 0) >= asked.min_s)
            ),
            key=lambda each: (each.onset, each.id),
        )[-(asked.last or 0) :]
        with reading(path) as database:
            assert list(query.find(database, asked)) == expected
            assert sum(each.events for each in query.count_by_label(database, asked)) == len(expected)
            sql, values = asked.sql()
            plan = [text for *_, text in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
            plan += [
                text
                for *_, text in database.execute(f"EXPLAIN QUERY PLAN SELECT label FROM ({sql}) GROUP BY label", values)
            ]
        tables = [text for text in plan if " events" in text and not text.startswith("SCAN (subquery")]
        assert tables
        assert all(f"USING INDEX {index}" in text or f"USING COVERING INDEX {index}" in text for text in tables), plan
        if asked.last is None:
            assert all("onset>" in text for text in tables), plan
    assert expected
    done = tagger("events", path, "--day", day, "--json")
    found = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    assert found == [each.id for each in sorted(rows, key=lambda each: each.onset) if since <= each.onset < until]
    assert len(found) > 200


def _year(draw: random.Random, begin: float) -> list[EventRow]:
    rows = []
    for i in range(100_000):
        onset = begin + draw.uniform(0, 365 * 86_400)
        label = "rare" if i % 1_000 == 0 else f"label {draw.randrange(50)}"
        rows.append(
            EventRow(f"{i:08d}", "n", "s", label, onset, onset + draw.uniform(0, 9), 0.5, draw.random(), "m", None)
        )
    return rows


def test_a_chart(log: Path) -> None:
    result = run("events", "--day", "2026-11-26", "--chart")
    hours, dog, *others, legend = result.stdout.splitlines()
    assert hours.split() == ["00", "03", "06", "09", "12", "15", "18", "21"]
    cells = dog.partition("|")[2].partition("|")[0]
    assert {i: cell for i, cell in enumerate(cells) if cell != " "} == {0: "█", 17: "█", 47: "█"}
    assert dog.startswith("dog ")
    assert dog.endswith("| 3")
    assert {line.split()[0] for line in others} == {"siren", "car_horn"}
    assert legend.split() == ["█", "=", "1", "in", "half", "an", "hour"]
    assert "1 test not shown" in result.stderr
    assert run("events", "--day", "2020-01-01", "--chart").stderr == "0 events\n"


@given(
    st.lists(
        st.builds(
            lambda hour, label, duration_s, peak, cause: row(0, hour, label, duration_s, peak_score=peak, cause=cause),
            *(st.floats(0, 23.999), st.text(max_size=30), st.none() | st.floats(0, 200_000), st.floats(0, 1)),
            st.sampled_from([None, "test", "restart"]),
        ),
        max_size=30,
    )
)
def test_a_chart_counts_every_event_once(rows: list[EventRow]) -> None:
    lines = listing.day_chart(DAY, rows)
    counted = [int(line.rpartition("| ")[2]) for line in lines if "| " in line and "|" in line[:-2]]
    heard = [each for each in rows if each.cause != "test"]
    assert sum(counted) == len(heard) or any("|" in each.label or "\n" in each.label for each in heard)


def bars(figure: object) -> list[tuple[float, float, float]]:
    """Hours of the day at which each bar begins and ends, and the row that it is in."""
    found = []
    for collection in figure.axes[1].collections:  # type: ignore[attr-defined]
        for path in collection.get_paths():
            (left, low), (right, high) = path.vertices.min(axis=0), path.vertices.max(axis=0)
            found.append(((left - at(0)) / 3600, (right - at(0)) / 3600, (low + high) / 2))
    return found


def texts(figure: object) -> str:
    axes = figure.axes  # type: ignore[attr-defined]
    return " | ".join(text.get_text() for each in axes for text in [*each.texts, *each.get_yticklabels()])


def test_a_picture_has_a_bar_for_each_event() -> None:
    rows = [row(0, 8, "dog", 3600), row(1, 9, "dog", 7200), row(2, 20, "siren", 7 * 3600), row(3, -1, "dog", 5400)]
    figure = chart.draw(DAY, rows)
    drawn = [tuple(round(edge, 6) for edge in bar) for bar in sorted(bars(figure))]
    assert drawn == [(0, 0.5, 0), (8, 9, 0), (9, 11, 0), (20, 24, 1)]
    strip = figure.axes[0]
    counted = {round((bar.get_x() - at(0)) / 3600): bar.get_height() for bar in strip.patches if bar.get_height()}
    assert counted == {8: 1, 9: 1, 20: 1}
    assert "dog  2 | siren  1" in texts(figure)
    assert strip.get_title(loc="left") == "Thursday, 26 November 2026   3 events   attic/mic"


def test_short_and_late_and_open_events_are_seen() -> None:
    rows = [row(0, 10, duration_s=0.1), row(1, 23.999, duration_s=0.1), row(2, 12, duration_s=None)]
    for left, right, _ in bars(chart.draw(DAY, rows)):
        assert right - left >= chart.SHORTEST_BAR_SECONDS / 3600 - 1e-6
        assert 0 <= left < right <= 24


def test_tests_are_hollow_and_not_counted() -> None:
    figure = chart.draw(DAY, [row(0, 10), row(1, 11, cause="test")])
    assert "dog  1" in texts(figure)
    filled_, hollow = figure.axes[1].collections[-2:]
    assert (len(filled_.get_facecolors()), len(hollow.get_facecolors())) == (1, 0)
    assert "hollow: tests, not counted" in texts(figure)


def test_a_picture_of_many_labels_says_what_it_leaves_out() -> None:
    rows = [row(i % 10, i / 10, f"label {i % 50}") for i in range(230)]
    figure = chart.draw(DAY, rows)
    assert len(figure.axes[1].get_yticklabels()) == 40
    assert "label 0  5" in texts(figure)
    assert "not shown: 10 rarer labels with 40 events" in texts(figure)
    assert len(bars(figure)) == 190


def test_a_title_has_room_for_the_sources_it_names() -> None:
    rows = [row(i, i, source=f"a_source_with_a_long_name_{i}") for i in range(9)]
    title = chart.title(DAY, rows, 9)
    assert title.endswith("   9 events   attic/a_source_with_a_long_…, attic/a_source_with_a_long_… and 7 more")


def test_a_picture_is_the_same_every_time_and_1400_wide(log: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        result = run("events", "--day", "2026-11-26", "--plot", tmp_path / name)
        assert (result.exit_code, result.stdout.strip()) == (0, str(tmp_path / name)), result.output
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert 1390 <= picture.width <= 1420


def test_a_picture_shows_what_was_still_heard_at_midnight(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[EventRow] = []
    monkeypatch.setattr(chart, "write", lambda path, of, rows: drawn.extend(rows))
    run("events", "--day", "2026-11-26", "--plot", tmp_path / "day.png")
    assert drawn == ROWS[:7]


@pytest.mark.parametrize("rows", [[], [row(0, 5, "$x_{y$" * 10)], [row(0, 5, "犬"), row(1, 5, "犬", None)]])
def test_any_day_can_be_drawn(tmp_path: Path, rows: list[EventRow]) -> None:
    chart.write(tmp_path / "day.png", DAY, rows)
    assert (tmp_path / "day.png").stat().st_size > 1000


def test_without_matplotlib_it_says_what_to_install(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "find_spec", lambda name: None)
    refused(run("events", "--day", "today", "--plot", "day.png"), "./scripts/setup plot")


def test_a_picture_that_cannot_be_written_is_one_line(log: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(run("events", "--day", "2026-11-26", "--plot", tmp_path / "file" / "day.png"), str(tmp_path / "file"))


@given(st.text(max_size=20))
def test_any_time_is_a_time_or_one_line(text: str) -> None:
    for read in (times.day, times.moment):
        with suppress(UserError):  # and nothing else
            read("--since", text)


def test_a_path_of_letters_and_digits_is_no_secret(tmp_path: Path) -> None:
    folder = tmp_path / "aB3xY9kLm2pQ7rS"
    folder.mkdir()
    done = tagger("events", folder / "log-470e964.sqlite")
    assert "secret" not in done.stderr


def test_what_a_clock_that_was_never_set_has_dated_can_be_asked_for() -> None:
    assert times.moment("--since", "1970-01-01T00:01:00Z") == 60.0
    begin, end = times.bounds(times.day("--day", "1970-01-01"))
    assert 0 <= begin < end <= 36 * 3600
    for text in ("1969-12-31", "1969-12-31T23:59:59Z"):
        with pytest.raises(UserError, match="--since"):
            times.moment("--since", text)
