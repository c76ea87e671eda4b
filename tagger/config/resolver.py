"""Values to settings: the table of options says which field each value is for; what does not go together is a problem
of one line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tagger.config import secret
from tagger.config.file import Document
from tagger.config.given import Given, Values
from tagger.config.option import Option
from tagger.config.options import OPTIONS
from tagger.config.places import located
from tagger.errors import SettingError, UserError
from tagger.settings import ListenSettings

_Made = TypeVar("_Made")


@dataclass
class Resolved:
    """Result of reading flags, environment and file."""

    values: Values
    """The values in force."""
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


class Resolver:
    """Makes settings of values. Every method adds its problems to the list, and goes on with the rest.

    An option that can have no effect is a problem, unless the option that disables it has higher precedence:
    `--mqtt none` may be tried with a file that says much of a broker.
    """

    def __init__(self, resolved: Resolved) -> None:
        self._given = resolved.values
        self._document, self._problems, self._warnings = resolved.document, resolved.problems, resolved.warnings

    def _value(self, key: str) -> Any:
        return self._given[key].value

    def _fields(self, group: str) -> dict[str, Any]:
        """The values for a group of settings, by field. A field without a value keeps the dataclass's default."""
        options = [option for option in _options(group) if self._value(option.key) is not None]
        values = {option.leaf: self._value(option.key) for option in options}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

    def _group(self, group: str, made: Callable[..., _Made], at: Mapping[str, Given] | None = None) -> _Made | None:
        """Makes a group of settings that is there if its first option is given; its others mean nothing without that.

        Args:
            at: fields whose value comes from another option.
        """
        first = _options(group)[0]
        if self._needed(first) is None:
            return None
        return self._make(lambda: made(**self._fields(group)), at)

    def _needed(self, first: Option) -> Any:
        """The value of an option without which the others of its table mean nothing."""
        given = self._given[first.key]
        if not given.is_given:
            flag = f" ({' '.join((first.flags[0], first.metavar or ''))})" if first.flags else ""
            others = [option.key for option in OPTIONS if option.table == first.table and option is not first]
            self._no_effect(given, f"is for {first.key}{flag}", *others)
        return given.value

    def _present(self, *keys: str) -> list[Given]:
        return [self._given[key] for key in keys if self._given[key].is_given]

    def _no_effect(self, because: Given, problem: str, *keys: str) -> None:
        """Drops options that another one leaves without effect; a problem, unless that one has higher precedence."""
        for given in self._present(*keys):
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

    def _make(self, make: Callable[[], _Made], at: Mapping[str, Given] | None = None) -> _Made | None:
        """The result of `make`; or None, and a problem that names the place of the wrong value.

        Args:
            at: fields whose value comes from another option than the table says.
        """
        try:
            return make()
        except SettingError as error:
            if at and error.field[-1] in at:
                self._problem(at[error.field[-1]], error.problem)
            else:
                self._problems.append(str(located(error, self._given, self._document)))
            return None


def _options(group: str) -> list[Option]:
    return [option for option in OPTIONS if option.field is not None and option.group == group]
