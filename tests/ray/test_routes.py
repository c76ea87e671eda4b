"""Recordings by HTTP, without Ray: `bench/serve.py` has them on a cluster."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import uvicorn

from tagger.errors import UserError
from tagger.ray.hearing import Hearing, Options
from tagger.ray.routes import application
from tagger.ray.serve import app
from tests.programs import run, siren, until, write_wav

RATE_HZ = 32_000


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    options = {"most_mb": "2", "most_minutes": "0.5", "idle_s": "0.5", "body_s": "20", "most_waiting": 3}
    routes = application(Hearing(Options.of(options)))
    config = uvicorn.Config(routes, port=0, log_config=None, lifespan="off", ws="none", loop="asyncio")
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        until(lambda: server.started, "it listens")
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("in") / "siren.wav", np.concatenate([siren(8), np.zeros(5 * RATE_HZ)]))


def ask(port: int, body: Any, method: str = "POST", path: str = "/tag", **query: Any) -> tuple[int, dict[str, Any]]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, f"{path}?{urlencode(query, doseq=True)}" if query else path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def idle(port: int) -> None:
    there_is_nothing = (200, {"status": "ok", "recordings": 0})
    until(lambda: ask(port, None, "GET", "/healthz") == there_is_nothing, "no recording is there")


def test_the_answer_is_what_tagger_tag_prints(port: int, recording: Path) -> None:
    status, found = ask(port, recording.read_bytes(), file=str(recording))
    assert (status, found["error"], found["notes"], found["seconds"]) == (200, None, [], 13.0)
    for part, flags in (("windows", ()), ("events", ("--events",))):
        result = run("tag", "--json", *flags, recording)
        assert result.exit_code == 0, result.output
        assert [json.dumps(each) for each in found[part]] == result.stdout.splitlines()
    assert found["labels"][0]["label"] == "siren"
    assert len(found["labels"]) == 5


def test_a_request_chooses_labels_thresholds_and_what_is_in_the_answer(port: int, recording: Path) -> None:
    body = recording.read_bytes()
    _, found = ask(port, body, parts="events")
    assert (sorted(found), found["file"]) == (["error", "events", "file", "notes", "seconds"], "recording")
    assert [each["label"] for each in found["events"]] == ["siren"]
    for query in ({"deny": "siren"}, {"allow": ["dog", "cat"]}, {"threshold": "siren=1"}):
        assert ask(port, body, parts="events", **query)[1]["events"] == []
    _, found = ask(port, body, top=2, parts="windows,labels")
    assert {len(each["top"]) for each in found["windows"]} == {2} == {len(found["labels"])}


@pytest.mark.parametrize(
    ("status", "words", "query"),
    [
        (400, "threshold: must be LABEL=SCORE", {"threshold": "siren"}),
        (400, "dgo", {"allow": "dgo"}),
        (400, "enter", {"threshold": "siren=7"}),
        (400, "tops: is unknown; did you mean top?", {"tops": "1"}),
        (400, "top: must be", {"top": "0"}),
        (400, "parts: must be some of", {"parts": "window"}),
        (400, "channel 2", {"channel": "2"}),
        (400, "channel: must be", {"channel": "-1"}),
    ],
)
def test_a_wish_that_cannot_be_is_refused(
    port: int, recording: Path, status: int, words: str, query: dict[str, Any]
) -> None:
    found = ask(port, recording.read_bytes(), **query)
    assert found[0] == status
    assert words in found[1]["error"]


def test_bodies_that_are_no_recording_are_refused_and_harm_nothing(port: int, recording: Path, tmp_path: Path) -> None:
    good = recording.read_bytes()
    long = write_wav(tmp_path / "long.wav", np.zeros(45 * 8000), 8000).read_bytes()
    for status, words, body in (
        (400, "empty", b""),
        (415, "not audio", b"Dear Sir or Madam\n" * 100),
        (415, "not audio", bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8))),
        (415, "list of other files", f"ffconcat version 1.0\nfile '{recording}'\n".encode()),
        (415, "not audio", b"#EXTM3U\n#EXTINF:60,\nfile:///tmp/a.mp3\n#EXT-X-ENDLIST\n"),
        (413, "0.5 minutes", long),
        (413, "2 MB", b"x" * 2_000_001),
        (422, "truncated", good[: len(good) // 2]),
    ):
        found = ask(port, body)
        assert found[0] == status, found
        assert words in found[1]["error"]
        assert "tagger-" not in found[1]["error"], "no path of the server's"
    assert found[1]["windows"], "what was heard before the damage is there"
    assert ask(port, good)[0] == 200
    idle(port)


def test_a_form_is_told_how_to_send_a_recording(port: int) -> None:
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("POST", "/tag", b"--x", {"Content-Type": "multipart/form-data; boundary=x"})
        answer = connection.getresponse()
        assert answer.status == 415
        assert b"--data-binary" in answer.read()


def test_a_length_that_is_a_lie_and_a_body_that_stops_are_left(port: int, recording: Path) -> None:
    def sent(head: str, body: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        connection.sendall(f"POST /tag HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
        return connection

    with sent("Content-Length: 999999999999") as huge:
        assert b" 413 " in huge.recv(100), "before any of it came"
    slow = [sent("Content-Length: 100000", b"RIFF") for _ in range(3)]
    for connection in slow:
        assert b" 408 " in connection.recv(100)
        connection.close()
    with sent("Content-Length: 100000", b"RIFF"):
        pass  # it has gone
    idle(port)
    with sent("Transfer-Encoding: chunked") as endless, suppress(ConnectionError):
        while True:
            endless.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
    idle(port)
    assert ask(port, recording.read_bytes())[0] == 200


def test_what_the_service_is_and_what_it_is_not(port: int) -> None:
    status, found = ask(port, None, "GET", "/")
    assert (status, found["models"], found["most_mb"]) == (200, ["esc50"], 2.0)
    assert 0 < found["labels"]["siren"] <= 1
    assert ask(port, None, "GET", "/tags")[0] == 404
    assert ask(port, None, "GET", "/tag")[0] == 405


def test_without_ray_serve_one_line_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"needs Ray Serve \([^\n]*\): run `\./scripts/setup serve`"):
        app({})


def test_options_that_cannot_be_are_refused() -> None:
    assert Options.of({"models": "esc50,mine", "most_mb": "0.5", "threads": "4"}) == Options(
        models=("esc50", "mine"), most_mb=0.5, threads=4
    )
    for given, words in (({"model": "esc50"}, "did you mean models"), ({"threads": "0"}, "threads '0': must be")):
        with pytest.raises(UserError, match=words):
            Options.of(given)
