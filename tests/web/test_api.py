"""Answers of the interface: they are what the OpenAPI document says, and what the daemon knows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest

from tagger.events import Level
from tagger.history.log import EventLog
from tagger.history.postgres import PostgresLog
from tagger.times import rfc3339
from tagger.web import openapi
from tagger.web.live import row_of
from tests.healths import snapshot, source
from tests.web.pages import STREAM, Page, event, page

DOCUMENT = openapi.document()


@pytest.fixture(scope="module")
def served():
    with page() as made:
        for number in range(4):
            made.live.event(STREAM, event(f"e{number}", 1_795_000_000 + number, label=("dog", "siren")[number % 2]))
        made.live.event(STREAM, event("e0", 1_795_000_000, 1_795_000_002.5, peak=0.99))
        yield made


def fits(path: str, answer: Any, status: str = "200", method: str = "get") -> None:
    """Checks an answer against the document."""
    content = DOCUMENT["paths"][path][method]["responses"][status]["content"]["application/json"]
    jsonschema.Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]}).validate(answer)


@pytest.mark.parametrize("name", ["health", "sources", "events", "counts", "labels", "nodes", "places"])
def test_answers_are_as_the_document_says(served: Page, name: str) -> None:
    path = f"/api/{name}"
    fits(path, served.json(path))
    served.found = snapshot(source("mic", state="retrying", reason="gone", detail="unplugged", last_audio_s=None,
                                   rms_dbfs=None, recent=(0.1, 0.2)), trouble="no broker")  # fmt: skip
    fits(path, served.json(path))
    served.found = snapshot(source("mic"))


def test_the_document_describes_each_path_and_each_path_is_answered(served: Page) -> None:
    assert served.json("/api/openapi.json") == DOCUMENT
    for path, methods in DOCUMENT["paths"].items():
        if (
            "get" in methods and path != "/api/live" and not path.startswith(("/api/clips", "/api/thresholds"))
        ):  # none here
            assert served.ask(path)[0] == 200
    schemas = DOCUMENT["components"]["schemas"]
    for name in json.dumps(DOCUMENT).split("#/components/schemas/")[1:]:
        assert name.partition('"')[0] in schemas


def test_events_of_this_run_are_filtered(served: Page) -> None:
    def ids(query: str) -> list[str]:
        return [each["id"] for each in served.json(f"/api/events?{query}")["events"]]

    assert ids("") == ["e0", "e1", "e2", "e3"]
    assert ids("label=siren") == ["e1", "e3"]
    assert ids("label=siren,dog&limit=3") == ["e1", "e2", "e3"]
    assert ids("source=door") == []
    assert ids("min_score=0.95") == ["e0"]
    since, until = rfc3339(1_795_000_001), rfc3339(1_795_000_003)
    assert ids(f"since={quote(since)}&until={quote(until)}") == ["e1", "e2"]
    found = served.json("/api/events?limit=2")
    assert (found["more"], found["kept"]) == (True, "memory")
    assert served.json("/api/events")["more"] is False


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=5001", "limit=nan", "since=yesterday", "since=1e400",
                                   "min_score=inf", "lable=dog", "until=9999-99-99", "since=%00"])  # fmt: skip
def test_a_wrong_parameter_is_named(served: Page, query: str) -> None:
    status, _, text = served.ask(f"/api/events?{query}")
    assert status == 400
    assert json.loads(text)["error"].startswith(query.partition("=")[0])
    fits("/api/events", json.loads(text), "400")


def test_events_come_from_the_log_where_there_is_one(tmp_path: Path, served: Page) -> None:
    log = EventLog(tmp_path / "events.sqlite")
    log.write([row_of(STREAM, event("old", 1_700_000_000.0, 1_700_000_001.0))])
    log.close()
    served.event_log = tmp_path / "events.sqlite"
    found = served.json("/api/events")
    assert (found["kept"], [each["id"] for each in found["events"]]) == ("log", ["old"])
    fits("/api/events", found)
    (tmp_path / "events.sqlite").write_bytes(b"no database at all")
    status, _, text = served.ask("/api/events")
    assert status == 503
    assert "damaged" in json.loads(text)["error"]
    served.event_log = None


@pytest.mark.parametrize("kept", ["memory", "log", "database"])
def test_events_are_counted_by_label_and_time(kept: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    begin = 1_795_000_000
    rows = [
        ("a", "dog", 0.0, 0.9),
        ("b", "dog", 3_599.9, 0.5),
        ("c", "siren", 3_600.0, 0.9),
        ("d", "dog", 7_200.0, 0.9),
    ]
    database = request.getfixturevalue("database") if kept == "database" else None
    with page(database=database) as served:
        if kept == "log":
            served.event_log = tmp_path / "events.sqlite"
            log: EventLog | PostgresLog = EventLog(served.event_log)
        elif database is not None:
            log = PostgresLog(database)
        for id, label, onset, peak in [*rows, ("early", "dog", -0.1, 0.9)]:
            of = event(id, begin + onset, begin + onset + 1, label=label, peak=peak)
            served.live.event(STREAM, of) if kept == "memory" else log.write([row_of(STREAM, of)])
        test = replace(event("t", begin + 1.0, begin + 2.0), cause="test")
        served.live.event(STREAM, test) if kept == "memory" else log.write([row_of(STREAM, test)])
        if kept != "memory":
            log.close()
        edges = ",".join(rfc3339(begin + 3_600 * hour).replace("+00:00", "Z") for hour in range(3))

        def counts(query: str = "") -> list[tuple[str, list[int]]]:
            found = served.json(f"/api/counts?edges={edges}{query}")
            fits("/api/counts", found)
            assert found["kept"] == kept
            assert all(each["total"] == sum(each["counts"]) for each in found["labels"])
            return [(each["label"], each["counts"]) for each in found["labels"]]

        assert counts() == [("dog", [2, 0]), ("siren", [0, 1])]
        assert counts("&label=siren") == [("siren", [0, 1])]
        assert counts("&min_score=0.6") == [("dog", [1, 0]), ("siren", [0, 1])]
        assert counts("&source=door") == counts("&node=cellar") == []
        assert counts("&node=attic,cellar") == counts()
        assert len(served.json("/api/counts")["edges"]) == 25
        for wrong in ("1", edges[:10], f"{edges},{edges}", ",".join(["2026-01-01"] * 200)):
            status, _, text = served.ask(f"/api/counts?edges={wrong}")
            assert (status, json.loads(text)["error"][:6]) == (400, "edges:")


def test_a_source_is_paused_and_resumed(served: Page) -> None:
    for enabled in (False, True):
        status, answer = served.post("/api/sources/mic", json.dumps({"enabled": enabled}))
        assert (status, answer) == (200, {"sources": ["mic"], "enabled": enabled})
        fits("/api/sources/{name}", answer, "200", "post")
    assert served.paused[-2:] == [("mic", True), ("mic", False)]
    status, answer = served.post("/api/sources/door", '{"enabled": true}')
    assert status == 404
    assert "door" in answer["error"]


def test_a_fault_of_ours_is_said_without_its_details(served: Page, caplog: pytest.LogCaptureFixture) -> None:
    before, served.found = served.found, None  # type: ignore[assignment]
    status, _, text = served.ask("/api/health")
    served.found = before
    assert (status, json.loads(text)) == (500, {"error": "something failed; the log says what"})
    assert "AttributeError" in caplog.text


def test_files_are_sent_once(served: Page) -> None:
    status, headers, _ = served.ask("/static/style.css")
    assert status == 200
    assert served.ask("/static/style.css", If_None_Match=headers["etag"])[0] == 304
    assert "static/app.js" in served.ask("/")[2]


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/api/health", "POST", {"GET", "HEAD"}),
        ("/api/sources/mic", "GET", {"POST"}),
        ("/api/thresholds", "TRACE", {"GET", "HEAD", "POST"}),
        ("/api/clips/marks", "DELETE", {"POST"}),
        ("/api/doctor", "OPTIONS", {"GET", "HEAD", "POST"}),
        ("/logout", "GET", {"POST"}),
        ("/", "PUT", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_a_path_lacks_is_refused_with_those_that_it_has(
    served: Page, path: str, method: str, allowed: set[str]
) -> None:
    status, headers, text = served.ask(path, method)
    assert (status, {*headers["allow"].split(", ")}) == (405, allowed)
    assert json.loads(text) == {"error": "Method Not Allowed"}


@pytest.mark.parametrize("path", ["/api/health", "/api/events", "/api/counts", "/api/labels", "/api/live"])
def test_an_address_that_is_too_long_is_refused_as_the_document_says(served: Page, path: str) -> None:
    status, _, text = served.ask(f"{path}?label={'x' * 5000}")
    assert status == 414
    fits(path, json.loads(text), "414")


def test_the_level_of_the_last_hour_is_answered(served: Page) -> None:
    def level(time: float, rms: float = -40.0) -> Level:
        return Level(rms_dbfs=rms, peak_dbfs=rms + 12.34, clipped=0, time=time)

    for time in (100.0, 110.0, 3_700.0, 3_709.96):
        served.live.audio(STREAM, level(time))
    found = served.json("/api/levels")
    fits("/api/levels", found)
    assert found == {"levels": {"mic": [[110.0, -40.0, -27.7], [3_700.0, -40.0, -27.7], [3_710.0, -40.0, -27.7]]}}
    assert served.json("/api/levels?source=mic,door") == found
    assert served.json("/api/levels?source=door") == {"levels": {}}
    assert served.ask("/api/levels?label=dog")[0] == 400
    for number in range(5_000):
        served.live.audio(STREAM, level(4_000.0 + number / 10))
    assert len(served.json("/api/levels")["levels"]["mic"]) == 720
