"""No password, token or private address is ever shown: not in errors, lists and logs, not by `ps`, not by repr."""

import re
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.config import secret
from tagger.config.build import resolve
from tagger.config.given import has_secret, looks_secret, without_secret
from tagger.errors import UserError
from tests.programs import LONG_S, TAGGER, free_port, run, running, stop, until_said

SECRET = "Xy7pass"
"""In nothing that is printed."""

PLACES = [
    f'[mqtt]\nurl = "mqtt://me:{SECRET}@broker"',
    f'[mqtt]\nuser = "me"\npassword = "{SECRET}"',
    f'[mqtt]\npassword = "{SECRET}"',
    f'[mqtt]\npasswort = "{SECRET}"',
    f'[mqtt]\npassword = ["{SECRET}"]',
    f'[mqtt]\npassword = {{ {SECRET} = "{SECRET}" }}',
    f"[mqtt]\npassword = {SECRET}",
    f'[mqtt]\npassword = "{SECRET}',
    f'[mqtt]\nhost = "me:{SECRET}@broker"',
    f'[mqtt]\nport = "{SECRET}"',
    f'[mqtt]\nport = ["{SECRET}"]',
    f'[mqtt]\nversion = "{SECRET}"',
    f'[mqtt]\ntls = "{SECRET}"',
    f'mqtt = "mqtt://me:{SECRET}@broker"',
    f'mqtt = ["mqtt://me:{SECRET}@broker"]',
    f'url = "mqtt://me:{SECRET}@broker"',
    f'[mqtt]\nurl = "mqtt://me:{SECRET}@bro ker"',
    f'[mqtt]\nurl = "mqtt://me:{SECRET}@broker/topic"',
    f'[mqtt]\nurl = "mqtt://me:12/{SECRET}@broker"',
    f'[mqtt]\nurl = "mqtt://me:{SECRET}"',
    f'[mqtt]\nurl = "http://me:{SECRET}@broker"',
    f'[mqtt]\nurl = "me:{SECRET}@broker"',
    f'[mqtt]\nurl = "mqtt://me:{SECRET}@broker"\nport = 1\nuser = "me"\npassword = "{SECRET}"\npassword_file = "x"',
    f'[sinks.webhook]\nurl = "https://example.org/{SECRET}"\ntoken = "{SECRET}"',
    f'[sinks.webhook]\nurl = "https://example.org?key={SECRET}"',
    f'[sinks.webhook]\nurl = "https://me:{SECRET}@example.org"',
    f'[sinks.webhook]\nurl = "example.org/{SECRET}"',
    f'[sinks.webhook]\nurl = "ftp://example.org/{SECRET}"',
    f'[sinks.webhook]\nurl = "https://[{SECRET}"',
    f'[sinks.webhook]\ntoken = "{SECRET}"',
    f'sinks.webhook = "https://example.org/{SECRET}"',
    f'[events]\nmin_s = 99\nmax_s = 1\n[mqtt]\nuser = "me"\npassword = "{SECRET}"',
]


@pytest.mark.parametrize("text", PLACES)
def test_a_secret_in_the_file_is_shown_by_nothing(text, tmp_path):
    path = tmp_path / "tagger.toml"
    path.write_text(text)
    for command in (
        ("config", "check", "--offline", "--config", path),
        ("config", "check", "--offline", "--config", path, "--json"),
        ("listen", "demo", "--config", path, "--hop", "99"),  # refused at the latest for its hop
        ("tag", "demo", "--config", path),
    ):
        done = run(*command)
        assert SECRET not in done.output, command
        assert SECRET not in repr(done.exception)
    try:
        resolved = resolve({}, {}, path)
    except UserError as error:
        assert SECRET not in str(error)  # noqa: PT017
    else:
        assert SECRET not in repr(resolved)
        assert SECRET not in repr(resolved.settings)
        assert SECRET not in repr(resolved.document)


@pytest.mark.parametrize("name", ["MQTT", "PASSWORD", "WEBHOOK", "WEBHOOK_TOKEN"])
@pytest.mark.parametrize("scheme", ["mqtt://me:{}@broker", "https://example.org/{}", "{}"])
def test_a_secret_in_the_environment_is_shown_by_nothing(name, scheme):
    env = {f"TAGGER_LISTEN_{name}": scheme.format(SECRET), "TAGGER_LISTEN_USER": "you"}
    for command in (
        ("config", "check", "--offline"),
        ("config", "check", "--offline", "--json"),
        ("listen", "demo", "--hop", "99"),
    ):
        assert SECRET not in run(*command, **env).output
    assert SECRET not in repr(resolve({}, env, None))


def test_what_is_hidden_is_said_to_be_there(tmp_path):
    env = {"TAGGER_LISTEN_PASSWORD": SECRET, "TAGGER_LISTEN_WEBHOOK": f"https://example.org:8443/{SECRET}"}
    lines = run("config", "check", "--offline", TAGGER_LISTEN_USER="me", **env).stdout.splitlines()
    assert 'mqtt.password = "(hidden)"  # TAGGER_LISTEN_PASSWORD' in lines
    assert 'sinks.webhook.url = "https://example.org:8443/(hidden)"  # TAGGER_LISTEN_WEBHOOK' in lines


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://localhost:1883", "mqtt://localhost:1883"),
        ("mqtts://me@broker", "mqtts://me@broker"),
        ("mqtt://me:x@[::1]:1", "mqtt://me:(hidden)@[::1]:1"),
        ("none", "none"),
        ("embedded:1884", "embedded:1884"),
        ("https://example.org", "https://example.org"),
        ("https://example.org/", "https://example.org"),
        ("mqtt://broker/", "mqtt://broker"),
        ("https://u:p@example.org/x?y#z", "https://(hidden)@example.org/(hidden)"),
        ("postgresql://me@db:5/sounds", "postgresql://me@db:5/sounds"),
        ("postgres://me:x@db/sounds", "postgres://me:(hidden)@db/sounds"),
        ("postgresql://db/sounds?password=x", "postgresql://db/(hidden)"),
        ("no url", "(hidden)"),
    ],
)
def test_what_is_shown_of_a_url(url, shown):
    assert without_secret(url) == shown
    assert has_secret(url) == ("(hidden)" in shown)


@pytest.mark.parametrize(
    ("url", "is_secret"),
    [
        *(
            (url, True)
            for url in ("mqtt://me:x@broker", "mqtt://me:a/b@broker", "mqtt://me:a@b:c@broker", "https://t@h/")
        ),
        *((url, True) for url in ("https://h/hook/-aB3xY9kLm2pQ7rS", "https://h/x?token=abc", "rtsp://me:x@camera/1")),
        *(
            (url, False)
            for url in ("mqtt://broker", "mqtt://me@broker:1883", "embedded", "http://h", "http://h:1880/sounds")
        ),
        *(
            (url, False)
            for url in ("http://radio.example/stream.mp3", "rtsp://camera/1?x=@y", "http://h/api/sound-events")
        ),
    ],
)
def test_a_secret_on_the_command_line_is_warned_of_and_nothing_else(url, is_secret, monkeypatch):
    monkeypatch.setattr(secret, "take_off_command_line", list)  # which changes the title of this process
    flag = "--webhook" if url.startswith("http") else "--mqtt"
    warned = "a secret in a URL on the command line" in run("config", "check", flag, url).stderr
    assert looks_secret(url) == warned == is_secret


@given(
    st.sampled_from(["mqtt://", "mqtts://", "http://", "https://", "postgresql://", "", "//", "x://"]),
    st.text(st.sampled_from(":@/?#[]%.12ab "), max_size=8),
    st.text(st.sampled_from(":@/?#[]%.12ab "), max_size=8),
)
def test_whatever_is_written_only_a_host_or_a_user_is_shown(scheme, before, after):
    assert SECRET.lower() not in without_secret(f"{scheme}{before}:{SECRET}{after}@broker").lower()


# --- files of secrets ---


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"abc", "abc"), (b"abc\n", "abc"), (b"a b \r\nmore", "a b "), ("pä\n".encode(), "pä"), (b"x" * 999, "x" * 999)],
)
def test_the_first_line_of_a_file(content, password, tmp_path):
    (tmp_path / "secret").write_bytes(content)
    assert secret.first_line(tmp_path / "secret") == password


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"\n" + SECRET.encode(), "empty"), (b"\xff" + SECRET.encode(), "UTF-8")]
)
def test_a_file_without_a_password(content, words, tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(content)
    done = run("listen", "demo", "--mqtt", "mqtt://me@a", "--password-file", path)
    assert done.exit_code == 2
    assert words in done.stderr
    assert str(path) in done.stderr
    assert SECRET not in done.output


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_what_everybody_can_read_is_warned_about_once(mode, tmp_path):
    path, password = tmp_path / "tagger.toml", tmp_path / "password"
    password.write_text(SECRET)
    path.write_text('[mqtt]\nuser = "me"\npassword_file = "password"')
    path.chmod(0o644)
    password.chmod(mode)
    done = run("config", "check", "--offline", "--config", path)
    assert done.exit_code == 0
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(warnings) == (mode == 0o644)
    assert all(f"chmod 600 {password}" in line for line in warnings)
    path.write_text(f'[mqtt]\nuser = "me"\npassword = "{SECRET}"')
    path.chmod(mode)
    done = run("config", "check", "--offline", "--config", path)
    assert done.stderr.count("Warning: ") == (mode == 0o644)
    assert SECRET not in done.output


def test_a_folder_in_place_of_a_secret_is_not_to_be_locked(tmp_path):
    tmp_path.chmod(0o755)
    done = run("config", "check", "--offline", "--mqtt", "mqtt://me@a", "--password-file", tmp_path)
    assert done.exit_code == 2
    assert "chmod" not in done.output


def test_a_file_without_secrets_may_be_read_by_all(tmp_path):
    path = tmp_path / "tagger.toml"
    path.write_text('[mqtt]\nurl = "mqtt://me@broker"')
    path.chmod(0o644)
    assert run("config", "check", "--offline", "--config", path).stderr == ""


# --- ps ---


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


FORMS = (
    ["--mqtt", "mqtt://me:{0}@127.0.0.1:{1}"],
    ["--mqtt=mqtt://me:{0}@127.0.0.1:{1}"],
    ["--webhook", "http://127.0.0.1/{0}", "--mqtt", "mqtt://127.0.0.1:{1}"],
    ["--mqtt", "mqtt://me:{0}@127.0.0.1:{1}", "--webhook", "http://127.0.0.1/{0}"],
    ["--webhook=http://127.0.0.1/{0}", "--mqtt", "mqtt://me:{0}@127.0.0.1:{1}"],
    ["--mqtt", "mqtt://me:{0}@elsewhere", "--mqtt", "mqtt://127.0.0.1:{1}"],
)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc")
def test_a_password_on_the_command_line_is_taken_off_and_warned_about(tmp_path):
    """All at a time: each of them waits for its broker at the end."""
    with ExitStack() as stack:
        daemons, said, seen, environments = [], [], [], []
        for number, form in enumerate(FORMS):
            flags = [part.format(SECRET, free_port()) for part in form]
            one = running("listen", "-", *flags, stdin=subprocess.PIPE, TAGGER_HOME=str(tmp_path / str(number)))
            daemons.append(stack.enter_context(one))
        for daemon in daemons:
            said.append(until_said(daemon, "listening to"))  # the command line was hidden, and the warning printed
            seen.append(command_line(daemon.pid).replace(b"\0", b" ").decode())
            environments.append(Path(f"/proc/{daemon.pid}/environ").read_bytes())
            daemon.send_signal(signal.SIGINT)
        for form, daemon, before, line, environment in zip(FORMS, daemons, said, seen, environments, strict=True):
            out, after = (text.decode() for text in daemon.communicate(timeout=LONG_S))
            err = before + after
            assert SECRET not in line, form
            assert re.search(r"-m tagger listen - (--webhook[ =]http|--mqtt[ =]mqtt)://\*\*\*", line), form
            assert SECRET.encode() not in environment, form
            assert SECRET not in out + err, form
            warnings = [text for text in err.splitlines() if text.startswith("Warning: ")]
            assert len(warnings) == 1, form
            assert "TAGGER_LISTEN_PASSWORD" in warnings[0], form


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc")
def test_without_a_password_the_command_line_stays(tmp_path):
    (tmp_path / "password").write_text(SECRET)
    (tmp_path / "password").chmod(0o600)
    url = f"mqtt://me@127.0.0.1:{free_port()}"
    flags = ("--mqtt", url, "--password-file", tmp_path / "password")
    with running("listen", "-", *flags, stdin=subprocess.PIPE) as daemon:
        said = until_said(daemon, "listening to")
        seen = command_line(daemon.pid).split(b"\0")
        _, out, err = stop(daemon, signal.SIGINT)
    err = said + err
    assert "Warning" not in err
    assert url.encode() in seen
    assert SECRET not in out + err


@pytest.mark.slow
def test_the_daemon_that_cannot_start_tells_no_password_either():
    url = f"mqtt://me:{SECRET}@127.0.0.1:99999"
    done = subprocess.run([*TAGGER, "listen", "demo", "--mqtt", url], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert SECRET not in done.stdout + done.stderr
