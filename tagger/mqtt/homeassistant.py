"""The discovery message for Home Assistant: one retained message that describes a device and all its entities.

`tagger.mqtt.entities` has the entities. `tests/mqtt/test_homeassistant.py` checks the message against written rules,
and `bench/home_assistant.py` tries it on a real Home Assistant.

Home Assistant knows an entity by its unique id for ever; area, name, history and automations depend on it. So the ids
consist of the device's id, the source's key and the label. They do not change when the node or the source is renamed
or the model replaced. Topics and names may change: Home Assistant takes them from the newest message.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tagger import __version__
from tagger.events import Stream
from tagger.mqtt.entities import node_entities, source_entities
from tagger.mqtt.topics import Topics
from tagger.settings import HomeAssistantSettings


def config_topic(settings: HomeAssistantSettings, device_id: str) -> str:
    """Topic of the message, which is retained. An empty message removes the device with all its entities."""
    return f"{settings.prefix}/device/{device_id}/config"


def status_topic(settings: HomeAssistantSettings) -> str:
    """Topic at which Home Assistant publishes `online` when it has started."""
    return f"{settings.prefix}/status"


def components(message: Mapping[str, Any]) -> dict[str, str]:
    """The components that a message describes: id -> platform. Keep them: a later `device_message` needs them."""
    return {name: each["p"] for name, each in message["cmps"].items() if len(each) > 1}


def removal_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with each component that it removes described once more, as briefly as is valid.

    Home Assistant removes only components that it has seen since it started. A component that disappeared while Home
    Assistant was down would stay in its registry for ever. So publish this message first and, some seconds later,
    `message` once more.
    """
    (device_id,), unused_topic = message["dev"]["ids"], f"{message['avty'][0]['t']}/gone"
    minimal: dict[str, dict[str, Any]] = {
        "event": {"stat_t": unused_topic, "evt_typ": []},
        "switch": {"cmd_t": unused_topic},
    }
    cmps = {
        name: {**each, "uniq_id": f"{device_id}-{name}", **minimal.get(each["p"], {"stat_t": unused_topic})}
        if len(each) == 1
        else each
        for name, each in message["cmps"].items()
    }
    return {**message, "cmps": cmps}


def device_message(
    device_id: str,
    settings: HomeAssistantSettings,
    topics: Topics,
    streams: Sequence[Stream],
    source_keys: Mapping[str, str],
    enabled_labels: Collection[str],
    commands: bool,
    earlier_components: Mapping[str, str],
    audio_s: float,
    stats_s: float,
) -> dict[str, Any]:
    """The message, for `json.dumps`.

    Args:
        device_id: consists of letters, digits, `_` and `-`. Never changes.
        source_keys: source name -> its part of the ids, a slug. The slug never changes.
        enabled_labels: labels whose sensors are enabled from the start. The user can enable the others in Home
            Assistant.
        commands: whether the node obeys requests. Only then does each source get a switch.
        earlier_components: `components` of all earlier messages. Those that exist no more are named as removed.
        audio_s: time between `audio` messages, seconds.
        stats_s: time between `stats` messages, seconds.
    """
    present = node_entities(topics, stats_s)
    for stream in streams:
        key = source_keys[stream.source]  # has no `-`, and no label's level has one, so no two ids are equal
        entities = source_entities(topics, stream, enabled_labels, commands, audio_s, stats_s)
        present |= {f"{key}-{name}": entity for name, entity in entities.items()}
    described = {
        name: {**component, "uniq_id": f"{device_id}-{name}", "~": topics.base} for name, component in present.items()
    }
    removed = {name: {"p": platform} for name, platform in earlier_components.items() if name not in present}
    return {
        "dev": {
            "ids": [device_id],
            "name": settings.device_name or f"tagger {topics.base.rpartition('/')[2]}",
            "mf": "tagger",
            "mdl": ", ".join(dict.fromkeys(stream.model for stream in streams)),
            "sw": __version__,
        },
        "o": {"name": "tagger", "sw": __version__},
        "avty": [{"t": topics.node_status}],
        "qos": 1,
        "cmps": {**described, **removed},
    }
