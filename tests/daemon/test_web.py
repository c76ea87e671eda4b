"""The pages that say how the daemon does, on a port and on the local socket; and `tagger status`, which asks."""

import http.client
import json
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tagger.daemon import web
from tagger.daemon.localsocket import socket_path
from tagger.daemon.status import text
from tagger.daemon.web import answer, answering
from tagger.errors import SettingError
from tagger.health import Snapshot
from tagger.settings import HttpSettings
from tests.healths import snapshot, source
from tests.programs import free_port, refused, run, until

WELL = snapshot(source("mic", events={"dog": 1}))
AWAY = snapshot(source("mic"), source("door", state="retrying", reason="gone", detail="the cable is out"))


def test_a_source_that_is_silent_or_away_has_no_level() -> None:
    found = snapshot(*(source(state, state=state) for state in ("silent", "retrying", "off")))
    assert not [line for line in text(found.to_json()) if "dBFS" in line]


@contextmanager
def served(folder: Path, found: Snapshot = WELL, host: str = "127.0.0.1") -> Iterator[int]:
    """Answers with this snapshot; yields the port."""
    port = free_port()
    with answering(lambda: found, HttpSettings(port, host), folder):
        yield port


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_the_pages_of_a_daemon_that_does_well(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        assert get(port, "/healthz") == (200, "ok\n")
        assert get(port, "/readyz") == (200, "ok\n")
        status, body = get(port, "/metrics")
        assert status == 200
        assert 'tagger_events_total{source="mic",label="dog"} 1' in body
        status, body = get(port, "/status")
        assert json.loads(body) == WELL.to_json()
        assert get(port, "/healthz", "HEAD") == (200, "")
        assert get(port, "/")[0] == 404
        assert get(port, "/../status")[0] == 404
        assert get(port, "/status", "POST")[0] == 501
    with pytest.raises(OSError, match="refused"):
        get(port, "/healthz")


@pytest.mark.parametrize(
    ("found", "healthz", "readyz"),
    [
        (AWAY, (200, "ok\n"), (503, "door: retrying for 1 min: the cable is out\n")),
        (snapshot(source(state="starting"), uptime_s=1), (200, "ok\n"), (503, None)),
        (snapshot(source(idle_s=50.0)), (503, "mic: its thread is stuck\n"), (503, None)),
        (snapshot(trouble="no connection"), (200, "ok\n"), (503, "mqtt: no connection\n")),
    ],
)
def test_what_is_amiss_is_no_readiness_and_what_is_stuck_no_health(found, healthz, readyz) -> None:
    for path, (status, body) in (("/healthz", healthz), ("/readyz", readyz)):
        got = answer(path, found)
        assert got is not None
        assert got[0] == status
        assert body is None or got[2] == body


def test_a_web_page_cannot_read_it_by_giving_its_own_name_this_address(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        assert get(port, "/status", Host="evil.example.org")[0] == 403
        assert get(port, "/status", Host=f"evil.example.org:{port}")[0] == 403
        for name in ("localhost", f"127.0.0.1:{port}", f"[::1]:{port}"):
            assert get(port, "/status", Host=name)[0] == 200
    with served(tmp_path, host="0.0.0.0") as port:
        assert get(port, "/status", Host="attic.local")[0] == 200


def test_clients_that_say_nothing_do_not_keep_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "CLIENT_SECONDS", 0.3)
    with served(tmp_path) as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]

        def is_answered() -> bool:
            try:
                return get(port, "/healthz")[0] == 200
            except (OSError, http.client.HTTPException):  # all places are taken
                return False

        until(is_answered, "it answers")
        for each in idle:
            each.close()
    until(lambda: not [each for each in threading.enumerate() if "process_request" in each.name], "no thread is left")


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nX"])
def test_who_asks_is_answered_before_those_who_do_not(said: bytes, tmp_path: Path) -> None:
    with served(tmp_path) as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        for each in idle:
            with suppress(OSError):  # it was hung up on
                each.sendall(said)
        assert get(port, "/healthz")[0] == 200
        for each in idle:
            each.close()


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with (
        served(tmp_path) as port,
        pytest.raises(SettingError, match="in use"),
        answering(lambda: WELL, HttpSettings(port), tmp_path / "other"),
    ):
        pass
    with (
        pytest.raises(SettingError, match="no address of this machine"),
        answering(lambda: WELL, HttpSettings(port, "192.0.2.1"), tmp_path),
    ):
        pass


def test_the_socket_is_for_its_owner_alone_and_goes_with_the_daemon(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "state"
    with answering(lambda: WELL, None, folder):
        (path,) = folder.iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(tmp_path.iterdir()) == []


def test_a_socket_of_a_daemon_that_was_killed_is_removed(tmp_path: Path) -> None:
    left = socket_path(tmp_path, 1)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(left))
    dead.close()
    refused(run("status", "--state", tmp_path), "no daemon listens here")
    with answering(lambda: WELL, None, tmp_path):
        assert not left.exists()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_a_folder_with_a_long_path_has_a_socket_too(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / "state"
    with answering(lambda: WELL, None, folder):
        assert run("status", "--state", folder).exit_code == 0


def test_a_folder_that_cannot_be_written_is_said_and_the_daemon_goes_on(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    (tmp_path / "file").write_text("")
    with answering(lambda: WELL, None, tmp_path / "file"):
        pass
    assert "tagger status cannot ask this daemon" in caplog.text


def test_status_prints_a_table_and_its_exit_code_is_the_verdict(tmp_path: Path) -> None:
    with answering(lambda: WELL, None, tmp_path):
        done = run("status", "--state", tmp_path)
        assert done.exit_code == 0
        first, header, mic, mqtt = done.stdout.splitlines()
        assert first.startswith("attic: ok, up 1 min, 120 MB, tagger ")
        assert header.split()[:3] == ["SOURCE", "STATE", "SINCE"]
        assert mic.split() == ["mic", "hearing", "1", "min", "0", "s", "ago", "-50", "dBFS", "100", "1", "-", "3"]
        assert mqtt == "mqtt: works; 0 events wait, 5 dropped"
        assert json.loads(run("status", "--state", tmp_path, "--json").stdout) == WELL.to_json()
    with answering(lambda: AWAY, None, tmp_path):
        done = run("status", "--state", tmp_path)
        assert done.exit_code == 1
        assert done.stdout.splitlines()[-1] == "Problem: door: retrying for 1 min: the cable is out"


def test_status_knows_a_daemon_whose_clock_was_never_set(tmp_path: Path) -> None:
    """As on a Raspberry Pi that finds no time server."""
    unset = replace(snapshot(source(since=5.0)), time=75.0)
    with answering(lambda: unset, None, tmp_path):
        done = run("status", "--state", tmp_path)
        assert done.exit_code == 0, done.stderr
        assert "hearing  1 min" in done.stdout


def test_status_finds_the_folder_that_the_settings_name(tmp_path: Path) -> None:
    (tmp_path / "tagger.toml").write_text('[listen]\nstate = "here"\n')
    with answering(lambda: WELL, None, tmp_path / "here"):
        assert run("status", "--config", tmp_path / "tagger.toml").exit_code == 0
        assert run("status", TAGGER_HOME=str(tmp_path)).exit_code == 0
    refused(run("status", TAGGER_HOME=str(tmp_path)), "no daemon listens here")


def test_status_asks_another_machine(tmp_path: Path) -> None:
    with served(tmp_path, AWAY) as port:
        assert run("status", f"127.0.0.1:{port}").exit_code == 1
        done = run("status", f"http://127.0.0.1:{port}", "--json")
        assert json.loads(done.stdout)["verdict"] == "degraded"
    done = run("status", f"http://127.0.0.1:{port}")
    assert done.exit_code == 1
    assert "no answer" in done.stderr
    refused(run("status", "ftp://host"), "http://HOST:PORT")
    refused(run("status", "http://user:secret@host"), "http://HOST:PORT")
    assert "secret" not in run("status", "http://user:secret@host").stderr


def test_what_is_no_tagger_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer_nonsense() -> None:
            client, _ = other.accept()
            client.recv(1000)
            body = b'{"node": 1, "verdict": "ok", "sources": 3}'
            client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            client.close()

        threading.Thread(target=answer_nonsense, daemon=True).start()
        done = run("status", f"http://127.0.0.1:{other.getsockname()[1]}")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "no tagger" in done.stderr


def test_a_source_with_nothing_to_show_has_dashes() -> None:
    found = snapshot(source("mic", state="starting", last_audio_s=None, rms_dbfs=None)).to_json()
    assert list(text(found))[2].split()[:2] == ["mic", "starting"]
