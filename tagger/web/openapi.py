"""Description of the page's interface, OpenAPI 3.1, at `api/openapi.json`. tests/web holds the answers against it."""

from collections.abc import Mapping, Sequence
from typing import Any

from tagger import __version__
from tagger.web.roles import Right, Role

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer"}
_TRUTH: Schema = {"type": "boolean"}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _object(fields: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _by_name(of: Schema) -> Schema:
    return {"type": "object", "additionalProperties": of}


_STATES = ("starting", "hearing", "silent", "retrying", "off", "ended")
_SOURCE_FIELDS: Mapping[str, Schema] = {
    "state": {"type": "string", "enum": [*_STATES]},
    "reason": _TEXT,
    "detail": _TEXT,
    "since": _TIME,
    "reconnects": _WHOLE,
    "last_audio_s": _or_null(_NUMBER),
    "rms_dbfs": _or_null(_NUMBER),
    "windows": _WHOLE,
    "skipped": _WHOLE,
    "overruns": _WHOLE,
    "latency_ms": _or_null(_object({"p50": _NUMBER, "p95": _NUMBER, "p99": _NUMBER})),
    "events": _by_name(_WHOLE),
    "problems": _list(_TEXT),
}
_CLIP = _object(
    {
        "id": _TEXT,
        "label": _TEXT,
        "source": _TEXT,
        "onset": _TIME,
        "offset": _TIME,
        "duration_s": _NUMBER,
        "peak_score": _NUMBER,
        "clip_onset": _TIME,
        "clip_s": _NUMBER,
        "verdict": {"type": ["string", "null"], "enum": ["right", "wrong", "other", None]},
        "told": _or_null(_TEXT),
    }
)
_REVIEWS: Mapping[str, Schema] = {
    "labels": _list(
        _object(
            {
                "label": _TEXT,
                "right": _WHOLE,
                "wrong": _WHOLE,
                "other": _WHOLE,
                "unreviewed": _WHOLE,
                "precision": _or_null(_NUMBER),
            }
        )
    ),
    "train": _or_null(_TEXT),
}
"""What the reviews say so far."""
_SCHEMAS: Mapping[str, Schema] = {
    "Error": _object({"error": _TEXT}),
    "Me": _object(
        {
            "role": {"type": "string", "enum": [*Role]},
            "rights": _list({"type": "string", "enum": [*Right]}),
            "login": _TRUTH,
            "base": _TEXT,
        }
    ),
    "Health": _object(
        {
            "schema": _WHOLE,
            "time": _TIME,
            "node": _TEXT,
            "version": _TEXT,
            "verdict": {"type": "string", "enum": ["ok", "degraded", "failing"]},
            "problems": _list(_TEXT),
            "uptime_s": _WHOLE,
            "sources": _by_name(_object(_SOURCE_FIELDS)),
            "sinks": _by_name(_object({"waiting": _WHOLE, "dropped": _WHOLE, "trouble": _or_null(_TEXT)})),
            "process": _object(
                {
                    "resident_mb": _or_null(_NUMBER),
                    "cpu_s": _NUMBER,
                    "threads": _WHOLE,
                    "open_files": _or_null(_WHOLE),
                }
            ),
        }
    ),
    "Sources": _object({"sources": _list(_object({"name": _TEXT, "description": _TEXT, **_SOURCE_FIELDS}))}),
    "Events": _object(
        {
            "kept": {"type": "string", "enum": ["database", "log", "memory"]},
            "more": _TRUTH,
            "events": _list(
                _object(
                    {
                        "id": _TEXT,
                        "label": _TEXT,
                        "score": _NUMBER,
                        "peak_score": _NUMBER,
                        "onset": _TIME,
                        "offset": _or_null(_TIME),
                        "duration_s": _or_null(_NUMBER),
                        "node": _TEXT,
                        "source": _TEXT,
                        "model": _TEXT,
                        "cause": {"type": "string", "enum": ["test", "restart", "takeover"]},
                        "clip": _TRUTH,
                    },
                    optional=["cause", "clip"],
                )
            ),
        }
    ),
    "Clips": _object({"clips": _list(_CLIP), "more": _TRUTH, **_REVIEWS}),
    "Marked": _object({"clips": _list(_CLIP), "undo": _by_name(_TEXT), **_REVIEWS}),
    "Spectrogram": _object(
        {
            "bands": _WHOLE,
            "step_s": _NUMBER,
            "range_db": _NUMBER,
            "hertz": _list(_NUMBER),
            "begin_s": _NUMBER,
            "seconds": _NUMBER,
            "data": {"type": "string", "contentEncoding": "base64"},
        }
    ),
    "Counts": _object(
        {
            "kept": {"type": "string", "enum": ["database", "log", "memory"]},
            "edges": _list(_TIME),
            "labels": _list(_object({"label": _TEXT, "total": _WHOLE, "counts": _list(_WHOLE)})),
        }
    ),
    "Levels": _object(
        {"levels": _by_name(_list({"type": "array", "items": _NUMBER, "minItems": 3, "maxItems": 3}))},
    ),
    "Nodes": _object({"nodes": _list(_object({"name": _TEXT, "sources": _list(_TEXT)}))}),
    "Thresholds": _object(
        {
            "kept": _TRUTH,
            "source": _TEXT,
            "labels": _list(_object({"label": _TEXT, "enter": _NUMBER, "announced": _TRUTH, "heard": _WHOLE})),
            "label": _TEXT,
            "enter": _NUMBER,
            "exit": _NUMBER,
            "announced": _TRUTH,
            "least": _or_null(_NUMBER),
            "since": _or_null(_TIME),
            "until": _or_null(_TIME),
            "windows": _WHOLE,
            "counts": _list(
                _object(
                    {
                        "enter": _NUMBER,
                        "exit": _NUMBER,
                        "day": _WHOLE,
                        "week": _or_null(_WHOLE),
                        "month": _or_null(_WHOLE),
                        "right": _WHOLE,
                        "wrong": _WHOLE,
                    }
                )
            ),
            "reviewed": _object({"right": _WHOLE, "wrong": _WHOLE}),
        },
        optional=[
            *("labels", "label", "enter", "exit", "announced", "least", "since", "until", "windows", "counts"),
            "reviewed",
        ],
    ),
    "Threshold": _object(
        {"sources": _list(_TEXT), "label": _TEXT, "enter": _NUMBER, "exit": _NUMBER, "until": _TEXT, "toml": _TEXT}
    ),
    "Labels": _by_name(
        _list(
            _object(
                {
                    "label": _TEXT,
                    "topic": _TEXT,
                    "enter": _NUMBER,
                    "exit": _NUMBER,
                    "announced": _TRUTH,
                    "group": _list(_TEXT),
                },
                optional=["enter", "exit", "announced", "group"],
            )
        )
    ),
    "Broker": _object(
        {
            "broker": _or_null(_TEXT),
            "connected": _TRUTH,
            "trouble": _or_null(_TEXT),
            "more": _TRUTH,
            "nodes": _list(
                _object(
                    {
                        "node": _TEXT,
                        "online": _or_null(_TRUTH),
                        "since": _or_null(_TIME),
                        "heard": _or_null(_TIME),
                        "version": _or_null(_TEXT),
                        "verdict": {"type": ["string", "null"], "enum": ["ok", "degraded", "failing", None]},
                        "problems": _list(_TEXT),
                        "sources": _list(
                            _object(
                                {
                                    "source": _TEXT,
                                    "state": {"type": "string", "enum": [*_STATES, "offline"]},
                                    "reason": _TEXT,
                                    "detail": _TEXT,
                                    "since": _or_null(_TIME),
                                }
                            )
                        ),
                    }
                )
            ),
        }
    ),
    "Faults": _object(
        {
            "faults": _list(
                _object(
                    {
                        "first": _TIME,
                        "last": _TIME,
                        "times": _WHOLE,
                        "level": {"type": "string", "enum": ["warning", "error"]},
                        "about": _TEXT,
                        "said": _TEXT,
                        "advice": _TEXT,
                    }
                )
            )
        }
    ),
    "Examination": _object(
        {
            "running": _TRUTH,
            "began": _or_null(_TIME),
            "ended": _or_null(_TIME),
            "findings": _list(
                _object(
                    {
                        "about": _TEXT,
                        "state": {"type": "string", "enum": ["ok", "warn", "fail"]},
                        "said": _TEXT,
                        "advice": _TEXT,
                    }
                )
            ),
        }
    ),
    "Enabled": _object({"sources": _list(_TEXT), "enabled": _TRUTH}),
}


def _answer(what: str, schema: str) -> Mapping[str, Any]:
    return {
        "description": what,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


_REFUSED = {
    "401": _answer("Not logged in.", "Error"),
    "414": _answer("The address is too long.", "Error"),
    "429": _answer("Too many wrong passwords: it was not looked at. Wait a minute.", "Error"),
    "403": _answer("Guests may not; or another site asks, or the host's name is none of this machine's.", "Error"),
}


def _get(id: str, what: str, schema: str, *parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    wrong = {
        "400": _answer("A parameter is wrong.", "Error"),
        "503": _answer("Another process keeps the database locked, or it took too long to count.", "Error"),
    }
    return {
        "operationId": id,
        "summary": what,
        **({"parameters": list(parameters)} if parameters else {}),
        "responses": {"200": _answer(what, schema), **(wrong if parameters else {}), **_REFUSED},
    }


def _parameter(name: str, what: str, schema: Schema) -> Mapping[str, Any]:
    return {"name": name, "in": "query", "description": what, "required": False, "schema": schema}


def _post(
    id: str, what: str, wanted: Schema, schema: str, missing: str, *parameters: Mapping[str, Any]
) -> Mapping[str, Any]:
    return {
        "operationId": id,
        "summary": what,
        **({"parameters": list(parameters)} if parameters else {}),
        "requestBody": {"required": True, "content": {"application/json": {"schema": wanted}}},
        "responses": {
            "200": _answer("Done.", schema),
            "400": _answer("The body is wrong.", "Error"),
            "404": _answer(missing, "Error"),
            "413": _answer("The body is too long.", "Error"),
            "415": _answer("The body is no JSON.", "Error"),
            **_REFUSED,
        },
    }


_CHOSEN = (
    _parameter("since", "Earliest onset.", _TIME),
    _parameter("until", "The onset is before this time.", _TIME),
    _parameter("label", "Labels, with commas between.", _TEXT),
    _parameter("source", "Sources, with commas between.", _TEXT),
)
"""Which events or clips are asked for."""
_NODE = _parameter("node", "Nodes, with commas between.", _TEXT)


def _clip_paths() -> Mapping[str, Any]:
    none = {"404": _answer("No clip was kept of this event, or no audio is kept.", "Error")}
    id = {"name": "id", "in": "path", "required": True, "description": "The event's id.", "schema": _TEXT}
    verdicts = {"type": "string", "enum": ["none", "right", "wrong", "other", "reviewed", "all"], "default": "all"}
    listed = _get(
        "clips",
        "The newest clips that meet the conditions, newest first, and what the reviews say so far.",
        "Clips",
        *_CHOSEN,
        _parameter("verdict", "What was said of them.", verdicts),
        _parameter("limit", "Most clips.", {**_WHOLE, "minimum": 1, "maximum": 1000, "default": 200}),
    )
    marks = {"type": "object", "additionalProperties": _TEXT, "minProperties": 1, "maxProperties": 500}
    picture = _get("spectrogram", "The spectrogram of a clip: bytes, [columns, bands].", "Spectrogram")
    flac = {"audio/flac": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "/api/clips": {"get": {**listed, "responses": {**listed["responses"], **none}}},
        "/api/clips/marks": {
            "post": _post(
                "mark",
                "Marks clips, by the ids of their events: right, wrong, a label, or undo. All, or none.",
                _object({"marks": marks}),
                "Marked",
                "No clip was kept of one of these events, or no audio is kept.",
            )
        },
        "/api/clips/{id}": {
            "get": {
                "operationId": "clip",
                "summary": "The sound of a clip. Ranges of bytes may be asked for.",
                "parameters": [id, _parameter("download", "Whether browsers should save it.", _TEXT)],
                "responses": {
                    "200": {"description": "All of it.", "content": flac},
                    "206": {"description": "A part of it.", "content": flac},
                    "416": _answer("It is shorter.", "Error"),
                    **none,
                    **_REFUSED,
                },
            }
        },
        "/api/clips/{id}/spectrogram": {
            "get": {**picture, "parameters": [id], "responses": {**picture["responses"], **none}}
        },
    }


def _health_paths() -> Mapping[str, Any]:
    none = "The daemon cannot examine itself."
    examination = _get("doctor", "The last run of doctor's checks, and the one that runs.", "Examination")
    return {
        "/api/health": {"get": _get("health", "How the daemon does.", "Health")},
        "/api/broker": {"get": _get("broker", "The other nodes of the broker, and how each does.", "Broker")},
        "/api/faults": {"get": _get("faults", "The last faults that were told, the newest first.", "Faults")},
        "/api/doctor": {
            "get": {**examination, "responses": {**examination["responses"], "404": _answer(none, "Error")}},
            "post": _post("examine", "Runs doctor's checks, unless they run.", _object({}), "Examination", none),
        },
    }


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "tagger", "version": __version__, "summary": "What a tagger hears, and how it does."},
        "paths": {
            "/api/me": {"get": _get("me", "Who asks, what the role may do, and where the page lies.", "Me")},
            **_health_paths(),
            "/api/sources": {"get": _get("sources", "The sources, and how each does.", "Sources")},
            "/api/sources/{name}": {
                "post": _post(
                    "enable",
                    "Pauses a source, or resumes it.",
                    _object({"enabled": _TRUTH}),
                    "Enabled",
                    "There is no such source.",
                    {"name": "name", "in": "path", "required": True, "schema": _TEXT},
                )
            },
            "/api/events": {
                "get": _get(
                    "events",
                    "The last events that meet the conditions, ordered by onset.",
                    "Events",
                    *_CHOSEN,
                    _NODE,
                    _parameter("min_score", "Lowest peak score.", _NUMBER),
                    _parameter("limit", "Most events.", {**_WHOLE, "minimum": 1, "maximum": 5000, "default": 500}),
                )
            },
            "/api/counts": {
                "get": _get(
                    "counts",
                    "How many events of each label began in each stretch of time, the most frequent label first.",
                    "Counts",
                    _parameter("edges", "Ends of stretches: 2 to 100 times, ascending; without it 24 hours.", _TEXT),
                    _parameter("label", "Labels, with commas between.", _TEXT),
                    _parameter("source", "Sources, with commas between.", _TEXT),
                    _NODE,
                    _parameter("min_score", "Lowest peak score.", _NUMBER),
                )
            },
            "/api/levels": {
                "get": _get(
                    "levels",
                    "How loud each source was in the last hour: time (seconds since the epoch), RMS and peak (dBFS).",
                    "Levels",
                    _parameter("source", "Sources, with commas between.", _TEXT),
                )
            },
            "/api/nodes": {"get": _get("nodes", "The nodes and their sources that there may be events of.", "Nodes")},
            **_clip_paths(),
            "/api/thresholds": {
                "get": _get(
                    "thresholds",
                    "What each threshold of a label would have given; without a label, the labels that were heard.",
                    "Thresholds",
                    {"name": "source", "in": "query", "required": True, "schema": _TEXT},
                    _parameter("label", "One label.", _TEXT),
                ),
                "post": _post(
                    "threshold",
                    "Sets a threshold until the next restart or reload, of one source or (null) of all.",
                    _object({"source": _or_null(_TEXT), "label": _TEXT, "enter": _NUMBER}),
                    "Threshold",
                    "There are none.",
                ),
            },
            "/api/labels": {"get": _get("labels", "Labels and thresholds, by source.", "Labels")},
            "/api/live": {
                "get": {
                    "operationId": "live",
                    "summary": "What is live, as Server-Sent Events.",
                    "description": "Events: hello, columns, level, scores, event, health. docs/page.md has their data.",
                    "parameters": [_parameter("columns", "Sources whose spectrogram is wanted.", _TEXT)],
                    "responses": {
                        "200": {"description": "A stream.", "content": {"text/event-stream": {"schema": _TEXT}}},
                        "503": _answer("Too many pages are open.", "Error"),
                        **_REFUSED,
                    },
                }
            },
        },
        "components": {
            "schemas": dict(_SCHEMAS),
            "securitySchemes": {"password": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"password": []}],
    }
