"""Rules for events: thresholds and times of each label, groups of labels, labels that are never announced.

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
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tagger.errors import SettingError, UserError, near, several_of
from tagger.names import label_problem, slug

ANY = "any"
"""The group of all labels, which always exists."""
LOUD = "loud"
ALARMS = SMOKE_ALARM, CO_ALARM = "smoke_alarm_t3", "co_alarm_t4"
DETECTED: Mapping[str, str] = {LOUD: "level", SMOKE_ALARM: "pattern", CO_ALARM: "pattern"}
"""Labels of events that no network decides, and what does. They can be in groups and denied; `allow` leaves them."""
_LEAST_SECONDS = 0.5
"""Shortest part of a sound in a window by which a network can know it."""
_LEAST_MERGE_SECONDS = 0.5
"""Shortest pause that is longer than the step between two moments of a network's time axis."""
_SURE_LOGIT = 0.2
"""How far above `enter` a one-shot sound's score is when one window is enough, as a difference of logits. Chosen with
home recordings and half of the non-target audio: docs/streams.md."""
_ROUNDING = 1e-7
"""Distance from a score below which it is the same, of float32."""
_EXIT_SHARE = 0.5
"""`exit` as a share of `enter`, where no `exit` is given."""


MOST_SECONDS: Mapping[str, float] = {"confirm_s": 600, "min_s": 600, "refractory_s": 604_800, "merge_s": 3_600}
"""Longest times of a LabelPolicy, seconds. The audio of `confirm_s` and `min_s` is kept in memory for clips."""


@dataclass(frozen=True)
class LabelPolicy:
    """Rules for the begin and end of one label's events. Times are seconds of audio, whatever the hop."""

    enter: float = 0.5
    """Lowest score of a window that begins an event, above 0 to 1."""
    exit: float = 0.25
    """Lowest score at which the sound is still heard, 0 to `enter`."""
    confirm_s: float = 0.5
    """Time that the score must stay at `enter` or above before the event is announced."""
    sure: float = 1.0
    """Score from which a sound that lies wholly inside a window, and ends well before it, needs no `confirm_s`. 1: none
    does."""
    min_s: float = 0.0
    """Shortest sound that is an event."""
    max_s: float = math.inf
    """Longest event. It ends then, and the label stays silent until the sound has stopped."""
    refractory_s: float = 0.0
    """Time after an offset in which no event of the label begins."""
    merge_s: float = 2.0
    """Shortest pause between two events. The end of an event is known this long after its last sound."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise SettingError((name,), "must be a number, 0 or more", value)
            if value > sys.float_info.max and name != "max_s":
                raise SettingError((name,), "must be finite", value)
            if value > MOST_SECONDS.get(name, math.inf):
                raise SettingError((name,), f"must be at most {MOST_SECONDS[name]:g} seconds", value)
        if not 0 < self.enter <= 1:
            raise SettingError("enter", "must be above 0 and at most 1", self.enter)
        if self.sure > 1:
            raise SettingError("sure", "must be at most 1", self.sure)
        if self.exit > self.enter:
            raise SettingError("exit", f"must not be above enter = {self.enter:g}", self.exit)
        if not self.max_s > self.min_s:
            raise SettingError("max_s", f"must be longer than min_s = {self.min_s:g}", self.max_s)
        if self.merge_s < _LEAST_MERGE_SECONDS:
            raise SettingError("merge_s", f"must be at least {_LEAST_MERGE_SECONDS:g}", self.merge_s)

    def with_enter(self, enter: float) -> "LabelPolicy":
        """A copy with another `enter`, above 0 to 1."""
        sure = self.sure
        if sure < 1 and math.isclose(sure, _surer(self.enter), rel_tol=1e-9):
            sure = _surer(enter)
        return replace(self, enter=enter, exit=self.exit_at(enter), sure=sure)

    def exit_at(self, enter: float) -> float:
        """`exit` in proportion to another `enter`. An `exit` above 0 stays so: no event could end else."""
        if self.exit == _usual_exit(self.enter) and (usual := _usual_exit(enter)):
            return usual
        proportional = self.exit * enter / self.enter
        return min(enter, round(proportional, 6) or proportional or (enter if self.exit else 0.0))

    def check(self, kind: str, window_s: float, hop_s: float) -> None:
        """
        Raises:
            SettingError: no sound of this kind can ever be confirmed.
        """
        longest = _longest_confirmation(window_s, hop_s)
        if kind == "one-shot" and self.confirm_s > longest:
            raise SettingError(
                "confirm_s",
                f"can never be met: a short sound stays in windows of {window_s:g} s, one every {hop_s:g} s, for no "
                f"more than {longest:g} s",
                self.confirm_s,
            )


def _longest_confirmation(window_s: float, hop_s: float) -> float:
    """Time from the first to the last window that surely holds a sound of a moment, seconds."""
    return max(round(window_s - hop_s - _LEAST_SECONDS, 6), 0.0)


def _usual_exit(enter: float) -> float:
    share = _EXIT_SHARE * enter
    return round(share, 6) or share or enter


def _surer(enter: float) -> float:
    """The score that is _SURE_LOGIT above `enter` in its logit."""
    return _shifted(enter, _SURE_LOGIT) if 0 < enter < 1 else 1.0


def enter_of_sure(sure: float) -> float:
    """The highest `enter` (up to rounding) at which this score is `sure` by default."""
    return _shifted(min(max(sure, _ROUNDING), 1 - _ROUNDING), -_SURE_LOGIT) - _ROUNDING / 10


def _shifted(score: float, by: float) -> float:
    """The score whose logit differs by so much."""
    odds = score / (1 - score) * math.exp(by)
    return odds / (1 + odds)


KINDS: Mapping[str, Mapping[str, float]] = {
    "one-shot": {"confirm_s": 0.5, "merge_s": 2.0},
    "continuous": {"confirm_s": 0.5, "merge_s": 3.0},
}
"""Differences from LabelPolicy's defaults for sounds of a moment and for sounds that go on."""

# fmt: off
CONTINUOUS = frozenset([
    "airplane", "brushing_teeth", "chainsaw", "clock_tick", "crackling_fire", "crickets", "engine", "hand_saw",
    "helicopter", "insects", "keyboard_typing", "pouring_water", "rain", "sea_waves", "siren", "thunderstorm", "train",
    "vacuum_cleaner", "washing_machine", "wind",
])
# fmt: on
"""Labels of ESC-50 that are continuous. All others are one-shot, whose rules also find sounds that go on."""


@dataclass(frozen=True)
class Policy:
    """All labels' policies, in the order of the scores."""

    labels: tuple[str, ...]
    each: tuple[LabelPolicy, ...]
    """One policy per label."""
    denied: frozenset[str] = frozenset()
    """Labels that are never announced."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name -> labels."""
    detected: tuple[str, ...] = ()
    """Labels of events that no network decides, such as `loud`. They can be in groups, and be denied."""
    not_allowed: frozenset[str] = frozenset()
    """Those of `denied` that no list denies: they are missing in `allow`."""

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.each):
            raise ValueError(f"{len(self.each)} policies for {len(self.labels)} labels")

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that can have events: labels, those that no network decides, then groups."""
        return (*self.labels, *self.detected, *self.groups)


def policy(
    labels: Sequence[str],
    thresholds: Sequence[float],
    window_s: float,
    hop_s: float,
    config: "EventsConfig | None" = None,
    threshold: float | None = None,
    detected: Sequence[str] = (),
) -> Policy:
    """
    Args:
        labels, thresholds: the checkpoint's.
        window_s, hop_s: length of the windows and distance between them.
        config: the user's changes.
        threshold: `enter` of all labels that have none of their own in `config`.
        detected: labels of events that no network decides.

    Raises:
        SettingError: a label is unknown, or a setting cannot be met.
    """
    config = config or EventsConfig()
    config.check_names(labels)
    each = []
    for label, own in zip(labels, thresholds, strict=True):
        flags = {} if threshold is None else {"enter": threshold}
        changes = {"enter": own, **config.defaults, **flags, **config.labels.get(label, {})}
        kind = changes.pop("kind", "continuous" if label in CONTINUOUS else "one-shot")
        usual = dict(KINDS[kind], exit=_usual_exit(changes["enter"]))
        if kind == "one-shot":  # with windows far apart, only a wish that cannot be met is an error
            usual["confirm_s"] = min(usual["confirm_s"], _longest_confirmation(window_s, hop_s))
            if "confirm_s" not in changes:  # who asks for a time means it
                usual["sure"] = _surer(changes["enter"])
        try:
            made = LabelPolicy(**{**usual, **changes})
            made.check(kind, window_s, hop_s)
        except SettingError as error:
            raise SettingError(("events", "labels", label, *error.field), error.problem, error.value) from None
        each.append(made)
    not_allowed = set(labels) - set(config.allow) - set(config.deny) if config.allow is not None else set()
    denied = set(config.deny) | not_allowed
    if denied >= set(labels):
        raise SettingError(("events", "allow" if config.allow is not None else "deny"), "leaves no label")
    return Policy(tuple(labels), tuple(each), frozenset(denied), config.groups, tuple(detected), frozenset(not_allowed))


def with_threshold(policy: Policy, label: str, enter: float) -> Policy:
    """A copy of the policy with another `enter` for one label. `exit` changes in proportion, `sure` as by default.

    Raises:
        UserError: the label is unknown, or `enter` is not above 0 and at most 1.
    """
    if label not in policy.labels:
        raise UserError(f"label: this model has no {label[:60]!r}{near(label[:60], policy.labels)}")
    if not 0 < enter <= 1:
        raise UserError("enter: must be above 0 and at most 1")
    each = tuple(
        rules.with_enter(float(enter)) if name == label else rules
        for name, rules in zip(policy.labels, policy.each, strict=True)
    )
    return replace(policy, each=each)


FIELDS = tuple(each.name for each in dataclasses.fields(LabelPolicy))
"""Names of what can be set for a label, besides `kind`."""


@dataclass(frozen=True)
class EventsConfig:
    """The user's wishes: the table `events` of the file."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Fields of LabelPolicy, and `kind`, for all labels."""
    labels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The same for single labels."""
    allow: tuple[str, ...] | None = None
    """Labels that are announced. None: all."""
    deny: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    """What is said of names that the model lacks, instead of labels that are spelled so."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of labels that the rules ask for."""
        members = (member for each in self.groups.values() for member in each)
        named = (name for name in (*(self.allow or ()), *self.labels, *members) if name not in self.deny)
        return tuple(dict.fromkeys(named))

    @property
    def names(self) -> tuple[str, ...]:
        """All names of labels in the rules."""
        return tuple(dict.fromkeys((*self.wanted, *self.labels, *self.deny)))

    def renamed(self, names: Mapping[str, str], hints: Mapping[str, str], deny: Sequence[str] = ()) -> "EventsConfig":
        """Returns a copy with other names of labels.

        Args:
            names: what is called otherwise, and how.
            hints: those of the copy.
            deny: further labels to deny.
        """

        def of(each: Sequence[str]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(names.get(name, name) for name in each))

        return EventsConfig(
            self.defaults,
            {names.get(label, label): changes for label, changes in self.labels.items()},
            None if self.allow is None else of(self.allow),
            of((*self.deny, *deny)),
            {group: of(members) for group, members in self.groups.items()},
            hints,
        )

    def but(self, allow: Sequence[str], deny: Sequence[str]) -> "EventsConfig":
        """Returns a copy with these lists; an empty one keeps the present list."""
        return replace(self, allow=tuple(allow) or self.allow, deny=tuple(deny) or self.deny)

    def check_names(self, labels: Collection[str]) -> None:
        """
        Raises:
            SettingError: a label is unknown, or a group is empty or has the name of something else.
        """
        for error in self.name_errors(labels):
            raise error

    def name_errors(self, labels: Collection[str]) -> Iterator[SettingError]:
        """All errors that `check_names` may raise."""
        named: list[tuple[tuple[str, ...], Sequence[str]]] = [
            *((("labels", label), [label]) for label in self.labels),
            (("allow",), self.allow or ()),
            (("deny",), self.deny),
            *((("groups", group), members) for group, members in self.groups.items()),
        ]
        for path, found in named:
            for label in found:
                if label not in labels and not (label in DETECTED and path[0] in ("deny", "groups")):
                    may_be_several = path[0] != "labels" and label not in self.hints
                    several = tuple(several_of(label, sorted(labels))) if may_be_several else ()
                    hint = "; each label is a text of its own" if several else self.hints.get(label)
                    hint = near(label, labels) if hint is None else hint
                    yield SettingError(("events", *path), f"this model has no label {label!r}{hint}", several or None)
        taken = {ANY: "all labels", **{slug(label): f"the label {label!r}" for label in (*labels, *DETECTED)}}
        for group, members in self.groups.items():
            place = ("events", "groups", group)
            if problem := label_problem(group):
                yield SettingError(place, f"cannot be the name of a group: {problem}")
            if slug(group) in taken:
                yield SettingError(place, f"is the name of {taken[slug(group)]}; choose another")
            if not members:
                yield SettingError(place, "has no labels")
            taken.setdefault(slug(group), f"the group {group!r}")

    def without_names(self, labels: Collection[str]) -> "EventsConfig":
        """Returns a copy without unknown labels and without groups."""
        allow = None if self.allow is None else tuple(label for label in self.allow if label in labels)
        return EventsConfig(
            self.defaults,
            {label: changes for label, changes in self.labels.items() if label in labels},
            allow if allow or not self.allow else None,
            tuple(label for label in self.deny if label in labels),
        )


def errors(
    labels: Sequence[str],
    thresholds: Sequence[float],
    window_s: float,
    hop_s: float,
    config: EventsConfig,
    threshold: float | None = None,
) -> list[SettingError]:
    """All errors for which `policy` would refuse these arguments, where it raises the first."""
    found = list(config.name_errors(labels))
    config = config.without_names(labels)
    while True:
        try:
            policy(labels, thresholds, window_s, hop_s, config, threshold)
        except SettingError as error:
            found.append(error)
            if error.field[1] != "labels":
                return found
            label, name = error.field[2:]
        else:
            return found
        own = {each: dict(changes) for each, changes in config.labels.items()}
        if name in own.get(label, {}):
            config = replace(config, labels=own | {label: without(own[label], name)})
        elif name in config.defaults or (name == "enter" and threshold is not None):
            if name == "enter" and threshold is not None:
                threshold = None
            else:
                config = replace(config, defaults=without(config.defaults, name))
            needing = _NEEDING.get(name, "")
            config = replace(
                config,
                defaults=without(config.defaults, needing),
                labels={each: without(changes, needing) for each, changes in own.items()},
            )
        else:  # the model's own threshold
            return found


_NEEDING: Mapping[str, str] = {"enter": "exit", "min_s": "max_s"}
"""Field -> the field whose values are judged by it."""


def without(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy without a wrong field, and without the field that is judged by it."""
    return {key: value for key, value in fields.items() if key not in (name, _NEEDING.get(name))}
