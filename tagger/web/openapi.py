"""Description of the page's interface, OpenAPI 3.1, at `api/openapi.json`. tests/web holds the answers against it."""

from collections.abc import Mapping
from typing import Any

from tagger import __version__
from tagger.web.schemas import NUMBER, SCHEMAS, TEXT, TIME, TRUTH, WHOLE, Schema, or_null, record_of


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


_NO_EVENTS = _answer("What is kept cannot be read, is locked by another process, or takes too long to find.", "Error")


def _get(id: str, what: str, schema: str, *parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    wrong = {
        "400": _answer("A parameter is wrong.", "Error"),
        "503": _NO_EVENTS,
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
            "503": _answer("A file or folder of the daemon cannot be read or written to.", "Error"),
            **_REFUSED,
        },
    }


_CHOSEN = (
    _parameter("since", "Earliest onset.", TIME),
    _parameter("until", "The onset is before this time.", TIME),
    _parameter("label", "Labels, with commas between.", TEXT),
    _parameter("source", "Sources, with commas between.", TEXT),
)
"""Which events or clips are asked for."""
_NODE = _parameter("node", "Nodes, with commas between.", TEXT)


def _clip_paths() -> Mapping[str, Any]:
    none = {"404": _answer("No clip was kept of this event, or no audio is kept.", "Error")}
    id = {"name": "id", "in": "path", "required": True, "description": "The event's id.", "schema": TEXT}
    verdicts = {"type": "string", "enum": ["none", "right", "wrong", "other", "reviewed", "all"], "default": "all"}
    listed = _get(
        "clips",
        "The newest clips that meet the conditions, newest first, and what the reviews say so far.",
        "Clips",
        *_CHOSEN,
        _parameter("verdict", "What was said of them.", verdicts),
        _parameter("limit", "Most clips.", {**WHOLE, "minimum": 1, "maximum": 1000, "default": 200}),
    )
    marks = {"type": "object", "additionalProperties": TEXT, "minProperties": 1, "maxProperties": 500}
    picture = _get("spectrogram", "The spectrogram of a clip: bytes, [columns, bands].", "Spectrogram")
    flac = {"audio/flac": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "/api/clips": {"get": {**listed, "responses": {**listed["responses"], **none}}},
        "/api/clips/marks": {
            "post": _post(
                "mark",
                "Marks clips, by the ids of their events: right, wrong, a label, or undo. All, or none.",
                record_of({"marks": marks}),
                "Marked",
                "No clip was kept of one of these events, or no audio is kept.",
            )
        },
        "/api/clips/{id}": {
            "get": {
                "operationId": "clip",
                "summary": "The sound of a clip. Ranges of bytes may be asked for.",
                "parameters": [id, _parameter("download", "Whether browsers should save it.", TEXT)],
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
        "/api/nodes": {"get": _get("nodes", "The other nodes of the broker, and how each does.", "Nodes")},
        "/api/faults": {"get": _get("faults", "The last faults that were told, the newest first.", "Faults")},
        "/api/doctor": {
            "get": {**examination, "responses": {**examination["responses"], "404": _answer(none, "Error")}},
            "post": _post("examine", "Runs doctor's checks, unless they run.", record_of({}), "Examination", none),
        },
    }


def _source_paths() -> Mapping[str, Any]:
    return {
        "/api/sources": {"get": _get("sources", "The sources, and how each does.", "Sources")},
        "/api/sources/{name}": {
            "post": _post(
                "enable",
                "Pauses a source, or resumes it.",
                record_of({"enabled": TRUTH}),
                "Enabled",
                "There is no such source.",
                {"name": "name", "in": "path", "required": True, "schema": TEXT},
            )
        },
    }


def _event_paths() -> Mapping[str, Any]:
    places = _get("places", "Where there may be events from: nodes and their sources, by name.", "Places")
    return {
        "/api/events": {
            "get": _get(
                "events",
                "The last events that meet the conditions, ordered by onset.",
                "Events",
                *_CHOSEN,
                _NODE,
                _parameter("min_score", "Lowest peak score.", NUMBER),
                _parameter("limit", "Most events.", {**WHOLE, "minimum": 1, "maximum": 5000, "default": 500}),
            )
        },
        "/api/counts": {
            "get": _get(
                "counts",
                "How many events of each label began in each stretch of time, the most frequent label first.",
                "Counts",
                _parameter("edges", "Ends of stretches: 2 to 100 times, ascending; without it 24 hours.", TEXT),
                _parameter("label", "Labels, with commas between.", TEXT),
                _parameter("source", "Sources, with commas between.", TEXT),
                _NODE,
                _parameter("min_score", "Lowest peak score.", NUMBER),
            )
        },
        "/api/levels": {
            "get": _get(
                "levels",
                "How loud each source was in the last hour: time (seconds since the epoch), RMS and peak (dBFS).",
                "Levels",
                _parameter("source", "Sources, with commas between.", TEXT),
            )
        },
        "/api/places": {"get": {**places, "responses": {**places["responses"], "503": _NO_EVENTS}}},
    }


def _threshold_paths() -> Mapping[str, Any]:
    return {
        "/api/thresholds": {
            "get": _get(
                "thresholds",
                "What each threshold of a label would have given; without a label, the labels that were heard.",
                "Thresholds",
                {"name": "source", "in": "query", "required": True, "schema": TEXT},
                _parameter("label", "One label.", TEXT),
            ),
            "post": _post(
                "threshold",
                "Sets a threshold until the next restart or reload, of one source or (null) of all.",
                record_of({"source": or_null(TEXT), "label": TEXT, "enter": NUMBER}),
                "Threshold",
                "There are none.",
            ),
        },
        "/api/labels": {"get": _get("labels", "Labels and thresholds, by source.", "Labels")},
    }


def _live_paths() -> Mapping[str, Any]:
    return {
        "/api/live": {
            "get": {
                "operationId": "live",
                "summary": "What is live, as Server-Sent Events.",
                "description": "Events: hello, columns, level, scores, event, health. docs/page.md has their data.",
                "parameters": [_parameter("columns", "Sources whose spectrogram is wanted.", TEXT)],
                "responses": {
                    "200": {"description": "A stream.", "content": {"text/event-stream": {"schema": TEXT}}},
                    "503": _answer("Too many pages are open.", "Error"),
                    **_REFUSED,
                },
            }
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
            **_source_paths(),
            **_event_paths(),
            **_clip_paths(),
            **_threshold_paths(),
            **_live_paths(),
        },
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {"password": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"password": []}],
    }
