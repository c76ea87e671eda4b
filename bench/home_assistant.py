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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.home_assistant_node import DEVICE, SETTINGS, Node
from bench.home_assistant_server import HomeAssistant, free_port
from tagger.mqtt.homeassistant import components, config_topic

ROOT = Path(__file__).parent.parent
LABELS = ("dog", "crying_baby", "glass_breaking", "alarms")
MIC = "tagger_attic_mic"
PATIENCE_S = 30


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


if __name__ == "__main__":
    main()
