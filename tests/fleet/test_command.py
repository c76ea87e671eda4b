"""The command: workers that are killed, and the coordinator as well."""

import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.programs import Mosquitto, free_port, refused, run, running, stop, until
from tests.radio import on_air


def status(folder: Path) -> dict[str, Any]:
    done = run("fleet", "status", "--json", "--state", folder)
    return json.loads(done.stdout) if done.exit_code < 2 else {"heard": 0, "nodes": {}, "streams": {}}


def workers(folder: Path) -> dict[str, int]:
    """Node -> process id of its worker, which holds the lock of its folder."""
    found = {lock.parent.name: lock.read_text() for lock in folder.glob("*/lock")}
    return {node: int(pid) for node, pid in found.items() if pid and Path(f"/proc/{pid}").exists()}


@pytest.mark.broker
@pytest.mark.slow
def test_streams_of_a_killed_worker_and_under_a_killed_coordinator_are_heard_again(
    broker: Mosquitto, tmp_path: Path
) -> None:
    file, folder = tmp_path / "fleet.toml", tmp_path / "state"
    command, port = ["fleet", file, "--state", folder], free_port()
    with on_air() as live:
        sources = "".join(f'[[source]]\nname = "s{i}"\nurl = "{live.url()}"\n' for i in range(2))
        file.write_text(
            f'{sources}[mqtt]\nurl = "{broker.url}"\nnode = "city"\n[fleet]\nworkers = 2\n[listen]\nwindow = 1\n'
            f'[web]\naddress = "127.0.0.1:{port}"\n'
        )
        with running(*command) as first:
            until(lambda: len(workers(folder)) == 2, "both workers are there")
            until(lambda: status(folder)["heard"] == 2, "all is heard")
            with urlopen(f"http://127.0.0.1:{port}/api/fleet") as answer:
                shown = json.load(answer)
            assert [(each["name"], each["amiss"]) for each in shown["streams"]] == [("s0", False), ("s1", False)]
            victim = workers(folder)["city-1"]
            os.kill(victim, signal.SIGKILL)
            until(lambda: workers(folder).get("city-1", victim) != victim, "another worker is started")
            until(lambda: status(folder)["heard"] == 2, "all is heard again")
            first.kill()
            first.wait()
            before = workers(folder)
            with running(*command) as second:
                until(lambda: status(folder)["heard"] == 2, "the new coordinator knows who hears what")
                assert workers(folder) == before
                code, _, _ = stop(second)
                assert code == 0
                until(lambda: not workers(folder), "the workers have ended")


def test_what_the_command_refuses(tmp_path: Path) -> None:
    refused(run("fleet", "status", "--state", tmp_path), "no fleet runs there", "tagger fleet FILE")
    refused(run("fleet", tmp_path / "none.toml"), "none.toml: no such file")
    refused(run("fleet", "drain", "x", "--state", tmp_path), "no fleet runs there")
