"""The snapshot of the daemon's health: what is amiss, and the message on `stats`."""

import json

import pytest

from tests.healths import NOW, snapshot, source


def test_stats_add_up_the_sources_and_take_quantiles_of_new_latencies():
    both = source("mic", windows=10), source("door", windows=5, rms_dbfs=None, last_audio_s=None)
    daemon = snapshot(*both, waiting=7)
    first = daemon.stats({"mic": [i / 1000 for i in range(100)]})
    assert list(first) == [
        *("schema", "time", "uptime_s", "windows", "skipped", "overruns", "reconnects", "broker_reconnects"),
        *("queue", "dropped", "latency_ms", "sources", "node", "version", "verdict", "problems", "memory_mb"),
    ]
    assert (first["uptime_s"], first["windows"], first["skipped"], first["overruns"]) == (60, 15, 2, 4)
    assert (first["queue"], first["dropped"], first["broker_reconnects"], first["reconnects"]) == (7, 5, 6, 6)
    assert first["latency_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert (first["verdict"], first["problems"], first["memory_mb"]) == ("ok", [], 120.0)
    counts = {"skipped": 1, "overruns": 2, "reconnects": 3}
    state = {"state": "hearing", "reason": "", "detail": "", "since": "2027-01-15T07:59:00.000+00:00"}
    assert first["sources"] == {
        "mic": {
            **{"windows": 10, **counts, "lag_ms": 99.0, **state, "last_audio_s": 0.1, "rms_dbfs": -50.0},
            "latency_ms": {"p50": 50.0, "p95": 95.0, "p99": 99.0},
        },
        "door": {
            **{"windows": 5, **counts, "lag_ms": None, **state, "last_audio_s": None, "rms_dbfs": None},
            "latency_ms": None,
        },
    }
    assert daemon.stats({})["latency_ms"] is None
    json.dumps(first, allow_nan=False)
    json.dumps(daemon.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("sources", "verdict", "problems"),
    [
        ([source()], "ok", []),
        ([source(state="off", reason="paused")], "ok", []),
        ([source(state="ended"), source("door")], "ok", []),
        (
            [source(state="retrying", reason="gone", detail="it has gone", since=NOW - 7_200), source("door")],
            "degraded",
            ["mic: retrying for 2 h 0 min: it has gone"],
        ),
        ([source(state="retrying", reason="gone")], "failing", ["mic: retrying for 1 min: gone"]),
        ([source(state="starting")], "failing", ["mic: no audio since the start 1 min ago"]),
        (
            [source(idle_s=50.0), source("door")],
            "failing",
            ["mic: its thread has not moved for 50 s; restart the daemon"],
        ),
        ([source(state="ended", idle_s=4_000.0)], "ok", []),
        ([source(state="retrying", reason="gone", idle_s=-20.0), source("door")], "degraded", None),
        (
            [source(state="silent", reason="zeros", detail="is it muted?"), source("door")],
            "degraded",
            ["mic: silent for 1 min: is it muted?"],
        ),
        ([source(reason="quiet", detail="it is quiet")], "ok", []),
        (
            [source(state="ended", reason="failed", detail="damaged"), source("door")],
            "degraded",
            ["mic: ended for 1 min: damaged"],
        ),
        ([source(recent=(0.1,) * 95 + (None,) * 5)], "ok", []),
        (
            [source(recent=(0.1, None) * 50)],
            "degraded",
            [
                "mic: 50% of its last windows were skipped, since inference is slower than the hop; "
                "use a longer --hop, or fewer sources"
            ],
        ),
    ],
)
def test_what_is_amiss_is_said_and_judged(sources, verdict, problems):
    daemon = snapshot(*sources)
    assert daemon.verdict == verdict
    assert problems is None or daemon.problems == problems
    assert daemon.to_json()["verdict"] == verdict


def test_a_source_that_starts_is_no_problem_at_once():
    young = snapshot(source(state="starting", since=NOW - 5), uptime_s=5)
    assert (young.verdict, young.problems) == ("ok", [])


def test_a_broker_that_is_away_is_a_problem():
    daemon = snapshot(waiting=3, trouble="no connection to mqtt://broker:1883: refused")
    assert daemon.problems == ["mqtt: no connection to mqtt://broker:1883: refused; 3 events wait"]
    assert daemon.verdict == "degraded"
