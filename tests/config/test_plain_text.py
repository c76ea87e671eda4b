"""Credentials that everybody on the way can read are warned of; absurd numbers are refused."""

import json
from pathlib import Path

import pytest

from tagger.names import is_this_machine
from tests.programs import run

AWAY = ("broker", "192.168.1.2", "[2001:db8::1]", "127.0.0.1.example.org")
HERE = ("localhost", "127.0.0.1", "127.1.2.3", "[::1]", "tagger.localhost")


def warnings(path: Path, text: str, *args: str) -> list[str]:
    path.write_text(text)
    path.chmod(0o600)
    done = run("config", "check", "--offline", "--json", "--config", path, *args)
    found: list[str] = json.loads(done.stdout)["warnings"]
    return [line for line in found if "in plain text" in line]


@pytest.mark.parametrize("host", [*AWAY, *HERE])
def test_a_password_for_a_broker(tmp_path: Path, host: str) -> None:
    away, path, secret = host in AWAY, tmp_path / "tagger.toml", 'user = "me"\npassword = "hush"\n'
    found = warnings(path, f'[mqtt]\nurl = "mqtt://{host}"\n{secret}')
    assert len(found) == away
    assert not any("hush" in line for line in found)
    assert len(warnings(path, f'[mqtt]\nurl = "mqtt://me:hush@{host}"\n')) == away
    assert not warnings(path, f'[mqtt]\nurl = "mqtts://{host}"\n{secret}')
    assert not warnings(path, f'[mqtt]\nurl = "mqtt://{host}"\n')
    assert is_this_machine(host.strip("[]")) != away


@pytest.mark.parametrize("host", [*AWAY, *HERE])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_token_or_password_for_a_webhook(tmp_path: Path, host: str, scheme: str) -> None:
    path = tmp_path / "tagger.toml"
    for url, token in ((f"{scheme}://{host}/x", 'token = "hush"\n'), (f"{scheme}://me:hush@{host}/x", "")):
        found = warnings(path, f'[sinks.webhook]\nurl = "{url}"\n{token}', "--mqtt", "none")
        assert len(found) == (scheme == "http" and host in AWAY)
        assert not any("hush" in line for line in found)
    assert not warnings(path, f'[sinks.webhook]\nurl = "{scheme}://{host}/x"\n', "--mqtt", "none")


@pytest.mark.parametrize("field", ["min_s", "confirm_s", "refractory_s", "merge_s"])
@pytest.mark.parametrize("value", ["1e308", "1e9", "inf", "nan", "-1", "1" + "0" * 400])
@pytest.mark.parametrize("table", ["events", 'events.labels."dog"'])
def test_absurd_times_of_events(tmp_path: Path, table: str, field: str, value: str) -> None:
    path = tmp_path / "tagger.toml"
    path.write_text(f"[{table}]\n{field} = {value}\n")
    done = run("config", "check", "--offline", "--config", path)
    assert done.exit_code == 2
    assert f", line 2: dog: {field} = " in done.stderr
    assert "\n" not in done.stderr.strip()
    assert "Traceback" not in done.output
