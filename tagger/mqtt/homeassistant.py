"""The discovery message for Home Assistant: one retained message that describes a device and all its entities.

The keys are the short ones that Home Assistant's MQTT integration documents. With AudioSet's 527 labels, long keys
would make the message half as large again. `tests/mqtt/test_homeassistant.py` checks the message against written rules,
and `bench/home_assistant.py` tries it on a real Home Assistant.

Home Assistant knows an entity by its unique id for ever; area, name, history and automations depend on it. So the ids
consist of the device's id, the source's key and the label. They do not change when the node or the source is renamed
or the model replaced. Topics and names may change: Home Assistant takes them from the newest message.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tagger import __version__
from tagger.events import Stream
from tagger.mqtt.topics import ANY_LEVEL, Topics, label_levels
from tagger.policy import CO_ALARM, DETECTED, SMOKE_ALARM
from tagger.settings import HomeAssistantSettings

_MISSED_PERIODS = 3
"""A periodic value becomes unavailable after this number of periods without a message."""
_MAX_STATE_CHARACTERS = 255
"""Home Assistant refuses longer states."""

_IF_ONLINE = "{{'online' if value=='online' else 'offline'}}"
"""Availability from a source's status. Home Assistant would ignore `disabled`, the status of a paused source."""
_CONNECTED = "{{{'online':'ON','offline':'OFF'}.get(value)}}"
"""State from a source's status. `None` means unknown: the source is paused."""
_DETAIL = f"{{{{value[:{_MAX_STATE_CHARACTERS}] or None}}}}"
_BEGIN = (
    "{% if value_json.type=='begin' %}"
    "{{{'event_type':value_json.label,'score':value_json.score,'onset':value_json.onset,'id':value_json.id,"
    "'cause':value_json.cause|default(none)}|to_json}}"
    "{% endif %}"
)
"""An event entity fires on a payload with an `event_type`. It ignores an empty payload, which an end gives."""

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
        "memory",
        "Memory",
        "{{value_json.memory_mb}}",
        {"stat_cla": "measurement", "dev_cla": "data_size", "unit_of_meas": "MB", "sug_dsp_prc": 0, "en": False},
    ),
    (
        "uptime",
        "Uptime",
        "{{value_json.uptime_s}}",
        {"stat_cla": "measurement", "dev_cla": "duration", "unit_of_meas": "s", "sug_dsp_prc": 0, "en": False},
    ),
)
"""Sensors of the `stats` message: component id without prefix, name, value template, further keys."""
_HAS_PROBLEM = "{{'OFF' if value_json.verdict=='ok' else 'ON'}}"
_PROBLEMS = f"{{{{(value_json.problems|join('; '))[:{_MAX_STATE_CHARACTERS}] or 'none'}}}}"
_SOURCE_STATS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("audio_age", "time since audio", "last_audio_s", {"unit_of_meas": "s", "dev_cla": "duration"}),
    ("reconnects", "reconnects", "reconnects", {}),
    ("skipped", "windows skipped", "skipped", {}),
    ("lag", "highest latency", "lag_ms", {"unit_of_meas": "ms", "dev_cla": "duration"}),
)
"""Sensors of a source in the `stats` message: component id, name, field, further keys. All are disabled at first."""

_DEVICE_CLASSES = {SMOKE_ALARM: "smoke", CO_ALARM: "carbon_monoxide"}
"""Device classes of labels that are no mere sound."""


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
    present = _node_components(topics, stats_s)
    for stream in streams:
        key = source_keys[stream.source]
        present |= _source_components(topics, stream, key, enabled_labels, commands, audio_s, stats_s)
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


def _node_components(topics: Topics, stats_s: float) -> dict[str, dict[str, Any]]:
    """Components of the node itself, by id."""
    diagnostic = {
        "stat_t": _shorten(topics, topics.stats),
        "ent_cat": "diagnostic",
        "exp_aft": _expire_after(stats_s),
    }
    return {
        "stats-problem": {
            "p": "binary_sensor",
            "name": "Problem",
            "dev_cla": "problem",
            "val_tpl": _HAS_PROBLEM,
            **diagnostic,
        },
        "stats-problems": {"p": "sensor", "name": "Problems", "val_tpl": _PROBLEMS, **diagnostic},
        **{
            f"stats-{name}": {"p": "sensor", "name": title, "val_tpl": template, **diagnostic, **form}
            for name, title, template, form in _STATS
        },
    }


def _source_components(
    topics: Topics,
    stream: Stream,
    key: str,
    enabled_labels: Collection[str],
    commands: bool,
    audio_s: float,
    stats_s: float,
) -> dict[str, dict[str, Any]]:
    """Components of one source, by id. Neither a key nor a label's level contains `-`, so no two ids are equal."""
    source = stream.source
    while_online = {
        "avty": [
            {"t": _shorten(topics, topics.node_status)},
            {"t": _shorten(topics, topics.source_status(source)), "val_tpl": _IF_ONLINE},
        ],
        "avty_mode": "all",
    }
    found: dict[str, dict[str, Any]] = {
        f"{key}-event": {
            "p": "event",
            "name": f"{source} sound",
            "ic": "mdi:ear-hearing",
            "stat_t": _shorten(topics, topics.event(source)),
            "val_tpl": _BEGIN,
            "evt_typ": list(stream.labels),
            **while_online,
        },
        f"{key}-sound-{ANY_LEVEL}": {
            "p": "binary_sensor",
            "name": f"{source} any sound",
            "dev_cla": "sound",
            "stat_t": _shorten(topics, topics.state(source, ANY_LEVEL)),
            **while_online,
        },
        f"{key}-connected": {
            "p": "binary_sensor",
            "name": f"{source} connected",
            "dev_cla": "connectivity",
            "ent_cat": "diagnostic",
            "stat_t": _shorten(topics, topics.source_status(source)),
            "val_tpl": _CONNECTED,
        },
        f"{key}-detail": {
            "p": "sensor",
            "name": f"{source} status",
            "ent_cat": "diagnostic",
            "stat_t": _shorten(topics, topics.source_detail(source)),
            "val_tpl": _DETAIL,
            "en": False,
        },
    }
    for level, words, field, unit in (
        ("rms", "level", "rms_dbfs", "dBFS"),
        ("peak", "peak level", "peak_dbfs", "dBFS"),
        ("laeq", "A-weighted level", "laeq_db", "dB"),
    ):
        found[f"{key}-{level}"] = {
            "p": "sensor",
            "name": f"{source} {words}",
            "ic": "mdi:volume-high",
            "stat_t": _shorten(topics, topics.audio(source)),
            "val_tpl": f"{{{{value_json.{field}}}}}",
            "stat_cla": "measurement",
            "unit_of_meas": unit,
            "sug_dsp_prc": 1,
            "exp_aft": _expire_after(audio_s),
            **while_online,
        }
    for name, words, value, form in _SOURCE_STATS:
        found[f"{key}-{name}"] = {
            "p": "sensor",
            "name": f"{source} {words}",
            "ent_cat": "diagnostic",
            "stat_t": _shorten(topics, topics.stats),
            "val_tpl": f"{{{{(value_json.sources.get('{source}') or {{}}).get('{value}')}}}}",
            "stat_cla": "measurement",
            "exp_aft": _expire_after(stats_s),
            "en": False,
            **form,
        }
    if commands:
        found[f"{key}-enabled"] = {
            "p": "switch",
            "name": f"{source} listening",
            "ic": "mdi:microphone",
            "stat_t": _shorten(topics, topics.enabled(source)),
            "cmd_t": _shorten(topics, topics.enabled_set(source)),
        }
    for label, level in label_levels(stream.labels).items():
        found[f"{key}-sound-{level}"] = {
            "p": "binary_sensor",
            "name": " ".join([source, *label.replace("_", " ").split()]),
            "dev_cla": _DEVICE_CLASSES.get(label, "sound"),
            "stat_t": _shorten(topics, topics.state(source, level)),
            **while_online,
            **({} if label in enabled_labels or label in DETECTED else {"en": False}),
        }
    return found


def _shorten(topics: Topics, topic: str) -> str:
    """The topic with `~` for the common beginning of all topics of the node."""
    return "~" + topic.removeprefix(topics.base)


def _expire_after(period_s: float) -> int:
    """Expiry of a periodic value, seconds. Home Assistant accepts whole numbers above 0 only."""
    return max(1, math.ceil(_MISSED_PERIODS * period_s))
