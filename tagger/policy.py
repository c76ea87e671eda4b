"""What counts as an event: thresholds and times of each label, groups of labels, labels that are never announced.

They come from the checkpoint (its thresholds), from what kind of sound a label is, and from the user's TOML file:

    [events]                     # for all labels
    confirm_s = 1.0
    deny = ["mouse_click"]       # or allow = [...]: no others

    [events.labels.dog]          # for one
    enter = 0.9
    kind = "one-shot"

    [events.groups]              # announced while any of its labels is
    alarm = ["clock_alarm", "siren"]
"""

import dataclasses
import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tagger.errors import UserError, near
from tagger.settings import slug

ANY = "any"
"""The group of all labels, which is always there."""
_LEAST_SECONDS = 0.5
"""So much of a sound must be in a window before it can be known."""
_LEAST_MERGE_SECONDS = 0.5
"""A shorter pause cannot be told from the step between two moments of a network's time axis."""
_EXIT_SHARE = 0.5
"""Of `enter`, where no `exit` is given."""


@dataclass(frozen=True)
class LabelPolicy:
    """When one label's event begins and ends. Seconds are of audio, whatever the hop."""

    enter: float = 0.5
    """An event begins at a window's score of at least this, 0 to 1 ..."""
    exit: float = 0.25
    """... and the sound is still heard while the score is at least this, 0 to `enter`."""
    confirm_s: float = 0.5
    """For so long must the score stay at `enter` or above before the event is announced."""
    min_s: float = 0.0
    """A shorter sound is no event."""
    max_s: float = math.inf
    """A longer one ends then, and the label stays silent until the sound has stopped."""
    refractory_s: float = 0.0
    """For so long after an offset no event of the label begins."""
    merge_s: float = 2.0
    """Sounds with a shorter pause between them are one event, whose end is known so long after the last of them."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
                raise ValueError(f"{name} = {value!r} must be a number, 0 or more")
            if math.isinf(value) and name != "max_s":
                raise ValueError(f"{name} = {value!r} must be finite")
        if not 0 < self.enter <= 1:
            raise ValueError(f"enter = {self.enter:g} must be above 0 and at most 1")
        if self.exit > self.enter:
            raise ValueError(f"exit = {self.exit:g} must not be above enter = {self.enter:g}")
        if not self.max_s > self.min_s:
            raise ValueError(f"max_s = {self.max_s:g} must be longer than min_s = {self.min_s:g}")
        if self.merge_s < _LEAST_MERGE_SECONDS:
            raise ValueError(f"merge_s = {self.merge_s:g} must be at least {_LEAST_MERGE_SECONDS:g}")

    def check(self, kind: str, window_s: float, hop_s: float) -> None:
        """
        Raises:
            ValueError: no sound of this kind can ever be confirmed.
        """
        longest = _longest_confirmation(window_s, hop_s)
        if kind == "one-shot" and self.confirm_s > longest:
            raise ValueError(
                f"confirm_s = {self.confirm_s:g} can never be met: a short sound stays in windows of {window_s:g} s, "
                f"one every {hop_s:g} s, for no more than {longest:g} s"
            )


def _longest_confirmation(window_s: float, hop_s: float) -> float:
    """From the first to the last of the windows that surely hold a sound of a moment, seconds."""
    return max(round(window_s - hop_s - _LEAST_SECONDS, 6), 0.0)


KINDS: Mapping[str, Mapping[str, float]] = {
    "one-shot": {"confirm_s": 0.5, "merge_s": 2.0},
    "continuous": {"confirm_s": 0.5, "merge_s": 3.0},
}
"""What differs from LabelPolicy's defaults: sounds of a moment, and sounds that go on."""

# fmt: off
CONTINUOUS = frozenset([
    "airplane", "brushing_teeth", "chainsaw", "clock_tick", "crackling_fire", "crickets", "engine", "hand_saw",
    "helicopter", "insects", "keyboard_typing", "pouring_water", "rain", "sea_waves", "siren", "thunderstorm", "train",
    "vacuum_cleaner", "washing_machine", "wind",
])
# fmt: on
"""Of ESC-50's labels. Any other label is taken for a one-shot sound, whose rules also find those that go on."""


@dataclass(frozen=True)
class Policy:
    """All labels' policies, in the order of the scores."""

    labels: tuple[str, ...]
    each: tuple[LabelPolicy, ...]
    """One a label."""
    denied: frozenset[str] = frozenset()
    """Labels that are never announced."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name -> labels."""

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.each):
            raise ValueError(f"{len(self.each)} policies for {len(self.labels)} labels")

    @property
    def names(self) -> tuple[str, ...]:
        """All that events can be of: labels, then groups."""
        return (*self.labels, *self.groups)


def policy(
    labels: Sequence[str],
    thresholds: Sequence[float],
    window_s: float,
    hop_s: float,
    config: "EventsConfig | None" = None,
    threshold: float | None = None,
) -> Policy:
    """
    Args:
        labels, thresholds: the checkpoint's.
        window_s, hop_s: length of the windows and distance between them.
        config: what the user wants otherwise.
        threshold: `enter` of all labels but those that have one of their own in `config`.

    Raises:
        UserError: a label is unknown, or a setting cannot be met.
    """
    config = config or EventsConfig()
    config.check_names(labels)
    each = []
    for label, own in zip(labels, thresholds, strict=True):
        flags = {} if threshold is None else {"enter": threshold}
        changes = {"enter": own, **config.defaults, **flags, **config.labels.get(label, {})}
        kind = changes.pop("kind", "continuous" if label in CONTINUOUS else "one-shot")
        usual = dict(KINDS[kind], exit=round(_EXIT_SHARE * changes["enter"], 6))
        if kind == "one-shot":  # windows far apart: only what someone asks for is refused
            usual["confirm_s"] = min(usual["confirm_s"], _longest_confirmation(window_s, hop_s))
        try:
            made = LabelPolicy(**{**usual, **changes})
            made.check(kind, window_s, hop_s)
        except ValueError as error:
            raise UserError(f"{config.where}{label}: {error}") from None
        each.append(made)
    denied = set(config.deny) | (set(labels) - set(config.allow) if config.allow is not None else set())
    if denied >= set(labels):
        raise UserError(f"{config.allow_from if config.allow is not None else config.deny_from}: leaves no label")
    return Policy(tuple(labels), tuple(each), frozenset(denied), config.groups)


_FIELDS = tuple(each.name for each in dataclasses.fields(LabelPolicy))
_EVENTS = ("allow", "deny", "groups", "labels", "kind", *_FIELDS)


@dataclass(frozen=True)
class EventsConfig:
    """The table `events` of the user's file, as it is there."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Fields of LabelPolicy, and `kind`, for all labels."""
    labels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The same, for single ones."""
    allow: tuple[str, ...] | None = None
    """Only these are announced. None: all."""
    deny: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    where: str = ""
    """What errors begin with."""
    allow_from: str = "--allow"
    deny_from: str = "--deny"
    """Where these lists come from."""

    def but(self, allow: Sequence[str], deny: Sequence[str]) -> "EventsConfig":
        """With the command line's lists in place of the file's, where it has any."""
        changed = replace(self, allow=tuple(allow), allow_from="--allow") if allow else self
        return replace(changed, deny=tuple(deny), deny_from="--deny") if deny else changed

    def check_names(self, labels: Collection[str]) -> None:
        """
        Raises:
            UserError: a label is unknown, or a group is empty or has the name of something else.
        """
        named = {
            f"{self.where}events.labels": self.labels,
            self.allow_from: self.allow or (),
            self.deny_from: self.deny,
            **{f"{self.where}events.groups.{group}": members for group, members in self.groups.items()},
        }
        for place, found in named.items():
            for label in found:
                if label not in labels:
                    raise UserError(f"{place}: this model has no label {label!r}{near(label, labels)}")
        taken = {ANY: "all labels", **{slug(label): f"the label {label!r}" for label in labels}}
        for group, members in self.groups.items():
            place = f"{self.where}events.groups.{group}"
            if slug(group) in taken:
                raise UserError(f"{place}: is the name of {taken[slug(group)]}; choose another")
            if not members:
                raise UserError(f"{place}: has no labels")
            taken[slug(group)] = f"the group {group!r}"


def read(path: Path) -> EventsConfig:
    """
    Raises:
        UserError: the file is missing, no TOML, or has unknown keys or impossible values; the place is named.
    """
    try:
        text = path.read_text("utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `tagger calibrate` writes one") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: is not TOML: {error}") from None
    _known(document, ("events",), f"{path}: ")
    events = document.get("events", {})
    where = f"{path}: events."
    _table(events, f"{path}: events")
    _known(events, _EVENTS, where)
    labels = _table(events.get("labels", {}), f"{where}labels")
    for label, changes in labels.items():
        _settings(_table(changes, f"{where}labels.{label}"), f"{where}labels.{label}.")
    defaults = {key: value for key, value in events.items() if key in ("kind", *_FIELDS)}
    _settings(defaults, where)
    groups = _table(events.get("groups", {}), f"{where}groups")
    return EventsConfig(
        defaults=defaults,
        labels=labels,
        allow=_names(events["allow"], f"{where}allow") if "allow" in events else None,
        deny=_names(events.get("deny", []), f"{where}deny"),
        groups={group: _names(members, f"{where}groups.{group}") for group, members in groups.items()},
        where=f"{path}: ",
        allow_from=f"{where}allow",
        deny_from=f"{where}deny",
    )


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a table, not {value!r}")
    return value


def _known(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in table:
        if key not in keys:
            raise UserError(f"{where}{key}: is unknown{near(key, keys)}; there are {', '.join(keys)}")


def _settings(table: Mapping[str, Any], where: str) -> None:
    _known(table, ("kind", *_FIELDS), where)
    if table.get("kind", "one-shot") not in list(KINDS):
        raise UserError(f"{where}kind: {table['kind']!r} is not one of {', '.join(KINDS)}")
    for key in table.keys() & set(_FIELDS):
        if isinstance(table[key], bool) or not isinstance(table[key], int | float):
            raise UserError(f"{where}{key}: must be a number, not {table[key]!r}")


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UserError(f"{where}: must be a list of labels, not {value!r}")
    return tuple(value)
