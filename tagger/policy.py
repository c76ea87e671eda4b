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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tagger.config.tomlfile import TomlFile
from tagger.errors import UserError, near
from tagger.names import slug

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
            raise UserError(f"{config.culprit(label, str(error))}{label}: {error}") from None
        each.append(made)
    denied = set(config.deny) | (set(labels) - set(config.allow) if config.allow is not None else set())
    if denied >= set(labels):
        raise UserError(f"{config.place('allow' if config.allow is not None else 'deny')}: leaves no label")
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
    source: TomlFile | None = field(default=None, compare=False, repr=False)
    """The file, for errors. Its text may hold a password."""
    flags: frozenset[str] = field(default=frozenset(), compare=False)
    """`allow`, `deny`: come from the command line."""

    def but(self, allow: Sequence[str], deny: Sequence[str]) -> "EventsConfig":
        """With the command line's lists in place of the file's, where it has any."""
        changed = replace(self, allow=tuple(allow), flags=self.flags | {"allow"}) if allow else self
        return replace(changed, deny=tuple(deny), flags=changed.flags | {"deny"}) if deny else changed

    def place(self, *keys: str) -> str:
        """What an error about it begins with: `FILE, line 3: events.labels.dog`, or `--allow`."""
        if keys[0] in self.flags or (self.source is None and keys[0] in ("allow", "deny")):
            return f"--{keys[0]}"
        keys = ("events", *keys)
        return ".".join(keys) if self.source is None else self.source.place(keys)

    def culprit(self, label: str, problem: str) -> str:
        """File and line of the setting that makes a label's policy impossible, as far as that is in the file."""
        if self.source is None:
            return ""
        name = problem.partition(" ")[0]
        for keys in (("events", "labels", label, name), ("events", name), ("events", "labels", label)):
            if line := self.source.line(keys):
                return f"{self.source.path}, line {line}: "
        return f"{self.source.path}: "

    def check_names(self, labels: Collection[str]) -> None:
        """
        Raises:
            UserError: a label is unknown, or a group is empty or has the name of something else.
        """
        for label in self.labels:
            if label not in labels:
                raise UserError(
                    f"{self.place('labels', label)}: this model has no label {label!r}{near(label, labels)}"
                )
        named: dict[tuple[str, ...], Sequence[str]] = {("allow",): self.allow or (), ("deny",): self.deny}
        named |= {("groups", group): members for group, members in self.groups.items()}
        for keys, found in named.items():
            for label in found:
                if label not in labels:
                    raise UserError(f"{self.place(*keys)}: this model has no label {label!r}{near(label, labels)}")
        taken = {ANY: "all labels", **{slug(label): f"the label {label!r}" for label in labels}}
        for group, members in self.groups.items():
            place = self.place("groups", group)
            if slug(group) in taken:
                raise UserError(f"{place}: is the name of {taken[slug(group)]}; choose another")
            if not members:
                raise UserError(f"{place}: has no labels")
            taken[slug(group)] = f"the group {group!r}"


def parse(events: Any, source: TomlFile) -> EventsConfig:
    """
    Args:
        events: the table of that name.

    Raises:
        UserError: unknown keys or impossible values; the place is named.
    """
    at = ("events",)
    _known(_table(events, source, at), _EVENTS, source, at)
    labels = _table(events.get("labels", {}), source, (*at, "labels"))
    for label, changes in labels.items():
        here = (*at, "labels", label)
        _settings(_table(changes, source, here), source, here)
    defaults = {key: value for key, value in events.items() if key in ("kind", *_FIELDS)}
    _settings(defaults, source, at)
    groups = _table(events.get("groups", {}), source, (*at, "groups"))
    return EventsConfig(
        defaults=defaults,
        labels=labels,
        allow=_names(events["allow"], source, (*at, "allow")) if "allow" in events else None,
        deny=_names(events.get("deny", []), source, (*at, "deny")),
        groups={group: _names(members, source, (*at, "groups", group)) for group, members in groups.items()},
        source=source,
    )


_At = tuple[str, ...]


def _table(value: Any, source: TomlFile, at: _At) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{source.place(at)}: must be a table, not {value!r}")
    return value


def _known(table: Mapping[str, Any], keys: Sequence[str], source: TomlFile, at: _At) -> None:
    for key in table:
        if key not in keys:
            place = source.place((*at, key))
            known = near(key, keys)
            there = "" if known.startswith("; there is") else f"; there is {', '.join(keys)}"
            hint = "; what is for one label goes into [events.labels.LABEL]" if isinstance(table[key], dict) else ""
            raise UserError(f"{place}: is unknown{known}{there}{hint}")


def _settings(table: Mapping[str, Any], source: TomlFile, at: _At) -> None:
    _known(table, ("kind", *_FIELDS), source, at)
    if table.get("kind", "one-shot") not in list(KINDS):
        raise UserError(f"{source.place((*at, 'kind'))}: {table['kind']!r} is not one of {', '.join(KINDS)}")
    for key in table.keys() & set(_FIELDS):
        if isinstance(table[key], bool) or not isinstance(table[key], int | float):
            raise UserError(f"{source.place((*at, key))}: must be a number, not {table[key]!r}")


def _names(value: Any, source: TomlFile, at: _At) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UserError(f"{source.place(at)}: must be a list of labels, not {value!r}")
    return tuple(value)
