"""Signals that stop the daemon, or make it read its settings again."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tagger.errors import TaggerError
from tagger.stop import Stop, StopOrReload


@pytest.fixture(autouse=True)
def handlers(hangups):
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


def test_hangup_reloads_and_does_not_stop():
    calls = []
    with StopOrReload() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.wait(0.01)  # it comes before `on_reload` is set, so it waits
        stop.on_reload = lambda: calls.append(1)
        soon(lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert not stop.wait(60)
        assert calls == [1]
        assert not stop.wait(0.01)
        assert calls == [1]
        assert not stop.interrupted


def test_hangup_stops_what_cannot_reload():
    with Stop() as stop:
        soon(lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert stop.wait(60)
    assert stop.interrupted


IN_A_TERMINAL = """
import fcntl, os, sys, termios
from tagger.stop import StopOrReload
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
with StopOrReload() as stop:
    stop.on_reload = lambda: os.write(pipe, b"reloaded ")
    pipe = int(sys.argv[1])
    os.write(pipe, b"ready ")
    for _ in range(90):
        if stop.wait(1):
            break
    os.write(pipe, b"stopped" if stop.interrupted else b"never stopped")
"""


def test_hangup_by_hand_reloads_also_in_a_terminal_and_a_terminal_that_closes_stops():
    terminal, inside = os.openpty()
    told, tell = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, str(tell)],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        pass_fds=[tell],
        start_new_session=True,
    )
    os.close(inside)
    os.close(tell)
    assert os.read(told, 100) == b"ready "
    process.send_signal(signal.SIGHUP)
    assert os.read(told, 100) == b"reloaded "
    os.close(terminal)
    assert os.read(told, 100) == b"stopped"
    process.wait(60)
    os.close(told)


def test_nohup_stays_in_force():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopOrReload() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.wait(0.05)


def test_a_signal_is_never_missed_between_two_waits():
    """It is set while `wait` clears the event that woke it."""
    for _ in range(200):
        stop = StopOrReload()
        with stop:
            os.kill(os.getpid(), signal.SIGHUP)
        thread = threading.Thread(target=stop.set)
        thread.start()
        while not stop.wait(60):
            pass
        thread.join()
