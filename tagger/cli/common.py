"""Options that several commands share, and the removal of secrets from the command line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tagger import settings
from tagger.errors import SettingError, UserError
from tagger.printable import echo

_ANY_LENGTH = 1000
"""Letters of a command's summary; longer ones would be cut."""


def each_once(ctx: click.Context, option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of an option that may be repeated, but never with the same value."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--model: names {twice[0]} twice")
    return names


model_option = click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    default=[settings.DEFAULT_MODEL],
    show_default=True,
    callback=each_once,
    help="Model: a name from `tagger models`, or a path; repeatable: several listen together.",
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="Device that runs the network: auto, cpu, cuda, cuda:N or mps."
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(settings.RUNTIMES),
    default=settings.RUNTIMES[0],
    show_default=True,
    help="What runs the network: onnx or openvino (an exported graph), torch, or what fits this machine.",
)
window_option = click.option(
    "--window", type=float, metavar="S", help="Length of a window, seconds. [default: the model's own]"
)
hop_option = click.option(
    "--hop", type=float, metavar="S", default=1.0, show_default=True, help="Time from one window to the next, seconds."
)


def _channel(ctx: click.Context, option: click.Parameter, text: str) -> settings.Channel:
    try:
        return settings.channel_numbers(text)
    except SettingError as error:
        raise UserError(f"--channel {text}: {error.problem}") from None


channel_option = click.option(
    "--channel",
    default="mix",
    show_default=True,
    metavar="N",
    callback=_channel,
    help="Channels that are heard: mix (all, averaged), a number from 1, or several such as 1+3.",
)


INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the signal's number, as a shell has it."""
_Command = TypeVar("_Command", bound=Callable[..., Any])


def tagging_options(command: _Command) -> _Command:
    """Decorator: what hears recordings, and what counts as an event."""
    command = click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML file of what counts as an event."
    )(command)
    for option in (channel_option, hop_option, window_option, runtime_option, device_option, model_option):
        command = option(command)
    return command


class Group(click.Group):
    """A group that lists its commands with the whole first sentence of their help."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(_ANY_LENGTH)) for name, each in found if each and not each.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class _Filled(click.ParamType[Any]):
    """The type of a text or path that must not be empty, as `"$OUT"` is where a script forgot to set OUT.

    An empty path would be the current folder.
    """

    def __init__(self, of: click.ParamType[Any]) -> None:
        self.of = of
        self.name = of.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("must not be empty", param, ctx)
        return self.of.convert(value, param, ctx)


def refuse_empty(command: click.Command) -> click.Command:
    """Makes each text and path that the command, or one below it, takes refuse to be empty. Returns the command."""
    for parameter in command.params:
        if isinstance(parameter.type, click.Path | type(click.STRING)):
            parameter.type = _Filled(parameter.type)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        refuse_empty(below)
    return command


_BETTER = (
    "TAGGER_LISTEN_PASSWORD, --password-file FILE, `tagger config init`, or '${NAME}' in a source's URL for an "
    "environment variable"
)
_BETTER_FOR_DATABASES = "PGPASSWORD, or the file ~/.pgpass"


def hide_secrets(given: dict[str, Any], database: str = "") -> None:
    """Removes secrets from the command line that `ps` shows. Commands call it first.

    Args:
        database: URL of a database, or the path of a file, which is no secret.
    """
    from tagger.config import secret
    from tagger.config.given import has_secret, looks_secret

    urls = [given.get(key) or "" for key in ("mqtt.url", "sinks.webhook.url")]
    # If a flag is given twice, the last one counts, but `ps` shows both.
    urls += [database] if "://" in database else []
    urls += [url for each in sys.orig_argv if "://" in (url := each.partition("=")[2] if each[:2] == "--" else each)]
    seen = secret.take_off_command_line(filter(has_secret, urls))
    if secrets := [each for each in seen if looks_secret(each)]:
        echo(
            "Warning: a secret in a URL on the command line can be seen by others on this machine, and stays in the "
            f"shell's history; better: {_BETTER_FOR_DATABASES if secrets == [database] else _BETTER}",
            err=True,
        )


def check_new_file(flag: str, path: Path) -> None:
    """Looks, before the work begins, whether a file can be written where a flag says.

    Raises:
        UserError: its folder does not exist, or it is a folder itself.
    """
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder; name a file")
    if not path.resolve().parent.is_dir():
        raise UserError(f"{flag} {path}: there is no folder {path.parent}; make it first")
