"""`--watch` is an onlooker: whatever arrives is one line, and nothing ends the daemon."""

import io
import json
import os
import pty
import re
import select
import subprocess
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagger.mqtt.watch import Watcher
from tagger.printable import printable
from tagger.settings import MqttSettings
from tests.programs import LONG_S, TAGGER, Mosquitto, subscribed, until

EVENT = "tagger/room/mic/event"
BEGIN: dict[str, Any] = {"type": "begin", "label": "dog", "score": 0.9}
END: dict[str, Any] = BEGIN | {"type": "end", "peak_score": 0.95, "duration_s": 2.0}


def watcher(encoding: str = "utf-8", port: int = 1883) -> tuple[Watcher, io.BytesIO]:
    raw = io.BytesIO()
    return Watcher(MqttSettings("127.0.0.1", port, node="room"), io.TextIOWrapper(raw, encoding, newline="\n")), raw


def shown(topic: str, payload: bytes, encoding: str = "utf-8") -> str:
    """The one line that is printed for a message."""
    made, raw = watcher(encoding)
    made.print_message(topic, payload, retained=False)
    text = raw.getvalue().decode(encoding)
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert printable(text[:-1]) == text[:-1]
    assert len(text) < 5_100  # each of 500 characters is at most ten of an escape
    return text


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(
    topic=st.text(max_size=60) | st.just(EVENT) | st.just("tagger/room/status"),
    payload=st.binary(max_size=200),
    encoding=st.sampled_from(["utf-8", "ascii", "latin-1"]),
)
@example(EVENT, b"[" * 90_000, "utf-8")
@example(EVENT, b'{"a":' * 90_000, "utf-8")
@example(EVENT, b"1" * 5_000, "utf-8")
@example(EVENT, json.dumps(BEGIN | {"score": 10**400}).encode(), "utf-8")
@example(EVENT, json.dumps(BEGIN | {"label": "half \ud83d"}).encode(), "ascii")
@example(EVENT, json.dumps(BEGIN | {"label": "dog\x1b[2J\r\n\u2028\u202eforged"}).encode(), "latin-1")
@example(EVENT, b"\xff\xfe\x00", "ascii")
def test_any_bytes_on_any_topic_are_one_line(topic: str, payload: bytes, encoding: str) -> None:
    shown(topic, payload, encoding)


@given(fields=st.dictionaries(st.sampled_from([*END]), anything), is_end=st.booleans())
def test_any_value_in_an_event_is_one_line(fields: dict[str, Any], is_end: bool) -> None:
    shown(EVENT, json.dumps((END if is_end else BEGIN) | fields).encode())


def test_an_event_is_shown_as_ever() -> None:
    assert shown(EVENT, json.dumps(BEGIN).encode()) == f"{EVENT:<28} begin dog                score 0.90\n"
    assert shown(EVENT, json.dumps(BEGIN | {"label": "Türklingel"}).encode()).split()[2] == "Türklingel"
    assert shown(EVENT, json.dumps(END).encode()).endswith("peak 0.95  lasted 2.0 s\n")


def test_an_output_that_is_closed_ends_nothing() -> None:
    made, raw = watcher()
    raw.close()
    made.print_message(EVENT, json.dumps(BEGIN).encode(), retained=False)


@pytest.mark.broker
def test_the_watcher_survives_what_others_publish(broker: Mosquitto) -> None:
    """pytest fails if its thread dies."""
    made, raw = watcher(port=broker.port)
    made.start(30)
    try:
        with subscribed(broker.port) as publisher:
            for payload in ("[" * 50_000, json.dumps(BEGIN | {"score": 10**400}), json.dumps(BEGIN)):
                publisher.publish(EVENT, payload)
            until(lambda: b"score 0.90" in raw.getvalue(), "the last is shown")
    finally:
        made.stop(0)


@pytest.mark.slow
def test_on_a_terminal_a_meter_stands_below_the_events() -> None:
    parent, child = pty.openpty()
    command = [*TAGGER, "listen", "kitchen=demo", "--no-realtime", "--mqtt", "embedded", "--watch"]
    process = subprocess.Popen(command, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm"})
    os.close(child)
    shown = b""
    try:
        with suppress(OSError):  # Linux says the end of a terminal so
            while select.select([parent], [], [], LONG_S)[0] and (data := os.read(parent, 100_000)):
                shown += data
        assert process.wait(LONG_S) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(parent)
    drawn = [part for line in shown.decode().split("\r\n") for part in line.split("\r\x1b[K")]
    assert any(re.fullmatch(r"\[[#|-]+ *\]  rms +-\d+  peak +-\d+ dB", part) for part in drawn), shown
    events = [line.rpartition("\r\x1b[K")[2] for line in shown.decode().split("\r\n") if "/kitchen/event" in line]
    assert {tuple(line.split()[1:3]) for line in events} >= {("begin", "siren"), ("end", "siren")}, shown
