"""The discovery message, against the rules of Home Assistant's MQTT integration, written down here from its
documentation and its source. `bench/home_assistant.py` tries a real Home Assistant.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt import publish

from tagger.events import Event, Level, SoundLevel, Stream
from tagger.health import SourceHealth
from tagger.mqtt.homeassistant import components, config_topic, device_message, removal_message, status_topic
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.sink import Discovery, MqttSink
from tagger.mqtt.topics import Topics
from tagger.names import slug, unique_slugs
from tagger.settings import HomeAssistantSettings, MqttSettings
from tests.healths import snapshot, source
from tests.programs import ROOT, Mosquitto, subscribed, until

DATA = ROOT / "tests" / "data"
DEVICE = "tagger_3f9a12bc"

LONG = {
    "~": "~",
    **{key: key for key in ("name", "qos")},
    **{"avty": "availability", "avty_mode": "availability_mode", "cmd_t": "command_topic", "cmps": "components"},
    **{"dev": "device", "dev_cla": "device_class", "en": "enabled_by_default", "ent_cat": "entity_category"},
    **{"evt_typ": "event_types", "exp_aft": "expire_after", "ic": "icon", "o": "origin", "p": "platform"},
    **{"stat_cla": "state_class", "stat_t": "state_topic", "sug_dsp_prc": "suggested_display_precision", "t": "topic"},
    **{"uniq_id": "unique_id", "unit_of_meas": "unit_of_measurement", "val_tpl": "value_template"},
}
LONG_DEVICE = {"ids": "identifiers", "mf": "manufacturer", "mdl": "model", "name": "name", "sw": "sw_version"}
"""Short keys as Home Assistant reads them; only those that the message may use."""

EVERY = {"unique_id", "name", "icon", "entity_category", "enabled_by_default", "availability", "availability_mode"}
READING = {*EVERY, "state_topic", "value_template", "qos", "encoding"}
ALLOWED = {
    "binary_sensor": READING | {"device_class", "payload_on", "payload_off", "expire_after", "off_delay"},
    "event": READING | {"device_class", "event_types"},
    "sensor": READING
    | {"device_class", "state_class", "unit_of_measurement", "suggested_display_precision", "expire_after"},
    "switch": READING | {"command_topic", "device_class", "payload_on", "payload_off", "optimistic", "retain"},
}
REQUIRED = {
    "binary_sensor": {"unique_id", "state_topic"},
    "event": {"unique_id", "state_topic", "event_types"},
    "sensor": {"unique_id", "state_topic"},
    "switch": {"unique_id", "command_topic"},
}
DEVICE_CLASSES = {
    "binary_sensor": {"sound", "connectivity", "problem", "running"},
    "event": set(),
    "sensor": {"duration", "data_size"},
    "switch": {"switch"},
}
"""Those that the message may use. The category of a binary sensor or a sensor may not be `config`."""
UNITS = {"duration": {"ms", "s", "min", "h", "d"}, "data_size": {"kB", "MB", "GB"}}
STATE_CLASSES = {"measurement", "total", "total_increasing"}
ROOT_KEYS = {"device", "origin", "components", "availability", "availability_mode", "qos", "encoding", "state_topic"}
AVAILABILITY = {"topic", "value_template", "payload_available", "payload_not_available"}


def stream(source: str = "mic", labels: tuple[str, ...] = ("dog", "glass_breaking"), node: str = "attic") -> Stream:
    return Stream(node, source, "esc50", labels)


def message(
    *streams: Stream,
    keys: dict[str, str] | None = None,
    asked: tuple[str, ...] = (),
    commands: bool = True,
    gone: dict[str, str] | None = None,
    ha: HomeAssistantSettings | None = None,
    audio_s: float = 10.0,
) -> dict[str, Any]:
    streams = streams or (stream(),)
    topics = Topics("tagger", streams[0].node)
    keys = keys or {each.source: slug(each.source) for each in streams}
    return device_message(
        DEVICE, ha or HomeAssistantSettings(), topics, streams, keys, asked, commands, gone or {}, audio_s, 60.0
    )


def with_long_keys(what: dict[str, Any], names: dict[str, str] = LONG) -> dict[str, Any]:
    """The same with long keys and whole topics. Raises KeyError for an unknown short key."""
    found = {names[key]: value for key, value in what.items()}
    if "availability" in found:
        found["availability"] = [with_long_keys(each) for each in found["availability"]]
    if (base := found.pop("~", None)) is not None:
        for each in (found, *found.get("availability", ())):
            for key in [key for key in each if key.endswith("topic")]:
                each[key] = re.sub("^~", base, each[key])
    return found


def described(message: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each component as Home Assistant sees it: with long keys, and with what it inherits from the root."""
    root = with_long_keys(message)
    found = {name: with_long_keys(each) for name, each in root["components"].items()}
    return {
        name: {key: root[key] for key in ("availability", "qos")} | each
        for name, each in found.items()
        if len(each) > 1
    }


def by_name(message: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in described(message).values()}


def check_topic(topic: str) -> None:
    assert topic
    assert "~" not in topic
    assert not re.search(r"[+#\x00-\x1f\x7f-\x9f]", topic), topic
    assert len(topic.encode()) < 65_536


def check_availability(what: dict[str, Any]) -> None:
    assert what.get("availability_mode", "latest") in {"all", "any", "latest"}
    for each in what["availability"]:
        assert set(each) <= AVAILABILITY
        check_topic(each["topic"])
    assert len({each["topic"] for each in what["availability"]}) == len(what["availability"])


def check(message: dict[str, Any]) -> None:
    """Asserts all rules."""
    assert json.loads(json.dumps(message, allow_nan=False)) == message
    root = with_long_keys(message)
    assert set(root) <= ROOT_KEYS
    assert root["qos"] in {0, 1, 2}
    assert root["origin"]["name"]
    assert set(root["origin"]) <= {"name", "sw", "url"}
    device = with_long_keys(root["device"], LONG_DEVICE)
    assert device["identifiers"]
    assert all(isinstance(value, str) and value for key, value in device.items() if key != "identifiers")
    check_availability({"availability_mode": "latest", **root})
    for name, each in root["components"].items():
        assert " " not in name, "Home Assistant splits there"
        assert each["p"] in ALLOWED
    for each in described(message).values():
        check_component(each)
    ids = [each["unique_id"] for each in described(message).values()]
    assert len(set(ids)) == len(ids)
    names = [each["name"] for each in described(message).values() if each["platform"] == "event" and "name" in each]
    assert len(set(names)) == len(names)


def check_component(what: dict[str, Any]) -> None:
    platform = what.pop("platform")
    assert set(what) >= REQUIRED[platform]
    assert set(what) <= ALLOWED[platform], platform
    if "name" in what:
        assert what["name"].strip() == what["name"] != ""
    check_availability(what)
    for key in ("state_topic", "command_topic"):
        if key in what:
            check_topic(what[key])
    assert what.get("entity_category") in {None, "diagnostic"}
    assert what.get("enabled_by_default", True) in {True, False}
    assert what.get("icon", "mdi:x").startswith("mdi:")
    if "device_class" in what:
        assert what["device_class"] in DEVICE_CLASSES[platform]
    if "state_class" in what:
        assert what["state_class"] in STATE_CLASSES
    if what.get("device_class") in UNITS:
        assert what["unit_of_measurement"] in UNITS[what["device_class"]]
    if "expire_after" in what:
        assert isinstance(what["expire_after"], int)
        assert what["expire_after"] > 0
    if "value_template" in what:
        environment().parse(what["value_template"])
    if platform == "event":
        assert all(isinstance(each, str) and each for each in what["event_types"])
    what["platform"] = platform


def environment() -> jinja2.Environment:
    """Jinja with the filters of Home Assistant that the templates use. An undefined name is an error."""
    env = jinja2.Environment(undefined=jinja2.StrictUndefined)
    env.filters["to_json"] = json.dumps
    return env


def rendered(template: str, payload: str) -> str:
    try:
        values = {"value": payload, "value_json": json.loads(payload)}
    except ValueError:
        values = {"value": payload}
    return environment().from_string(template).render(values)


def test_the_message_is_the_stored_one():
    """Other people's automations depend on the ids. Before you change the stored message, know what becomes of them."""
    both = stream("mic", ("dog", "Glass, breaking", "alarms")), stream("kitchen", ("dog",))
    keys = {"mic": "mic", "kitchen": "mic_2"}
    found = message(*both, keys=keys, asked=("dog", "alarms"), gone={"mic-sound-cat": "binary_sensor"})
    del found["dev"]["sw"], found["o"]["sw"]
    assert found == json.loads((DATA / "homeassistant.json").read_text("utf-8"))


@pytest.mark.parametrize("commands", [False, True])
def test_all_rules_hold(commands):
    check(message(stream(), stream("kitchen", ("any", "event", "Dog", "dog")), asked=("dog",), commands=commands))


def test_audioset_fits():
    labels = (ROOT / "tagger" / "checkpoints" / "audioset_labels.txt").read_text("utf-8").splitlines()
    found = message(stream(labels=tuple(labels)))
    check(found)
    assert len(labels) == 527
    assert len(described(found)) > 527
    assert len(json.dumps(found)) < 256_000


def test_topics():
    ha = HomeAssistantSettings(prefix="ha")
    assert config_topic(ha, DEVICE) == "ha/device/tagger_3f9a12bc/config"
    assert status_topic(ha) == "ha/status"


def test_every_label_has_a_sensor_and_those_that_were_asked_for_are_enabled():
    found = by_name(message(stream(), stream("kitchen"), asked=("dog",)))
    for name in ("mic", "kitchen"):
        assert found[f"{name} dog"]["state_topic"] == f"tagger/attic/{name}/dog/state"
        assert found[f"{name} glass breaking"]["state_topic"] == f"tagger/attic/{name}/glass_breaking/state"
        assert found[f"{name} dog"].get("enabled_by_default", True)
        assert found[f"{name} any sound"].get("enabled_by_default", True)
        assert not found[f"{name} glass breaking"].get("enabled_by_default", True)


def test_the_device_is_named_after_the_node_unless_the_user_says_otherwise():
    assert message()["dev"]["name"] == "tagger attic"
    assert message(ha=HomeAssistantSettings(device_name="Attic ears"))["dev"]["name"] == "Attic ears"


def test_only_entities_of_sounds_are_unavailable_while_a_source_is_paused():
    found = by_name(message())
    node = {"topic": "tagger/attic/status"}
    for name in ("mic dog", "mic any sound", "mic sound", "mic level", "mic peak level"):
        first, second = found[name]["availability"]
        assert first == node
        assert second["topic"] == "tagger/attic/mic/status"
        assert found[name]["availability_mode"] == "all"
        states = {word: rendered(second["value_template"], word) for word in ("online", "offline", "disabled")}
        assert states == {"online": "online", "offline": "offline", "disabled": "offline"}
    for name in ("mic listening", "mic connected", "mic status", "Overruns"):
        assert found[name]["availability"] == [node]


def test_a_begin_fires_the_event_and_an_end_does_not():
    begin = Event("begin", "01M8", 'it\'s "glass"', 0.91, 0.91, 1_700_000_000.0)
    end = Event("end", "01M8", 'it\'s "glass"', 0.2, 0.95, 1_700_000_000.0, 1_700_000_002.0, cause="restart")
    labels = stream(labels=('it\'s "glass"',))
    entity = by_name(message(labels))["mic sound"]
    fired = json.loads(rendered(entity["value_template"], json.dumps(begin.to_json(labels, 1_700_000_001.0))))
    assert fired.pop("event_type") in entity["event_types"]
    assert fired == {"score": 0.91, "onset": "2023-11-14T22:13:20.000+00:00", "id": "01M8", "cause": None}
    assert rendered(entity["value_template"], json.dumps(end.to_json(labels, 1_700_000_003.0))) == ""
    test = Event("begin", "01M9", 'it\'s "glass"', 1.0, 1.0, 0.0, cause="test")
    assert json.loads(rendered(entity["value_template"], json.dumps(test.to_json(labels, 1.0))))["cause"] == "test"


def test_alarms_are_smoke_and_carbon_monoxide_and_enabled_from_the_start():
    found = by_name(message(stream(labels=("dog", "smoke_alarm_t3", "co_alarm_t4"))))
    classes = {name: (each["device_class"], each.get("enabled_by_default", True)) for name, each in found.items()
               if name in ("mic dog", "mic smoke alarm t3", "mic co alarm t4")}  # fmt: skip
    assert classes == {
        "mic dog": ("sound", False),
        "mic smoke alarm t3": ("smoke", True),
        "mic co alarm t4": ("carbon_monoxide", True),
    }


def test_levels_are_those_of_the_audio_message():
    found = by_name(message(audio_s=0.1))
    sound = SoundLevel(55.04, 60.0, 58.0, 50.0, {"1000": 40.0}, is_calibrated=True)
    payload = json.dumps(Level(-31.26, -12.0, 3, 0.0, sound).to_json(stream()))
    assert rendered(found["mic A-weighted level"]["value_template"], payload) == "55.0"
    assert rendered(found["mic level"]["value_template"], payload) == "-31.3"
    assert rendered(found["mic peak level"]["value_template"], payload) == "-12.0"
    assert found["mic level"]["expire_after"] == 1
    assert by_name(message(audio_s=10.0))["mic level"]["expire_after"] == 30


def test_statistics_are_those_of_the_stats_message():
    found = {name: each for name, each in by_name(message()).items() if each["state_topic"] == "tagger/attic/stats"}

    def said(*sources: SourceHealth, latencies: Sequence[float] = ()) -> dict[str, str]:
        stats = json.dumps(snapshot(*sources, waiting=4).stats({"mic": latencies}))
        return {name: rendered(each["value_template"], stats) for name, each in found.items()}

    assert said(source(last_audio_s=0.4), latencies=[0.0115, 0.012, 0.01625]) == {
        **{"Windows": "100", "Windows skipped": "1", "Overruns": "2", "Source reconnects": "3"},
        **{"Messages waiting": "4", "Messages dropped": "5", "Broker reconnects": "6", "Uptime": "60"},
        **{"Latency median": "12.0", "Latency 95 %": "16.25", "Latency 99 %": "16.25"},
        **{"Problem": "OFF", "Problems": "none", "Memory": "120.0"},
        **{"mic time since audio": "0.4", "mic reconnects": "3", "mic windows skipped": "1"},
        **{"mic highest latency": "16.25"},
    }
    nothing = said(source())
    assert {value for name, value in nothing.items() if name.startswith("Latency")} == {"None"}
    assert nothing["mic highest latency"] == "None"
    away = said(source(state="retrying", reason="gone", detail="the device has gone"))
    assert away["Problem"] == "ON"
    assert away["Problems"] == "mic: retrying for 1 min: the device has gone"
    assert said(source(name="kitchen"))["mic reconnects"] == "None"
    assert all(each["expire_after"] == 180 and each["entity_category"] == "diagnostic" for each in found.values())


def test_the_status_of_a_source():
    found = by_name(message())
    words = {
        word: rendered(found["mic connected"]["value_template"], word) for word in ("online", "offline", "disabled")
    }
    assert words == {"online": "ON", "offline": "OFF", "disabled": "None"}
    assert rendered(found["mic status"]["value_template"], "x" * 1000) == "x" * 255
    assert rendered(found["mic status"]["value_template"], "device 'pulse'") == "device 'pulse'"
    assert rendered(found["mic status"]["value_template"], "") == "None"


def test_a_source_can_be_paused_where_commands_are_obeyed():
    switch = by_name(message())["mic listening"]
    assert switch["state_topic"] == "tagger/attic/mic/enabled"
    assert switch["command_topic"] == "tagger/attic/mic/enabled/set"
    assert "mic listening" not in by_name(message(commands=False))


def test_a_removed_component_is_named_until_it_comes_back():
    first = message(stream(), stream("kitchen"))
    second = message(stream(labels=("dog",)), commands=False, gone=components(first))
    check(second)
    vanished = set(components(first)) - set(components(second))
    assert {"mic-sound-glass_breaking", "kitchen-sound-dog", "kitchen-event", "mic-enabled"} <= vanished
    assert {name: second["cmps"][name] for name in vanished} == {
        name: {"p": platform} for name, platform in components(first).items() if name in vanished
    }
    assert message(stream(), stream("kitchen"), gone=components(first)) == first


def test_a_removal_message_describes_what_is_to_be_removed():
    first = message(stream(), stream("kitchen"))
    assert removal_message(first) == first
    second = message(stream(), gone=components(first))
    last = removal_message(second)
    check(last)
    assert components(last) == components(first)
    ids = {name: each["uniq_id"] for name, each in first["cmps"].items()}
    assert {name: each["uniq_id"] for name, each in last["cmps"].items()} == ids
    assert removal_message(last) == last


@contextmanager
def announced(broker: Mosquitto, folder: Path, *streams: Stream, announce: bool = True) -> Iterator[MqttSink]:
    """The daemon's sink, with its outbox in `folder`."""

    def described(streams: Sequence[Stream], gone: Mapping[str, str]) -> dict[str, Any]:
        return message(*streams, gone=dict(gone))

    ha = HomeAssistantSettings()
    discovery = Discovery(config_topic(ha, DEVICE), status_topic(ha), described, components, removal_message)
    sink = MqttSink(
        MqttSettings("127.0.0.1", broker.port, node="attic"),
        pytest.fail,
        Outbox(folder / "outbox.sqlite", 10),
        discovery=discovery if announce else None,
    )
    sink.open(streams)
    try:
        yield sink
    finally:
        sink.close(5)


CONFIG = f"homeassistant/device/{DEVICE}/config"


def publish_birth(broker: Mosquitto) -> None:
    """Publishes the message by which Home Assistant says that it has started."""
    publish.single("homeassistant/status", "online", 1, hostname="127.0.0.1", port=broker.port)


def test_everything_is_published_again_when_home_assistant_has_started(broker: Mosquitto, tmp_path: Path) -> None:
    with subscribed(broker.port) as seen, announced(broker, tmp_path, stream()):
        until(lambda: seen.payloads("tagger/attic/mic/any/state"), "states")
        assert seen.jsons(CONFIG) == [message()]
        before = len(seen.messages)
        publish_birth(broker)
        until(lambda: len(seen.payloads("tagger/attic/mic/any/state")) == 2, "states again")
        topics = [each.topic for _, each in seen.messages[before:]]
        assert seen.jsons(CONFIG) == [message()] * 2
        assert topics.index(CONFIG) < topics.index("tagger/attic/mic/dog/state")


def test_a_removed_component_is_named_until_home_assistant_has_removed_it(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagger.mqtt.sink.REMOVAL_SECONDS", 0.2)
    less = stream(labels=("dog",))
    known = components(message())
    with subscribed(broker.port, CONFIG) as seen:
        with announced(broker, tmp_path, stream()):
            until(lambda: len(seen.jsons(CONFIG)) == 1, "announced")
        for times in (2, 3):  # Home Assistant has not said that it started
            with announced(broker, tmp_path, less):
                until(lambda times=times: len(seen.jsons(CONFIG)) == times, "announced")
            assert seen.jsons(CONFIG)[-1] == message(less, gone=known)
            assert "mic-sound-glass_breaking" in seen.jsons(CONFIG)[-1]["cmps"]
        with announced(broker, tmp_path, less):
            until(lambda: len(seen.jsons(CONFIG)) == 4, "announced")
            publish_birth(broker)
            until(lambda: len(seen.jsons(CONFIG)) == 6, "both removal messages")
            gone = message(less, gone=known)
            assert seen.jsons(CONFIG)[3:] == [gone, removal_message(gone), gone]
            publish_birth(broker)
            until(lambda: len(seen.jsons(CONFIG)) == 7, "said again")
        with announced(broker, tmp_path, less):
            until(lambda: len(seen.jsons(CONFIG)) == 8, "announced")
        assert seen.jsons(CONFIG)[6:] == [gone, message(less)]


def test_a_daemon_that_is_not_announced_removes_its_device(broker: Mosquitto, tmp_path: Path) -> None:
    with subscribed(broker.port, CONFIG) as seen:
        with announced(broker, tmp_path, stream()):
            until(lambda: seen.payloads(CONFIG), "announced")
        with announced(broker, tmp_path, stream(), announce=False):
            until(lambda: len(seen.payloads(CONFIG)) == 2, "removed")
        assert seen.payloads(CONFIG)[1] == ""
    with subscribed(broker.port, CONFIG) as seen, announced(broker, tmp_path, stream()):
        until(lambda: seen.payloads(CONFIG), "announced")
        assert seen.jsons(CONFIG) == [message()], "what was removed need not be named"


def test_topics_and_entities_of_levels_by_position_are_removed(broker: Mosquitto, tmp_path: Path) -> None:
    """Earlier versions called labels of other scripts `unnamed`, `unnamed_2`, and the second of two alike `dog_2`."""
    former = ("unnamed", "unnamed_2", "dog_2")
    box = Outbox(tmp_path / "outbox.sqlite", 10)
    box.add_retained(f"tagger/attic/mic/{level}/state" for level in (*former, "dog"))
    box.add_components({f"mic-sound-{level}": "binary_sensor" for level in (*former, "dog")})
    box.close()
    for level in (*former, "dog"):
        topic = f"tagger/attic/mic/{level}/state"
        publish.single(topic, "ON", 1, retain=True, hostname="127.0.0.1", port=broker.port)
    with subscribed(broker.port) as seen, announced(broker, tmp_path, stream(labels=("狗", "雨", "dog", "Dog"))):
        until(lambda: all(seen.payloads(f"tagger/attic/mic/{each}/state")[-1:] == [""] for each in former), "emptied")
        components = seen.jsons(CONFIG)[-1]["cmps"]
        assert [components[f"mic-sound-{level}"] for level in former] == [{"p": "binary_sensor"}] * 3
        assert components["mic-sound-dog"]["uniq_id"] == f"{DEVICE}-mic-sound-dog"
        until(lambda: seen.payloads("tagger/attic/mic/id_cecd675a/state")[-1:] == ["OFF"], "the state of its own")
    with subscribed(broker.port) as late:
        late.catch_up()
        kept = {message.topic for _, message in late.messages if message.topic.endswith("/state")}
    levels = ("any", "dog", slug("狗"), slug("雨"), unique_slugs(["dog", "Dog"])[1])
    assert kept == {f"tagger/attic/mic/{level}/state" for level in levels}


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="+#/\x00"), min_size=1, max_size=12)
SLUGS = st.from_regex("[a-z0-9]+(_[a-z0-9]+)*", fullmatch=True)
LABELS = st.lists(st.text(min_size=1, max_size=12), max_size=8, unique=True)
PLAIN = st.lists(NAMES, min_size=1, max_size=8, unique_by=slug).filter(lambda names: "any" not in map(slug, names))
"""Lists of labels with different topic levels."""


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(sources=st.dictionaries(SLUGS, LABELS, max_size=4), asked=LABELS, commands=st.booleans(), data=st.data())
def test_rules_hold_for_any_labels(sources, asked, commands, data):
    chosen = data.draw(st.lists(SLUGS, min_size=len(sources), max_size=len(sources), unique=True))
    keys = dict(zip(sources, chosen, strict=True))
    streams = [stream(source, tuple(labels)) for source, labels in sources.items()]
    found = device_message(
        *(DEVICE, HomeAssistantSettings(), Topics("tagger", "attic"), streams),
        *(keys, asked, commands, {"mic-x": "sensor"}, 10.0, 60.0),
    )
    if streams:
        check(found)
    sensors = [each for each in described(found).values() if each.get("device_class") == "sound"]
    assert len(sensors) == sum(map(len, sources.values())) + len(sources)
    wanted = [label for labels in sources.values() for label in labels if label in asked]
    assert sum("enabled_by_default" not in each for each in sensors) == len(wanted) + len(sources)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(labels=PLAIN, others=PLAIN, node=SLUGS, source=SLUGS)
def test_ids_outlive_new_names_and_a_new_model(labels, others, node, source):
    before = described(message(stream("mic", tuple(labels)), keys={"mic": "k"}))
    renamed = Stream(node, source, "mn04_as", tuple(labels))
    after = described(message(renamed, keys={source: "k"}))
    assert {name: each["unique_id"] for name, each in before.items()} == {
        name: each["unique_id"] for name, each in after.items()
    }
    replaced = described(message(stream("mic", tuple(others)), keys={"mic": "k"}))
    for label in {slug(label) for label in labels} & {slug(label) for label in others}:
        assert replaced[f"k-sound-{label}"]["unique_id"] == before[f"k-sound-{label}"]["unique_id"]
    assert set(before) ^ set(replaced) == {
        f"k-sound-{label}" for label in set(unique_slugs(labels)) ^ set(unique_slugs(others))
    }
