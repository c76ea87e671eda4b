"""The text for Prometheus, read by Prometheus' own client where that is installed."""

import shutil
import subprocess

import pytest

from tagger.daemon.metrics import exposition
from tests.healths import NOW, snapshot, source

SNAPSHOT = snapshot(
    source("mic", events={"dog": 3, 'a "b"\\c': 1}, histogram=((0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1), 20.25)),
    source("door", state="retrying", last_audio_s=None, rms_dbfs=None, histogram=((0,) * 11, 0.0)),
    waiting=4,
    trouble="away",
)


def test_each_number_has_its_line():
    lines = exposition(SNAPSHOT).splitlines()
    for line in (
        'tagger_source_state{source="mic",state="hearing"} 1',
        'tagger_source_state{source="door",state="retrying"} 1',
        'tagger_source_state{source="door",state="hearing"} 0',
        'tagger_source_last_audio_seconds{source="mic"} 0.1',
        'tagger_source_level_dbfs{source="mic"} -50',
        'tagger_windows_total{source="mic"} 100',
        'tagger_windows_skipped_total{source="door"} 1',
        'tagger_events_total{source="mic",label="dog"} 3',
        'tagger_events_total{source="mic",label="a \\"b\\"\\\\c"} 1',
        'tagger_latency_seconds_bucket{source="mic",le="0.05"} 3',
        'tagger_latency_seconds_bucket{source="mic",le="+Inf"} 4',
        'tagger_latency_seconds_sum{source="mic"} 20.25',
        'tagger_latency_seconds_count{source="mic"} 4',
        'tagger_queue_events{sink="mqtt"} 4',
        'tagger_sink_up{sink="mqtt"} 0',
        "tagger_healthy 0",
        "tagger_problems 2",
        "process_resident_memory_bytes 120000000",
        f"process_start_time_seconds {NOW - 60.4}",
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith('tagger_source_level_dbfs{source="door"}')]


def test_prometheus_reads_it():
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    found = {each.name: each for each in parser.text_string_to_metric_families(exposition(SNAPSHOT))}
    assert found["tagger_events"].type == "counter"
    assert {each.labels["label"]: each.value for each in found["tagger_events"].samples} == {"dog": 3, 'a "b"\\c': 1}
    assert found["tagger_latency_seconds"].type == "histogram"
    assert all(each.documentation for each in found.values())


def test_promtool_has_no_complaint():
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (apt install prometheus)")
    done = subprocess.run(["promtool", "check", "metrics"], input=exposition(SNAPSHOT), capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
