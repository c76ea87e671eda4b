"""How a fleet does, in words and for Prometheus."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tagger.errors import TaggerError
from tagger.fleet.figures import exposition, lines, page, problems

STATUS: dict[str, Any] = {
    "sources": 3,
    "heard": 1,
    "without_owner": 1,
    "capacity": 2.5,
    "granting": True,
    "moved": {"lost": 4},
    "problem": "",
    "troubles": ["city-2: its process ends at once; its log says why"],
    "nodes": {
        "city-1": {
            "streams": 2,
            "capacity": 2.5,
            "silent_s": 0.4,
            "waiting": 7,
            "trouble": "mqtt: broker:1883 refuses",
            "drained": True,
            "session": "x",
        }
    },
    "streams": {
        "garden": {"node": "city-1", "state": "hearing", "windows": 10, "skipped": 1, "events": 2},
        "roof": {"node": "city-1", "state": "failed", "detail": "no such file"},
        "yard": {"node": None},
    },
}


def test_what_is_amiss_is_named() -> None:
    assert problems(STATUS) == [
        "city-2: its process ends at once; its log says why",
        "the workers can carry 2.5 streams, and there are 3",
        "city-1: mqtt: broker:1883 refuses; 7 events wait",
        "roof: failed: no such file",
        "yard: no worker has it",
    ]
    text = "\n".join(lines(STATUS))
    assert "3 streams, 1 heard; 1 worker that can carry 2.5" in text
    assert "given to another worker: lost 4" in text
    assert "drained" in text


def test_prometheus_reads_sums_and_streams() -> None:
    found = {
        (sample.name, sample.labels.get("source")): sample.value
        for family in text_string_to_metric_families(exposition(STATUS))
        for sample in family.samples
    }
    assert found["tagger_fleet_sources", None] == 3
    assert found["tagger_fleet_moved_total", None] == 4
    assert found["tagger_source_heard", "garden"] == 1
    assert found["tagger_source_heard", "yard"] == 0
    assert found["tagger_windows_total", "garden"] == 10


def test_pages() -> None:
    healthy, not_ready = page("/healthz", lambda: STATUS), page("/readyz", lambda: STATUS)
    assert healthy is not None
    assert healthy[0] == 200
    assert not_ready is not None
    assert not_ready[0] == 503
    assert page("/other", lambda: STATUS) is None


def test_a_coordinator_that_does_not_answer_is_not_ready() -> None:
    def status() -> dict[str, Any]:
        raise TaggerError("the coordinator does not answer")

    assert page("/healthz", status) == (200, "text/plain; charset=utf-8", "ok\n")
    for path in ("/readyz", "/metrics", "/status"):
        assert page(path, status) == (503, "text/plain; charset=utf-8", "the coordinator does not answer\n")
