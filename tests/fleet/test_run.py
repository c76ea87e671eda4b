"""Coordinator and workers together, over the socket."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tagger.errors import UserError
from tagger.fleet.local import Client
from tagger.fleet.machine import Processes
from tagger.fleet.run import FleetFolder
from tests.fleet.fleets import coordinator, workers
from tests.programs import LONG_S, until

pytestmark = pytest.mark.slow

SOURCES = {f"mic{i}": f"mic{i}=demo" for i in range(6)}


def test_workers_share_the_sources_and_follow_their_changes(tmp_path: Path) -> None:
    sources = dict(SOURCES)
    with coordinator(tmp_path, sources, 2), workers(tmp_path, "one", "two") as (one, two):

        def heard() -> dict[str, str]:
            return {**one.hearing.heard, **two.hearing.heard}

        until(lambda: heard() == SOURCES, "all are heard")
        del sources["mic0"]
        sources["mic1"] = "mic1=demo,gain_db=3"
        sources["garden"] = "garden=demo"
        until(lambda: heard() == sources, "the changes are heard")
        assert not one.hearing.heard.keys() & two.hearing.heard.keys()


def test_a_worker_that_leaves_gives_its_streams_to_another_and_ends(tmp_path: Path) -> None:
    with coordinator(tmp_path, SOURCES, 2), workers(tmp_path, "one", "two") as (one, two):
        until(lambda: len(one.hearing.heard) + len(two.hearing.heard) == 6, "all are heard")
        one.worker.leave()
        until(lambda: len(two.hearing.heard) == 6, "the other has all")
        until(lambda: not one.thread.is_alive(), "it has ended")


def test_a_drained_node_is_shown_and_hears_nothing(tmp_path: Path) -> None:
    with coordinator(tmp_path, SOURCES, 2), workers(tmp_path, "one", "two") as (one, two):
        until(lambda: len(one.hearing.heard) + len(two.hearing.heard) == 6, "all are heard")
        client = Client(tmp_path)
        assert two.hearing.heard
        assert client.ask({"drain": "three"}) == {"problem": "there is no worker 'three'"}
        assert client.ask({"drain": "two"}) == {"drained": ["two"]}
        until(lambda: not two.hearing.heard, "it hears nothing")

        def heard_by() -> list[str]:
            streams = client.ask({"status": True})["streams"].values()
            return [each["node"] for each in streams if each.get("state") == "hearing"]

        until(lambda: heard_by() == ["one"] * 6, "the other hears all")
        assert client.ask({"status": True})["nodes"]["two"]["drained"]
        client.close()
    folder = FleetFolder(tmp_path)
    assert folder.drained == {"two"}, "it stays drained, whatever becomes of the coordinator"
    folder.close(is_clean=True)


def test_workers_end_with_a_coordinator_that_ends_in_good_order(tmp_path: Path) -> None:
    with workers(tmp_path, "one") as (one,):
        with coordinator(tmp_path, SOURCES, 1):
            until(lambda: len(one.hearing.heard) == 6, "all are heard")
        until(lambda: not one.thread.is_alive(), "it has ended")
        assert not one.hearing.heard
    folder = FleetFolder(tmp_path)
    assert folder.is_first
    folder.close(is_clean=False)


def test_each_coordinator_is_of_a_later_generation_and_knows_whether_the_last_one_ended(tmp_path: Path) -> None:
    first = FleetFolder(tmp_path)
    assert first.is_first
    first.begin()
    with pytest.raises(UserError, match="is used by another tagger"):
        FleetFolder(tmp_path)
    first.close(is_clean=False)
    second = FleetFolder(tmp_path)
    assert not second.is_first
    assert second.generation > first.generation
    second.begin()
    second.close(is_clean=True)
    FleetFolder(tmp_path).close(is_clean=False)  # one that ended before it began, as when its port is in use
    third = FleetFolder(tmp_path)
    assert third.is_first
    third.close(is_clean=False)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system does not tell of processes that are no children")
def test_the_end_of_a_process_is_known_once() -> None:
    processes = Processes()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        processes.note("x", process.pid)
        assert processes.ended() == []
        process.kill()
        until(lambda: processes.ended() == ["x"], "its end is known")
    assert processes.ended() == []
    processes.close()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system does not tell of processes that are no children")
def test_a_process_that_is_no_child_and_says_nothing_is_killed() -> None:
    processes = Processes()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        processes.note("x", process.pid)
        processes.kill_lost({"x"}, 0.0)
        assert process.poll() is None
        processes.kill_lost((), 0.0)
        assert process.wait(LONG_S) == -signal.SIGKILL
    processes.close()
