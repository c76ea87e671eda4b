"""What systemd is told, over a socket that the test reads."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tagger.daemon.daemon import Daemon, Task
from tagger.daemon.reload import reload
from tagger.daemon.systemd import Service
from tagger.stop import Stop
from tests.builders import PromptListener
from tests.daemon.test_control import RULES
from tests.daemon.test_record import STREAM
from tests.fakes import RecordingSink
from tests.healths import snapshot, source


class Systemd:
    """Systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.settimeout(0)

    def said(self) -> list[str]:
        """Lines that came since the last call."""
        lines = []
        try:
            while True:
                lines += self._socket.recv(10_000).decode().split("\n")
        except BlockingIOError:
            return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.close()


def test_the_environment_says_what_is_wanted_and_is_emptied(systemd: Systemd) -> None:
    env = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    service = Service.of(env)
    assert env == {"A": "b"}
    assert service.every_s == 15.0
    service.ready()
    assert systemd.said() == ["READY=1"]


def test_an_abstract_socket_is_one_too() -> None:
    systemd = Systemd(f"@tagger-test-{os.getpid()}")
    Service(systemd.address).ready()
    assert systemd.said() == ["READY=1"]
    systemd.close()


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"WATCHDOG_USEC": "60000000"},
        {"NOTIFY_SOCKET": "nonsense", "WATCHDOG_USEC": "x"},
        {"NOTIFY_SOCKET": "/nobody/listens", "WATCHDOG_USEC": "0"},
    ],
)
def test_elsewhere_nothing_happens(env: dict[str, str]) -> None:
    service = Service.of(env)
    service.ready()
    service.reloading()
    service.report(snapshot)
    service.stopping()


def test_a_watchdog_of_another_process_is_not_fed(systemd: Systemd) -> None:
    service = Service.of({"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"})
    service.report(snapshot)
    assert systemd.said() == ["STATUS=1 of 1 heard"]


@pytest.mark.parametrize(
    "well",
    [
        source(),
        source(state="retrying", reason="gone", detail="gone", idle_s=-50.0),
        source(state="off", reason="paused"),
        source(state="starting"),
        source(state="silent", reason="zeros"),
    ],
)
def test_the_watchdog_is_fed_while_audio_flows_or_is_waited_for(systemd: Systemd, well) -> None:
    service = Service(systemd.address, 60.0)
    service.report(lambda: snapshot(well))
    assert "WATCHDOG=1" in systemd.said()


def test_the_watchdog_starves_when_a_thread_is_stuck(systemd: Systemd, caplog) -> None:
    service = Service(systemd.address, 60.0)
    for _ in range(3):
        service.report(lambda: snapshot(source(), source("door", idle_s=51.0)))
    assert systemd.said() == ["STATUS=2 of 2 heard; door: its thread has not moved for 51 s; restart the daemon"]
    assert caplog.messages == ["door: the thread is stuck; systemd will restart the service"]
    service.report(snapshot)
    assert systemd.said()[0] == "WATCHDOG=1"


def test_a_daemon_says_when_it_is_ready_reloads_and_stops(systemd: Systemd, caplog: pytest.LogCaptureFixture) -> None:
    said: list[list[str]] = []
    stop = Stop()
    sink = RecordingSink()

    def step(what: Callable[[], None]) -> None:
        what()
        said.append(systemd.said())

    listener = PromptListener.of(STREAM, sink, RULES)
    service = Service(systemd.address, 60.0)
    daemon = Daemon([listener], sink, stop, [Task(60.0, lambda: None)], service=service)
    reload(daemon, lambda: None)  # type: ignore[arg-type]
    assert "reload: failed (AssertionError" in caplog.text  # it has no outputs, and goes on
    reloading, since, ready = systemd.said()
    assert (reloading, ready) == ("RELOADING=1", "READY=1")
    assert since.startswith("MONOTONIC_USEC=")
    step(daemon.run)  # its source ends at once
    assert said == [["READY=1", "STOPPING=1", "STATUS=stopping"]]


def test_what_it_says_is_short(systemd: Systemd) -> None:
    many = [source(f"s{i}", state="retrying", detail="x" * 50) for i in range(40)]
    Service(systemd.address).report(lambda: snapshot(*many))
    (line,) = systemd.said()
    assert len(line) < 400


def test_a_systemd_that_does_not_listen_is_said_each_time_that_this_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = str(tmp_path / "notify")
    service = Service(address)
    for said in (1, 2):
        service.ready()
        service.ready()
        assert caplog.text.count("systemd cannot be told") == said
        systemd = Systemd(address)
        service.ready()
        assert systemd.said() == ["READY=1"]
        systemd.close()
        Path(address).unlink()
