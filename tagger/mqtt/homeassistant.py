"""What Home Assistant is told of a node: one retained message that describes a device and all its entities.

Keys are the short ones that its MQTT integration documents: with AudioSet's 527 labels the message would else be half
as large again. What the message must hold to is checked by `tests/mqtt/test_homeassistant.py`, and by a real Home
Assistant in `bench/home_assistant.py`.

Home Assistant knows an entity by its unique id for ever: area, name, history and automations hang on it. So these ids
are made of the device's id, the source's key and the label, none of which change when the node or the source is
renamed or the model replaced; topics and names, which do change, are only what the entity is told today.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tagger import __version__
from tagger.events import Stream
from tagger.mqtt.topics import ANY, Topics, label_levels
from tagger.settings import HomeAssistantSettings

_MISSED = 3
"""A value that comes periodically is unavailable after so many periods without it."""
_LONGEST_STATE = 255
"""Characters; Home Assistant refuses longer states."""

_IF_ONLINE = "{{'online' if value=='online' else 'offline'}}"
"""A paused source says `disabled`; Home Assistant would take no notice of a word that is neither."""
_CONNECTED = "{{{'online':'ON','offline':'OFF'}.get(value)}}"
"""`None`, so unknown, while the source is paused."""
_DETAIL = f"{{{{value[:{_LONGEST_STATE}] or None}}}}"
_BEGIN = (
    "{% if value_json.type=='begin' %}"
    "{{{'event_type':value_json.label,'score':value_json.score,'onset':value_json.onset,'id':value_json.id,"
    "'cause':value_json.cause|default(none)}|to_json}}"
    "{% endif %}"
)
"""An event entity fires on what names its type, and passes over what is empty: the end of a sound."""

_STATS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("windows", "Windows", "{{value_json.windows}}", {"stat_cla": "total_increasing", "en": False}),
    ("skipped", "Windows skipped", "{{value_json.skipped}}", {"stat_cla": "total_increasing"}),
    ("overruns", "Overruns", "{{value_json.overruns}}", {"stat_cla": "total_increasing"}),
    ("reconnects", "Source reconnects", "{{value_json.reconnects}}", {"stat_cla": "total_increasing"}),
    ("broker_reconnects", "Broker reconnects", "{{value_json.broker_reconnects}}", {"stat_cla": "total_increasing"}),
    ("queue", "Messages waiting", "{{value_json.queue}}", {"stat_cla": "measurement"}),
    ("dropped", "Messages dropped", "{{value_json.dropped}}", {"stat_cla": "total_increasing"}),
    *(
        (
            f"latency_{quantile}",
            f"Latency {words}",
            f"{{{{(value_json.latency_ms or {{}}).get('{quantile}')}}}}",
            {"stat_cla": "measurement", "dev_cla": "duration", "unit_of_meas": "ms", "sug_dsp_prc": 1, **more},
        )
        for quantile, words, more in (("p50", "median", {}), ("p95", "95 %", {}), ("p99", "99 %", {"en": False}))
    ),
    (
        "uptime",
        "Uptime",
        "{{value_json.uptime_s}}",
        {"stat_cla": "measurement", "dev_cla": "duration", "unit_of_meas": "s", "sug_dsp_prc": 0, "en": False},
    ),
)
"""Component id, name, value and form of what `stats` says of the node."""


def config_topic(settings: HomeAssistantSettings, device_id: str) -> str:
    """Where the message is retained; an empty one there removes the device with all its entities."""
    return f"{settings.prefix}/device/{device_id}/config"


def status_topic(settings: HomeAssistantSettings) -> str:
    """Where Home Assistant says `online` when it has started."""
    return f"{settings.prefix}/status"


def components(message: Mapping[str, Any]) -> dict[str, str]:
    """Platform of each component of a message. To be remembered: what a later message lacks is `gone` there."""
    return {name: each["p"] for name, each in message["cmps"].items() if len(each) > 1}


def farewell(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message, but what it removes is described once more, as little as is valid.

    Home Assistant removes only what it has met since it started. What went while it was down stays in its registry for
    ever, unless this message comes first and, some seconds later, `message` once more.
    """
    (device_id,), nowhere = message["dev"]["ids"], f"{message['avty'][0]['t']}/gone"
    least: dict[str, dict[str, Any]] = {"event": {"stat_t": nowhere, "evt_typ": []}, "switch": {"cmd_t": nowhere}}
    cmps = {
        name: {**each, "uniq_id": f"{device_id}-{name}", **least.get(each["p"], {"stat_t": nowhere})}
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
    keys: Mapping[str, str],
    asked: Collection[str],
    commands: bool,
    gone: Mapping[str, str],
    audio_s: float,
    stats_s: float,
) -> dict[str, Any]:
    """The message, for `json.dumps`.

    Args:
        device_id: of letters, digits, `_` and `-`; never changes.
        keys: of each source's name, what stands for it in ids; a slug, never changes.
        asked: labels whose sensors are enabled from the start; those of others can be, in Home Assistant.
        commands: whether the node obeys requests; then sources can be paused.
        gone: `components` of earlier messages. Those that are no more are named as such, which removes them.
        audio_s: between `audio` messages, seconds.
        stats_s: between `stats` messages, seconds.
    """
    present = _of_node(topics, stats_s)
    for stream in streams:
        present |= _of_source(topics, stream, keys[stream.source], asked, commands, audio_s)
    described = {
        name: {**component, "uniq_id": f"{device_id}-{name}", "~": topics.base} for name, component in present.items()
    }
    removed = {name: {"p": platform} for name, platform in gone.items() if name not in present}
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


def _of_node(topics: Topics, stats_s: float) -> dict[str, dict[str, Any]]:
    return {
        f"stats-{name}": {
            "p": "sensor",
            "name": words,
            "stat_t": _short(topics, topics.stats),
            "val_tpl": template,
            "ent_cat": "diagnostic",
            "exp_aft": _expires(stats_s),
            **form,
        }
        for name, words, template, form in _STATS
    }


def _of_source(
    topics: Topics, stream: Stream, key: str, asked: Collection[str], commands: bool, audio_s: float
) -> dict[str, dict[str, Any]]:
    """Components of one source, by their ids. `-` is in no key and no label's level: no two ids are the same."""
    source = stream.source
    while_heard = {
        "avty": [
            {"t": _short(topics, topics.node_status)},
            {"t": _short(topics, topics.source_status(source)), "val_tpl": _IF_ONLINE},
        ],
        "avty_mode": "all",
    }
    found: dict[str, dict[str, Any]] = {
        f"{key}-event": {
            "p": "event",
            "name": f"{source} sound",
            "ic": "mdi:ear-hearing",
            "stat_t": _short(topics, topics.event(source)),
            "val_tpl": _BEGIN,
            "evt_typ": list(stream.labels),
            **while_heard,
        },
        f"{key}-sound-{ANY}": {
            "p": "binary_sensor",
            "name": f"{source} any sound",
            "dev_cla": "sound",
            "stat_t": _short(topics, topics.state(source, ANY)),
            **while_heard,
        },
        f"{key}-connected": {
            "p": "binary_sensor",
            "name": f"{source} connected",
            "dev_cla": "connectivity",
            "ent_cat": "diagnostic",
            "stat_t": _short(topics, topics.source_status(source)),
            "val_tpl": _CONNECTED,
        },
        f"{key}-detail": {
            "p": "sensor",
            "name": f"{source} status",
            "ent_cat": "diagnostic",
            "stat_t": _short(topics, topics.source_detail(source)),
            "val_tpl": _DETAIL,
            "en": False,
        },
    }
    for level, words in (("rms", "level"), ("peak", "peak level")):
        found[f"{key}-{level}"] = {
            "p": "sensor",
            "name": f"{source} {words}",
            "ic": "mdi:volume-high",
            "stat_t": _short(topics, topics.audio(source)),
            "val_tpl": f"{{{{value_json.{level}_dbfs}}}}",
            "stat_cla": "measurement",
            "unit_of_meas": "dBFS",
            "sug_dsp_prc": 1,
            "exp_aft": _expires(audio_s),
            **while_heard,
        }
    if commands:
        found[f"{key}-enabled"] = {
            "p": "switch",
            "name": f"{source} listening",
            "ic": "mdi:microphone",
            "stat_t": _short(topics, topics.enabled(source)),
            "cmd_t": _short(topics, topics.enabled_set(source)),
        }
    for label, level in label_levels(stream.labels).items():
        found[f"{key}-sound-{level}"] = {
            "p": "binary_sensor",
            "name": " ".join([source, *label.replace("_", " ").split()]),
            "dev_cla": "sound",
            "stat_t": _short(topics, topics.state(source, level)),
            **while_heard,
            **({} if label in asked else {"en": False}),
        }
    return found


def _short(topics: Topics, topic: str) -> str:
    """`~` stands for what all topics of a node begin with."""
    return "~" + topic.removeprefix(topics.base)


def _expires(every_s: float) -> int:
    """Seconds, whole and above 0: Home Assistant takes no others."""
    return max(1, math.ceil(_MISSED * every_s))
