"""Errors that reach the user as one line: what was wrong, where, and what to do.

TaggerError              exit code 1: not the user's mistake
|-- DownloadError
`-- UserError            exit code 2: the user's mistake
|-- SettingError     data: field and problem
|-- AudioError
`-- CheckpointError
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tagger.printable import printable


class TaggerError(Exception):
    """Something failed that is not the user's mistake. The command ends with exit code 1.

    Its message is one line: what others wrote into it (a file's name, a library's reason) may hold line breaks.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class UserError(TaggerError):
    """The user gave something that cannot be used. The command ends with exit code 2."""

    exit_code = 2


class SettingError(UserError):
    """A setting cannot be used. It is data: `tagger.config` adds where the user wrote the value, and words it so."""

    def __init__(self, field: str | Sequence[str], problem: str, value: object = None) -> None:
        """
        Args:
            field: path in ListenSettings, `"mqtt.host"` or `("events", "labels", "dog", "enter")`.
            problem: what is wrong with the value, as the rest of a sentence: `must be more than 0`.
            value: what is wrong, for the message. None: it is not shown; it may be a secret, or long.
        """
        self.field = tuple(field.split(".") if isinstance(field, str) else field)
        self.problem, self.value = problem, value
        super().__init__(f"{'.'.join(self.field)}{f' = {self.shown}' if self.shown else ''}: {problem}")

    @property
    def shown(self) -> str:
        """The value as part of one line; "" if it is not to be shown."""
        if self.value is None:
            return ""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            return repr(self.value)
        try:
            return f"{self.value:g}"
        except OverflowError:
            return "a number of hundreds of digits"


class AudioError(UserError):
    """A file or stream is missing, is not audio, or ends in the middle."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or of a format this version does not know."""


@contextmanager
def checkpoint_errors(problem: str) -> Iterator[None]:
    """Turns what a library raises within the block into a CheckpointError: its errors may have no class in common. A
    full disk stays an OSError.

    Args:
        problem: what could not be done, for people.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{problem}: {why}") from None


class DownloadError(TaggerError):
    """A download failed, or what arrived is not what was pinned."""


def to_install(extra: str) -> str:
    """What the user runs to install an extra, as part of a sentence. The name `tagger` on PyPI is another project's."""
    return f"run `./scripts/setup {extra}` in tagger's clone"


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean a, b?` for the known names nearest to `name`, or else `; there is a, b, c`.

    A name that differs in case only is the nearest, and named alone. Of several names with commas between it is said
    that each is a text of its own.
    """
    names = sorted(set(known))
    if same := [each for each in names if each.casefold() == name.casefold()]:
        return f"; did you mean {', '.join(same[:_MOST_NEAR])}?"
    if len(several := several_of(name, names)) > 1:
        return f"; each is a text of its own: {', '.join(several)}"
    if close := _close(name, names):
        return f"; did you mean {', '.join(close[:_MOST_NEAR])}?"
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"; there is {', '.join(names[:_MOST_LISTED])}{more}" if names else ""


def several_of(text: str, names: Sequence[str]) -> list[str]:
    """The names that a text with commas lists, nearly so written. Empty: it is no such list."""
    parts = [part for part in text.split(",") if part.strip()]
    if (
        "," not in text
        or not parts
        or difflib.get_close_matches(text.casefold(), [each.casefold() for each in names], 1, _ALIKE)
    ):
        return []
    found = [_close(part, names)[:1] for part in parts]
    return [each for (each,) in found] if all(found) else []


def _close(name: str, names: Sequence[str]) -> list[str]:
    """Names that are spelled nearly like one, or have its words; the nearest first."""
    wanted = _plain(name)
    with_words: list[tuple[float, str]] = []
    others: list[tuple[float, str]] = []
    for each in names:
        candidate = _plain(each)
        alike = difflib.SequenceMatcher(None, wanted, candidate).ratio()
        if sorted(wanted) == sorted(candidate):  # letters changed places
            alike = max(alike, _ALIKE)
        words = [any(_is_form(word, other) for other in candidate.split()) for word in wanted.split()]
        if words and all(words):
            with_words.append((alike, each))
        elif alike >= _NEAR:
            others.append((alike, each))
    least = _ALIKE if with_words else max(others, default=(0.0, ""))[0] - _MOST_WORSE
    found = [*with_words, *(one for one in others if one[0] >= least)]
    return [each for _, each in sorted(found, key=lambda one: -one[0])]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _is_form(word: str, other: str) -> bool:
    """Whether two words differ in their ends only: `bark` and `barking`, `glas` and `glass`."""
    short, long = sorted((word, other), key=len)
    return long.startswith(short) and (len(short) == len(long) or (len(short) > 2 and len(long) <= len(short) + 3))


_NEAR = 0.7
"""Least likeness of a name that may be meant, 0 to 1, by difflib."""
_ALIKE = 0.9
"""Likeness of names that differ in a letter or two."""
_MOST_WORSE = 0.12
"""Most by which another name is less like than the nearest."""
_MOST_NEAR = 5
"""Most names that may be meant."""
_MOST_LISTED = 60
"""Most names that there are."""
