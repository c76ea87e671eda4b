"""The message on `stats`."""

import json

from tagger import health


class Counted:
    def __init__(self, windows, latencies):
        self.windows, self.skipped, self.overruns, self.reconnects = windows, 1, 2, 3
        self._latencies = latencies

    def take_latencies(self):
        taken, self._latencies = self._latencies, []
        return taken


def test_it_adds_up_the_sources_and_takes_quantiles_since_the_last():
    sources = [Counted(10, [i / 1000 for i in range(100)]), Counted(5, [])]
    first = health.message("attic", sources, {"waiting": 7, "dropped": 2, "reconnects": 4}, 60.4)
    assert list(first) == [
        *("schema", "time", "uptime_s", "windows", "skipped", "overruns", "reconnects", "broker_reconnects"),
        *("queue", "dropped", "latency_ms", "node", "version"),
    ]
    assert (first["uptime_s"], first["windows"], first["skipped"], first["overruns"]) == (60, 15, 2, 4)
    assert (first["queue"], first["dropped"], first["broker_reconnects"], first["reconnects"]) == (7, 2, 4, 6)
    assert first["latency_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    second = health.message("attic", sources, {}, 1000.0)
    assert (second["latency_ms"], second["queue"]) == (None, 0)
    json.dumps(second, allow_nan=False)
