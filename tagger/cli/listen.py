"""The command `tagger listen`."""

import itertools
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import click

from tagger.cli.common import hide_secrets
from tagger.config.flags import listen_options, typed
from tagger.errors import SettingError, TaggerError
from tagger.settings import DEFAULT_WEB_ADDRESS, is_web_address


class _Listen(click.Command):
    """Takes standard input with options, `-,rate=48000`, for no option of its own; and what follows `--web` for a
    source where it is no address.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        tidied = [f"stdin={each}" if each.startswith("-,") else each for each in args]
        for at, (each, following) in enumerate(itertools.pairwise(tidied)):
            if each == "--web" and not following.startswith("-") and not is_web_address(following):
                tidied[at] = f"--web={DEFAULT_WEB_ADDRESS}"
        return super().parse_args(ctx, tidied)


@click.command(cls=_Listen)
@listen_options()
@click.pass_context
def listen(ctx: click.Context, /, **flags: Any) -> None:
    """Listen, and publish sound events over MQTT.

    SOURCE is mic (the default), mic:NAME (see `tagger devices`), a file, - (standard input: WAV, FLAC, Ogg, MP3 ... or
    raw PCM), a FIFO or <(command), demo (a built-in minute of sounds) or auto (the microphone, or the demo if there is
    no microphone). Name a source for its topics: kitchen=mic:USB. Say which channel is heard, and what raw PCM is:
    mic:USB,channel=2 or door.fifo,format=s16le,rate=48000,channels=2. Ctrl-C stops it. `tagger config init` writes a
    file for --config. A flag overrides an environment variable, which overrides the file.
    """
    given = typed(ctx)
    hide_secrets(given)
    from tagger import logs
    from tagger.config.build import Configuration
    from tagger.stop import StopOrReload

    env = dict(os.environ)
    configuration = Configuration(given, env, flags["config"])
    settings = configuration.settings
    logs.configure(settings.log_level, settings.log_format)
    for warning in configuration.warnings:
        logs.tell(f"Warning: {warning}")

    with StopOrReload() as stop:  # before torch is imported, which takes a while
        from tagger.daemon import start

        def examine(running: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
            from tagger.doctor import child  # when the live page asks for it

            return child.examine(given, env, flags["config"], running)

        try:
            start.listen(settings, stop, configuration, examine)
        except TaggerError as error:  # of a setting, the model knows more: its labels, and the length of its window
            located = configuration.located(error) if isinstance(error, SettingError) else error
            if settings.log_format != "json":
                raise located from None
            logging.getLogger("tagger").error("%s", located)
            ctx.exit(error.exit_code)
        finally:
            logs.say_repeated(at_once=True)
