"""The table `events` of `tagger.toml`, read: what no policy knows is a problem, and left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from tagger.config.tomlfile import Keys, TomlFile
from tagger.errors import near
from tagger.policy import FIELDS, KINDS, EventsConfig, without

_KEYS = ("allow", "deny", "groups", "labels", "kind", *FIELDS)


def parse(events: Any, file: TomlFile) -> tuple[EventsConfig, list[str]]:
    """
    Args:
        events: the table of that name.
        file: where it stands, for errors.

    Returns:
        The rules, without what is wrong, and the problems: unknown keys and impossible values, one line each, with
        their places.
    """
    reader = _Reader(file)
    return reader.rules(events), reader.problems


class _Reader:
    """Adds each problem to a list, and goes on with the rest."""

    def __init__(self, file: TomlFile) -> None:
        self._file = file
        self.problems: list[str] = []

    def rules(self, value: Any) -> EventsConfig:
        at = ("events",)
        events = self._table(value, at)
        self._known(events, _KEYS, at)
        labels = self._table(events.get("labels", {}), (*at, "labels"))
        groups = self._table(events.get("groups", {}), (*at, "groups"))
        return EventsConfig(
            defaults=self._fields({key: value for key, value in events.items() if key in ("kind", *FIELDS)}, at),
            labels={label: self._label(changes, (*at, "labels", label)) for label, changes in labels.items()},
            allow=self._labels(events["allow"], (*at, "allow")) if "allow" in events else None,
            deny=self._labels(events.get("deny", []), (*at, "deny")) or (),
            groups={
                group: found
                for group, members in groups.items()
                if (found := self._labels(members, (*at, "groups", group))) is not None
            },
        )

    def _problem(self, at: Keys, problem: str) -> None:
        self.problems.append(f"{self._file.place(at)}: {problem}")

    def _table(self, value: Any, at: Keys) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._problem(at, f"must be a table, not {value!r}")
        return {}

    def _known(self, table: Mapping[str, Any], keys: Sequence[str], at: Keys) -> None:
        for key in (key for key in table if key not in keys):
            known = near(key, keys)
            there = "" if known.startswith("; there is") else f"; there is {', '.join(keys)}"
            hint = "; what is for one label goes into [events.labels.LABEL]" if isinstance(table[key], dict) else ""
            self._problem((*at, key), f"is unknown{known}{there}{hint}")

    def _label(self, value: Any, at: Keys) -> dict[str, Any]:
        table = self._table(value, at)
        self._known(table, ("kind", *FIELDS), at)
        return self._fields(table, at)

    def _fields(self, table: Mapping[str, Any], at: Keys) -> dict[str, Any]:
        """The fields of a policy, and `kind`, that are of the right type."""
        found = {key: value for key, value in table.items() if key in ("kind", *FIELDS)}
        for key, value in list(found.items()):
            if key == "kind":
                if value in list(KINDS):
                    continue
                self._problem((*at, key), f"{value!r} is not one of {', '.join(KINDS)}")
            elif isinstance(value, bool) or not isinstance(value, int | float):
                self._problem((*at, key), f"must be a number, not {value!r}")
            else:
                continue
            found = without(found, key)
        return found

    def _labels(self, value: Any, at: Keys) -> tuple[str, ...] | None:
        """None: it is no list of labels."""
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
        self._problem(at, f"must be a list of labels, not {value!r}")
        return None
