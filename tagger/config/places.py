"""Place of an error: settings and policies name the field and the problem, this module adds flag, variable or line."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from tagger.config.file import Document
from tagger.config.given import Given, Rank, Values
from tagger.config.option import Option
from tagger.config.options import OPTIONS
from tagger.config.tomlfile import toml
from tagger.errors import SettingError, UserError


def located(error: SettingError, values: Values | None = None, document: Document | None = None) -> UserError:
    """The error in the user's words.

    Args:
        values: the values and their origins. None: only flags were given.
        document: the file. None: no file was read.
    """
    if error.field[0] == "events":
        return UserError(_of_events(error, values, document))
    option = _option(error)
    if option is None:
        return error
    given = values[option.key] if values is not None else Given(option, None)
    return UserError(f"{_place(error, given)}: {error.problem}")


@contextmanager
def placed(document: Document | None = None) -> Iterator[None]:
    """Names the place of settings that are wrong, for commands that have no table of options.

    Raises:
        UserError: a SettingError came, this is its place and problem.
    """
    try:
        yield
    except SettingError as error:
        raise located(error, None, document) from None


def _option(error: SettingError) -> Option | None:
    """The option that sets the field; a URL, of which several are made, is named by its key."""
    field = ".".join(error.field)
    return next((option for option in OPTIONS if field in (option.field, option.key)), None)


def _place(error: SettingError, given: Given) -> str:
    if given.rank in (Rank.FILE, Rank.ENVIRONMENT) or not given.option.flags:
        return given.place
    return f"{given.option.flags[0]}{f' {error.shown}' if error.shown else ''}"


def _of_events(error: SettingError, values: Values | None, document: Document | None) -> str:
    _, *keys = error.field
    several = list(error.value) if isinstance(error.value, tuple) else []
    if keys[0] in ("allow", "deny"):
        flag = f"--{keys[0]}"
        given = values[flag] if values is not None else None
        as_flags = f": {' '.join(f'{flag} {shlex.quote(each)}' for each in several)}" if several else ""
        if given is not None and given.is_given:
            return f"{given.place}: {error.problem}{as_flags}"
        if document is None or document.file.line(error.field) is None:
            return f"{flag}: {error.problem}{as_flags}"
    if keys[0] != "labels" or len(keys) < 3:
        place = ".".join(error.field) if document is None else document.file.place(error.field)
        return f"{place}: {error.problem}{f': {toml(several)}' if several else ''}"
    label, name = keys[1:]
    message = f"{label}: {name} = {error.shown} {error.problem}"
    if document is None:
        return message
    # The label's own line, or what holds for all labels; or the label's table, if it is the model that sets this field.
    for path in (error.field, ("events", name), error.field[:-1]):
        if line := document.file.line(path):
            return f"{document.file.path}, line {line}: {message}"
    return f"{document.file.path}: {message}"
