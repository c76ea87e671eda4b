"""Requests to a running daemon, with real listeners and rules."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tagger.daemon.control import Control
from tagger.daemon.state import StateFolder
from tagger.errors import UserError
from tagger.events import Stream
from tagger.listen import Listener
from tagger.policy import LabelPolicy, Policy, with_threshold
from tests.builders import PromptListener
from tests.fakes import FakeClassifier, RecordingSink
from tests.programs import until

RULES = Policy(
    FakeClassifier.LABELS,
    (LabelPolicy(enter=0.8, exit=0.4), LabelPolicy()),
    denied=frozenset(["never"]),
    groups={"all": FakeClassifier.LABELS},
)


def control_of(*names: str, state: StateFolder | None = None) -> tuple[Control, RecordingSink]:
    sink = RecordingSink()
    control = Control(sink, state)
    control.listeners = {
        name: PromptListener.of(Stream("node", name, "fake", RULES.names), sink, RULES) for name in names
    }
    return control, sink


@pytest.mark.parametrize("enter", [1.0, 0.8, 1e-6, 1.6e-6, 1e-7, 1e-300, 5e-324])
def test_a_threshold_keeps_an_exit_at_which_events_end(enter: float) -> None:
    rules = with_threshold(RULES, "loud", enter).each[0]
    assert rules.enter == enter
    assert 0 < rules.exit <= enter


def test_one_source_or_all_are_paused_and_it_is_remembered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    state = StateFolder(tmp_path)
    control, sink = control_of("mic", "garden", state=state)
    assert control.pause("mic", True) == {"sources": ["mic"], "enabled": False}
    assert state.paused == {"mic"}
    assert control.pause(None, True) == {"sources": ["mic", "garden"], "enabled": False}
    assert state.paused == {"mic", "garden"}
    assert len(sink.of("disabled")) == 2
    control.pause(None, False)
    assert state.paused == frozenset()
    state.close()
    assert [record.getMessage() for record in caplog.records] == [
        "mic: paused; what it hears is discarded until it is resumed",
        "garden: paused; what it hears is discarded until it is resumed",
        "mic: resumed",
        "garden: resumed",
    ]


@pytest.mark.parametrize("ask", [lambda c: c.pause("mice", True), lambda c: c.labels("mice")])
def test_an_unknown_source_is_refused_with_a_near_name(ask: object) -> None:
    control, _ = control_of("mic", "garden")
    with pytest.raises(UserError, match="did you mean mic"):
        ask(control)  # type: ignore[operator]


def test_a_threshold_is_changed_with_its_exit_in_proportion() -> None:
    control, _ = control_of("mic", "garden")
    answer = control.threshold("mic", "loud", 0.4)
    assert answer == {"sources": ["mic"], "label": "loud", "enter": 0.4, "exit": 0.2, "until": "restart or reload"}
    assert control.listeners["mic"].policy.each[0] == replace(RULES.each[0], enter=0.4, exit=0.2)
    assert control.listeners["garden"].policy == RULES


def test_what_is_asked_before_the_loop_obeys_is_not_forgotten() -> None:
    control, _ = control_of("mic")
    listener = control.listeners["mic"]
    listener.do_requests = lambda: None  # type: ignore[method-assign]  # no block arrives
    control.threshold("mic", "loud", 0.4)
    control.threshold("mic", "never", 0.7)
    Listener.do_requests(listener)
    assert [rules.enter for rules in listener.decider.policy.each] == [0.4, 0.7]
    assert [each["enter"] for each in control.labels("mic")["mic"] if "enter" in each] == [0.4, 0.7]


@pytest.mark.parametrize(("label", "enter"), [("lod", 0.5), ("all", 0.5), ("loud", 0), ("loud", 1.01), ("loud", -1)])
def test_a_threshold_that_cannot_be_is_refused(label: str, enter: float) -> None:
    with pytest.raises(UserError):
        with_threshold(RULES, label, enter)


def test_labels_say_all_that_a_caller_needs() -> None:
    control, _ = control_of("mic")
    assert control.labels(None) == {
        "mic": [
            {"label": "loud", "topic": "loud", "enter": 0.8, "exit": 0.4, "announced": True},
            {"label": "never", "topic": "never", "enter": 0.5, "exit": 0.25, "announced": False},
            {"label": "all", "topic": "all", "group": ["loud", "never"]},
        ]
    }


def test_a_test_event_begins_ends_and_says_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    control, sink = control_of("mic", "garden")
    answer = control.test("garden", "loud", 0.05)
    until(lambda: sink.of("end"), "it has ended")
    (begin,), (end,) = sink.of("begin"), sink.of("end")
    assert (begin.id, end.id, begin.cause, end.cause) == (answer["id"], answer["id"], "test", "test")
    assert 0.04 <= end.offset - end.onset < 60
    assert [record.getMessage() for record in caplog.records] == ["garden: a test was requested: loud for 0.05 s"]


def test_a_test_under_way_ends_with_the_daemon() -> None:
    control, sink = control_of("mic")
    control.test(None, "all", 60)
    control.close()
    assert len(sink.of("begin")) == len(sink.of("end")) == 1
    time.sleep(0.02)
    control.close()
    assert len(sink.of("end")) == 1
    with pytest.raises(UserError, match="stopping"):
        control.test(None, "all", 60)  # nothing would end it
    assert len(sink.of("begin")) == 1


@pytest.mark.parametrize(("label", "duration_s"), [("loud", -1), ("loud", 61), ("loud", float("nan")), ("dog", 1)])
def test_a_test_that_cannot_be_is_refused(label: str, duration_s: float) -> None:
    control, sink = control_of("mic")
    with pytest.raises(UserError):
        control.test(None, label, duration_s)
    assert sink.told == []
