"""The command `tagger collect`."""

import os
import socket
import time
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.common import hide_secrets
from tagger.config.flags import options_of, typed
from tagger.errors import UserError

if TYPE_CHECKING:
    from tagger.collect.collector import Collector
    from tagger.stop import Stop

_BROKER = (
    *("mqtt.url", "mqtt.password_file", "mqtt.client_id", "mqtt.topic_prefix", "mqtt.tls_ca_certs"),
    *("mqtt.tls_client_cert", "mqtt.tls_client_key", "mqtt.tls_host_name", "mqtt.tls_insecure"),
    *("listen.log_level", "listen.log_format"),
)
"""Options that this command shares with `tagger listen`."""
_SAY_SECONDS = 60.0
"""Time between two lines of the log that say how much was collected."""
_LEAVE_SECONDS = 3.0
"""Time without a message after which a collector that leaves has what the broker held for it, seconds."""


@click.command()
@click.argument("database", metavar="DATABASE", envvar="TAGGER_COLLECT_DATABASE")
@click.option("--group", default="collect", show_default=True, help="Collectors of one group share the events.")
@click.option("--alone", is_flag=True, help="The only collector: takes all events, without a group.")
@click.option(
    "--leave", is_flag=True, help="Take this client id out of its group for good: write what the broker holds for it."
)
@options_of(_BROKER)
@click.pass_context
def collect(ctx: click.Context, /, database: str, group: str, alone: bool, leave: bool, **flags: Any) -> None:
    """Collect the events of all nodes of a broker into a PostgreSQL database.

    DATABASE is postgresql://user@host/name; its password is better in PGPASSWORD or ~/.pgpass. The broker must speak
    MQTT 5, and keeps what the database does not have yet. Any number of collectors may run, each with a client id of
    its own (--client-id; without it one is made of the host's name). `tagger events DATABASE` shows what was collected.
    """
    given = typed(ctx)
    hide_secrets(given, database)
    from tagger import logs
    from tagger.config.build import resolve
    from tagger.errors import SettingError
    from tagger.names import slug
    from tagger.settings import ListenSettings
    from tagger.stop import Stop

    settings: ListenSettings = resolve(given, os.environ, flags["config"]).right()
    logs.configure(settings.log_level, settings.log_format)
    if settings.mqtt is None or settings.mqtt.embedded:
        raise UserError("collect needs a broker that others publish to: --mqtt mqtt://host, not embedded or none")
    if not group or any(letter in group for letter in "/+#"):
        raise UserError(f"--group {group}: must be a name without `/`, `+` and `#`")
    if alone and ctx.get_parameter_source("group") is not click.core.ParameterSource.DEFAULT:
        raise UserError("--alone and --group exclude each other: the only collector is in no group")
    # Not the one in the file, which may be a daemon's.
    client_id = given.get("mqtt.client_id") or f"tagger-collect-{slug(socket.gethostname())}"

    from tagger.collect.collector import Collector
    from tagger.names import DATABASE_URLS

    if not database.startswith(DATABASE_URLS):
        raise UserError(f"{database}: is no URL of a PostgreSQL database; write postgresql://user@host/name")
    with Stop() as stop:
        try:
            collector = Collector(settings.mqtt, database, client_id, stop.fail, None if alone else group, leave)
        except SettingError as error:
            raise UserError(str(error)) from None
        collector.start()
        try:
            if leave:
                _let_leave(collector, stop)
            while not leave and not stop.wait(_SAY_SECONDS):
                logs.say_repeated()
                _say(collector.counts, collector.waiting)
        finally:
            collector.stop()
            _say(collector.counts, collector.waiting)
            logs.say_repeated(at_once=True)
    if stop.failure is not None:
        raise stop.failure


def _let_leave(collector: "Collector", stop: "Stop") -> None:
    """Returns when nothing has come for a while, and nothing waits; or when asked to stop, and the session stays."""
    seen, since = -1, time.monotonic()
    while not stop.wait(0.1):
        if time.monotonic() - since > _LEAVE_SECONDS:
            collector.end_session()
            return
        if collector.counts.messages != seen or collector.waiting or not collector.is_connected:
            seen, since = collector.counts.messages, time.monotonic()


def _say(counts: Any, waiting: int) -> None:
    import logging

    logging.getLogger("tagger").info(
        "%s messages, %s events written, %s left out, %s waiting",
        *(f"{each:,}" for each in (counts.messages, counts.written, counts.refused, waiting)),
    )
