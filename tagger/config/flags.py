"""Flags of a command, made from the table of options, and the values that were typed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from tagger.config.option import ENV_PREFIX, Option
from tagger.config.options import OPTIONS

_Command = TypeVar("_Command", bound=Callable[..., Any])


def options_of(keys: Sequence[str]) -> Callable[[_Command], _Command]:
    """Decorator: adds --config and some flags of the table, those of these keys."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(OPTIONS):
            if option.key in keys:
                command = _flag(option)(command)
        return _config(command)

    return decorate


def listen_options(without: Sequence[str] = ()) -> Callable[[_Command], _Command]:
    """Decorator: adds the arguments of `tagger listen`, which are SOURCE, --config and the flags of the table.

    Args:
        without: keys of options that the command does not take.
    """
    flags = options_of([option.key for option in OPTIONS if option.flag is not None and option.key not in without])
    return lambda command: click.argument("sources", nargs=-1, metavar="[SOURCE]...")(flags(command))


def _config(command: _Command) -> _Command:
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar=ENV_PREFIX + "CONFIG",
        metavar="FILE",
        help="TOML file of these settings and of events. [default: $TAGGER_HOME/tagger.toml, if it exists]",
    )(command)


def typed(ctx: click.Context) -> dict[str, Any]:
    """Values on the command line, by the option's key. `given.gather` reads the environment."""
    given = {
        option.key: option.tidied(ctx.params[_parameter(option)])
        for option in OPTIONS
        if option.flag is not None
        and _parameter(option) in ctx.params
        and ctx.get_parameter_source(_parameter(option)) is ParameterSource.COMMANDLINE
    }
    return given | ({"listen.sources": ctx.params["sources"]} if ctx.params.get("sources") else {})


def _parameter(option: Option) -> str:
    """Name of the option in click's context."""
    return option.flags[0].removeprefix("--").replace("-", "_")


def _flag(option: Option) -> Callable[[Any], Any]:
    assert option.flag is not None
    names = [_parameter(option), *([option.flag] if "/" in option.flag else option.flags)]
    help = option.help
    if option.default not in (None, [], False):
        shown = option.flags[0 if option.default is True else 1] if option.type is bool else option.default
        help += f" [default: {shown.removeprefix('--') if isinstance(shown, str) else f'{shown:g}'}]"
    if option.type is bool:
        return click.option(*names, is_flag=True, default=None, help=help, allow_from_autoenv=False)
    kinds: dict[type, Any] = {list: str, Path: click.Path(path_type=Path)}
    return click.option(
        *names,
        type=kinds.get(option.type, option.type),
        multiple=option.type is list or option.takes_several,
        **({} if option.bare is None else {"is_flag": False, "flag_value": option.bare}),
        metavar=option.metavar or "|".join(option.choices) or None,
        help=help,
        allow_from_autoenv=False,
    )
