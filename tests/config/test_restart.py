"""The table of options knows every field of the settings, and which of them a running daemon can change."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

from tagger.config.options import OPTIONS
from tagger.config.restart import keep_fixed
from tagger.policy import EventsConfig
from tagger.settings import (
    ClipSettings,
    HomeAssistantSettings,
    JsonLinesSettings,
    ListenSettings,
    MqttSettings,
    PcmFormat,
)

WITHOUT_OPTION = {
    "config": "the file itself",
    "node": "`mqtt.node`, where MQTT gets no events",
    "events": "the file's table `events`, which has fields of its own",
    "clips.pre_roll_s": "what the network had heard when it decided; no wish of the user's",
}
"""Why no option sets these."""


def fields(of: type = ListenSettings, at: str = "") -> list[str]:
    """Dotted paths of all fields, also of settings within settings."""
    found = []
    hints = get_type_hints(of)
    for each in dataclasses.fields(of):
        kinds = [kind for kind in (hints[each.name], *get_args(hints[each.name])) if dataclasses.is_dataclass(kind)]
        if kinds and kinds[0] is not EventsConfig:
            found += fields(kinds[0], f"{at}{each.name}.")
        else:
            found.append(at + each.name)
    return found


def test_every_field_is_set_by_exactly_one_option_or_there_is_a_reason():
    set_by = [option.field for option in OPTIONS if option.field is not None]
    assert sorted([*set_by, *WITHOUT_OPTION]) == sorted(fields())


def changed(**changes: object) -> tuple[ListenSettings, list[str]]:
    return keep_fixed(ListenSettings(), ListenSettings(**changes))  # type: ignore[arg-type]


def test_nothing_changes_nothing():
    assert changed() == (ListenSettings(), [])


def test_what_a_daemon_can_change_is_changed():
    new = ListenSettings(
        threshold=0.9,
        deny=("dog",),
        config=Path("x"),
        events=EventsConfig(allow=("dog",)),
        mqtt=MqttSettings(host="other", port=1, version="5"),
        homeassistant=HomeAssistantSettings(),
        jsonl=JsonLinesSettings(Path("x")),
    )
    assert keep_fixed(ListenSettings(), new) == (new, [])
    assert keep_fixed(new, ListenSettings()) == (ListenSettings(), [])


def test_what_needs_a_restart_is_kept_and_named_by_its_key():
    settings, kept = changed(hop_seconds=0.5, watch=True, pcm=PcmFormat(channels=2), clips=ClipSettings(Path("x")))
    assert (settings, kept) == (ListenSettings(), ["listen.hop", "--watch", "clips.folder", "--channels"])
    settings, kept = changed(top=1, threshold=0.9, mqtt=MqttSettings(host="other", node="attic", prefix="home"))
    assert settings == ListenSettings(threshold=0.9, mqtt=MqttSettings(host="other"))
    assert kept == ["listen.top", "mqtt.topic_prefix", "mqtt.node"]


def test_a_broker_does_not_appear_or_go():
    without = ListenSettings(mqtt=None)
    assert changed(mqtt=None) == (ListenSettings(), ["mqtt.url"])
    assert keep_fixed(without, ListenSettings(homeassistant=HomeAssistantSettings())) == (without, ["mqtt.url"])
    embedded = ListenSettings(mqtt=MqttSettings(host="127.0.0.1", embedded=True))
    assert keep_fixed(ListenSettings(), embedded) == (ListenSettings(), ["mqtt.url"])


def test_without_a_broker_the_node_needs_a_restart_too():
    without = ListenSettings(mqtt=None)
    assert keep_fixed(without, replace(without, node="attic")) == (without, ["mqtt.node"])


def test_an_embedded_broker_keeps_its_port():
    now = ListenSettings(mqtt=MqttSettings(host="127.0.0.1", port=1885, embedded=True))
    assert now.mqtt is not None
    again = replace(now, mqtt=replace(now.mqtt, port=1883, commands=True))
    assert keep_fixed(now, again) == (replace(now, mqtt=replace(now.mqtt, commands=True)), [])
