"""The entities that Home Assistant shows of a node and of each source: components of the discovery message.

The keys are the short ones that Home Assistant's MQTT integration documents. With AudioSet's 527 labels, long keys
would make the message half as large again.
"""

import math
from collections.abc import Collection
from typing import Any

from tagger.events import Stream
from tagger.mqtt.topics import ANY_LEVEL, Topics, label_levels
from tagger.policy import CO_ALARM, DETECTED, SMOKE_ALARM

Entities = dict[str, dict[str, Any]]
"""Components by id, as Home Assistant's short keys have them."""

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
_LEVELS = (
    ("rms", "level", "rms_dbfs", "dBFS"),
    ("peak", "peak level", "peak_dbfs", "dBFS"),
    ("laeq", "A-weighted level", "laeq_db", "dB"),
)
"""Sensors of the `audio` message: component id, name, field, unit."""

_DEVICE_CLASSES = {SMOKE_ALARM: "smoke", CO_ALARM: "carbon_monoxide"}
"""Device classes of labels that are no mere sound."""


def node_entities(topics: Topics, stats_s: float) -> Entities:
    """Entities of the node itself.

    Args:
        stats_s: time between `stats` messages, seconds.
    """
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


def source_entities(
    topics: Topics,
    stream: Stream,
    enabled_labels: Collection[str],
    commands: bool,
    audio_s: float,
    stats_s: float,
) -> Entities:
    """Entities of one source, by the part of the id that follows the source's key.

    Args:
        enabled_labels: labels whose sensors are enabled from the start.
        commands: whether the source has a switch.
        audio_s: time between `audio` messages, seconds.
        stats_s: time between `stats` messages, seconds.
    """
    while_online = {
        "avty": [
            {"t": _shorten(topics, topics.node_status)},
            {"t": _shorten(topics, topics.source_status(stream.source)), "val_tpl": _IF_ONLINE},
        ],
        "avty_mode": "all",
    }

    def online(entities: Entities) -> Entities:
        return {name: {**entity, **while_online} for name, entity in entities.items()}

    return {
        **online(_heard(topics, stream)),
        **_connection(topics, stream),
        **online(_levels(topics, stream, audio_s)),
        **_statistics(topics, stream, stats_s),
        **(_switch(topics, stream) if commands else {}),
        **online(_labels(topics, stream, enabled_labels)),
    }


def _heard(topics: Topics, stream: Stream) -> Entities:
    """The events themselves, and whether any lasts."""
    return {
        "event": {
            "p": "event",
            "name": f"{stream.source} sound",
            "ic": "mdi:ear-hearing",
            "stat_t": _shorten(topics, topics.event(stream.source)),
            "val_tpl": _BEGIN,
            "evt_typ": list(stream.labels),
        },
        f"sound-{ANY_LEVEL}": {
            "p": "binary_sensor",
            "name": f"{stream.source} any sound",
            "dev_cla": "sound",
            "stat_t": _shorten(topics, topics.state(stream.source, ANY_LEVEL)),
        },
    }


def _labels(topics: Topics, stream: Stream, enabled: Collection[str]) -> Entities:
    """Whether a sound of a label lasts, for each label."""
    return {
        f"sound-{level}": {
            "p": "binary_sensor",
            "name": " ".join([stream.source, *label.replace("_", " ").split()]),
            "dev_cla": _DEVICE_CLASSES.get(label, "sound"),
            "stat_t": _shorten(topics, topics.state(stream.source, level)),
            **({} if label in enabled or label in DETECTED else {"en": False}),
        }
        for label, level in label_levels(stream.labels).items()
    }


def _connection(topics: Topics, stream: Stream) -> Entities:
    """Whether the source is there, and why not."""
    return {
        "connected": {
            "p": "binary_sensor",
            "name": f"{stream.source} connected",
            "dev_cla": "connectivity",
            "ent_cat": "diagnostic",
            "stat_t": _shorten(topics, topics.source_status(stream.source)),
            "val_tpl": _CONNECTED,
        },
        "detail": {
            "p": "sensor",
            "name": f"{stream.source} status",
            "ent_cat": "diagnostic",
            "stat_t": _shorten(topics, topics.source_detail(stream.source)),
            "val_tpl": _DETAIL,
            "en": False,
        },
    }


def _levels(topics: Topics, stream: Stream, audio_s: float) -> Entities:
    """How loud it is, by the `audio` message."""
    return {
        name: {
            "p": "sensor",
            "name": f"{stream.source} {words}",
            "ic": "mdi:volume-high",
            "stat_t": _shorten(topics, topics.audio(stream.source)),
            "val_tpl": f"{{{{value_json.{field}}}}}",
            "stat_cla": "measurement",
            "unit_of_meas": unit,
            "sug_dsp_prc": 1,
            "exp_aft": _expire_after(audio_s),
        }
        for name, words, field, unit in _LEVELS
    }


def _statistics(topics: Topics, stream: Stream, stats_s: float) -> Entities:
    """How the source does, by the `stats` message."""
    return {
        name: {
            "p": "sensor",
            "name": f"{stream.source} {words}",
            "ent_cat": "diagnostic",
            "stat_t": _shorten(topics, topics.stats),
            "val_tpl": f"{{{{(value_json.sources.get('{stream.source}') or {{}}).get('{field}')}}}}",
            "stat_cla": "measurement",
            "exp_aft": _expire_after(stats_s),
            "en": False,
            **form,
        }
        for name, words, field, form in _SOURCE_STATS
    }


def _switch(topics: Topics, stream: Stream) -> Entities:
    """Pauses the source, and resumes it."""
    return {
        "enabled": {
            "p": "switch",
            "name": f"{stream.source} listening",
            "ic": "mdi:microphone",
            "stat_t": _shorten(topics, topics.enabled(stream.source)),
            "cmd_t": _shorten(topics, topics.enabled_set(stream.source)),
        }
    }


def _shorten(topics: Topics, topic: str) -> str:
    """The topic with `~` for the common beginning of all topics of the node."""
    return "~" + topic.removeprefix(topics.base)


def _expire_after(period_s: float) -> int:
    """Expiry of a periodic value, seconds. Home Assistant accepts whole numbers above 0 only."""
    return max(1, math.ceil(_MISSED_PERIODS * period_s))
