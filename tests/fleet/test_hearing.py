"""The daemon as a worker has it: sources that come and go, and what another run left open."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tagger.daemon.model import Model
from tagger.daemon.state import StateFolder
from tagger.events import Event, Stream
from tagger.fleet import hearing, journal
from tagger.fleet.hearing import DaemonHearing
from tagger.fleet.worker import Permit
from tagger.settings import ListenSettings, MqttSettings
from tests.fakes import FakeClassifier
from tests.programs import Mosquitto, Subscriber, subscribed, until, write_wav

pytestmark = pytest.mark.broker


class Allowed(Permit):
    """A lease that says yes until it is over."""

    def __init__(self, epoch: int = 1) -> None:
        self.is_over, self._epoch = False, epoch

    @property
    def epoch(self) -> int:
        return self._epoch

    def may_hear(self) -> bool:
        return not self.is_over

    may_end = may_hear


@pytest.fixture
def heard(broker: Mosquitto) -> Iterator[Subscriber]:
    with subscribed(broker.port, "tagger/#") as subscriber:
        yield subscriber


@contextmanager
def hears(
    broker: Mosquitto, folder: Path, monkeypatch: pytest.MonkeyPatch, node: str = "city-1"
) -> Iterator[DaemonHearing]:
    model = Model(FakeClassifier(), 1.0, 1.0)
    monkeypatch.setattr(hearing, "open_model", lambda settings: model)
    mqtt = MqttSettings("127.0.0.1", broker.port, node=node)
    settings = ListenSettings(mqtt=mqtt, hop_seconds=0.5, realtime=False)
    with DaemonHearing(settings, folder / node, lambda error: None, "city") as found:
        yield found


def sound(folder: Path) -> str:
    """A source: two seconds of silence, two of a loud sound, and two of silence."""
    rate_hz = 32_000
    wave = np.sin(np.arange(2 * rate_hz) / 5) * 0.9
    silence = np.zeros(2 * rate_hz)
    return f"yard={write_wav(folder / 'yard.wav', np.concatenate([silence, wave, silence]))}"


def test_a_source_is_heard_and_leaves_nothing_behind(
    broker: Mosquitto, heard: Subscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sound(tmp_path)
    with hears(broker, tmp_path, monkeypatch) as worker:
        worker.start("yard", source, Allowed())
        until(lambda: len(heard.jsons("tagger/city-1/yard/event")) == 2, "the sound has begun and ended")
        figures = worker.figures()
        assert figures.streams["yard"]["events"] == 1
        assert figures.capacity > 1
        assert heard.payloads("tagger/city-1/yard/loud/state")[-1] == "OFF"
        worker.stop(["yard"])
        until(lambda: heard.payloads("tagger/city-1/yard/status")[-1:] == [""], "its states are removed")
        assert worker.figures().streams == {}
    until(lambda: heard.payloads("tagger/city-1/status")[-1:] == ["offline"], "the node is offline")
    with subscribed(broker.port, "tagger/#") as late:
        late.catch_up()
        assert {message.topic for _, message in late.messages} == {"tagger/city-1/status"}


def test_nothing_begins_without_a_lease(
    broker: Mosquitto, heard: Subscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    permit = Allowed()
    permit.is_over = True
    with hears(broker, tmp_path, monkeypatch) as worker:
        worker.start("yard", sound(tmp_path), permit)
        until(lambda: worker.figures().streams["yard"]["state"] == "ended", "all of it was heard")
        worker.stop(["yard"])
    heard.catch_up()
    assert not heard.payloads("tagger/city-1/yard/event")
    assert not heard.payloads("tagger/city-1/yard/scores")


def test_a_source_that_cannot_be_opened_is_shown(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hears(broker, tmp_path, monkeypatch) as worker:
        worker.start("yard", f"yard={tmp_path}/none.wav", Allowed())
        assert worker.figures().streams["yard"]["state"] == "failed"
        assert "none.wav" in worker.figures().streams["yard"]["detail"]
        worker.stop(["yard"])


def test_what_a_worker_that_died_left_open_is_ended_once(
    broker: Mosquitto, heard: Subscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ALONE_SECONDS", 0.0)  # nobody else is there
    with hears(broker, tmp_path, monkeypatch):
        pass
    state = StateFolder(tmp_path / "city-1")
    begin = Event("begin", "01HZ0000000000000000000000", "loud", 0.9, 0.9, time.time() - 5)
    stream = Stream("city-1", "yard", "fake", FakeClassifier.LABELS)
    state.begun(stream, begin)
    state.close()
    with hears(broker, tmp_path, monkeypatch) as worker:
        worker.fanout.event(stream, begin)
        until(lambda: heard.jsons("tagger/city-1/yard/event"), "it has begun")
    for _ in range(2):
        with hears(broker, tmp_path, monkeypatch) as worker:
            until(lambda: len(heard.jsons("tagger/city-1/yard/event")) == 2, "it has ended")
    heard.catch_up()
    first, last = heard.jsons("tagger/city-1/yard/event")
    assert first["type"] == "begin"
    assert (last["type"], last["id"], last["cause"]) == ("end", begin.id, "takeover")
