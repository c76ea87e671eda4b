"""The webhook sink, with a server that fails in every way that servers fail."""

import json
import logging
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger import __version__, retry
from tagger.errors import TaggerError, UserError
from tagger.events import Event, Stream
from tagger.settings import WebhookSettings
from tagger.sinks import webhook
from tagger.sinks.webhook import WebhookSink
from tests.builders import daemon, plays
from tests.events import STREAM, begin
from tests.fakes import loud, silence
from tests.programs import free_port, until
from tests.servers import Hook, hooked


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hooked() as server:
        yield server


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.05))
    monkeypatch.setattr(webhook, "LAST_PAUSE_SECONDS", 0.02)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def opened(url: str, **settings: object) -> WebhookSink:
    sink = WebhookSink(WebhookSettings(url, **settings))  # type: ignore[arg-type]
    sink.open([STREAM])
    return sink


def ids(hook: Hook) -> list[str]:
    return [body["id"] for _, _, body in hook.posts]


def test_each_event_of_a_listener_is_posted(hook: Hook) -> None:
    sink = opened(hook.url("hook?room=1"), token="t0ken")
    with daemon(plays(silence(2), loud(1), silence(2)), [sink]):
        until(lambda: len(hook.posts) == 2, "the event has ended")
    (path, headers, first), (_, later, last) = hook.posts
    assert path == "/hook?room=1"
    assert (first["type"], last["type"]) == ("begin", "end")
    assert first["id"] == last["id"]
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == f"tagger/{__version__}"
    assert headers["authorization"] == "Bearer t0ken"
    assert (headers["idempotency-key"], later["idempotency-key"]) == (f"{first['id']}-begin", f"{first['id']}-end")


def test_an_end_of_an_earlier_run_is_accepted(hook: Hook) -> None:
    sink = opened(hook.url())
    sink.event(Stream("attic", "unplugged", "fake", ()), Event("end", "A", "cat", 0, 0.9, 1, 2, cause="restart"))
    sink.close(10)
    ((_, _, body),) = hook.posts
    assert (body["source"], body["cause"]) == ("unplugged", "restart")


def test_the_user_of_the_url_is_basic_authorization(hook: Hook) -> None:
    sink = opened(f"http://me:p%40ss@127.0.0.1:{hook.port}/hook")
    sink.event(STREAM, begin("A"))
    sink.close(10)
    assert hook.posts[0][1]["authorization"] == "Basic bWU6cEBzcw=="
    assert hook.posts[0][1]["host"] == f"127.0.0.1:{hook.port}"


@pytest.mark.parametrize("failure", [500, 502, 503, 408, 429, None])
def test_temporary_failures_are_tried_again_in_order(
    hook: Hook, failure: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [(failure, {})] * 4
    with caplog.at_level("INFO"):
        sink = opened(hook.url())
        for id_ in "ABC":
            sink.event(STREAM, begin(id_))
        until(lambda: sink.counts() == {"waiting": 0, "dropped": 0}, "all arrived")
        sink.close(1)
    assert ids(hook) == [*"AAAAA", "B", "C"]
    assert len({headers["idempotency-key"] for _, headers, body in hook.posts if body["id"] == "A"}) == 1
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert (f"answers {failure}" if failure else "hangs up without an answer") in said[0]
    assert said[1].endswith("works again")


def test_a_server_that_comes_later_gets_all(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    sink = opened(f"http://127.0.0.1:{port}/")
    for id_ in "ABC":
        sink.event(STREAM, begin(id_))
    until(lambda: sink.retry.tries > 3, "it was tried")
    assert sink.counts()["waiting"] == 3
    with hooked(port) as hook:
        sink.close(10)
        assert ids(hook) == ["A", "B", "C"]
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert said.message.startswith(f"http://127.0.0.1:{port}: cannot be reached (Connection refused); events wait")


@pytest.mark.parametrize("said", [b"nonsense\r\n\r\n", b"HTTP/1.1 2", b"\xff" * 70_000, b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_a_server_that_speaks_no_http_is_tried_again(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        sink = opened(f"http://127.0.0.1:{server.getsockname()[1]}/")
        sink.event(STREAM, begin("A"))
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(said)
        until(lambda: sink.retry.tries >= 2, "it was tried twice")
    with pytest.raises(TaggerError, match=r"1 of 1 event was not delivered"):
        sink.close(0.1)


def test_a_server_that_does_not_answer_is_given_up_for_the_moment(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.1)
    hook.hangs_s = 0.5
    sink = opened(hook.url())
    sink.event(STREAM, begin("A"))
    until(lambda: sink.retry.why == "does not answer in time", "it was given up")
    hook.hangs_s = 0
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 90)
    until(lambda: not sink.counts()["waiting"], "it arrived")
    sink.close(1)


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_respected(hook: Hook, as_date: bool) -> None:
    began = time.monotonic()
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2.5), usegmt=True)  # dates have whole seconds
    hook.answers = [(429, {"Retry-After": later if as_date else "1"})]
    sink = opened(hook.url())
    sink.event(STREAM, begin("A"))
    until(lambda: not sink.counts()["waiting"], "it arrived")
    assert time.monotonic() - began >= 1
    sink.close(1)
    assert ids(hook) == ["A", "A"]


def test_retry_after_is_limited(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "MAX_RETRY_AFTER_SECONDS", 0.05)
    hook.answers = [(503, {"Retry-After": text}) for text in ("999999999", "inf", "-1", "nan", "soon", "")]
    sink = opened(hook.url())
    sink.event(STREAM, begin("A"))
    until(lambda: not sink.counts()["waiting"], "it arrived")
    sink.close(1)
    assert ids(hook) == ["A"] * 7


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422, 302, 303])
def test_refused_events_are_dropped_and_logged_once(hook: Hook, status: int, caplog: pytest.LogCaptureFixture) -> None:
    hook.answers = [(status, {"Location": hook.url("login")} if status < 400 else {})] * 3 + [(403, {})]
    sink = opened(hook.url("s3cret"))
    for id_ in "ABCDE":
        sink.event(STREAM, begin(id_))
    until(lambda: sink.counts() == {"waiting": 0, "dropped": 4}, "all were tried")
    assert ids(hook) == [*"ABCDE"]
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert f"127.0.0.1:{hook.port}: answers {status}" in said[0]
    assert "answers 403 Forbidden" in said[1]
    with pytest.raises(TaggerError, match="4 of 5 events were not delivered"):
        sink.close(1)


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_redirect_on_the_same_host_is_followed(hook: Hook, status: int) -> None:
    hook.answers = [(status, {"Location": "/hook/"})]
    sink = opened(hook.url("hook"), token="t0ken")
    sink.event(STREAM, begin("A"))
    sink.close(10)
    assert [path for path, _, _ in hook.posts] == ["/hook", "/hook/"]
    assert hook.posts[1][1]["authorization"] == "Bearer t0ken"
    assert hook.posts[1][2] == hook.posts[0][2]


@pytest.mark.parametrize(
    "to", ["http://localhost:{port}/", "http://127.0.0.1:{other}/", "ftp://127.0.0.1/", "file:///"]
)
def test_a_redirect_elsewhere_is_not(hook: Hook, to: str) -> None:
    with hooked() as other:
        hook.answers = [(307, {"Location": to.format(port=hook.port, other=other.port)})]
        sink = opened(hook.url(), token="t0ken")
        sink.event(STREAM, begin("A"))
        with pytest.raises(TaggerError, match="1 of 1"):
            sink.close(10)
        assert ids(hook) == ["A"]
        assert not other.posts


def test_a_redirect_in_a_circle_ends(hook: Hook) -> None:
    hook.answers = [(308, {"Location": f"/{i % 2}"}) for i in range(50)]
    sink = opened(hook.url())
    sink.event(STREAM, begin("A"))
    with pytest.raises(TaggerError, match="1 of 1"):
        sink.close(10)
    assert len(hook.posts) < 10


def test_events_are_given_up_when_they_are_old(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    sink = opened(f"http://127.0.0.1:{port}/", give_up_s=1.5)  # long enough for C on a busy machine
    for id_ in "AB":
        sink.event(STREAM, begin(id_))
    until(lambda: sink.counts()["dropped"] == 2, "both were given up")
    with hooked(port) as hook:
        sink.event(STREAM, begin("C"))
        until(lambda: not sink.counts()["waiting"], "C arrived")
        assert ids(hook) == ["C"]
    assert any("gave up after 1.5 s" in record.message for record in caplog.records)
    with pytest.raises(TaggerError, match="2 of 3"):
        sink.close(1)


def test_when_too_many_wait_the_oldest_are_dropped() -> None:
    port = free_port()
    sink = opened(f"http://127.0.0.1:{port}/", queue_events=2)
    sink.event(STREAM, begin("held"))
    until(lambda: sink.retry.why, "one is in hand")
    for id_ in "ABCD":
        sink.event(STREAM, begin(id_))
    assert sink.counts() == {"waiting": 3, "dropped": 2}
    with hooked(port) as hook:
        with pytest.raises(TaggerError, match="2 of 5"):
            sink.close(10)
        assert ids(hook) == ["held", "C", "D"]


def test_close_waits_only_for_a_limited_time() -> None:
    sink = opened(f"http://127.0.0.1:{free_port()}/s3cret?key=s3cret", token="s3cret")
    for id_ in "ABC":
        sink.event(STREAM, begin(id_))
    began = time.monotonic()
    with pytest.raises(TaggerError, match=r"^3 of 3 events were not delivered to http://127.*refused\)\)$") as raised:
        sink.close(0.5)
    assert time.monotonic() - began < 20
    assert "s3cret" not in str(raised.value)


def test_no_secret_is_logged(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.answers = [(500, {}), (None, {}), (301, {"Location": "/s3cret/more"}), (404, {})]
    with caplog.at_level("DEBUG"):
        settings = WebhookSettings(f"http://s3cret:s3cret@127.0.0.1:{hook.port}/s3cret?s3cret=s3cret#s3cret")
        sink = WebhookSink(settings)
        sink.open([STREAM])
        sink.event(STREAM, begin("A"))
        with pytest.raises(TaggerError) as raised:
            sink.close(10)
    assert len(hook.posts) == 4
    assert caplog.records
    assert "s3cret" not in caplog.text + str(raised.value) + repr(settings) + settings.where


def test_a_certificate_is_checked(tmp_path: Path, hook: Hook) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with hooked() as server:
        # The handshake is left to the connection's thread, which closes what fails.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        sink = opened(f"https://localhost:{server.port}/")
        sink.event(STREAM, begin("A"))
        until(lambda: sink.retry.why, "it was tried")
        assert "self-signed certificate" in (sink.retry.why or "")
        with pytest.raises(TaggerError):
            sink.close(0.1)
        assert not server.posts

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(certificate))
            sink = opened(f"https://localhost:{server.port}/")
            sink.event(STREAM, begin("B"))
            sink.close(10)
            assert ids(server) == ["B"]


@pytest.mark.parametrize(
    "url",
    [
        *("", "hooks", "localhost:8000", "ftp://host/", "file:///etc/passwd", "http:///hook", "http://:80/"),
        *("http://host:0/", "http://host:99999/", "http://host:x/", "http://[::1/", "http://a b/", "http://..a/"),
    ],
)
def test_a_url_that_cannot_be_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(UserError, match=r"^webhook\.url: ") as raised:
        WebhookSettings(url)
    assert not url or url not in str(raised.value)


@pytest.mark.parametrize(
    "bad", [{"token": "a\nb"}, {"token": "é"}, {"token": ""}, {"queue_events": 0}, {"give_up_s": 0}, {"give_up_s": -1}]
)
def test_bounds_of_settings(bad: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"^webhook\.(token|queue_events|give_up_s)"):
        WebhookSettings("http://host/", **bad)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="choose one"):
        WebhookSettings("http://user@host/", token="token")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_path_makes_a_request(path: str) -> None:
    """It is sent in ASCII, without spaces or line breaks."""
    clean, _ = webhook.split_user(f"http://host/{path}")
    assert clean.isascii()
    assert clean.startswith("http://host/")
    assert not any(letter.isspace() or not letter.isprintable() for letter in clean)


def test_where_names_the_server_alone() -> None:
    where = {url: WebhookSettings(url).where for url in ("https://a/b", "http://u:p@[::1]:81/b?c", "HTTP://A.b")}
    assert list(where.values()) == ["https://a:443", "http://[::1]:81", "http://a.b:80"]


def test_the_body_is_the_event_of_the_contract(hook: Hook) -> None:
    sink = opened(hook.url())
    sink.event(STREAM, begin("A"))
    sink.close(10)
    body = hook.posts[0][2]
    assert body == json.loads(json.dumps(begin("A").to_json(STREAM, 0))) | {"published": body["published"]}


def test_a_refusal_that_comes_back_is_said_again(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.answers = [(401, {}), (401, {}), (200, {}), (401, {})]
    sink = opened(hook.url())
    for id_ in "ABCD":
        sink.event(STREAM, begin(id_))
    until(lambda: sink.counts() == {"waiting": 0, "dropped": 3}, "all were sent")
    with pytest.raises(TaggerError):
        sink.close(10)
    assert caplog.text.count("answers 401") == 2
