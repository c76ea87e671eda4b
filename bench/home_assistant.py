"""Whether Home Assistant itself makes of our messages what it should. No test: it needs Home Assistant.

    pip install homeassistant paho-mqtt     # into a separate environment, with a recent Python
    python bench/home_assistant.py --python that/environment/bin/python

Starts mosquitto and Home Assistant, with an empty configuration but for the automations in `docs/home-assistant.md`;
goes through its first steps as a user would, and connects it to the broker. First a node made of
`tagger.mqtt.homeassistant` publishes what a daemon does, and does at once what else would take hours; then
`tagger listen demo --homeassistant` runs. The results are read from Home Assistant's own interfaces: states,
registries, notifications, log.

Home Assistant installs into its environment what its integrations lack, so the first start may take a minute or two.
"""

import argparse
import json
import queue
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from tagger.events import Event, Level, Stream
from tagger.mqtt.homeassistant import components, config_topic, device_message, removal_message, status_topic
from tagger.mqtt.topics import ANY_LEVEL, Topics, label_levels
from tagger.settings import HomeAssistantSettings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "home-assistant.md"
SETTINGS = HomeAssistantSettings()
LABELS = ("dog", "crying_baby", "glass_breaking", "alarms")
ASKED = ("dog", "crying_baby", "glass_breaking")
DEVICE = "tagger_3f9a12bc"
MIC = "tagger_attic_mic"
PATIENCE_S = 30
FAREWELL_S = 3

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


class Checks:
    """Prints each; how many failed."""

    def __init__(self) -> None:
        self.failed = self.passed = 0

    def holds(self, what: str, true: Callable[[], object], seconds: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + seconds
        while not (ok := bool(true())) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.passed, self.failed = self.passed + ok, self.failed + (not ok)
        print(f"{'ok    ' if ok else 'FAILED'} {what}", flush=True)

    def equal(self, what: str, value: Callable[[], object], expected: object, seconds: float = PATIENCE_S) -> None:
        seen: list[object] = []
        self.holds(what, lambda: seen.append(value()) or seen[-1] == expected, seconds)
        if seen[-1] != expected:
            print(f"         is {seen[-1]!r:.1000}\n  expected {expected!r:.1000}", flush=True)


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


class Node:
    """A node made by hand: publishes as the daemon does, at connect and when Home Assistant has started."""

    def __init__(self, broker_port: int, name: str, labels: tuple[str, ...], source: str = "mic") -> None:
        self._port = broker_port
        self.labels = labels
        self.key = "k1"
        self.gone: dict[str, str] = {}
        self.commands: list[str] = []
        self.births = 0
        self.described: dict[str, Any] = {}
        self.rename(name, source)

    def rename(self, name: str, source: str) -> None:
        self.name, self.source, self.topics = name, source, Topics("tagger", name)
        self.retained = {
            self.topics.source_status(source): "online",
            self.topics.source_detail(source): "listening",
            self.topics.enabled(source): "ON",
        }
        for level in (*label_levels(self.labels).values(), ANY_LEVEL):
            self.retained[self.topics.state(source, level)] = "OFF"

    @property
    def stream(self) -> Stream:
        return Stream(self.name, self.source, "esc50", self.labels)

    def start(self) -> None:
        self.described = {}
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.will_set(self.topics.node_status, "offline", 1, True)
        self._client.on_connect = self._connected
        self._client.on_message = self._told
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        wait(lambda: self.described, "the node is announced", 10)

    def _connected(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(status_topic(SETTINGS), 1), (self.topics.enabled_set(self.source), 1)])
        self.announce()

    def _told(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        said = message.payload.decode()
        if message.topic == status_topic(SETTINGS):
            if said == "online":
                self.births += 1
                if self.gone:
                    self.say(config_topic(SETTINGS, DEVICE), json.dumps(removal_message(self.described)), True)
                    threading.Timer(FAREWELL_S, self.announce).start()
                else:
                    self.announce()
        else:
            self.commands.append(said)
            self.pause(said == "OFF")

    def announce(self) -> None:
        """The message, then the states."""
        args = (SETTINGS, self.topics, [self.stream], {self.source: self.key}, ASKED, True, self.gone, 10.0, 60.0)
        self.described = device_message(DEVICE, *args)
        self.say(config_topic(SETTINGS, DEVICE), json.dumps(self.described), True)
        self.say(self.topics.node_status, "online", True)
        for topic, payload in self.retained.items():
            self.say(topic, payload, True)

    def remember(self) -> None:
        """Adds all components of the present description to `gone`."""
        self.gone |= components(self.described)

    def retain(self, topic: str, payload: str) -> None:
        self.retained[topic] = payload
        self.say(topic, payload, True)

    def say(self, topic: str, payload: str, retain: bool = False) -> None:
        self._client.publish(topic, payload, 1, retain)

    def pause(self, paused: bool) -> None:
        self.retain(self.topics.enabled(self.source), "OFF" if paused else "ON")
        self.retain(self.topics.source_status(self.source), "disabled" if paused else "online")

    def begin(self, label: str, score: float = 0.93) -> None:
        self._event(Event("begin", "01M82C9BXHNTRMQRDVRKQ5T24P", label, score, score, time.time()), "ON")

    def end(self, label: str) -> None:
        now = time.time()
        self._event(Event("end", "01M82C9BXHNTRMQRDVRKQ5T24P", label, 0.2, 0.97, now - 1, now), "OFF")

    def _event(self, event: Event, state: str) -> None:
        self.say(self.topics.event(self.source), json.dumps(event.to_json(self.stream, time.time())))
        for level in (label_levels(self.labels)[event.label], ANY_LEVEL):
            self.retain(self.topics.state(self.source, level), state)

    def measure(self) -> None:
        level = Level(-41.27, -20.0, 0, time.time())
        self.say(self.topics.audio(self.source), json.dumps(level.to_json(self.stream)))
        counted = {"windows": 3600, "skipped": 2, "overruns": 1, "reconnects": 0, "broker_reconnects": 0}
        stats = {
            **counted,
            "queue": 0,
            "dropped": 0,
            "latency_ms": {"p50": 11.6, "p95": 15.25, "p99": 17.6},
            "uptime_s": 3600,
        }
        self.say(self.topics.stats, json.dumps(stats))

    def die(self) -> None:
        """Without a word: the broker says that it is gone."""
        sock = self._client.socket()
        self._client.loop_stop()
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def stop(self) -> None:
        self.say(self.topics.node_status, "offline", True)
        time.sleep(0.2)
        self._client.disconnect()
        self._client.loop_stop()


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="a Python that has Home Assistant, or a command that runs one")
    options = parser.parse_args()
    python = shlex.split(options.python)
    version = subprocess.run(
        [*python, "-c", "import homeassistant.const as c; print(c.__version__)"], stdout=subprocess.PIPE, check=True
    )
    print(f"Home Assistant {version.stdout.decode().strip()}")
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        port = free_port()
        config = Path(folder) / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin") or "mosquitto"
        broker = subprocess.Popen([mosquitto, "-c", str(config)], stderr=subprocess.DEVNULL)
        ha = HomeAssistant(python, home)
        try:
            ha.start()
            ha.first_steps(port)
            by_hand(ha, port, checks)
            by_daemon(ha, port, Path(folder), checks)
            checks.equal("no warning and no error in Home Assistant's log", ha.complaints, [], 0)
        finally:
            ha.kill()
            broker.kill()
            if checks.failed:
                shutil.copy(ha.log, kept := Path(tempfile.gettempdir()) / "home-assistant-output.log")
                print(f"its log: {kept}")
    print(f"{checks.passed} checks passed, {checks.failed} failed")
    raise SystemExit(checks.failed > 0)


def by_hand(ha: HomeAssistant, port: int, checks: Checks) -> None:
    node = Node(port, "attic", LABELS)
    node.start()
    announced(ha, node, checks)
    heard(ha, node, checks)
    paused(ha, node, checks)
    away(ha, node, checks)
    restarted(ha, node, checks)
    renamed(ha, node, checks)
    removed(ha, node, checks)
    audioset(ha, node, checks)
    node.stop()


def by_daemon(ha: HomeAssistant, port: int, folder: Path, checks: Checks) -> None:
    """The real one. The demo lasts a minute; its second sound are crickets."""
    config = folder / "tagger.toml"
    config.write_text('[listen]\naudio_s = 1.0\nstats_s = 2.0\n\n[homeassistant]\nlabels = ["crickets", "siren"]\n')
    common = ["--config", str(config), "--state", str(folder / "state"), "--commands"]
    command = [sys.executable, "-m", "tagger", "listen", "demo", "--mqtt", f"mqtt://127.0.0.1:{port}", *common]

    def run(*more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    demo, event = "tagger_attic_demo", "event.tagger_attic_demo_sound"
    crickets, switch = f"binary_sensor.{demo}_crickets", f"switch.{demo}_listening"
    daemon = run("--node", "attic")
    try:
        checks.equal("the daemon's crickets are off", lambda: ha.state(crickets), "off", 60)
        checks.equal("and on when it hears some", lambda: ha.state(crickets), "on", 60)
        checks.equal("the event fires", lambda: ha.attributes(event).get("event_type"), "crickets")
        checks.holds("with a score", lambda: 0 < ha.attributes(event)["score"] <= 1, 0)
        checks.equal("they end", lambda: ha.state(crickets), "off")
        checks.holds("the level is measured", lambda: -120 <= float(str(ha.state(f"sensor.{demo}_level"))) <= 0)
        checks.holds("so is latency", lambda: float(str(ha.state("sensor.tagger_attic_latency_median"))) > 0)
        ha.request("/api/services/switch/turn_off", {"entity_id": switch})
        checks.equal("the switch pauses it", lambda: (ha.state(switch), ha.state(crickets)), ("off", "unavailable"))
        ha.request("/api/services/switch/turn_on", {"entity_id": switch})
        checks.equal("and resumes", lambda: (ha.state(switch), ha.state(crickets)), ("on", "off"))
        ids = {name: each["entity_id"] for name, each in ha.registered().items()}
        daemon.kill()
        checks.equal("killed, it is unavailable", lambda: set(ha.states().values()), {"unavailable"})
        daemon.wait()
        daemon = run("--node", "loft")
        checks.equal(
            "renamed, it has another name",
            lambda: ha.attributes(crickets).get("friendly_name"),
            "tagger loft demo crickets",
            60,
        )
        checks.equal("and the same ids", lambda: {key: each["entity_id"] for key, each in ha.registered().items()}, ids)
        checks.equal("and is there", lambda: ha.state(crickets), "off")
        daemon.send_signal(signal.SIGTERM)
        checks.equal("ended, it is unavailable", lambda: set(ha.states().values()), {"unavailable"})
        daemon.wait()
        ha.stop()
        daemon = run("--node", "loft", "--no-commands")
        device = min(ids).partition("-")[0]
        checks.holds(
            "while Home Assistant is down, the daemon starts without commands",
            lambda: '"~/demo/enabled"' not in retained(port, config_topic(SETTINGS, device)),
            60,
        )
        ha.start()
        checks.equal(
            "then only its switch vanishes", lambda: set(ids) - set(ha.registered()), {f"{device}-demo-enabled"}
        )
        checks.equal("the rest is there", lambda: ha.state(crickets), "off")
        daemon.kill()
        daemon.wait()
        daemon = run("--node", "loft", "--no-homeassistant")
        checks.equal("without --homeassistant it vanishes", ha.registered, {}, 60)
    finally:
        daemon.kill()
        daemon.wait()


def announced(ha: HomeAssistant, node: Node, checks: Checks) -> None:
    expected = {f"{DEVICE}-{name}" for name in components(node.described)}
    checks.equal("all entities are registered, and no others", lambda: set(ha.registered()), expected)
    registry = ha.registered()
    ids = {
        **{f"k1-sound-{label}": f"binary_sensor.{MIC}_{label}" for label in LABELS},
        "k1-sound-any": f"binary_sensor.{MIC}_any_sound",
        "k1-event": f"event.{MIC}_sound",
        "k1-rms": f"sensor.{MIC}_level",
        "k1-peak": f"sensor.{MIC}_peak_level",
        "k1-connected": f"binary_sensor.{MIC}_connected",
        "k1-detail": f"sensor.{MIC}_status",
        "k1-enabled": f"switch.{MIC}_listening",
        "stats-skipped": "sensor.tagger_attic_windows_skipped",
        "stats-latency_p50": "sensor.tagger_attic_latency_median",
    }
    found = {name: registry[f"{DEVICE}-{name}"] for name in ids}
    checks.equal("their ids", lambda: {name: each["entity_id"] for name, each in found.items()}, ids, 0)
    disabled = {name for name, each in registry.items() if each["disabled_by"]}
    own = tuple(f"k1-{name}" for name in ("detail", "audio_age", "reconnects", "skipped", "lag"))
    names = ("k1-sound-alarms", *own, "stats-windows", "stats-uptime", "stats-latency_p99", "stats-memory")
    checks.equal("which are disabled", lambda: disabled, {f"{DEVICE}-{name}" for name in names}, 0)
    diagnostic = {name for name, each in registry.items() if each["entity_category"] == "diagnostic"}
    others = {f"{DEVICE}-{name}" for name in ("k1-connected", *own)}
    expected = {name for name in registry if name.startswith(f"{DEVICE}-stats-")} | others
    checks.equal("which are diagnostic", lambda: diagnostic, expected, 0)
    (devices,) = ha.ask({"type": "config/device_registry/list"})
    device = next(each for each in devices if ["mqtt", DEVICE] in each["identifiers"])
    about = [device["name"], device["manufacturer"], device["model"]]
    checks.equal("the device", lambda: about, ["tagger attic", "tagger", "esc50"], 0)

    dog, level = f"binary_sensor.{MIC}_dog", f"sensor.{MIC}_level"
    checks.equal("a label is off", lambda: ha.state(dog), "off")
    about = ("friendly_name", "device_class")
    checks.equal(
        "its name and class", lambda: [ha.attributes(dog).get(key) for key in about], ["tagger attic mic dog", "sound"]
    )
    checks.equal("any sound is off", lambda: ha.state(f"binary_sensor.{MIC}_any_sound"), "off")
    checks.equal("the microphone is connected", lambda: ha.state(f"binary_sensor.{MIC}_connected"), "on")
    checks.equal("the switch is on", lambda: ha.state(f"switch.{MIC}_listening"), "on")
    checks.equal("the level is not there before it is measured", lambda: ha.state(level), "unavailable")
    node.measure()
    checks.equal("the level is measured", lambda: ha.state(level), "-41.3")
    about = ("unit_of_measurement", "state_class", "device_class")
    checks.equal(
        "its unit and class",
        lambda: [ha.attributes(level).get(key) for key in about],
        ["dBFS", "measurement", None],
    )
    checks.equal("statistics", lambda: ha.state("sensor.tagger_attic_windows_skipped"), "2")
    latency = "sensor.tagger_attic_latency_95"
    checks.equal("latency", lambda: ha.state(latency), "15.25")
    checks.equal("its unit", lambda: ha.attributes(latency).get("unit_of_measurement"), "ms")
    checks.equal("the event entity has not fired", lambda: ha.state(f"event.{MIC}_sound"), "unknown")


def heard(ha: HomeAssistant, node: Node, checks: Checks) -> None:
    dog, any_sound, event = f"binary_sensor.{MIC}_dog", f"binary_sensor.{MIC}_any_sound", f"event.{MIC}_sound"
    node.begin("dog", 0.61)
    checks.equal("a begin turns the label on", lambda: ha.state(dog), "on")
    checks.equal("and any sound", lambda: ha.state(any_sound), "on")
    about = ("event_type", "score", "id", "cause")
    checks.equal(
        "and fires the event",
        lambda: [ha.attributes(event).get(key) for key in about],
        ["dog", 0.61, "01M82C9BXHNTRMQRDVRKQ5T24P", None],
    )
    checks.holds("whose onset is a time", lambda: re.match(r"\d{4}-\d\d-\d\dT", ha.attributes(event)["onset"]), 0)
    at = ha.state(event)
    node.end("dog")
    checks.equal("an end turns the label off", lambda: ha.state(dog), "off")
    checks.equal("and fires nothing", lambda: ha.state(event), at, 0)
    checks.equal("no automation fired, as the score was low", ha.notifications, [], 0)
    node.begin("dog", 0.93)
    checks.equal("the automation by event fires", ha.notifications, ["dog, score 0.93"])
    node.end("dog")
    node.begin("glass_breaking", 0.93)
    checks.equal(
        "the automation by binary sensor fires",
        lambda: sorted(ha.notifications()),
        ["Glass is breaking.", "dog, score 0.93"],
    )
    node.end("glass_breaking")


def paused(ha: HomeAssistant, node: Node, checks: Checks) -> None:
    dog, switch, connected = f"binary_sensor.{MIC}_dog", f"switch.{MIC}_listening", f"binary_sensor.{MIC}_connected"
    ha.request("/api/services/switch/turn_off", {"entity_id": switch})
    checks.equal("the switch sends a command", lambda: node.commands, ["OFF"])
    checks.equal("and is off", lambda: ha.state(switch), "off")
    checks.equal("what a paused source hears is unavailable", lambda: ha.state(dog), "unavailable")
    checks.equal("whether it is connected is unknown", lambda: ha.state(connected), "unknown")
    ha.request("/api/services/switch/turn_on", {"entity_id": switch})
    checks.equal("it listens again", lambda: (ha.state(switch), ha.state(dog)), ("on", "off"))
    ha.request("/api/states/person.anna", {"state": "home"})
    checks.equal("the automation by switch pauses", lambda: node.commands, ["OFF", "ON", "OFF"])
    ha.request("/api/states/person.anna", {"state": "not_home"})
    checks.equal("and resumes", lambda: node.commands, ["OFF", "ON", "OFF", "ON"])
    checks.equal("it listens", lambda: ha.state(dog), "off")
    node.retain(node.topics.source_status("mic"), "offline")
    checks.equal("a source that is lost is unavailable", lambda: ha.state(dog), "unavailable")
    checks.equal("and not connected", lambda: ha.state(connected), "off")
    checks.equal("but can be paused", lambda: ha.state(switch), "on")
    node.retain(node.topics.source_status("mic"), "online")
    checks.equal("it comes back", lambda: ha.state(dog), "off")


def away(ha: HomeAssistant, node: Node, checks: Checks) -> None:
    node.die()
    checks.equal("all is unavailable when the node dies", lambda: set(ha.states().values()), {"unavailable"})
    node.start()
    checks.equal("it comes back", lambda: ha.state(f"binary_sensor.{MIC}_dog"), "off")
    checks.holds("the event entity remembers", lambda: ha.attributes(f"event.{MIC}_sound").get("event_type"))
    checks.equal("and no automation fires for it", lambda: len(ha.notifications()), 2, 0)


def restarted(ha: HomeAssistant, node: Node, checks: Checks) -> None:
    before, births = set(ha.states()), node.births
    ha.stop()
    node.begin("dog")
    ha.start()
    checks.equal("it restarts with the same entities", lambda: set(ha.states()), before)
    checks.equal("what began meanwhile is on", lambda: ha.state(f"binary_sensor.{MIC}_dog"), "on")
    checks.equal("what did not is off", lambda: ha.state(f"binary_sensor.{MIC}_glass_breaking"), "off")
    checks.holds("its birth was heard", lambda: node.births > births)
    checks.equal("states come back after it", lambda: ha.state(f"binary_sensor.{MIC}_dog"), "on")
    checks.holds("the event entity remembers", lambda: ha.attributes(f"event.{MIC}_sound").get("event_type"))
    time.sleep(2)
    checks.equal("no automation fires for what is restored", ha.notifications, [], 0)
    node.end("dog")
    checks.equal("it ends", lambda: ha.state(f"binary_sensor.{MIC}_dog"), "off")


def renamed(ha: HomeAssistant, node: Node, checks: Checks) -> None:
    ids = {name: each["entity_id"] for name, each in ha.registered().items()}
    node.remember()
    node.stop()
    old = [*node.retained, node.topics.node_status]
    node.rename("loft", "usb")
    node.start()
    for topic in old:
        node.say(topic, "", True)
    checks.equal(
        "a renamed node and source have new names",
        lambda: ha.attributes(f"binary_sensor.{MIC}_dog").get("friendly_name"),
        "tagger loft usb dog",
    )
    checks.equal("the same ids", lambda: {key: each["entity_id"] for key, each in ha.registered().items()}, ids)
    checks.equal("and states", lambda: ha.state(f"binary_sensor.{MIC}_dog"), "off")
    node.begin("dog")
    checks.equal("which follow", lambda: ha.state(f"binary_sensor.{MIC}_dog"), "on")
    node.end("dog")


def removed(ha: HomeAssistant, node: Node, checks: Checks) -> None:
    node.remember()
    node.labels = ("dog", "crying_baby")
    node.announce()
    glass, alarms = f"{DEVICE}-k1-sound-glass_breaking", f"{DEVICE}-k1-sound-alarms"
    checks.holds("a label that the model lost vanishes", lambda: glass not in ha.registered())
    checks.holds("a disabled one, too", lambda: alarms not in ha.registered(), 10)
    checks.equal("others stay", lambda: ha.state(f"binary_sensor.{MIC}_dog"), "off")
    node.labels = LABELS
    node.announce()
    checks.holds("it comes back with the old model", lambda: glass in ha.registered())
    checks.equal("and its state", lambda: ha.state(ha.registered()[glass]["entity_id"]), "off")
    node.remember()
    ha.stop()
    node.key = "k2"
    node.announce()
    ha.start()
    expected = {f"{DEVICE}-{name}" for name in components(node.described)}
    checks.equal(
        "a source that was replaced while Home Assistant was down vanishes", lambda: set(ha.registered()), expected
    )
    node.gone = {}
    node.announce()
    checks.equal("and need not be named any more", lambda: set(ha.registered()), expected, 0)
    node.say(config_topic(SETTINGS, DEVICE), "", True)
    checks.equal("an empty message removes the device", ha.registered, {})


def audioset(ha: HomeAssistant, node: Node, checks: Checks) -> None:
    node.gone = {}
    labels = (ROOT / "tagger" / "checkpoints" / "audioset_labels.txt").read_text("utf-8").splitlines()
    node.labels = tuple(labels)
    begun = time.monotonic()
    node.rename("attic", "mic")
    node.announce()
    wanted = {f"{DEVICE}-{name}" for name in components(node.described)}
    checks.equal(f"{len(wanted)} entities of AudioSet's labels", lambda: set(ha.registered()), wanted, 120)
    print(f"       after {time.monotonic() - begun:.1f} s, from {len(json.dumps(node.described)) / 1000:.0f} kB")
    node.say(config_topic(SETTINGS, DEVICE), "", True)
    checks.equal("and their removal", ha.registered, {}, 60)


def retained(port: int, topic: str) -> str:
    found: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe(topic)
    client.on_message = lambda _client, _data, message: found.put(message.payload)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        return found.get(timeout=10).decode()
    finally:
        client.disconnect()
        client.loop_stop()


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


if __name__ == "__main__":
    main()
