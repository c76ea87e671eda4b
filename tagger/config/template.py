"""The file that `tagger config init` writes: every option with its help and its default, commented out."""

from collections.abc import Iterator, Mapping
from typing import Any

from tagger.config.option import Option
from tagger.config.options import LABEL_FIELDS, OPTIONS, TABLES
from tagger.config.tomlfile import toml

SCHEMA_NAME = "tagger.schema.json"
_HEAD = f"""\
#:schema {SCHEMA_NAME}
# Settings of `tagger listen`. A setting behind a # is not set; the line shows its default, or an example.
# Flags and environment variables override this file; `tagger config check` lists what is in force, and why.
# Paths are relative to this file. docs/configuration.md explains more."""
_EVENTS_END = """\
# Announce only these labels; or all but those of deny.
{allow}
#deny = ["mouse_click"]

# Any of the above, for one label:
#[events.labels.dog]
#enter = 0.9

# Events and states of their own, on while any of their labels is:
#[events.groups]
#alarm = ["clock_alarm", "siren"]"""


def commented(chosen: Mapping[str, Any]) -> str:
    """The file's text.

    Args:
        chosen: values that are set, and so not commented out, by key; also `events.allow`.
    """
    return "\n".join(_lines(chosen)) + "\n"


def _lines(chosen: Mapping[str, Any]) -> Iterator[str]:
    yield _HEAD
    for table, about in TABLES.items():
        options = [option for option in OPTIONS if option.is_in_file and option.table == table]
        if options:
            yield f"\n[{table}]  # {about}"
        for option in options:
            yield from _option(option, chosen.get(option.key))
    yield "\n[events]  # What counts as an event, for all labels."
    for option in LABEL_FIELDS:
        yield from _option(option, None)
    allow = chosen.get("events.allow")
    yield _EVENTS_END.format(allow=f"allow = {toml(allow)}" if allow else '#allow = ["dog", "siren"]')


def _option(option: Option, value: Any) -> Iterator[str]:
    yield f"# {option.help}"
    if value is not None:
        yield f"{option.name} = {toml(value)}"
    else:
        yield f"#{option.name} = {toml(option.example if option.default is None else option.default)}"
