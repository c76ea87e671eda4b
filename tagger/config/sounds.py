"""Which labels a user's words mean, and which model has them. Needs no torch and no network."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.checkpoints import release, store
from tagger.checkpoints.info import read_info
from tagger.checkpoints.named import choosable
from tagger.names import LONGEST_LABEL
from tagger.settings import DEFAULT_MODEL
from tagger.words import called, fits, is_same, key, letters_of, names_of, stems_of

_NEAR, _NEAR_SHORT = 0.75, 0.66
"""Least similarity of two spellings, by `difflib.SequenceMatcher.ratio`; that of words of up to four letters. That of
`dgo` and `dog` is 0.67."""
_NEAR_AS_WELL = 0.12
"""Labels are suggested that are at most this much less similar than the most similar one."""
_LETTERS = 4
"""Number of letters from which a part of a word is a hint."""
_MOST_NEAR = 4
"""Number of labels that are suggested for one word."""


_EVERYDAY = {
    "Speech": "people person human voice talk speak someone somebody",
    "Conversation": "people talk chat",
    "Baby cry, sob": "infant newborn child kid",
    "Gunshot, gunfire": "gun rifle pistol",
    "Smoke detector, smoke alarm": "fire",
    "Glass": "window burglar",
    "Music": "song tune radio",
    "Vehicle": "traffic lorry",
}
"""Labels of AudioSet that words mean which are no part of them: only hints."""


@dataclass(frozen=True)
class Model:
    """A model that can be listened with."""

    name: str
    """As `--model` takes it."""
    labels: tuple[str, ...]
    is_own: bool = False
    """Whether the user trained or fetched it."""
    command: str = ""
    """The command that fetches it. Empty: it is here."""
    classes: tuple[str, ...] = ()
    """Classes of its second opinion that can be named as labels."""

    def fits(self, sound: str) -> list[str]:
        """The labels that a user's words mean; or else the classes."""
        exact = called(sound, self.labels) or called(sound, self.classes)
        return exact or fits(sound, self.labels) or fits(sound, self.classes)


def models() -> list[Model]:
    """All usable models: the default one, the user's, the other bundled ones, those to download."""
    here = [
        Model(
            entry.name, tuple(entry.document["labels"]), is_own=entry.origin != "bundled", classes=_classes(entry.path)
        )
        for entry in store.entries()
        if entry.document is not None and entry.document["training"].get("data") != "ImageNet"
    ]
    here.sort(key=lambda model: model.name != DEFAULT_MODEL)  # entries have the user's first
    names = {model.name for model in here}
    away = [
        Model(f"{key}_as", release.audioset_labels(), command=f"tagger models download {key}")
        for key in release.RELEASE_FILES
        if f"{key}_as" not in names
    ]
    return here + away


def _classes(path: Path) -> tuple[str, ...]:
    """Classes of a checkpoint's second opinion that mean none of its labels."""
    return tuple(name for name, means in choosable(read_info(path)).items() if not means)


def split(text: str, models: Sequence[Model]) -> list[str]:
    """The sounds that a text names, with commas or semicolons between. A label that has commas itself stays whole.

    >>> split("dog, Smoke detector, smoke alarm,dog", [Model("m", ("Smoke detector, smoke alarm",))])
    ['dog', 'Smoke detector, smoke alarm']
    """
    parts = [part for each in re.split("[,;]", text) if (part := each.strip().strip("\"'").strip())]
    with_commas = {_joined(label) for label in _all_labels(models) if "," in label}
    most = max((label.count(",") + 1 for label in with_commas), default=1)
    sounds: dict[str, None] = {}
    at = 0
    while at < len(parts):
        ends = (end for end in range(at + most, at + 1, -1) if _joined(", ".join(parts[at:end])) in with_commas)
        end = next(ends, at + 1)
        whole = ", ".join(parts[at:end])
        for sound in _apart(whole, models) if end == at + 1 and whole not in sounds else [whole]:
            sounds[sound] = None
        at = end
    return list(sounds)


def _joined(label: str) -> str:
    return re.sub(r"\s*,\s*", ",", label.casefold())


def _apart(sound: str, models: Sequence[Model]) -> list[str]:
    """The words one by one, if the sound means no label and each of its words does: `dog cat siren`."""
    words = sound.split()
    if len(words) < 2 or any(model.fits(sound) for model in models):
        return [sound]
    known = [name for label in _all_labels(models) for name in names_of(label)]
    return words if all(any(is_same(word, name) for name in known) for word in words) else [sound]


def near(sound: str, models: Sequence[Model]) -> list[str]:
    """Labels of any model that are spelled nearly so, the nearest first."""
    spelled = letters_of(sound)
    least = _NEAR if len(spelled) > 4 else _NEAR_SHORT
    matcher = difflib.SequenceMatcher(None, b=spelled)
    ranks: dict[str, float] = {}
    for label in _all_labels(models) if len(spelled) <= LONGEST_LABEL else ():
        best = max(_likeness(matcher, letters_of(name), least) for name in names_of(label))
        if best >= least:
            ranks[label] = best
    ranked = sorted(ranks, key=lambda label: -ranks[label])
    return _different(label for label in ranked if ranks[label] >= ranks[ranked[0]] - _NEAR_AS_WELL)


def related(sound: str, models: Sequence[Model]) -> list[str]:
    """Labels of any model that have a part of these words, or whose words have these letters as a part.

    >>> related("dog barking", [Model("m", ("dog", "rain", "Bark"))]), related("phone", [Model("m", ("Telephone",))])
    (['dog', 'Bark'], ['Telephone'])
    """
    wanted, letters = frozenset(stems_of(sound)), letters_of(sound)
    meant = {label for label, words in _EVERYDAY.items() if wanted & {*stems_of(words)}}
    return _different(
        label
        for label in _all_labels(models)
        if any(wanted > key(name)[0] != frozenset() for name in names_of(label))
        or label in meant
        or (len(letters) >= _LETTERS and letters in letters_of(label))
    )


def _all_labels(models: Sequence[Model]) -> Iterable[str]:
    return dict.fromkeys(label for model in models for label in (*model.labels, *model.classes))


def _different(labels: Iterable[str]) -> list[str]:
    """The first few labels, without those that mean the same: AudioSet's `Dog` is ESC-50's `dog`."""
    different: dict[frozenset[str], str] = {}
    for label in labels:
        different.setdefault(key(label)[0], label)
    return list(different.values())[:_MOST_NEAR]


def _likeness(matcher: difflib.SequenceMatcher[str], other: str, least: float) -> float:
    """Similarity of the matcher's second spelling and another, from 0 to 1; 0 if it is below `least`."""
    matcher.set_seq1(other)
    return matcher.ratio() if matcher.real_quick_ratio() >= least and matcher.quick_ratio() >= least else 0.0
