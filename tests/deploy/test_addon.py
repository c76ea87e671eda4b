"""The Home Assistant add-on: its description, and what its start makes of options and of the Supervisor's broker."""

import importlib.util
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tagger import __version__
from tagger.config.build import resolve
from tests.programs import ROOT

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `broker`")
jsonschema = pytest.importorskip("jsonschema")

ADDON = ROOT / "deploy/homeassistant/tagger"
BROKER = {"host": "core-mosquitto", "port": 1883, "ssl": False, "username": "addons", "password": "p@ss/word"}
SERVICE = {"result": "ok", "data": BROKER}
TOKEN = "of the Supervisor"


@pytest.fixture(scope="module")
def run() -> ModuleType:
    """The add-on's program, as a module."""
    spec = importlib.util.spec_from_file_location("addon_run", ADDON / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def description() -> Any:
    return yaml.safe_load((ADDON / "config.yaml").read_text("utf-8"))


@pytest.fixture
def supervisor() -> Iterator[HTTPServer]:
    """A Supervisor; `status` and `content` are its answer to those who have the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["Authorization"] == f"Bearer {TOKEN}" or self.path == "/healthz"
            self.send_response(server.status if allowed else 403)  # type: ignore[attr-defined]
            self.end_headers()
            self.wfile.write(json.dumps(server.content).encode())  # type: ignore[attr-defined]

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.status, server.content = 200, SERVICE  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server: HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_the_description_follows_the_schema_of_the_add_on_linter(description: Any) -> None:
    jsonschema.Draft7Validator(json.loads((Path(__file__).parent / "schemas/addon-config.json").read_text())).validate(
        description
    )


def test_nothing_repeats_a_default(description: Any) -> None:
    known = json.loads((Path(__file__).parent / "schemas/addon-config.json").read_text())["properties"]
    for key, value in description.items():
        assert "default" not in known[key] or known[key]["default"] != value, key


def test_the_add_on_has_the_version_of_the_package(description: Any) -> None:
    assert description["version"] == __version__


def test_every_option_has_a_type_and_a_name(description: Any) -> None:
    translation = yaml.safe_load((ADDON / "translations/en.yaml").read_text("utf-8"))["configuration"]
    assert set(description["options"]) <= set(description["schema"])
    assert set(translation) == set(description["schema"])
    optional = set(description["schema"]) - set(description["options"])
    assert all(description["schema"][key].endswith("?") for key in optional)


def test_the_supervisors_broker_is_used_with_its_password(run: ModuleType, supervisor: HTTPServer) -> None:
    broker = run.broker_of(url(supervisor), TOKEN)
    assert broker == BROKER
    env = run.variables({"sources": ["mic"], "labels": ["dog", "glass_breaking"]}, broker)
    resolved = resolve({}, {**env, "TAGGER_HOME": "/nowhere"}, None)
    assert resolved.problems == []
    settings = resolved.settings
    assert settings.mqtt is not None
    assert (settings.mqtt.host, settings.mqtt.port, settings.mqtt.node) == ("core-mosquitto", 1883, "homeassistant")
    assert (settings.mqtt.user, settings.mqtt.password) == ("addons", "p@ss/word")
    assert settings.homeassistant is not None
    assert settings.homeassistant.labels == ("dog", "glass_breaking")
    assert settings.http is not None
    assert settings.http.host == "127.0.0.1"


def test_the_page_is_for_whom_home_assistant_lets_in(run: ModuleType, description: Any) -> None:
    env = run.variables({"sources": ["mic"], "owners": ["anna"]}, BROKER)
    resolved = resolve({}, {**env, "TAGGER_HOME": "/nowhere"}, None)
    assert resolved.problems == []
    page = resolved.settings.web
    assert page is not None
    assert description["ingress"] is True
    assert page.port == description["ingress_port"]
    assert (page.password, page.login_proxies, page.owners) == (None, ("172.30.32.2",), ("anna",))


@pytest.mark.parametrize(
    ("status", "content"),
    [(400, {"result": "error", "message": "Service not enabled"}), (200, {"result": "ok", "data": {}}), (200, "text")],
)
def test_without_a_broker_none_is_used(
    run: ModuleType, supervisor: HTTPServer, status: int, content: object, capfd: pytest.CaptureFixture[str]
) -> None:
    supervisor.status, supervisor.content = status, content  # type: ignore[attr-defined]
    assert run.broker_of(url(supervisor), TOKEN) is None
    assert "TAGGER_LISTEN_MQTT" not in run.variables({"sources": ["mic"]}, None)


def test_a_broker_of_the_users_own_comes_first(run: ModuleType) -> None:
    env = run.variables({"mqtt_url": "mqtts://me:secret@broker.local"}, BROKER)
    assert env["TAGGER_LISTEN_MQTT"] == "mqtts://me:secret@broker.local"


def test_a_file_of_settings_is_used_and_its_sources_too_where_no_others_are_named(
    run: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "tagger.toml"
    file.write_text('[listen]\nsources = ["garden=mic:USB"]\n')
    env = run.variables({"sources": [], "labels": []}, BROKER, file)
    resolved = resolve(
        {},
        {key: value for key, value in env.items() if key != "TAGGER_LISTEN_CONFIG"},
        Path(env["TAGGER_LISTEN_CONFIG"]),
    )
    assert resolved.problems == []
    assert [str(each) for each in resolved.values["listen.sources"].value] == ["garden=mic:USB"]


def test_the_health_check_follows_the_daemons_own_word(run: ModuleType, supervisor: HTTPServer) -> None:
    assert run.is_healthy(f"{url(supervisor)}/healthz")
    supervisor.status = 503  # type: ignore[attr-defined]
    assert not run.is_healthy(f"{url(supervisor)}/healthz")
    supervisor.shutdown()
    supervisor.server_close()
    assert not run.is_healthy(f"{url(supervisor)}/healthz")


def test_pack_wants_one_folder() -> None:
    done = subprocess.run([ROOT / "deploy/homeassistant/pack"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: ")
