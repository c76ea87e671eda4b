"""The table `events` of `tagger.toml`, read: refused where it holds what no policy knows."""

from collections.abc import Mapping, Sequence
from typing import Any

from tagger.config.tomlfile import Keys, TomlFile
from tagger.errors import UserError, near
from tagger.policy import FIELDS, KINDS, EventsConfig

_KEYS = ("allow", "deny", "groups", "labels", "kind", *FIELDS)


def parse(events: Any, file: TomlFile) -> EventsConfig:
    """
    Args:
        events: the table of that name.
        file: where it stands, for errors.

    Raises:
        UserError: unknown keys or impossible values; the place is named.
    """
    at = ("events",)
    _check_keys(_table(events, file, at), _KEYS, file, at)
    labels = _table(events.get("labels", {}), file, (*at, "labels"))
    for label, changes in labels.items():
        here = (*at, "labels", label)
        _check_fields(_table(changes, file, here), file, here)
    defaults = {key: value for key, value in events.items() if key in ("kind", *FIELDS)}
    _check_fields(defaults, file, at)
    groups = _table(events.get("groups", {}), file, (*at, "groups"))
    return EventsConfig(
        defaults=defaults,
        labels=labels,
        allow=_labels(events["allow"], file, (*at, "allow")) if "allow" in events else None,
        deny=_labels(events.get("deny", []), file, (*at, "deny")),
        groups={group: _labels(members, file, (*at, "groups", group)) for group, members in groups.items()},
    )


def _table(value: Any, file: TomlFile, at: Keys) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{file.place(at)}: must be a table, not {value!r}")
    return value


def _check_keys(table: Mapping[str, Any], keys: Sequence[str], file: TomlFile, at: Keys) -> None:
    for key in table:
        if key not in keys:
            place = file.place((*at, key))
            known = near(key, keys)
            there = "" if known.startswith("; there is") else f"; there is {', '.join(keys)}"
            hint = "; what is for one label goes into [events.labels.LABEL]" if isinstance(table[key], dict) else ""
            raise UserError(f"{place}: is unknown{known}{there}{hint}")


def _check_fields(table: Mapping[str, Any], file: TomlFile, at: Keys) -> None:
    """Checks the fields of a policy, and `kind`."""
    _check_keys(table, ("kind", *FIELDS), file, at)
    if table.get("kind", "one-shot") not in list(KINDS):
        raise UserError(f"{file.place((*at, 'kind'))}: {table['kind']!r} is not one of {', '.join(KINDS)}")
    for key in table.keys() & set(FIELDS):
        if isinstance(table[key], bool) or not isinstance(table[key], int | float):
            raise UserError(f"{file.place((*at, key))}: must be a number, not {table[key]!r}")


def _labels(value: Any, file: TomlFile, at: Keys) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UserError(f"{file.place(at)}: must be a list of labels, not {value!r}")
    return tuple(value)
