"""Which labels a user's words mean, and which model has them. Needs no torch and no network."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tagger.checkpoints import release, store
from tagger.names import LONGEST_LABEL
from tagger.settings import DEFAULT_MODEL

_NEAR, _NEAR_SHORT = 0.75, 0.66
"""Least similarity of two spellings, by `difflib.SequenceMatcher.ratio`; that of words of up to four letters. That of
`dgo` and `dog` is 0.67."""
_NEAR_AS_WELL = 0.12
"""Labels are suggested that are at most this much less similar than the most similar one."""
_LETTERS = 4
"""Number of letters from which a part of a word is a hint."""
_MOST_NEAR = 4
"""Number of labels that are suggested for one word."""


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

    def fits(self, sound: str) -> list[str]:
        """The labels that a user's words mean."""
        return fits(sound, self.labels)


def models() -> list[Model]:
    """All usable models: the default one, the user's, the other bundled ones, those to download."""
    here = [
        Model(entry.name, tuple(entry.document["labels"]), is_own=entry.origin != "bundled")
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


def split(text: str, models: Sequence[Model]) -> list[str]:
    """The sounds that a text names, with commas or semicolons between. A label that has commas itself stays whole.

    >>> split("dog, Smoke detector, smoke alarm,dog", [Model("m", ("Smoke detector, smoke alarm",))])
    ['dog', 'Smoke detector, smoke alarm']
    """
    parts = [part for each in re.split("[,;]", text) if (part := each.strip().strip("\"'").strip())]
    with_commas = {_joined(label) for model in models for label in model.labels if "," in label}
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
    known = [name for model in models for label in model.labels for name in _names(label)]
    return words if all(any(_is_same(word, name) for name in known) for word in words) else [sound]


def fits(sound: str, labels: Iterable[str]) -> list[str]:
    """The labels that are called so, or else those of whose name it is a part. Case, plural and order do not matter.

    >>> fits("Dogs", ["dog", "hot dog"]), fits("glass", ["glass_breaking"]), fits("crying baby", ["Baby cry, sob"])
    (['dog'], ['glass_breaking'], ['Baby cry, sob'])
    """
    labels = tuple(labels)
    for found in (
        [label for label in labels if label == sound],
        [label for label in labels if _is_same(sound, label)],
        [label for label in labels if any(_is_same(sound, name) for name in _names(label))],
    ):
        if found:
            return found
    words, letters = _key(sound)
    return [label for label in labels if words and (words <= _key(label)[0] or letters in _key(label)[0])]


def _is_same(one: str, other: str) -> bool:
    """Whether two names have the same words, in any order, or the same letters: `door bell` is `Doorbell`."""
    (words, letters), (others, other_letters) = _key(one), _key(other)
    return bool(words) and (words == others or letters == other_letters)


def _names(label: str) -> Iterator[str]:
    """The label, and each of its names: `Smoke detector, smoke alarm` has two."""
    yield label
    if "," in label:
        yield from label.split(",")


@cache
def _key(name: str) -> tuple[frozenset[str], str]:
    """The stems of a name's words, and that of all its letters."""
    return frozenset(_stems(name)), _stem(_letters(name))


@cache
def _letters(name: str) -> str:
    return "".join(_words(name))


def _words(text: str) -> list[str]:
    """The words of a text: whatever is no letter, mark or digit separates them."""
    letters = unicodedata.normalize("NFKC", text).casefold()
    return "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in letters).split()


def _stems(text: str) -> list[str]:
    return [_stem(word) for word in _words(text)]


def _stem(word: str) -> str:
    """A word without its usual English endings.

    >>> [_stem(word) for word in ("dogs", "barking", "clapping", "cries", "glasses", "horse")]
    ['dog', 'bark', 'clap', 'cry', 'glas', 'hors']
    """
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 5 and word.endswith("ing"):
        word = word[:-3]
    elif len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if len(word) > 3:
        word = word.removesuffix("e")
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def near(sound: str, models: Sequence[Model]) -> list[str]:
    """Labels of any model that are spelled nearly so, the nearest first."""
    spelled = _letters(sound)
    least = _NEAR if len(spelled) > 4 else _NEAR_SHORT
    matcher = difflib.SequenceMatcher(None, b=spelled)
    ranks: dict[str, float] = {}
    for label in _all_labels(models) if len(spelled) <= LONGEST_LABEL else ():
        best = max(_likeness(matcher, _letters(name), least) for name in _names(label))
        if best >= least:
            ranks[label] = best
    ranked = sorted(ranks, key=lambda label: -ranks[label])
    return _different(label for label in ranked if ranks[label] >= ranks[ranked[0]] - _NEAR_AS_WELL)


def related(sound: str, models: Sequence[Model]) -> list[str]:
    """Labels of any model that have a part of these words, or whose words have these letters as a part.

    >>> related("dog barking", [Model("m", ("dog", "rain", "Bark"))]), related("phone", [Model("m", ("Telephone",))])
    (['dog', 'Bark'], ['Telephone'])
    """
    wanted, letters = frozenset(_stems(sound)), _letters(sound)
    return _different(
        label
        for label in _all_labels(models)
        if any(wanted > _key(name)[0] != frozenset() for name in _names(label))
        or (len(letters) >= _LETTERS and letters in _letters(label))
    )


def _all_labels(models: Sequence[Model]) -> Iterable[str]:
    return dict.fromkeys(label for model in models for label in model.labels)


def _different(labels: Iterable[str]) -> list[str]:
    """The first few labels, without those that mean the same: AudioSet's `Dog` is ESC-50's `dog`."""
    different: dict[frozenset[str], str] = {}
    for label in labels:
        different.setdefault(_key(label)[0], label)
    return list(different.values())[:_MOST_NEAR]


def _likeness(matcher: difflib.SequenceMatcher[str], other: str, least: float) -> float:
    """Similarity of the matcher's second spelling and another, from 0 to 1; 0 if it is below `least`."""
    matcher.set_seq1(other)
    return matcher.ratio() if matcher.real_quick_ratio() >= least and matcher.quick_ratio() >= least else 0.0
