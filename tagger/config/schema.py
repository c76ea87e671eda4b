"""JSON Schema of `tagger.toml`, for editors, made from the table of options."""

from collections.abc import Iterable
from typing import Any

from tagger.config.file import NAME
from tagger.config.option import Option
from tagger.config.options import LABEL_FIELDS, OPTIONS, TABLES
from tagger.config.sourcetables import SOURCE_FIELDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array"}
_LABELS = {"type": "array", "items": {"type": "string"}}


def schema() -> dict[str, Any]:
    """The schema as a JSON document."""
    document = {"$schema": DIALECT, "title": NAME, "description": "Settings of `tagger listen`.", **_table(())}
    for name, description in TABLES.items():
        *parents, last = name.split(".")
        place = document
        for parent in parents:
            place = place["properties"][parent]
        table = _table(option for option in OPTIONS if option.is_in_file and option.table == name)
        place["properties"][last] = ({"description": description} if description else {}) | table
    document["properties"]["events"] = _events()
    document["properties"]["source"] = _sources()
    return document


def _table(options: Iterable[Option]) -> dict[str, Any]:
    properties = {option.name: _value(option) for option in options}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _value(option: Option, is_rule: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"description": option.help, "type": _TYPES.get(option.type, "string")}
    if made["type"] == "string" and not is_rule:
        made["minLength"] = 1
    if option.type is list:
        made["items"] = {"type": "string", "minLength": 1}
    if option.takes_several:
        made |= {"type": ["string", "array"], "items": {"type": "string", "minLength": 1}, "minItems": 1}
    if option.takes_number:
        made["type"] = ["string", "integer"]
    if option.choices:
        made["enum"] = list(option.choices)
    bounds = {"minimum": option.least, "exclusiveMinimum": option.above, "maximum": option.most}
    made |= {name: bound for name, bound in bounds.items() if bound is not None}
    return made | ({} if option.default is None else {"default": option.default})


def _sources() -> dict[str, Any]:
    source = _table(SOURCE_FIELDS)
    score = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    source["properties"]["thresholds"] = {
        "description": "Scores that begin events of single labels.",
        "type": "object",
        "additionalProperties": score,
        "minProperties": 1,
    }
    return {"description": "Sources, a table each.", "type": "array", "items": source | {"required": ["url"]}}


def _events() -> dict[str, Any]:
    rules = {option.name: _value(option, is_rule=True) for option in LABEL_FIELDS}
    label = {"type": "object", "additionalProperties": False, "properties": rules}
    others = {
        "allow": {"description": "Announce only these labels.", **_LABELS},
        "deny": {"description": "Never announce these.", **_LABELS},
        "labels": {"description": "For single labels.", "type": "object", "additionalProperties": label},
        "groups": {
            "description": "Events and states of their own, on while any of their labels is.",
            "type": "object",
            "additionalProperties": _LABELS,
        },
    }
    return {
        "description": "What counts as an event, for all labels.",
        "type": "object",
        "additionalProperties": False,
        "properties": rules | others,
    }
