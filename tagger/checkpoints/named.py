"""What a user's rules mean by names that are no label of the model: classes of its second opinion.

`choose` makes them labels of the model, and `understood` writes them in the rules as the model does. What cannot be
stays as it is, with a hint for the error of `tagger.policy`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tagger.checkpoints.classes import ClassesInfo, classes_of
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.joint import JointInfo, ModelInfo, parts_of
from tagger.checkpoints.release import audioset_labels
from tagger.errors import near, several_of
from tagger.policy import EventsConfig
from tagger.words import called, fits

_MOST = 5
"""Most classes in one message."""


def choose(info: ModelInfo, rules: Iterable[EventsConfig]) -> ModelInfo:
    """The model with the classes that any of these rules name as labels. The same model, if they name none."""
    names = _Names(info)
    named = {meant for each in rules for name in each.wanted if (meant := names.meant(name, each)) is not None}
    if names.part is None or not named:
        return info
    chosen = tuple(each for each in classes_of(names.part) if each in named)
    return JointInfo(parts_of(info), ClassesInfo(names.part, chosen))


def understood(info: ModelInfo, rules: EventsConfig) -> EventsConfig:
    """The rules with the classes that they name as the model has them. Those that only others' rules name are denied.

    Args:
        info: the model, by `choose`.
    """
    names, chosen = _Names(info), chosen_of(info)
    ours: dict[str, str] = {}
    hints: dict[str, str] = {}
    silent: set[str] = set()
    for name in rules.names:
        meant = names.meant(name, rules)
        if meant is None:
            if hint := names.hint(name, rules):
                hints[name] = hint
        elif meant in chosen:
            ours[name] = meant
        elif name in rules.wanted:
            hints[name] = f"; {meant!r} is a class of AudioSet, which only a restart chooses"
        else:
            silent.add(name)
    wanted = {ours.get(name, name) for name in rules.wanted}
    denied = tuple(name for name in rules.deny if name not in silent)
    return replace(rules, deny=denied).renamed(ours, hints, [label for label in chosen if label not in wanted])


def chosen_of(info: ModelInfo) -> tuple[str, ...]:
    """The classes that were chosen."""
    return info.classes.labels if isinstance(info, JointInfo) and info.classes is not None else ()


def choosable(info: ModelInfo) -> dict[str, tuple[str, ...]]:
    """Classes that can be chosen; each with the labels of the model that it means. Empty: there is no second opinion.

    Those that are called as a label is are left out.
    """
    return _Names(info).classes


def seconded(info: ModelInfo) -> CheckpointInfo | None:
    """The first checkpoint with a second opinion. None: none has one."""
    return next((part for part in parts_of(info) if part.opinion is not None), None)


@dataclass(frozen=True)
class _Names:
    """The names that a model knows."""

    info: ModelInfo

    @cached_property
    def part(self) -> CheckpointInfo | None:
        return seconded(self.info)

    @cached_property
    def own(self) -> tuple[str, ...]:
        """The labels of its networks."""
        return self.info.labels[: len(self.info.labels) - len(chosen_of(self.info))]

    @cached_property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """As `choosable`."""
        if self.part is None or self.part.opinion is None:
            return {}
        meant: dict[str, list[str]] = {}
        for label, names in zip(self.part.labels, self.part.opinion.means, strict=True):
            for name in names:
                meant.setdefault(name, []).append(label)
        return {each: tuple(meant.get(each, ())) for each in classes_of(self.part) if not called(each, self.own)}

    def meant(self, name: str, rules: EventsConfig) -> str | None:
        """The class that a name means. None: it means none that these rules can announce."""
        if self.part is None or called(name, self.own):
            return None
        found = called(name, self.classes)
        return found[0] if len(found) == 1 and not _announced(self.classes[found[0]], rules) else None

    def hint(self, name: str, rules: EventsConfig) -> str:
        """What is said of a name that means no such class. Empty: what is said of any label."""
        if called(name, self.own) or (not called(name, self.classes) and several_of(name, sorted(self.own))):
            return ""
        if self.part is None:
            if not called(name, audioset_labels()):
                return ""
            first = parts_of(self.info)[0].name
            how = f"`tagger models opinion {first}` makes one (docs/trust.md)"
            return f"; AudioSet has it, and a model with a second opinion hears it: {how}"
        found = called(name, self.classes)
        if len(found) == 1:
            labels = " and ".join(_announced(self.classes[found[0]], rules))
            return f"; AudioSet's {found[0]!r} means {labels}, announced already: name that instead, or deny it"
        if found := found or fits(name, self.classes):
            more = f" ({len(found) - _MOST} more: `tagger labels`)" if len(found) > _MOST else ""
            return f"; did you mean {' or '.join(map(repr, found[:_MOST]))}?{more}"
        close = near(name, [*self.own, *self.classes])
        listed = f"{near(name, self.own)}; `tagger labels` lists AudioSet's too"
        return close if close.startswith("; did you mean") else listed


def _announced(labels: Sequence[str], rules: EventsConfig) -> list[str]:
    """Those of these labels that the rules announce."""
    return [each for each in labels if each not in rules.deny and (rules.allow is None or each in rules.allow)]
