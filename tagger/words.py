"""Names of sounds in a user's words: which labels they mean, whatever their case, plural and order."""

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache


def fits(sound: str, labels: Iterable[str]) -> list[str]:
    """The labels that are called so, or else those of whose name it is a part. Case, plural and order do not matter.

    >>> fits("Dogs", ["dog", "hot dog"]), fits("glass", ["glass_breaking"]), fits("crying baby", ["Baby cry, sob"])
    (['dog'], ['glass_breaking'], ['Baby cry, sob'])
    """
    labels = tuple(labels)
    if found := called(sound, labels):
        return found
    words, letters = key(sound)
    return [label for label in labels if words and (words <= key(label)[0] or letters in key(label)[0])]


def called(sound: str, labels: Iterable[str]) -> list[str]:
    """The labels that are called so.

    >>> called("smoke_alarm", ["Smoke detector, smoke alarm", "Alarm"]), called("smoke", ["Smoke alarm"])
    (['Smoke detector, smoke alarm'], [])
    """
    labels = tuple(labels)
    for found in (
        [label for label in labels if label == sound],
        [label for label in labels if is_same(sound, label)],
        [label for label in labels if any(is_same(sound, name) for name in names_of(label))],
    ):
        if found:
            return found
    return []


def is_same(one: str, other: str) -> bool:
    """Whether two names have the same words, in any order, or the same letters: `door bell` is `Doorbell`."""
    (words, letters), (others, other_letters) = key(one), key(other)
    return bool(words) and (words == others or letters == other_letters)


def names_of(label: str) -> Iterator[str]:
    """The label, and each of its names: `Smoke detector, smoke alarm` has two."""
    yield label
    if "," in label:
        yield from label.split(",")


@cache
def key(name: str) -> tuple[frozenset[str], str]:
    """The stems of a name's words, and that of all its letters."""
    return frozenset(stems_of(name)), _stem(letters_of(name))


@cache
def letters_of(name: str) -> str:
    return "".join(words_of(name))


def words_of(text: str) -> list[str]:
    """The words of a text: whatever is no letter, mark or digit separates them."""
    letters = unicodedata.normalize("NFKC", text).casefold()
    return "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in letters).split()


def stems_of(text: str) -> list[str]:
    return [_stem(word) for word in words_of(text)]


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
