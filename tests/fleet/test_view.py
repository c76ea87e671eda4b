"""What the fleet's page is told."""

import http.client
import json
import time
from dataclasses import replace

import pytest

from tagger.errors import UserError
from tagger.events import Event
from tagger.fleet import room
from tagger.fleet.figures import fleet_problems
from tests.web.fleets import fleet_page, status

BEGIN = Event("begin", "e1", "dog", 0.9, 0.93, time.time())


def test_a_page_is_given_the_streams_that_it_asks_for_and_the_numbers_of_all() -> None:
    with fleet_page() as served:
        found = served.view.to_json({})
        assert (found["sources"], found["heard"], found["amiss"], found["found"], len(found["streams"])) == (
            1000, 980, 20, 1000, 60,
        )  # fmt: skip
        served.opens("city-2", "street_1", "dog")
        served.opens("town-1", "street_2", "dog", fleet="town")
        assert [each["name"] for each in served.view.to_json({"sounding": "1"})["streams"]] == ["street_1"]
        served.opens("city-2", "street_1")
        assert served.view.to_json({"sounding": "1"})["found"] == 0
        assert served.view.to_json({"find": "street_99", "node": "city-4", "limit": "2"})["found"] == 4
        for wrong in ({"limit": "0"}, {"limit": "x"}, {"amiss": "yes"}, {"other": "1"}):
            with pytest.raises(UserError):
                served.view.to_json(wrong)


def test_the_first_end_of_an_event_counts_and_what_is_no_event_changes_nothing() -> None:
    with fleet_page() as served:
        served.view.note("tagger/city-1/status", b"online", True)
        served.event("city-1", "street_0", BEGIN)
        served.event("city-1", "street_0", replace(BEGIN, type="end", offset=BEGIN.onset + 2, cause="takeover"))
        served.event("city-1", "street_0", replace(BEGIN, type="end", offset=BEGIN.onset + 9))
        for payload in (b"{", b"[]", b'{"type": "end"}', b'{"type": "begin", "onset": 1, "peak_score": "x"}', b"\xff"):
            served.view.note("tagger/city-1/street_0/event", payload, False)
        served.view.note("tagger/attic/mic/event", b"{}", False)
        (event,) = served.view.to_json({})["events"]
        assert (event["duration_s"], event["cause"], event["node"]) == (2.0, "takeover", "city-1")


def test_what_is_open_is_bounded_and_what_is_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_BYTES", 20_000)
    with fleet_page() as served:
        for i in range(100):
            served.opens("city-1", f"street_{i}", "d" * 400)
        found = served.view.to_json({"sounding": "1"})
        assert 3 < found["found"] < 30
        assert all(len(sound["label"]) <= 200 for stream in found["streams"] for sound in stream["sounds"])
        assert "more is open than is kept: some sounds are not shown" in found["problems"]
        for i in range(100):
            served.opens("city-1", f"street_{i}")
        assert served.view.to_json({"sounding": "1"})["found"] == 0
        served.opens("city-1", "street_99", "dog")
        found = served.view.to_json({"sounding": "1"})
        assert found["found"] == 1, "there is room again"
        assert "more is open than is kept: some sounds are not shown" not in found["problems"]


def test_a_worker_that_comes_takes_the_place_of_one_that_is_gone() -> None:
    said = "more than 200 workers: the others are not listed"
    with fleet_page() as served:
        served.status = status(1)
        for i in range(210):
            served.view.note(f"tagger/city-{i}/status", b"offline" if i < 5 else b"online", True)
        assert said in served.view.to_json({})["problems"]
        served.view.note("tagger/city-7/status", b"", True)
        served.view.note("tagger/city-209/status", b"offline", True)
        found = served.view.to_json({})
        assert said not in found["problems"]
        assert "city-209" in [each["node"] for each in found["nodes"]]


def test_more_problems_than_are_shown_are_counted() -> None:
    with fleet_page() as served:
        served.status = {**status(1), "troubles": [f"trouble {i}" for i in range(50)]}
        problems = served.view.to_json({})["problems"]
        assert (len(problems), problems[-1]) == (20, f"{len(fleet_problems(served.status)) - 19} more")


def test_the_page_asks_for_the_password_and_answers_mistakes() -> None:
    with fleet_page(password="a long password") as served:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=90)
        for path, headers, status in (
            ("/api/fleet", {}, 401),
            ("/api/fleet", {"Authorization": "Bearer a long password"}, 200),
            ("/api/fleet?limit=9999", {"Authorization": "Bearer a long password"}, 400),
            ("/", {"Authorization": "Bearer a long password"}, 200),
            ("/api/events", {"Authorization": "Bearer a long password"}, 404),
        ):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == status, path
            if path == "/":
                assert b"fleet.js" in body
            else:
                json.loads(body)
        connection.close()
