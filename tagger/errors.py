"""Errors that reach the user as one line: what was wrong, where, and what to do.

TaggerError              exit code 1: not the user's mistake
|-- DownloadError
`-- UserError            exit code 2: the user's mistake
|-- SettingError     data: field and problem
|-- AudioError
`-- CheckpointError
"""

import difflib
from collections.abc import Iterable, Sequence

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


class DownloadError(TaggerError):
    """A download failed, or what arrived is not what was pinned."""


def to_install(extra: str) -> str:
    """What the user runs to install an extra, as part of a sentence. The name `tagger` on PyPI is another project's."""
    return f"run `./scripts/setup {extra}` in tagger's clone"


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean a, b?` for the known names nearest to `name`, or else `; there is a, b, c`.

    A name that differs in case only is the nearest, and named alone.
    """
    names = sorted(set(known))
    if same := [each for each in names if each.casefold() == name.casefold()]:
        return f"; did you mean {', '.join(same[:5])}?"
    lowered = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
    close += [candidate for candidate in lowered if name.lower() in candidate and candidate not in close]
    if close:
        return f"; did you mean {', '.join(lowered[candidate] for candidate in close[:5])}?"
    return f"; there is {', '.join(names)}" if names else ""
