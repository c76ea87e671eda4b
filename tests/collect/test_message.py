"""What a message must be to become a row."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tagger.collect.message import NoEventError, merged, row_of
from tagger.events import Event, Stream
from tagger.history.log import EventRow

ID = "01M82C9BXHNTRMQRDVRKQ5T24P"
STREAM = Stream("attic", "Küche", "esc50", ("dog",))
TOPIC = "home/tagger/attic/kuche/event"
BEGIN = Event("begin", ID, "dog", 0.75, 0.75, 1_700_000_000.25)
END = replace(BEGIN, type="end", score=0.5, peak_score=0.875, offset=1_700_000_003.5)


def message(event: Event, **changes: Any) -> bytes:
    return json.dumps(event.to_json(STREAM, 1_700_000_001) | changes).encode()


def test_a_begin_and_an_end_become_the_rows_of_the_event_log() -> None:
    assert row_of(TOPIC, message(BEGIN)) == EventRow.of(STREAM, BEGIN)
    assert row_of(TOPIC, message(END)) == EventRow.of(STREAM, END)


def test_two_messages_of_one_event_are_one_row_in_any_order() -> None:
    begin, end = EventRow.of(STREAM, BEGIN), EventRow.of(STREAM, END)
    assert merged(begin, end) == merged(end, begin) == merged(end, end) == end
    assert merged(begin, begin) == begin
    tested = replace(begin, cause="test", peak_score=1.0)
    assert merged(tested, end) == replace(end, cause="test", peak_score=1.0)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "is no JSON object"),
        (message(BEGIN, schema=2), "is not of schema 1"),
        (message(BEGIN, type="middle"), "is neither begin nor end"),
        (message(BEGIN, id="../../etc"), "has no ULID"),
        (message(BEGIN, id=None), "has no id"),
        (message(BEGIN, label="a\0b"), "has no label"),
        (message(BEGIN, label="\ud800"), "has no label"),
        (message(BEGIN, label="x" * 301), "has no label"),
        (message(BEGIN, source=""), "has no source"),
        (message(BEGIN, score=float("nan")), "from 0 to 1"),
        (message(BEGIN, score=True), "has no score"),
        (message(BEGIN, peak_score=2), "from 0 to 1"),
        (message(BEGIN, onset="yesterday"), "has no onset"),
        (message(BEGIN, onset="2026-11-27T10:00:00"), "has no onset"),
        (message(BEGIN, onset="0001-01-01T00:00:00+00:00"), "has no onset"),
        (message(BEGIN, onset=1e300), "has no onset"),
        (message(END, offset=None), "has no offset"),
        (message(END, offset="2001-01-01T00:00:00+00:00"), "ends before it begins"),
        (message(BEGIN, node="cellar"), "another node than its topic"),
        (message(BEGIN, cause=7), "has no cause"),
    ],
)
def test_what_is_no_event_is_refused_with_its_reason(payload: bytes, why: str) -> None:
    with pytest.raises(NoEventError, match=why):
        row_of(TOPIC, payload)
