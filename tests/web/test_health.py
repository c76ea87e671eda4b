"""Answers about other nodes, the last faults, and what doctor finds; and what guests learn of them."""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from tagger.settings import MqttSettings
from tests.programs import until
from tests.web.pages import FINDINGS, STREAM, event, page
from tests.web.test_api import fits
from tests.web.test_clips import START, save

GUEST = {"Authorization": "Bearer guests may look"}
OWNER = {"Authorization": "Bearer correct horse"}
PASSWORDS = {"password": "correct horse", "guest_password": "guests may look"}


def test_other_nodes_are_answered_as_the_document_says() -> None:
    with page(broker=MqttSettings(node="attic")) as served:
        served.nodes.note("tagger/cellar/status", b"online", True)
        served.nodes.note("tagger/cellar/mic/status", b"online", True)
        served.nodes.note("tagger/cellar/stats", json.dumps(served.found.stats({})).encode(), False)
        served.nodes.note("tagger/shed/status", b"offline", False)
        found = served.json("/api/nodes")
        fits("/api/nodes", found)
        assert (found["broker"], found["connected"]) == ("mqtt://localhost:1883", True)
        assert [(each["node"], each["online"]) for each in found["nodes"]] == [("cellar", True), ("shed", False)]
    with page() as served:
        fits("/api/nodes", served.json("/api/nodes"))


def test_the_last_faults_are_answered_as_the_document_says() -> None:
    with page() as served, served.faults.listening():
        logging.getLogger("tagger.x").warning("%s: away; trying again", "door")
        found = served.json("/api/faults")
        fits("/api/faults", found)
        assert ("door", "away", "trying again") in [
            (each["about"], each["said"], each["advice"]) for each in found["faults"]
        ]


def test_doctor_runs_once_at_a_time_beside_the_page() -> None:
    goes_on, runs = threading.Event(), []

    def examine() -> Iterator[Mapping[str, str]]:
        runs.append(1)
        yield FINDINGS[0]
        assert goes_on.wait(90)
        yield FINDINGS[1]

    with page(examine=examine) as served:
        before = served.json("/api/doctor")
        fits("/api/doctor", before)
        assert before == {"running": False, "began": None, "ended": None, "findings": []}
        for _ in range(3):
            status, answer = served.post("/api/doctor", "{}")
            assert (status, answer["running"]) == (200, True)
        until(lambda: served.json("/api/doctor")["findings"] == [FINDINGS[0]], "the first is known already")
        assert served.json("/api/health")["node"] == "attic"  # the page answers meanwhile
        goes_on.set()
        until(lambda: not served.json("/api/doctor")["running"], "it is done")
        found = served.json("/api/doctor")
        fits("/api/doctor", found)
        assert (found["findings"], len(runs)) == (list(FINDINGS), 1)
        assert found["ended"] >= found["began"]
        served.post("/api/doctor", "{}")
        until(lambda: len(runs) == 2, "it runs again")
        assert served.post("/api/doctor", '{"a": 1}')[0] == 400
        assert served.ask("/api/doctor", "POST", "x=1")[0] == 415


def test_checks_that_fail_themselves_end() -> None:
    def examine() -> Iterator[Mapping[str, str]]:
        yield FINDINGS[0]
        raise ValueError("no such thing")

    with page(examine=examine) as served:
        served.post("/api/doctor", "{}")
        until(lambda: served.json("/api/doctor")["ended"] is not None, "it has ended")
        assert [each["state"] for each in served.json("/api/doctor")["findings"]] == ["ok", "fail"]


def test_guests_see_nodes_but_neither_faults_nor_doctor_nor_which_clips_there_are(tmp_path: Path) -> None:
    with page(clips=save(tmp_path / "clips", "siren"), **PASSWORDS) as served:
        served.live.event(STREAM, event("e0", START, START + 2))
        assert served.json("/api/events", **OWNER)["events"][0]["clip"] is True
        assert "clip" not in served.json("/api/events", **GUEST)["events"][0]
        assert served.json("/api/nodes", **GUEST)["nodes"] == []
        for path in ("/api/faults", "/api/doctor"):
            assert (served.ask(path, **OWNER)[0], served.ask(path, **GUEST)[0], served.ask(path)[0]) == (200, 403, 401)
        assert served.ask("/api/doctor", "POST", "{}", Content_Type="application/json", **GUEST)[0] == 403
