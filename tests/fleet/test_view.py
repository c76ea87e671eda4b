"""What the fleet's page is told."""

import http.client
import json
import time
from dataclasses import replace

import pytest

from tagger.errors import UserError
from tagger.events import Event
from tests.web.fleets import fleet_page

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
