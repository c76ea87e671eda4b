"""A real Home Assistant as a process, with a user and the MQTT integration, and what its interfaces tell."""

import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs" / "home-assistant.md"
ASK = """
import aiohttp, asyncio, json, sys
async def main():
    url, token, commands = json.load(sys.stdin)
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as ws:
        await ws.receive_json()
        await ws.send_json({"type": "auth", "access_token": token})
        await ws.receive_json()
        answers = []
        for number, command in enumerate(commands, 1):
            await ws.send_json({"id": number, **command})
            while (answer := await ws.receive_json())["id"] != number or answer["type"] != "result":
                pass
            answers.append(answer)
        print(json.dumps(answers))
asyncio.run(main())
"""
"""Runs in Home Assistant's Python, which has a WebSocket client."""


class HomeAssistant:
    """A real Home Assistant, in its own folder, on a free port of this machine."""

    def __init__(self, python: list[str], folder: Path) -> None:
        self.python, self.folder = python, folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self.token = ""
        self.log = folder / "output.log"
        port = self.url.rpartition(":")[2]
        (folder / "configuration.yaml").write_text(
            f"http:\n  server_host: 127.0.0.1\n  server_port: {port}\nautomation: !include automations.yaml\n"
            "logger:\n  default: warning\n"
        )
        blocks = re.findall("^```yaml\n(.*?)^```", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        (folder / "automations.yaml").write_text("\n".join(blocks))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [*self.python, "-m", "homeassistant", "-c", str(self.folder)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait(lambda: self.request("/api/onboarding") is not None, "Home Assistant answers", 600)
        if self.token:
            wait(lambda: self.request("/api/config")["state"] == "RUNNING", "Home Assistant has started", 120)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def first_steps(self, broker_port: int) -> None:
        """A user, then the MQTT integration, as its dialogue in the browser would set it up."""
        client = f"{self.url}/"
        user = {"name": "Bench", "username": "bench", "password": "bench", "client_id": client, "language": "en"}
        code = self.request("/api/onboarding/users", user)["auth_code"]
        form = urllib.parse.urlencode({"grant_type": "authorization_code", "code": code, "client_id": client})
        self.token = self.request("/auth/token", form.encode())["access_token"]
        wait(lambda: self.request("/api/config")["state"] == "RUNNING", "Home Assistant has started", 600)
        flow = self.request("/api/config/config_entries/flow", {"handler": "mqtt"})
        broker = filled(flow["data_schema"], {"broker": "127.0.0.1", "port": broker_port})
        done = self.request(f"/api/config/config_entries/flow/{flow['flow_id']}", broker)
        assert done["type"] == "create_entry", done

    def request(self, path: str, data: Any = None) -> Any:
        """JSON of a GET, or of a POST of `data`; None where nobody answers, or there is no such thing."""
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        kind = "application/x-www-form-urlencoded" if isinstance(data, bytes) else "application/json"
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers), timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise RuntimeError(f"{path}: {error.code} {error.read().decode()}") from None
        except (urllib.error.URLError, ConnectionError):
            pass
        return None

    def ask(self, *commands: dict[str, Any]) -> list[Any]:
        """Answers to commands of the WebSocket interface."""
        question = json.dumps([self.url.replace("http", "ws") + "/api/websocket", self.token, commands])
        done = subprocess.run([*self.python, "-c", ASK], input=question.encode(), capture_output=True, check=True)
        answers = json.loads(done.stdout)
        assert all(each["success"] for each in answers), answers
        return [each["result"] for each in answers]

    def state(self, entity: str) -> str | None:
        found = self.request(f"/api/states/{entity}")
        return found and found["state"]

    def attributes(self, entity: str) -> dict[str, Any]:
        return (self.request(f"/api/states/{entity}") or {}).get("attributes", {})

    def states(self) -> dict[str, str]:
        """States of our entities, by entity id."""
        return {each["entity_id"]: each["state"] for each in self.request("/api/states") if is_ours(each["entity_id"])}

    def registered(self) -> dict[str, dict[str, Any]]:
        """Entities of the MQTT integration by their unique ids, disabled ones too."""
        (entities,) = self.ask({"type": "config/entity_registry/list"})
        return {each["unique_id"]: each for each in entities if each["platform"] == "mqtt"}

    def notifications(self) -> list[str]:
        (found,) = self.ask({"type": "persistent_notification/get"})
        return [each["message"] for each in found]

    def complaints(self) -> list[str]:
        """Lines of the log, above information, of what has to do with us."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        about = r"components\.(mqtt|automation|binary_sensor|sensor|event|switch)|helpers\.(template|entity)"
        return [line for line in lines if re.search(rf"(WARNING|ERROR|CRITICAL) .*\[homeassistant\.({about})", line)]


def filled(form: list[dict[str, Any]], known: dict[str, Any]) -> dict[str, Any]:
    """Answers to a form: known values, else the form's defaults; a required choice is off."""
    entered: dict[str, Any] = {}
    for field in form:
        if "schema" in field:
            entered[field["name"]] = filled(field["schema"], {})
        elif field["name"] in known:
            entered[field["name"]] = known[field["name"]]
        elif field.get("required"):
            entered[field["name"]] = field.get("default", False if "boolean" in field.get("selector", {}) else "off")
    return entered


def is_ours(entity: str) -> bool:
    return re.match(r"(binary_sensor|event|sensor|switch)\.(tagger|loft)_", entity) is not None


def wait(true: Callable[[], object], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"after {seconds:g} s still not: {what}")
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
