"""What makes settings of values: refusing, in one line each, what does not go together."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tagger.config import secret
from tagger.config.file import Document
from tagger.config.given import Given, Rank, Values
from tagger.config.options import OPTIONS
from tagger.errors import UserError
from tagger.settings import ListenSettings

_Made = TypeVar("_Made")


@dataclass
class Resolved:
    """All that came of flags, environment and file."""

    values: Values
    """What of it is in force."""
    document: Document | None
    problems: list[str] = field(default_factory=list)
    """One line each. Empty: `settings` is there."""
    warnings: list[str] = field(default_factory=list)
    settings: ListenSettings | None = None

    def right(self) -> ListenSettings:
        """
        Raises:
            UserError: there are problems; says the first.
        """
        if self.settings is None:
            raise UserError(self.problems[0])
        return self.settings


class Rules:
    """Every method adds to the problems what does not go together, and goes on with the rest.

    What is asked for and cannot have an effect is refused, unless whatever takes its effect away is of a higher rank:
    `--mqtt none` may be tried with a file that says much of a broker.
    """

    def __init__(self, resolved: Resolved) -> None:
        self._given = resolved.values
        self._document, self._problems, self._warnings = resolved.document, resolved.problems, resolved.warnings

    def _of(self, key: str) -> Any:
        return self._given[key].value

    def _asked(self, *keys: str) -> list[Given]:
        return [self._given[key] for key in keys if self._given[key].is_given]

    def _with(self, key: str, *others: str) -> Any:
        """The value of an option without which others mean nothing."""
        given = self._given[key]
        if not given.is_given:
            flag = f" ({' '.join((given.option.flags[0], given.option.metavar or ''))})" if given.option.flags else ""
            self._useless(given, f"is for {key}{flag}", *others)
        return given.value

    def _useless(self, because: Given, problem: str, *keys: str) -> None:
        """Drops what has no effect because of what another option is; refuses it if that has no higher rank."""
        for given in self._asked(*keys):
            if given.value is not False and given.rank >= because.rank:
                self._problem(given, problem)
            self._drop(given)

    def _drop(self, given: Given) -> None:
        self._given[given.option.key] = Given(given.option, given.option.default)

    def _problem(self, given: Given, problem: str) -> None:
        self._problems.append(f"{given.place}: {problem}")

    def _secret(self, given: Given) -> str | None:
        try:
            return secret.first_line(given.value)
        except UserError as error:
            self._problem(given, str(error))
            return None

    def _make(self, make: Callable[[], _Made]) -> _Made | None:
        """What `make` gives; or None, and the problem with the place that the wrong value is from instead of a flag."""
        try:
            return make()
        except UserError as error:
            self._problems.append(at_its_place(str(error), self._given))
            return None


def at_its_place(error: str, values: Values) -> str:
    """Settings name a flag in their errors; this names the file's line or the variable where the value is from."""
    match = re.match(r"--([a-z-]+)(?: (?:'.*'|\".*\"|\S+))?: ", error)
    for option in OPTIONS if match else ():
        if match and f"--{match[1]}" in option.flags:
            given = values[option.key]
            if given.rank in (Rank.FILE, Rank.ENVIRONMENT):
                return f"{given.place}: {error[match.end() :]}"
    return error
