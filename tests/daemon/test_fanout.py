"""Several sinks as one."""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tagger.daemon.fanout import Fanout
from tagger.daemon.state import StateFolder
from tagger.errors import TaggerError
from tagger.events import Event, Stream
from tests.fakes import RecordingSink
from tests.programs import LONG_S

STREAM = Stream("room", "mic", "fake", ("dog", "cat"))
BEGIN = Event("begin", "1", "dog", 0.9, 0.9, 100.0)
END = replace(BEGIN, type="end", offset=101.0)


def left_open(folder: Path) -> int:
    """Number of open events that the next daemon would find if this one died now."""
    path = folder / "open.json"
    return len(json.loads(path.read_text())["events"]) if path.exists() else 0


class Broken(RecordingSink):
    def event(self, stream: Stream, event: Event) -> None:
        raise ZeroDivisionError("by nothing")

    def close(self, wait_s: float) -> None:
        raise TaggerError("2 events were not delivered")


class Resumed(RecordingSink):
    def resume(self, stream: Stream, state: Any, detail: str, events: Any) -> None:
        self.told.append(("resume", (stream.source, state, detail, list(events))))


def test_each_is_told_everything_in_order() -> None:
    sinks = [RecordingSink(), RecordingSink()]
    fanout = Fanout(sinks)
    fanout.status(STREAM, "online", "a microphone")
    fanout.event(STREAM, BEGIN)
    fanout.event(STREAM, END)
    assert sinks[0].told == sinks[1].told == [("online", "a microphone"), ("begin", BEGIN), ("end", END)]


def test_one_that_fails_harms_no_other_and_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    good = RecordingSink()
    fanout = Fanout([Broken(), good])
    with caplog.at_level(logging.WARNING):
        fanout.event(STREAM, BEGIN)
        fanout.event(STREAM, END)
    assert len(good.told) == 2
    assert [record.message for record in caplog.records] == ["Broken: ZeroDivisionError: by nothing"]
    with pytest.raises(TaggerError, match="2 events were not delivered"):
        fanout.close(1)
    assert good.closed


def test_open_events_are_in_the_state_folder_until_all_were_told_of_their_end(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    seen: list[int] = []

    class Looking(RecordingSink):
        def event(self, stream: Stream, event: Event) -> None:
            seen.append(left_open(tmp_path))

    fanout = Fanout([Looking()], state)
    fanout.event(STREAM, BEGIN)
    fanout.event(STREAM, END)
    assert (seen, left_open(tmp_path)) == ([1, 1], 0)
    state.close()


def test_an_open_event_stays_in_the_state_folder_until_a_sink_has_written_its_end_down(tmp_path: Path) -> None:
    """A sink's own thread may do so later, and the daemon may be killed before."""
    state, steps = StateFolder(tmp_path), list[Callable[[], None]]()

    class Later(RecordingSink):
        def when_kept(self, step: Callable[[], None]) -> None:
            steps.append(step)

    fanout = Fanout([RecordingSink(), Later(), RecordingSink()], state)
    fanout.event(STREAM, BEGIN)
    fanout.event(STREAM, END)
    assert left_open(tmp_path) == 1
    (written,) = steps
    written()
    assert left_open(tmp_path) == 0
    state.close()


def test_no_source_waits_for_anothers_call_and_a_change_waits_for_all() -> None:
    both, order = threading.Barrier(2), list[str]()

    class Slow(RecordingSink):
        def stats(self, message: Any) -> None:
            both.wait(LONG_S)
            inside.set()
            assert go_on.wait(LONG_S)
            order.append("called")

    inside, go_on, slow = threading.Event(), threading.Event(), Slow()
    fanout = Fanout([slow])

    def change() -> None:
        with fanout.changing() as sinks:
            sinks.remove(slow)
        order.append("changed")

    threads = [threading.Thread(target=fanout.stats, args=[{}]) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert inside.wait(LONG_S)
    threads.append(threading.Thread(target=change))
    threads[-1].start()
    threads[-1].join(0.05)  # only if it did not wait for the calls, this would return early
    go_on.set()
    for thread in threads:
        thread.join(LONG_S)
    assert order == ["called", "called", "changed"]


def test_what_is_told_while_sinks_change_reaches_those_that_are_there_afterwards() -> None:
    old, new, stays = RecordingSink(), Resumed(), RecordingSink()
    fanout = Fanout([old, stays])
    fanout.status(STREAM, "online", "a microphone")
    fanout.event(STREAM, BEGIN)
    with fanout.changing() as sinks:
        sinks.remove(old)
        fanout.event(STREAM, END)
        fanout.status(STREAM, "offline", "gone")
        assert len(stays.told) == 2
        sinks.append(new)
    assert old.told == [("online", "a microphone"), ("begin", BEGIN)]
    assert stays.told == [*old.told, ("end", END), ("offline", "gone")]
    assert new.told == [
        ("resume", ("mic", "online", "a microphone", [BEGIN])),
        ("end", END),
        ("offline", "gone"),
    ]


def test_an_end_told_while_sinks_change_is_in_the_state_folder_until_then(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    fanout = Fanout([RecordingSink()], state)
    fanout.event(STREAM, BEGIN)
    with fanout.changing():
        fanout.event(STREAM, END)
        assert left_open(tmp_path) == 1, "whoever dies now has told nobody"
    assert left_open(tmp_path) == 0
    state.close()


class Counting(RecordingSink):
    def counts(self) -> dict[str, int]:
        return {"waiting": 2, "dropped": 1}


def test_what_was_counted_is_not_forgotten_when_sinks_change() -> None:
    fanout = Fanout([Counting(), Counting()])
    with fanout.changing() as sinks:
        sinks[:] = [Counting()]
    assert fanout.counts() == {"waiting": 2, "dropped": 3}


def test_counts_are_added_up() -> None:
    assert Fanout([Counting(), RecordingSink(), Counting()]).counts() == {"waiting": 4, "dropped": 2}
