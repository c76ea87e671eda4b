"""The live page, whose events come from the database of `tagger collect`: a real PostgreSQL."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
import pytest

from tagger import times
from tagger.errors import SettingError
from tagger.history import query
from tagger.history.log import EventRow
from tagger.history.postgres import PostgresLog, reading
from tagger.settings import WebSettings
from tagger.web import kept
from tests.programs import until
from tests.web.pages import Page, page
from tests.web.test_api import fits

BEGIN = datetime(2026, 11, 27, 12).timestamp()


def row(number: int, node: str, source: str, label: str = "dog") -> EventRow:
    begin = BEGIN + number
    return EventRow(f"{number:026}", node, source, label, begin, begin + 0.5, 0.9, 0.5 + number / 100, "m", None)


@pytest.fixture
def filled(database: str) -> str:
    """Two nodes with three sources, and one with another label."""
    rows = [row(0, "attic", "mic"), row(1, "attic", "yard"), row(2, "barn", "mic"), row(3, "cellar", "mic", "siren")]
    with closing(PostgresLog(database)) as log:
        log.write(rows)
    return database


@contextmanager
def shown(database: str) -> Iterator[tuple[Page, Callable[[str], list[str]]]]:
    """A page, and the nodes and sources of the events that meet a query of it."""
    with page(database=database) as served:

        def places(query: str) -> list[str]:
            found = served.json(f"/api/events?{query}")
            fits("/api/events", found)
            assert found["kept"] == "database"
            return [f"{each['node']}/{each['source']}" for each in found["events"]]

        yield served, places


def test_events_of_all_nodes_are_listed_and_filtered(filled: str) -> None:
    with shown(filled) as (served, places):
        assert places("") == ["attic/mic", "attic/yard", "barn/mic", "cellar/mic"]
        assert places("node=attic") == ["attic/mic", "attic/yard"]
        assert places("node=attic,barn&source=mic") == ["attic/mic", "barn/mic"]
        assert places("node=nobody") == []
        assert places("label=siren") == ["cellar/mic"]
        assert places("limit=1&min_score=0.52") == ["cellar/mic"]
        found = served.json("/api/places")
        fits("/api/places", found)
        assert found["places"] == [
            {"node": "attic", "sources": ["mic", "yard"]},
            {"node": "barn", "sources": ["mic"]},
            {"node": "cellar", "sources": ["mic"]},
        ]


def test_without_a_database_the_page_knows_its_own_node() -> None:
    with page() as served:
        name = served.found.node
        assert served.json("/api/places") == {"places": [{"node": name, "sources": ["mic"]}]}


def test_a_database_without_tables_or_that_is_away_is_said_without_its_password(database: str) -> None:
    with shown(database) as (served, _):
        for path in ("/api/events", "/api/counts", "/api/places"):
            status, _, text = served.ask(path)
            assert status == 503
            fits(path, json.loads(text), "503")
            assert "has no events; `tagger collect` writes them" in json.loads(text)["error"]
            assert "secret" not in text
    with shown("postgresql://tagger:secret@127.0.0.1:1/sounds") as (served, _):
        status, _, text = served.ask("/api/events")
        assert status == 503
        assert json.loads(text)["error"].startswith("postgresql://127.0.0.1:1/sounds: connection")
        assert "secret" not in text


def test_the_page_cannot_write(filled: str) -> None:
    with reading(filled, 5.0) as database, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        database.execute("SELECT * FROM events FOR UPDATE")  # a lock is a write


def test_a_question_that_takes_too_long_is_given_up(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LONGEST_SECONDS", 1.0)
    with psycopg.connect(filled) as other, shown(filled) as (served, places):
        other.execute("LOCK TABLE events")
        for path in ("/api/events", "/api/counts", "/api/places"):
            status, _, text = served.ask(path)
            assert status == 503
            assert "this takes too long to find; ask for a shorter time" in json.loads(text)["error"]
        other.rollback()
        monkeypatch.undo()
        assert len(places("")) == 4


def test_what_was_counted_before_the_time_was_up_is_remembered(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count, asked, limit = query.count, list[float](), [3]

    def slow(database: Any, stretch: query.Query) -> dict[str, int]:
        if len(asked) >= limit[0]:
            raise psycopg.errors.QueryCanceled
        asked.append(stretch.since or 0.0)
        return count(database, stretch)

    monkeypatch.setattr(query, "count", slow)
    begin = time.time() - 1_000
    with closing(PostgresLog(filled)) as log:
        log.write([replace(row(9, "attic", "mic"), onset=begin + 15, offset=begin + 16)])
    edges = ",".join(times.rfc3339(begin + 10 * step).replace("+", "%2B") for step in range(7))
    with shown(filled) as (served, _):
        status, _, text = served.ask(f"/api/counts?edges={edges}")
        assert status == 503
        assert "ask again: what was counted is remembered" in json.loads(text)["error"]
        limit[0] = 100
        found = served.json(f"/api/counts?edges={edges}")
        assert len(asked) == len(set(asked)) == 6, "no stretch was counted twice"
        assert served.json(f"/api/counts?edges={edges}") == found
        assert len(asked) == 6
        assert [each["counts"] for each in found["labels"]] == [[0, 1, 0, 0, 0, 0]]


def test_stretches_that_go_on_and_those_of_a_file_are_counted_each_time() -> None:
    now, asked = [1_000.0], list[float | None]()

    class Database:
        def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:
            asked.append(values[0])
            return [("dog", 1)]

    counted = kept.Counted(lambda: now[0])
    for stretch, may_remember, often in (
        (query.Query(since=1.0, until=900.0), True, 1),
        (query.Query(since=2.0, until=1_100.0), True, 3),  # it goes on
        (query.Query(since=3.0, until=900.0), False, 3),
        (query.Query(since=1.0, until=900.0, labels=("dog",)), True, 1),
    ):
        asked.clear()
        for _ in range(3):
            assert counted.of(Database(), stretch, may_remember) == {"dog": 1}
        assert len(asked) == often, stretch
    asked.clear()
    now[0] += kept.REMEMBERED_SECONDS
    counted.of(Database(), query.Query(since=1.0, until=900.0), True)
    assert asked, "events of a node that was away may have come"


def test_few_connections_are_open_however_many_ask(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LONGEST_SECONDS", 60.0)
    with psycopg.connect(filled, autocommit=True) as watching, shown(filled) as (_, places):
        most, is_over = 0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not is_over.wait(0.001):
                rows = watching.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tagger' AND state <> 'idle'"
                ).fetchone()
                most = max(most, rows[0] if rows else 0)

        watcher = threading.Thread(target=watch)
        watcher.start()
        with ThreadPoolExecutor(16) as pool:
            assert {len(each) for each in pool.map(places, [""] * 32)} == {4}
        is_over.set()
        watcher.join()
    assert most <= kept.MOST_AT_ONCE


def test_only_a_url_of_postgresql_is_a_database() -> None:
    with pytest.raises(SettingError, match="postgresql://user@host/name"):
        WebSettings(database="events.sqlite")
    assert "secret" not in repr(WebSettings(database="postgresql://tagger:secret@db/sounds"))


@pytest.mark.browser
def test_the_day_of_many_nodes_is_filtered_by_node(tab: Any, filled: str) -> None:
    with page(database=filled) as served:
        tab.set_viewport_size({"width": 1200, "height": 900})
        tab.clock.set_fixed_time(datetime.fromtimestamp(BEGIN))
        tab.goto(f"{served.url}#day")
        tab.get_by_text("4 events.").wait_for()
        assert tab.locator("#day-source option").all_inner_texts() == ["all", "mic", "yard"]
        tab.locator("#day .map tbody tr").first.locator(".field:not([data-heat='0'])").click()
        tab.locator("#day .found tbody tr").nth(2).wait_for()
        found = [each.inner_text() for each in tab.locator("#day .found tbody td:nth-child(3)").all()]
        assert found == ["barn / mic", "attic / yard", "attic / mic"]
        tab.locator("#day-node").select_option("barn")
        tab.get_by_text("1 event.", exact=False).first.wait_for()
        until(lambda: tab.locator("#day .found tbody tr").count() == 1, "the events of one node")
        assert tab.locator("#day-source option").all_inner_texts() == ["all", "mic"]
        tab.locator("#day-node").select_option("attic")
        tab.locator("#day-source option", has_text="yard").wait_for(state="attached")
        tab.locator("#day-source").select_option("yard")
        tab.locator("#day-node").select_option("")
        assert tab.locator("#day-source").input_value() == "yard"  # other nodes may have it, too
        tab.locator("#day-node").select_option("cellar")
        tab.locator("#day .map tbody th", has_text="siren").wait_for()
        assert tab.locator("#day-source").input_value() == ""  # it has no such source
