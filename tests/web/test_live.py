"""What is live: nothing is kept while nobody looks, and a slow reader begins anew."""

import asyncio
import http.client
import json
import socket
from typing import Any

import pytest

from tagger.features.config import MelConfig
from tagger.policy import LabelPolicy, Policy
from tagger.web.live import MOST_EVENTS, MOST_WAITING, Live, Reader
from tests.builders import daemon, plays
from tests.fakes import loud, silence
from tests.healths import snapshot
from tests.programs import until
from tests.web.pages import STREAM, Follower, event, page, report, tone


def hello_of(live: Live) -> dict[str, Any]:
    """What a page is told that has just come."""
    live.snapshot = snapshot
    found: dict[str, Any] = json.loads(live.hello().partition(b"data: ")[2])
    return found


def test_nothing_is_kept_while_nobody_looks() -> None:
    live = Live(MelConfig())
    tap = live.tap("mic")
    for at in range(20):
        tap.heard(tone(0.1, 500, at / 10))
        live.report(STREAM, report())
        live.event(STREAM, event(f"e{at}", at))
    assert tap.take() == []
    assert len(live.events()) == 20
    live.snapshot = snapshot

    async def read() -> list[bytes]:
        messages = live.read(frozenset())
        return [await anext(messages), await anext(messages)]

    hello, first = asyncio.run(read())
    assert hello.startswith(b"event: hello")
    assert first.startswith(b"event: health")  # and no score or event of the time before


def test_the_events_in_memory_are_bounded_and_the_newest() -> None:
    live = Live(MelConfig())
    for at in range(MOST_EVENTS + 5):
        live.event(STREAM, event(f"e{at}", at))
    assert [len(live.events()), live.events()[0].id] == [MOST_EVENTS, "e5"]


def test_an_end_completes_its_begin() -> None:
    live = Live(MelConfig())
    live.event(STREAM, event("a", 5.0, peak=0.95))
    live.event(STREAM, event("a", 5.0, 7.5, peak=0.9))
    (row,) = live.events()
    assert (row.duration_s, row.peak_score) == (2.5, 0.95)


def test_a_page_is_told_scores_with_thresholds_and_reasons_events_columns_and_levels() -> None:
    with page() as served:
        served.live.report(STREAM, report(90.0))
        served.live.event(STREAM, event("before", 95.0, 96.0))
        tap = served.live.tap("mic")
        follower = Follower(served, "?columns=mic")
        assert follower.response.getheader("content-type") == "text/event-stream; charset=utf-8"
        hello = follower.until("hello")
        assert hello["sources"] == ["mic"]
        assert [each["id"] for each in hello["events"]] == ["before"]
        assert hello["scores"][0]["top"][0] == {
            "label": "dog", "score": 0.7, "why": "below enter 0.80", "enter": 0.8,
        }  # fmt: skip
        served.live.event(STREAM, event("now", 100.0))
        assert follower.until("event")["id"] == "now"
        tap.heard(tone(0.5, 1000, 100.0))
        columns = follower.until("columns")
        assert columns["source"] == "mic"
        assert 100 <= columns["time"] < 100.1
        level = follower.until("level")
        assert (level["source"], level["clipped"]) == ("mic", 0)
        assert -9.5 < level["rms_dbfs"] < -8.5
        assert follower.until("health")["verdict"] == "ok"
        follower.close()
        until(lambda: not served.live.readers and not served.live.watched, "the reader was forgotten")


def test_columns_go_only_to_pages_that_want_them() -> None:
    with page() as served:
        tap = served.live.tap("mic")
        follower = Follower(served)
        follower.until("hello")
        tap.heard(tone(0.5, 1000, 100.0))
        assert tap.take() == []
        follower.close()


def test_a_slow_reader_begins_anew_and_holds_a_bounded_number_of_messages() -> None:
    reader = Reader(frozenset())
    for number in range(500):
        reader.put(str(number).encode(), lambda: b"anew")
    assert reader.queue.qsize() <= MOST_WAITING
    assert reader.restarts > 0
    assert reader.queue.get_nowait() == b"anew"


def test_sound_that_nobody_takes_is_bounded() -> None:
    live = Live(MelConfig())
    live.watched = frozenset({"mic"})
    tap = live.tap("mic")
    for at in range(100):
        tap.heard(tone(0.1, 500, at / 10))
    assert sum(len(block.samples) for block in tap.take()) <= 2.1 * 32_000


def test_too_many_pages_are_refused_and_the_end_of_the_daemon_ends_all(monkeypatch) -> None:
    monkeypatch.setattr("tagger.web.app.MOST_READERS", 1)
    with page() as served:
        follower = Follower(served)
        follower.until("hello")
        assert served.ask("/api/live")[0] == 503
        assert "pages are open" in served.ask("/api/live")[2]
    with pytest.raises((EOFError, OSError, http.client.HTTPException)):
        follower.until("no such event")
    follower.close()


def test_pages_that_open_at_the_same_moment_are_not_more_than_may(monkeypatch) -> None:
    monkeypatch.setattr("tagger.web.app.MOST_READERS", 3)
    with page() as served:
        connections = [socket.create_connection(("127.0.0.1", served.port), timeout=90) for _ in range(12)]
        for each in connections:
            each.sendall(f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
        statuses = [each.recv(12) for each in connections]
        assert statuses.count(b"HTTP/1.1 200") == 3
        assert statuses.count(b"HTTP/1.1 503") == 9
        for each in connections:
            each.close()
        until(lambda: not served.live.readers, "all have gone")


def test_a_daemon_tells_the_page_what_it_tells_all_sinks() -> None:
    live = Live(MelConfig())
    live.policy_of = lambda source: None
    with daemon(plays(silence(2), loud(1), silence(2)), [live]) as heard:
        until(lambda: heard.of("end"), "the event has ended")
        until(lambda: live.events() and live.events()[-1].offset is not None, "the page knows")
    (row,) = live.events()
    assert (row.label, row.source) == ("loud", "fake")
    (message,) = hello_of(live)["scores"]
    assert message["top"][0]["enter"] is None


def test_a_tick_after_the_policy_has_changed_says_the_new_threshold() -> None:
    live = Live(MelConfig())
    live.report(STREAM, report())
    rules = Policy(("dog", "siren"), (LabelPolicy(enter=0.8),) * 2)
    live.policy_of = lambda source: rules
    assert hello_of(live)["scores"][0]["top"][0]["enter"] == 0.8
    rules = Policy(("dog", "siren"), (LabelPolicy(enter=0.5),) * 2)
    assert hello_of(live)["scores"][0]["top"][0]["enter"] == 0.5


def test_hanging_up_before_anybody_came_is_nothing() -> None:
    live = Live(MelConfig())
    live.hang_up()

    async def read() -> list[bytes]:
        live.snapshot = snapshot
        return [message async for message in live.read(frozenset())]

    assert len(asyncio.run(read())) == 1
