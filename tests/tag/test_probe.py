"""`tagger devices --probe`: what a stream is, how loud, and what is heard in it."""

import json
import socket

import pytest

from tagger.sources.network.readers import READERS
from tests import radio
from tests.programs import refused, run
from tests.radio import on_air


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    READERS.stop()


def test_a_probe_says_what_a_stream_is_and_how_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.tag.probe.LISTEN_SECONDS", 1.0)
    with on_air(radio.plays_noise) as server:
        done = run("devices", "--probe", f"door={server.url(user='me:secret')}", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["codec"], found["container"], found["rate_hz"], found["channels"]) == ("pcm_s16le", "wav", 16_000, 1)
    assert found["rms_dbfs"] == pytest.approx(-20.8, abs=1.0)
    assert found["zeros"] is False
    assert len(found["top"]) == 5
    assert "secret" not in done.output


def test_a_probe_says_why_nothing_is_heard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    done = run("devices", "--probe", f"http://me:secret@127.0.0.1:{port}/live")
    assert done.exit_code == 1
    assert f"http://127.0.0.1:{port}: the other machine takes no connection there (refused)" in done.stderr
    assert "secret" not in done.output


def test_a_probe_is_for_live_sources() -> None:
    refused(run("devices", "--probe", "demo"), "demo: is no live source")
    refused(run("devices", "--probe", "mic", "--meter"), "--probe goes with --json only")
    refused(run("devices", "--probe", "ftp://me:secret@host/x"), "ftp://host: this kind of URL is no source")
