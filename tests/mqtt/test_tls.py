"""Encrypted connections and passwords, right and wrong, against a real broker. A password is never shown."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.errors import TaggerError, UserError
from tagger.events import Event, Stream
from tagger.mqtt import connection
from tagger.mqtt.sink import MqttSink
from tagger.settings import MqttSettings
from tests.certificates import Authority, encrypted, passwords, self_signed
from tests.programs import Mosquitto, refused_process, subscribed, tagger, until, write_wav

# paho leaves the socket of a failed handshake to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")

SECRET = "open sesame/%40"
STREAM = Stream("room", "mic", "fake", ("dog",))


@dataclass
class Files:
    """Certificate files. A pair is a certificate and its key."""

    folder: Path
    authority: Path
    stranger: Path
    """An authority that the broker does not know."""
    server: tuple[Path, Path]
    """Certificate for localhost."""
    expired: tuple[Path, Path]
    elsewhere: tuple[Path, Path]
    """Certificate for elsewhere.example."""
    alone: tuple[Path, Path]
    """Signed by itself."""
    client: tuple[Path, Path]
    strange_client: tuple[Path, Path]
    """Signed by the stranger."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    ours, other = Authority(folder, "ours"), Authority(folder, "other")
    return Files(
        folder=folder,
        authority=ours.pem,
        stranger=other.pem,
        server=ours.sign("server", "localhost"),
        expired=ours.sign("expired", "localhost", expired=True),
        elsewhere=ours.sign("elsewhere", "elsewhere.example"),
        alone=self_signed(folder, "localhost"),
        client=ours.sign("client", "client.example"),
        strange_client=other.sign("strange", "client.example"),
    )


def showing(pair: tuple[Path, Path], *more: str) -> tuple[str, ...]:
    """Configuration of a broker that shows this certificate."""
    return ("allow_anonymous true", f"certfile {pair[0]}", f"keyfile {pair[1]}", *more)


def requiring_client_certificate(files: Files, *more: str) -> tuple[str, ...]:
    return showing(files.server, f"cafile {files.authority}", "require_certificate true", *more)


@contextmanager
def sink(port: int, refusals: list[UserError], **settings: Any) -> Iterator[MqttSink]:
    given: dict[str, Any] = {"host": "localhost", "port": port, "node": "room", "tls": True, "queue_events": 100}
    made = MqttSink(MqttSettings(**given | settings), refusals.append)
    made.open([STREAM])
    try:
        yield made
    finally:
        made.connection.stop()
        with suppress(TaggerError):  # undelivered messages are tested elsewhere
            made.close(0)


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the waits between attempts to connect."""
    monkeypatch.setattr(connection, "RETRY_SECONDS", (0.1, 0.3))


RIGHT: dict[str, Callable[[Files], dict[str, Any]]] = {
    "the authority's file": lambda files: {"tls_ca_certs": files.authority},
    "a name that is checked, by address": lambda files: {
        "tls_ca_certs": files.authority,
        "host": "127.0.0.1",
        "tls_host_name": "localhost",
    },
    "any certificate": lambda files: {"tls_insecure": True},
}


@pytest.mark.broker
@pytest.mark.parametrize("which", RIGHT)
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_the_right_settings_connect(tmp_path: Path, files: Files, which: str, version: str) -> None:
    refusals: list[UserError] = []
    options = {"version": version, **RIGHT[which](files)}
    with Mosquitto(tmp_path, *showing(files.server)) as here, sink(here.port, refusals, **options) as made:
        until(lambda: made.connection.is_connected, "connected")
    assert refusals == []


@pytest.mark.broker
@pytest.mark.parametrize("pair", ["expired", "elsewhere", "alone"])
def test_tls_insecure_takes_any_certificate(tmp_path: Path, files: Files, pair: str) -> None:
    with Mosquitto(tmp_path, *showing(getattr(files, pair))) as here, sink(here.port, [], tls_insecure=True) as made:
        until(lambda: made.connection.is_connected, "connected")


@pytest.mark.broker
def test_a_pinned_name_is_the_one_that_counts(tmp_path: Path, files: Files) -> None:
    options = {"tls_ca_certs": files.authority, "tls_host_name": "elsewhere.example"}
    with Mosquitto(tmp_path, *showing(files.elsewhere)) as here, sink(here.port, [], **options) as made:
        until(lambda: made.connection.is_connected, "connected")


@pytest.mark.broker
@pytest.mark.parametrize("kept", ["apart", "together"])
def test_a_client_certificate_is_shown(tmp_path: Path, files: Files, kept: str) -> None:
    certificate, key = files.client
    options: dict[str, Any] = {"tls_client_cert": certificate, "tls_client_key": key}
    if kept == "together":
        both = tmp_path / "both.pem"
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        options = {"tls_client_cert": both}
    options["tls_ca_certs"] = files.authority
    with Mosquitto(tmp_path, *requiring_client_certificate(files)) as here, sink(here.port, [], **options) as made:
        until(lambda: made.connection.is_connected, "connected")


Case = tuple[Callable[[Files], tuple[str, ...]], Callable[[Files], dict[str, Any]], str]
"""The broker's configuration, the client's settings, words of the message."""

REFUSED: dict[str, Case] = {
    "another authority": (
        lambda files: showing(files.server),
        lambda files: {"tls_ca_certs": files.stranger},
        "unable to get local issuer certificate",
    ),
    "none of the system's authorities": (lambda files: showing(files.server), lambda files: {}, "certificate verify"),
    "self-signed": (
        lambda files: showing(files.alone),
        lambda files: {"tls_ca_certs": files.authority},
        "self-signed certificate",
    ),
    "expired": (
        lambda files: showing(files.expired),
        lambda files: {"tls_ca_certs": files.authority},
        "certificate has expired",
    ),
    "another name": (
        lambda files: showing(files.elsewhere),
        lambda files: {"tls_ca_certs": files.authority},
        "not valid for 'localhost'",
    ),
    "another name than the pinned one": (
        lambda files: showing(files.server),
        lambda files: {"tls_ca_certs": files.authority, "tls_host_name": "elsewhere.example"},
        "not valid for 'elsewhere.example'",
    ),
    "an address": (
        lambda files: showing(files.server),
        lambda files: {"tls_ca_certs": files.authority, "host": "127.0.0.1"},
        "not valid for '127.0.0.1'",
    ),
    "no client certificate": (
        requiring_client_certificate,
        lambda files: {"tls_ca_certs": files.authority},
        "wants a client certificate",
    ),
    "a client certificate that the broker does not trust": (
        requiring_client_certificate,
        lambda files: {
            "tls_ca_certs": files.authority,
            "tls_client_cert": files.strange_client[0],
            "tls_client_key": files.strange_client[1],
        },
        "wants a client certificate",
    ),
}


@pytest.mark.broker
@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("case", REFUSED)
def test_a_certificate_that_is_not_accepted_is_refused_at_once(tmp_path: Path, files: Files, case: str) -> None:
    config, settings, words = REFUSED[case]
    refusals: list[UserError] = []
    # With TLS 1.3 a client certificate is refused after the handshake. The alert may be lost: then comes another try.
    with Mosquitto(tmp_path, *config(files)) as here, sink(here.port, refusals, **settings(files)):
        until(lambda: refusals, "it is refused")
    assert len(refusals) == 1
    assert words in str(refusals[0])
    assert f"mqtts://{settings(files).get('host', 'localhost')}:{here.port}" in str(refusals[0])
    assert "\n" not in str(refusals[0])


@pytest.mark.broker
@pytest.mark.usefixtures("short_waits")
def test_tls_1_2_also_tells_that_a_client_certificate_is_missing(
    tmp_path: Path, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    config = requiring_client_certificate(files, "tls_version tlsv1.2")
    refusals: list[UserError] = []
    with Mosquitto(tmp_path, *config) as here, sink(here.port, refusals, tls_ca_certs=files.authority) as made:
        until(lambda: "handshake failure" in caplog.text or refusals, "it is said")
        assert not made.connection.is_connected


UNUSABLE: dict[str, tuple[Callable[[Files], dict[str, Any]], str]] = {
    "no such authorities": (lambda files: {"tls_ca_certs": files.folder / "none"}, "none: No such file"),
    "a folder": (lambda files: {"tls_ca_certs": files.folder}, "Is a directory"),
    "authorities that are none": (lambda files: {"tls_ca_certs": files.folder / "junk"}, "holds no certificate"),
    "a key instead of authorities": (lambda files: {"tls_ca_certs": files.client[1]}, "holds no certificate"),
    "no such certificate": (lambda files: {"tls_client_cert": files.folder / "none"}, "none: No such file"),
    "a certificate that is none": (
        lambda files: {"tls_client_cert": files.folder / "junk", "tls_client_key": files.client[1]},
        "tls_client_cert .*junk: holds no certificate",
    ),
    "no such key": (
        lambda files: {"tls_client_cert": files.client[0], "tls_client_key": files.folder / "none"},
        "tls_client_key .*none: No such file",
    ),
    "a key that is none": (
        lambda files: {"tls_client_cert": files.client[0], "tls_client_key": files.folder / "junk"},
        "tls_client_key .*junk: holds no private key",
    ),
    "a key that is nowhere": (lambda files: {"tls_client_cert": files.client[0]}, "no private key.*tls_client_key"),
    "a key that does not fit": (
        lambda files: {"tls_client_cert": files.client[0], "tls_client_key": files.server[1]},
        "tls_client_key .*server.key: the key does not belong",
    ),
    "an encrypted key": (
        lambda files: {"tls_client_cert": files.client[0], "tls_client_key": files.folder / "client.encrypted"},
        "client.encrypted: the key is encrypted",
    ),
    "no name": (lambda files: {"tls_host_name": ".example"}, "tls_host_name '.example'"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_files_that_cannot_be_used_are_named(files: Files, case: str) -> None:
    settings, words = UNUSABLE[case]
    (files.folder / "junk").write_text("no PEM\n")
    encrypted(files.client[1])
    with pytest.raises(UserError, match=words) as caught:
        MqttSink(MqttSettings(tls=True, **settings(files)), pytest.fail)
    assert "\n" not in str(caught.value)


@pytest.mark.broker
@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("client", ["encrypted", "plain"])
def test_encrypted_and_plain_do_not_connect_and_try_again(
    tmp_path: Path, files: Files, caplog: pytest.LogCaptureFixture, client: str
) -> None:
    config = ("allow_anonymous true",) if client == "encrypted" else showing(files.server)
    with Mosquitto(tmp_path, *config) as here, sink(here.port, [], tls=client == "encrypted"):
        wanted = 1 if client == "encrypted" else 2
        until(lambda: len(caplog.records) >= wanted, "it is said: why it cannot be reached only once")
    said = [record.getMessage() for record in caplog.records]
    words = "cannot reach mqtts://" if client == "encrypted" else "does not answer"
    assert all(words in each and "trying again" in each and "\n" not in each for each in said)
    assert all("does it want mqtts://?" in each for each in said) == (client == "plain")


@pytest.mark.broker
@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize(("user", "password"), [("me", SECRET), ("you", SECRET), ("me", None), (None, None)])
def test_a_wrong_password_is_refused_and_not_shown(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    user: str | None,
    password: str | None,
    version: str,
) -> None:
    known = passwords(tmp_path / "passwords", me="another")
    refusals: list[UserError] = []
    options = {"tls": False, "user": user, "password": password, "version": version}
    with (
        Mosquitto(tmp_path, "allow_anonymous false", f"password_file {known}") as here,
        sink(here.port, refusals, **options) as made,
    ):
        until(lambda: refusals, "it is refused")
        shown = [repr(made.settings), str(made.settings), made.settings.url, repr(vars(made))]
    assert len(refusals) == 1
    assert "check user and password" in str(refusals[0])
    printed = capfd.readouterr()
    for text in (str(refusals[0]), caplog.text, printed.out, printed.err, *shown):
        assert "sesame" not in text
        assert "\n" not in str(refusals[0])


@pytest.mark.broker
def test_a_password_that_works_is_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    known = passwords(tmp_path / "passwords", me=SECRET)
    options = {"tls": False, "user": "me", "password": SECRET}
    with (
        Mosquitto(tmp_path, "allow_anonymous false", f"password_file {known}") as here,
        sink(here.port, [], **options) as made,
    ):
        until(lambda: made.connection.is_connected, "connected")
    assert "sesame" not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.broker
@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_refusal_that_comes_later_is_waited_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    known = passwords(tmp_path / "passwords", me=SECRET, witness="w")
    refusals: list[UserError] = []
    options = {"tls": False, "user": "me", "password": SECRET, "version": version}
    with (
        Mosquitto(tmp_path, "allow_anonymous false", f"password_file {known}") as here,
        sink(here.port, refusals, **options) as made,
    ):
        until(lambda: made.connection.is_connected, "connected")
        here.kill()
        passwords(known, me="changed", witness="w")
        here.start()
        until(
            lambda: caplog.text.count("refuses (Not authorized; check user and password); trying again") > 1,
            "it is refused",
        )
        made.event(STREAM, Event("begin", "1", "dog", 0.9, 0.9, 0.0))
        here.kill()
        passwords(known, me=SECRET, witness="w")
        here.start()
        with subscribed(here.port, user="witness", password="w") as witness:
            until(lambda: witness.payloads("tagger/room/mic/dog/state")[-1:] == ["ON"], "it recovered")
            assert len(witness.jsons("tagger/room/mic/event")) <= 1
        until(lambda: made.counts() == {"waiting": 0, "dropped": 0, "reconnects": 1}, "the broker acknowledged all")
    assert refusals == []
    assert "sesame" not in caplog.text


@pytest.mark.broker
@pytest.mark.usefixtures("short_waits")
def test_a_certificate_that_expires_later_is_waited_out(
    tmp_path: Path, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    refusals: list[UserError] = []
    with Mosquitto(tmp_path, *showing(files.server)) as here:
        right = here.config.read_text()
        with sink(here.port, refusals, tls_ca_certs=files.authority) as made:
            until(lambda: made.connection.is_connected, "connected")
            here.kill()
            here.config.write_text(right.replace("server.", "expired."))
            here.start()
            until(lambda: "certificate has expired); trying again" in caplog.text, "it is refused")
            here.kill()
            here.config.write_text(right)
            here.start()
            until(lambda: made.connection.is_connected, "connected again")
    assert refusals == []


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "clip.wav", np.zeros(6 * 32_000))


@pytest.mark.slow
@pytest.mark.broker
def test_the_command_trusts_the_systems_authorities(tmp_path: Path, files: Files, clip: Path) -> None:
    with Mosquitto(tmp_path, *showing(files.server)) as here:
        listen = ("listen", clip, "--no-realtime", "--mqtt", f"mqtts://localhost:{here.port}")
        done = tagger(*listen, SSL_CERT_FILE=str(files.authority))
    assert done.returncode == 0, done.stderr
    assert "connected to mqtts://localhost" in done.stderr


@pytest.mark.slow
@pytest.mark.broker
def test_the_command_ends_with_2_and_one_line_where_the_password_is_wrong(
    tmp_path: Path, files: Files, clip: Path
) -> None:
    known = passwords(tmp_path / "passwords", me="another")
    config = showing(files.server)[1:]
    with Mosquitto(tmp_path, "allow_anonymous false", f"password_file {known}", *config) as here:
        url = f"mqtts://me:open%20sesame@localhost:{here.port}"
        done = tagger("listen", clip, "--no-realtime", SSL_CERT_FILE=str(files.authority), TAGGER_LISTEN_MQTT=url)
    refused_process(done, "Not authorized", "check user and password")
    assert "sesame" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.broker
def test_the_command_ends_with_2_and_one_line_where_it_has_no_certificate(
    tmp_path: Path, files: Files, clip: Path
) -> None:
    with Mosquitto(tmp_path, *requiring_client_certificate(files)) as here:
        listen = ("listen", clip, "--no-realtime", "--mqtt", f"mqtts://localhost:{here.port}")
        done = tagger(*listen, SSL_CERT_FILE=str(files.authority))
    refused_process(done, "wants a client certificate")
