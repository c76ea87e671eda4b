"""Schemas of the interface's answers, which `openapi.py` puts into its document."""

from collections.abc import Mapping, Sequence
from typing import Any

from tagger.web.roles import Right, Role

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
TRUTH: Schema = {"type": "boolean"}


def or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def record_of(fields: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


def list_of(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def by_name(of: Schema) -> Schema:
    return {"type": "object", "additionalProperties": of}


_STATES = ("starting", "hearing", "silent", "retrying", "off", "ended")
_SOURCE_FIELDS: Mapping[str, Schema] = {
    "state": {"type": "string", "enum": [*_STATES]},
    "reason": TEXT,
    "detail": TEXT,
    "since": TIME,
    "reconnects": WHOLE,
    "last_audio_s": or_null(NUMBER),
    "rms_dbfs": or_null(NUMBER),
    "windows": WHOLE,
    "skipped": WHOLE,
    "overruns": WHOLE,
    "latency_ms": or_null(record_of({"p50": NUMBER, "p95": NUMBER, "p99": NUMBER})),
    "events": by_name(WHOLE),
    "problems": list_of(TEXT),
}
_CLIP = record_of(
    {
        "id": TEXT,
        "label": TEXT,
        "source": TEXT,
        "onset": TIME,
        "offset": TIME,
        "duration_s": NUMBER,
        "peak_score": NUMBER,
        "clip_onset": TIME,
        "clip_s": NUMBER,
        "verdict": {"type": ["string", "null"], "enum": ["right", "wrong", "other", None]},
        "told": or_null(TEXT),
    }
)
_REVIEWS: Mapping[str, Schema] = {
    "labels": list_of(
        record_of(
            {
                "label": TEXT,
                "right": WHOLE,
                "wrong": WHOLE,
                "other": WHOLE,
                "unreviewed": WHOLE,
                "precision": or_null(NUMBER),
            }
        )
    ),
    "train": or_null(TEXT),
}
"""What the reviews say so far."""
SCHEMAS: Mapping[str, Schema] = {
    "Error": record_of({"error": TEXT}),
    "Me": record_of(
        {
            "role": {"type": "string", "enum": [*Role]},
            "rights": list_of({"type": "string", "enum": [*Right]}),
            "login": TRUTH,
            "base": TEXT,
        }
    ),
    "Health": record_of(
        {
            "schema": WHOLE,
            "time": TIME,
            "node": TEXT,
            "version": TEXT,
            "verdict": {"type": "string", "enum": ["ok", "degraded", "failing"]},
            "problems": list_of(TEXT),
            "uptime_s": WHOLE,
            "sources": by_name(record_of(_SOURCE_FIELDS)),
            "sinks": by_name(record_of({"waiting": WHOLE, "dropped": WHOLE, "trouble": or_null(TEXT)})),
            "process": record_of(
                {
                    "resident_mb": or_null(NUMBER),
                    "cpu_s": NUMBER,
                    "threads": WHOLE,
                    "open_files": or_null(WHOLE),
                }
            ),
        }
    ),
    "Sources": record_of({"sources": list_of(record_of({"name": TEXT, "description": TEXT, **_SOURCE_FIELDS}))}),
    "Events": record_of(
        {
            "kept": {"type": "string", "enum": ["database", "log", "memory"]},
            "more": TRUTH,
            "events": list_of(
                record_of(
                    {
                        "id": TEXT,
                        "label": TEXT,
                        "score": NUMBER,
                        "peak_score": NUMBER,
                        "onset": TIME,
                        "offset": or_null(TIME),
                        "duration_s": or_null(NUMBER),
                        "node": TEXT,
                        "source": TEXT,
                        "model": TEXT,
                        "cause": {"type": "string", "enum": ["test", "restart", "takeover"]},
                        "clip": TRUTH,
                    },
                    optional=["cause", "clip"],
                )
            ),
        }
    ),
    "Clips": record_of({"clips": list_of(_CLIP), "more": TRUTH, **_REVIEWS}),
    "Marked": record_of({"clips": list_of(_CLIP), "undo": by_name(TEXT), **_REVIEWS}),
    "Spectrogram": record_of(
        {
            "bands": WHOLE,
            "step_s": NUMBER,
            "range_db": NUMBER,
            "hertz": list_of(NUMBER),
            "begin_s": NUMBER,
            "seconds": NUMBER,
            "data": {"type": "string", "contentEncoding": "base64"},
        }
    ),
    "Counts": record_of(
        {
            "kept": {"type": "string", "enum": ["database", "log", "memory"]},
            "edges": list_of(TIME),
            "labels": list_of(record_of({"label": TEXT, "total": WHOLE, "counts": list_of(WHOLE)})),
        }
    ),
    "Levels": record_of(
        {"levels": by_name(list_of({"type": "array", "items": NUMBER, "minItems": 3, "maxItems": 3}))},
    ),
    "Places": record_of({"places": list_of(record_of({"node": TEXT, "sources": list_of(TEXT)}))}),
    "Thresholds": record_of(
        {
            "kept": TRUTH,
            "source": TEXT,
            "labels": list_of(record_of({"label": TEXT, "enter": NUMBER, "announced": TRUTH, "heard": WHOLE})),
            "label": TEXT,
            "enter": NUMBER,
            "exit": NUMBER,
            "announced": TRUTH,
            "least": or_null(NUMBER),
            "since": or_null(TIME),
            "until": or_null(TIME),
            "windows": WHOLE,
            "counts": list_of(
                record_of(
                    {
                        "enter": NUMBER,
                        "exit": NUMBER,
                        "day": WHOLE,
                        "week": or_null(WHOLE),
                        "month": or_null(WHOLE),
                        "right": WHOLE,
                        "wrong": WHOLE,
                    }
                )
            ),
            "reviewed": record_of({"right": WHOLE, "wrong": WHOLE}),
        },
        optional=[
            *("labels", "label", "enter", "exit", "announced", "least", "since", "until", "windows", "counts"),
            "reviewed",
        ],
    ),
    "Threshold": record_of(
        {"sources": list_of(TEXT), "label": TEXT, "enter": NUMBER, "exit": NUMBER, "until": TEXT, "toml": TEXT}
    ),
    "Labels": by_name(
        list_of(
            record_of(
                {
                    "label": TEXT,
                    "topic": TEXT,
                    "enter": NUMBER,
                    "exit": NUMBER,
                    "announced": TRUTH,
                    "group": list_of(TEXT),
                },
                optional=["enter", "exit", "announced", "group"],
            )
        )
    ),
    "Nodes": record_of(
        {
            "broker": or_null(TEXT),
            "connected": TRUTH,
            "trouble": or_null(TEXT),
            "more": TRUTH,
            "nodes": list_of(
                record_of(
                    {
                        "node": TEXT,
                        "online": or_null(TRUTH),
                        "since": or_null(TIME),
                        "heard": or_null(TIME),
                        "version": or_null(TEXT),
                        "verdict": {"type": ["string", "null"], "enum": ["ok", "degraded", "failing", None]},
                        "problems": list_of(TEXT),
                        "sources": list_of(
                            record_of(
                                {
                                    "source": TEXT,
                                    "state": {"type": "string", "enum": [*_STATES, "offline"]},
                                    "reason": TEXT,
                                    "detail": TEXT,
                                    "since": or_null(TIME),
                                }
                            )
                        ),
                        "more": TRUTH,
                    }
                )
            ),
        }
    ),
    "Faults": record_of(
        {
            "faults": list_of(
                record_of(
                    {
                        "first": TIME,
                        "last": TIME,
                        "times": WHOLE,
                        "level": {"type": "string", "enum": ["warning", "error"]},
                        "about": TEXT,
                        "said": TEXT,
                        "advice": TEXT,
                    }
                )
            )
        }
    ),
    "Examination": record_of(
        {
            "running": TRUTH,
            "began": or_null(TIME),
            "ended": or_null(TIME),
            "findings": list_of(
                record_of(
                    {
                        "about": TEXT,
                        "state": {"type": "string", "enum": ["ok", "warn", "fail"]},
                        "said": TEXT,
                        "advice": TEXT,
                    }
                )
            ),
        }
    ),
    "Enabled": record_of({"sources": list_of(TEXT), "enabled": TRUTH}),
}
