"""Requests over MQTT: which are executed, which are refused, and that a flood gets no flood of answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.errors import UserError
from tagger.mqtt.requests import Requests


class FakeControls:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def _record(self, *call: Any) -> dict[str, Any]:
        self.calls.append(call)
        if "cellar" in call:
            raise UserError("source: there is no 'cellar'; there is mic")
        return {"done": len(self.calls)}

    def pause(self, source: str | None, paused: bool) -> dict[str, Any]:
        return self._record("pause", source, paused)

    def threshold(self, source: str | None, label: str, enter: float) -> dict[str, Any]:
        return self._record("threshold", source, label, enter)

    def labels(self, source: str | None) -> dict[str, Any]:
        return self._record("labels", source)

    def test(self, source: str | None, label: str, duration_s: float) -> dict[str, Any]:
        return self._record("test", source, label, duration_s)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_requests() -> tuple[Requests, FakeControls, Clock]:
    controls, clock = FakeControls(), Clock()
    return Requests(controls, clock), controls, clock


@pytest.mark.parametrize(
    ("kind", "request_", "asked"),
    [
        ("pause", {}, ("pause", None, True)),
        ("pause", {"source": "mic"}, ("pause", "mic", True)),
        ("resume", {"source": "mic"}, ("pause", "mic", False)),
        ("threshold", {"label": "dog", "enter": 1}, ("threshold", None, "dog", 1)),
        ("threshold", {"label": "dog", "enter": 0.7, "source": "mic"}, ("threshold", "mic", "dog", 0.7)),
        ("labels", {}, ("labels", None)),
        ("test", {"label": "dog"}, ("test", None, "dog", 1.0)),
        ("test", {"label": "dog", "duration_s": 3, "source": "mic"}, ("test", "mic", "dog", 3)),
    ],
)
def test_each_request_calls_its_control(kind: str, request_: dict[str, Any], asked: tuple[Any, ...]) -> None:
    requests, controls, _ = make_requests()
    answer = requests.answer(kind, json.dumps({**request_, "transaction": "t1"}).encode())
    assert answer == {"transaction": "t1", "status": "ok", "data": {"done": 1}}
    assert controls.calls == [asked]


@pytest.mark.parametrize("kind", ["x" * 60_000, "犬" * 21_000])
def test_a_request_whose_answer_would_have_too_long_a_topic_is_not_answered(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    requests, controls, _ = make_requests()
    assert requests.answer(kind, b"{}") is None
    assert controls.calls == []
    assert "no such request" in caplog.text
    assert max(map(len, caplog.messages)) < 200
    assert requests.answer("x" * 100, b"{}") is not None


def test_the_caller_gets_its_transaction_back_if_it_gave_one() -> None:
    requests, _, _ = make_requests()
    assert requests.answer("labels", b"") == {"status": "ok", "data": {"done": 1}}
    assert requests.answer("labels", b'{"transaction": 12}') == {"transaction": 12, "status": "ok", "data": {"done": 2}}
    assert requests.answer("labels", b'{"transaction": 0.5}') == {
        "transaction": 0.5,
        "status": "ok",
        "data": {"done": 3},
    }


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        ("labels", b"\xff", "must be JSON"),
        ("labels", b"[1]", "must be a JSON object"),
        ("labels", b"{", "must be JSON"),
        ("labels", b"[" * 4000, "must be JSON"),
        ("labels", b" " * 5000, "5000 bytes"),
        ("lables", b"{}", "did you mean labels?"),
        ("threshold", b'{"label": "dog"}', "needs enter"),
        ("threshold", b"{}", "needs label, enter"),
        ("threshold", b'{"label": "dog", "enter": "high"}', "enter: must be a number"),
        ("threshold", b'{"label": "dog", "enter": true}', "enter: must be a number"),
        ("threshold", b'{"label": "dog", "enter": NaN}', "must be JSON"),
        ("threshold", b'{"label": 3, "enter": 0.5}', "label: must be a text"),
        ("threshold", b'{"label": "dog", "enter": 0.5, "exti": 0.2}', "'exti': is unknown"),
        ("pause", b'{"source": null}', "source: must be a text"),
        ("pause", b'{"source": "cellar"}', "there is no 'cellar'"),
        ("labels", b'{"transaction": [1]}', "transaction: must be"),
        ("labels", b'{"transaction": true}', "transaction: must be"),
        ("labels", b'{"transaction": 1e999}', "transaction: must be"),
        ("labels", json.dumps({"transaction": "x" * 129}).encode(), "transaction: must have at most"),
    ],
)
def test_wrong_requests_are_refused(kind: str, payload: bytes, said: str) -> None:
    requests, _, _ = make_requests()
    answer = requests.answer(kind, payload)
    assert answer is not None
    assert answer["status"] == "error"
    assert said in answer["error"]
    assert "\n" not in answer["error"]


def test_an_error_has_the_transaction_too() -> None:
    requests, _, _ = make_requests()
    answer = requests.answer("threshold", b'{"transaction": "t", "label": "dog"}')
    assert answer is not None
    assert answer["transaction"] == "t"


@pytest.mark.parametrize("payload", [b"{}", b"rubbish"])
def test_a_flood_is_neither_executed_nor_answered(payload: bytes) -> None:
    requests, controls, clock = make_requests()
    answers = []
    for i in range(1000):
        clock.now = i / 1000
        answers.append(requests.answer("labels", payload))
    assert len(controls.calls) == (10 if payload == b"{}" else 0)
    assert sum(answer is not None for answer in answers) == 11
    assert requests.refused == 990
    clock.now = 60.0
    answer = requests.answer("labels", b"{}")
    assert answer is not None
    assert answer["status"] == "ok"


def test_a_topic_cannot_write_lines_of_its_own_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    requests, _, _ = make_requests()
    requests.switch("mic\nMQTT: all is well" + "x" * 10_000, b"maybe")
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 200


def test_a_switch_pauses_and_resumes() -> None:
    requests, controls, _ = make_requests()
    assert requests.switch("mic", b"OFF") is False
    assert requests.switch("mic", b"ON") is True
    assert requests.switch("mic", b"maybe") is None
    assert requests.switch("cellar", b"ON") is None
    assert controls.calls == [("pause", "mic", True), ("pause", "mic", False), ("pause", "cellar", False)]


@given(st.text(max_size=80), st.binary(max_size=300))
def test_any_bytes_get_an_answer(kind: str, payload: bytes) -> None:
    requests, controls, _ = make_requests()
    answer = requests.answer(kind, payload)
    assert answer is not None
    json.dumps(answer, allow_nan=False)
    assert answer["status"] == "error" or controls.calls
