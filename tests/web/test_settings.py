"""`--web` and the table `[web]`."""

import socket
from pathlib import Path

import pytest

from tagger.errors import SettingError
from tagger.settings import WebSettings
from tests.programs import refused, run
from tests.web.pages import page


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:8420", "127.0.0.1", 8420), ("9000", "127.0.0.1", 9000), (":9000", "127.0.0.1", 9000),
     ("localhost", "localhost", 8420), ("[::1]:9000", "::1", 9000), ("::1", "::1", 8420)],
)  # fmt: skip
def test_an_address_is_host_and_port_or_one_of_them(address: str, host: str, port: int) -> None:
    found = WebSettings(address)
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize("address", ["0.0.0.0:8420", "192.168.1.2", "[::]:8420", "attic:8420"])
def test_another_address_needs_a_password(address: str) -> None:
    with pytest.raises(SettingError, match="set a password"):
        WebSettings(address)
    assert WebSettings(address, "long enough").host


@pytest.mark.parametrize("address", ["demo", "127.0.0.1:0", "127.0.0.1:99999", "http://localhost:80", "", "a b:80"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match="must be an address"):
        WebSettings(address)


def test_a_short_password_is_refused_and_none_is_shown() -> None:
    with pytest.raises(SettingError, match="at least 8") as caught:
        WebSettings(password="short")
    assert "short" not in str(caught.value)
    assert "correct horse" not in repr(WebSettings(password="correct horse"))


def test_the_command_refuses_an_open_page() -> None:
    refused(
        run("listen", "demo", "--web", "0.0.0.0:8420", "--mqtt", "none"), "--web '0.0.0.0:8420'", "web.password_file"
    )


def test_a_source_after_the_flag_is_a_source() -> None:
    """The model is looked for after the settings were read: nothing was wrong with them."""
    for arguments in (["--web", "demo"], ["demo", "--web"], ["--web", "9000", "demo"], ["--web=9000", "demo"]):
        refused(run("listen", *arguments, "--mqtt", "none", "--model", "no-such-model"), "no-such-model")
    refused(run("listen", "demo", "--web", "mic:80", "--mqtt", "none"), "--web 'mic:80'", "set a password")


def test_the_file_s_table(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("correct horse\n")
    (tmp_path / "secret").chmod(0o600)
    settings = tmp_path / "tagger.toml"
    plain = '[listen]\nsources = ["demo"]\n[mqtt]\nurl = "none"\n'
    settings.write_text(
        plain + '[web]\naddress = "0.0.0.0:8420"\npassword_file = "secret"\nhosts = ["tagger.example.org"]\n'
    )
    found = run("config", "check", "--config", settings)
    assert found.exit_code == 0, found.output
    assert "correct horse" not in found.output
    assert "proxy with TLS" in found.output
    settings.write_text('[web]\npassword = "correct horse"\n')
    refused_text = run("config", "check", "--config", settings).output
    assert "is for web.address (--web [ADDRESS])" in refused_text
    assert "correct horse" not in refused_text


def test_a_port_that_is_taken_is_said() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SettingError, match="in use"),
        page(address=f"127.0.0.1:{taken.getsockname()[1]}"),
    ):
        pass
    with (
        pytest.raises(SettingError, match="no address of this machine"),
        page(address="192.0.2.1:80", password="x" * 8),
    ):
        pass
