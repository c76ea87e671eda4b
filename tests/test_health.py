"""The message on `stats`."""

import json

from tagger import health
from tagger.events import Stream


class Counted:
    def __init__(self, name, windows, latencies):
        self.stream = Stream("attic", name, "esc50", ("dog",))
        self.windows, self.skipped, self.overruns, self.reconnects = windows, 1, 2, 3
        self._latencies = latencies

    def take_latencies(self):
        taken, self._latencies = self._latencies, []
        return taken


def test_it_adds_up_the_sources_and_takes_quantiles_since_the_last():
    sources = [Counted("mic", 10, [i / 1000 for i in range(100)]), Counted("door", 5, [])]
    first = health.message("attic", sources, {"waiting": 7, "dropped": 2, "reconnects": 4}, 60.4)
    assert list(first) == [
        *("schema", "time", "uptime_s", "windows", "skipped", "overruns", "reconnects", "broker_reconnects"),
        *("queue", "dropped", "latency_ms", "sources", "node", "version"),
    ]
    assert (first["uptime_s"], first["windows"], first["skipped"], first["overruns"]) == (60, 15, 2, 4)
    assert (first["queue"], first["dropped"], first["broker_reconnects"], first["reconnects"]) == (7, 2, 4, 6)
    assert first["latency_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    counts = {"skipped": 1, "overruns": 2, "reconnects": 3}
    assert first["sources"] == {
        "mic": {"windows": 10, **counts, "lag_ms": 99.0},
        "door": {"windows": 5, **counts, "lag_ms": None},
    }
    second = health.message("attic", sources, {}, 1000.0)
    assert (second["latency_ms"], second["queue"]) == (None, 0)
    json.dumps(second, allow_nan=False)


def test_skipped_windows_are_warned_of_once_a_minute(caplog):
    """20 sources skip every second window, ten times a second, for three minutes."""
    now = [0.0]
    skips = health.SkipLog(0.1, lambda: now[0])
    for step in range(1_800):
        now[0] = step / 10
        for number in range(20):
            (skips.skipped if step % 2 else skips.classified)(f"room{number}")
    assert len(caplog.messages) == 3
    assert caplog.messages[0] == (
        "inference is slower than the hop of 0.1 s; skipped since the last such line: 1 of 2 windows of room0; "
        "use a longer --hop, or fewer sources"
    )
    assert "300 of 600 windows of room1, " in caplog.messages[1]
    assert "and windows of 15 other sources" in caplog.messages[1]
