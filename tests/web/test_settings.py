"""`--web` and the table `[web]`."""

import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from tagger.errors import SettingError
from tagger.settings import WebSettings, is_password_hash
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


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"guest_password": "long enough"}, "web.guest_password: is for nobody"),
        ({"password": "long enough", "guest_password": "long enough"}, "web.guest_password: must be another"),
        ({"password": "long enough", "guest_password": "short"}, "web.guest_password: must have at least 8"),
        ({"password": "$argon2id$v=19$m=19456,t=2,p=1$cut"}, "web.password: is no complete hash"),
        ({"trusted_proxies": ("127.0.0.1",)}, "web.trusted_proxies: whoever comes by a proxy"),
        ({"password": "long enough", "trusted_proxies": ("nginx",)}, "web.trusted_proxies: 'nginx' is no address"),
        ({"login_proxies": ("127.0.0.1",)}, "web.login_proxies: every program on this machine"),
        ({"login_proxies": ("0.0.0.0/0",)}, "web.login_proxies: every program on this machine"),
        ({"login_proxies": ("::/0",)}, "web.login_proxies: every program on this machine"),
        ({"owners": ("anna",)}, "web.owners: only web.login_proxies"),
    ],
)
def test_what_would_let_others_in_or_nobody_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingError) as caught:
        WebSettings(**settings)
    assert str(caught.value).startswith(problem)
    assert "long enough" not in str(caught.value)


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
        'guest_password_file = "guests"\ntrusted_proxies = ["192.0.2.1"]\n'
    )
    assert "guests: No such file" in run("config", "check", "--config", settings).output
    (tmp_path / "guests").write_text("battery staple\n")
    found = run("config", "check", "--config", settings)
    assert found.exit_code == 0, found.output
    assert "correct horse" not in found.output
    assert "proxy with TLS" in found.output
    settings.write_text('[web]\npassword = "correct horse"\n')
    refused_text = run("config", "check", "--config", settings).output
    assert "is for web.address (--web [ADDRESS])" in refused_text
    assert "correct horse" not in refused_text


def test_a_password_is_asked_for_and_its_hash_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    pytest.importorskip("argon2", reason="argon2-cffi is not installed: scripts/setup dev")
    file = tmp_path / "page.password"
    done = run("config", "password", file, stdin=b"correct horse\ncorrect horse\n")
    assert (done.exit_code, "correct horse" in done.output) == (0, False)
    assert is_password_hash(file.read_text().strip())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    refused(run("config", "password", file), "exists", "--force")
    refused(run("config", "password", file, "--force", stdin=b"short\nshort\n"), "at least 8")


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
