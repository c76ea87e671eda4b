"""Encrypted streams: which servers are believed. Certificates are made here, by openssl."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tagger.condition import SourceError
from tagger.config.build import resolve
from tagger.errors import UserError
from tagger.sources import open_source
from tagger.sources.network import https
from tagger.sources.network.readers import READERS
from tests import radio
from tests.certificates import Authority, self_signed
from tests.fakes import RATE_HZ
from tests.programs import LONG_S
from tests.radio import Radio, on_air

Play = Callable[[Radio, socket.socket], None]


@pytest.fixture(autouse=True, scope="module")
def no_host_is_left() -> Iterator[None]:
    yield
    READERS.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates: `signed.pem` of localhost, by the authority `ca.pem`, and `self-signed.pem`; `other.pem` of another
    host.
    """
    made = tmp_path_factory.mktemp("certificates with a space")
    authority = Authority(made, "ca")
    authority.sign("signed", "localhost")
    authority.sign("other", "elsewhere")
    self_signed(made, "localhost")
    return made


def encrypted(folder: Path, name: str, play: Play = radio.plays_tone) -> Play:
    """What `play` does, behind TLS with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")

    def plays(server: Radio, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as each:
            play(server, each)

    return plays


def has_nothing(server: Radio, connection: socket.socket) -> None:
    """A camera without the path that is asked for."""
    while radio.asked(server, connection):
        connection.sendall(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n")


def url(server: Radio, options: str = "", scheme: str = "https") -> str:
    return f"{scheme}://me:secret@localhost:{server.port}/live{options}"


def is_heard(text: str) -> bool:
    with closing(open_source(text, RATE_HZ).blocks()) as blocks:  # type: ignore[type-var]
        return bool(next(blocks).samples.size)


def refusal(text: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        next(open_source(text, RATE_HZ).blocks())
    assert "secret" not in str(caught.value)
    return caught.value


def certs(folder: Path, name: str) -> str:
    return f",tls_ca_certs={str(folder / name).replace(' ', '%20')}"


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_a_self_signed_certificate_is_refused_and_the_settings_are_named(folder: Path, scheme: str) -> None:
    with on_air(encrypted(folder, "self-signed", has_nothing)) as server:
        error = refusal(url(server, scheme=scheme))
    assert error.reason == "certificate"
    assert str(error).startswith(f"{scheme}://localhost:{server.port}: its certificate is not trusted (self")
    assert "tls_ca_certs = FILE.pem, or set tls_verify = false" in str(error)


def test_a_self_signed_certificate_is_taken_if_it_is_named_or_not_checked(folder: Path) -> None:
    with on_air(encrypted(folder, "self-signed")) as server:
        assert is_heard(url(server, ",tls_verify=no"))
        assert is_heard(url(server, certs(folder, "self-signed.pem")))


def test_a_camera_with_a_self_signed_certificate_is_asked_for_its_stream_if_that_is_not_checked(folder: Path) -> None:
    with on_air(encrypted(folder, "self-signed", has_nothing)) as server:
        assert refusal(url(server, ",tls_verify=no", "rtsps")).reason == "not_found"
        assert refusal(url(server, certs(folder, "self-signed.pem"), "rtsps")).reason == "not_found"


def test_what_a_known_authority_has_signed_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_air(encrypted(folder, "signed")) as server:
        assert is_heard(url(server, certs(folder, "ca.pem")))
        assert refusal(url(server)).reason == "certificate"
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))  # the system's
        assert is_heard(url(server))


def test_the_certificate_of_another_host_is_refused(folder: Path) -> None:
    with on_air(encrypted(folder, "other")) as server:
        error = refusal(url(server, certs(folder, "ca.pem")))
    assert error.reason == "certificate"
    assert "ostname" in str(error)


def test_a_file_without_certificates_is_told(folder: Path) -> None:
    with on_air(encrypted(folder, "signed")) as server:
        error = refusal(url(server, certs(folder, "ca.key")))
    assert error.reason == "certificate"
    assert "the file of tls_ca_certs holds no certificate" in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rtsp://camera/live,tls_verify=no", "rtsp://camera: is not encrypted"),
        ("mic,tls_verify=no", "are for encrypted streams"),
        ("https://me:secret@radio/live,tls_verify=perhaps", "tls_verify: must be yes or no"),
        ("https://me:secret@radio/live,tls_ca_certs=/nowhere.pem", "tls_ca_certs: /nowhere.pem: no such file"),
    ],
)
def test_settings_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        open_source(text, RATE_HZ)
    assert "secret" not in str(caught.value)


def test_the_file_names_certificates_beside_it(folder: Path) -> None:
    file = folder / "tagger.toml"
    file.write_text("""
[[source]]
name = "door"
url = "rtsps://camera/live"
tls_ca_certs = "ca.pem"

[[source]]
name = "yard"
url = "rtsps://other/live"
tls_verify = false
""")
    assert list(resolve({}, {}, file).right().sources) == [
        f"door=rtsps://camera/live{certs(folder, 'ca.pem')}",
        "yard=rtsps://other/live,tls_verify=no",
    ]


@pytest.fixture(scope="module")
def piece() -> bytes:
    return radio.encoded(4.0, "aac", "mpegts")


def gives(body: Callable[[], bytes], kind: str) -> Play:
    def play(server: Radio, connection: socket.socket) -> None:
        radio.asked(server, connection)
        connection.sendall(radio.answers("200 OK", kind, f"Content-Length: {len(body())}\r\n") + body())

    return play


@contextmanager
def in_pieces(folder: Path, piece: bytes, name: str) -> Iterator[tuple[str, Radio]]:
    """The URL of an HLS list, on a server that `ca.pem` signed; and the server of its piece, with a certificate."""
    with on_air(encrypted(folder, name, gives(lambda: piece, "video/mp2t"))) as pieces:
        head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:4,\n"
        body = f"{head}https://localhost:{pieces.port}/a.ts\n#EXT-X-ENDLIST\n".encode()
        with on_air(encrypted(folder, "signed", gives(lambda: body, "application/vnd.apple.mpegurl"))) as lists:
            yield f"https://me:secret@localhost:{lists.port}/live.m3u8", pieces


def test_the_servers_of_the_pieces_of_a_stream_are_checked_too(folder: Path, piece: bytes) -> None:
    with in_pieces(folder, piece, "self-signed") as (text, pieces):
        error = refusal(text + certs(folder, "ca.pem"))
        assert error.reason == "certificate"
        assert "the certificate of localhost is not trusted" in str(error)
        assert not pieces.requests
        assert is_heard(text + ",tls_verify=no")


def test_a_stream_in_pieces_of_which_all_servers_are_believed_is_heard(folder: Path, piece: bytes) -> None:
    with in_pieces(folder, piece, "signed") as (text, pieces):
        assert is_heard(text + certs(folder, "ca.pem"))
        assert b"Authorization" not in pieces.requests[0], "the password is for the server of the list"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.ts", "crypto+https://host/a.ts"])
def test_pieces_that_are_not_http_are_refused(url: str, folder: Path) -> None:
    with pytest.raises(SourceError, match=r"what is not HTTP|encrypted once more"):
        https.opener(str(folder / "ca.pem"), 1.0)(url, 1, {})


def test_the_password_of_a_url_is_sent_and_not_a_part_of_what_is_asked_for(folder: Path) -> None:
    with on_air(radio.wants_a_password) as server:
        with pytest.raises(SourceError) as caught:
            https.opener(str(folder / "ca.pem"), LONG_S)(f"http://me:s3cr%40t@localhost:{server.port}/a.ts", 1, {})
        assert caught.value.reason == "password"
        assert b"Authorization: Basic bWU6czNjckB0" in server.requests[0]
        assert b"me:" not in server.requests[0]
