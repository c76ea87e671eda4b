"""How the daemon is asked to stop, or to read its settings again."""

import os
import signal
import threading
import time

import pytest

from tagger import stop as module
from tagger.errors import TaggerError
from tagger.stop import Stop


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def soon(what):
    thread = threading.Timer(0.05, what)
    thread.start()
    return thread


def test_it_waits_so_long_and_no_longer():
    stop = Stop()
    began = time.monotonic()
    assert not stop.wait(0.05)
    assert time.monotonic() - began >= 0.05
    stop.set()
    assert stop.wait()
    assert stop.wait(0)


def test_a_failure_stops_it_and_the_first_counts():
    stop = Stop()
    stop.fail(TaggerError("one"))
    stop.fail(TaggerError("two"))
    assert stop.wait()
    assert str(stop.failure) == "one"


def test_hangup_reloads_and_does_not_stop(monkeypatch):
    monkeypatch.setattr(module, "_has_terminal", lambda: False)
    calls = []
    with Stop(reloads=True) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.wait(0.01)  # it comes before anyone can reload: it waits
        stop.on_reload = lambda: calls.append(1)
        soon(lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert not stop.wait(5)
        assert calls == [1]
        assert not stop.wait(0.01)
        assert calls == [1]
        assert not stop.interrupted


@pytest.mark.parametrize(("reloads", "terminal"), [(True, True), (False, False), (False, True)])
def test_hangup_stops_what_cannot_reload_or_loses_its_terminal(monkeypatch, reloads, terminal):
    monkeypatch.setattr(module, "_has_terminal", lambda: terminal)
    with Stop(reloads) as stop:
        stop.on_reload = pytest.fail
        soon(lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert stop.wait(5)
    assert stop.interrupted


def test_nohup_stays_in_force():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Stop(reloads=True) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.wait(0.05)


def test_a_signal_is_never_missed_between_two_waits():
    """Set while `wait` is clearing what woke it."""
    for _ in range(200):
        stop = Stop()
        stop._called.set()  # as after a reload
        thread = threading.Thread(target=stop.set)
        thread.start()
        while not stop.wait(5):
            pass
        thread.join()
