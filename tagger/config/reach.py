"""Opens what the settings name: sources, broker and web server, each for a moment. Needs no torch.

What is wrong in the settings is a problem. What is right and cannot be reached now is told apart: a microphone that is
not connected, a broker that is away. `tagger listen` waits for these.
"""

import os
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tagger.config.at_once import at_once
from tagger.config.resolver import Resolved
from tagger.config.sourcelist import plainly_several
from tagger.errors import TaggerError, UserError
from tagger.mqtt.reasons import describe
from tagger.settings import ListenSettings, MqttSettings, WebhookSettings, channel_numbers
from tagger.sources import is_keyword, open_source, split_name
from tagger.sources.pipe import is_pipe, is_stdin
from tagger.sources.portaudio import MissingDeviceError

WAIT_SECONDS = 7.0
"""Longest wait for each of them, seconds; all are opened at once. A connection gives up after five."""
SILENT_PIPE = "a pipe, which was not read"
_RATE_HZ = 32_000
"""Rate at which a source is opened."""


@dataclass
class Reached:
    """What became of all that was opened; one line each."""

    opened: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Mistakes in the settings."""
    unreachable: list[str] = field(default_factory=list)
    """What is no mistake, and cannot be used now."""


_Try = tuple[str, Callable[[], str]]
"""Beginning of an error, and what opens something and says what it is."""


def reach(resolved: Resolved, wait_s: float = WAIT_SECONDS) -> Reached:
    """Opens everything at once, each in a thread of its own. Returns after `wait_s` seconds at the latest."""
    tries = list(_tries(resolved))
    reached = Reached()
    for (place, _), result in zip(tries, at_once([open_it for _, open_it in tries], wait_s), strict=True):
        if isinstance(result, str):
            reached.opened.append(result)
        elif isinstance(result, UserError) and not isinstance(result, MissingDeviceError):
            reached.problems.append(f"{place}: {result}")
        else:
            reached.unreachable.append(f"{place}: {result or f'no answer within {wait_s:g} s'}")
    return reached


def _tries(resolved: Resolved) -> Iterator[_Try]:
    values, settings = resolved.values, resolved.settings or ListenSettings()
    given = values["listen.sources"]
    for uri in given.value:
        rest = split_name(uri)[1]
        if len(plainly_several(uri)) == 1 and (is_keyword(rest) or _exists(rest)):  # others are problems already
            place = f"{given.place}: {uri}" if uri.partition(":")[0].endswith(("mic", "auto")) else given.place
            yield place, lambda uri=uri: _source(uri, settings)  # type: ignore[misc]
    if resolved.settings is None:
        return  # which broker is meant is not certain
    if settings.mqtt is not None:
        mqtt = settings.mqtt
        yield values["mqtt.url"].place if values["mqtt.url"].is_given else "mqtt", lambda: _broker(mqtt)
    if settings.webhook is not None:
        webhook = settings.webhook
        yield values["sinks.webhook.url"].place, lambda: reach_webhook(webhook)


def _source(uri: str, settings: ListenSettings) -> str:
    rest = split_name(uri)[1]
    if is_stdin(rest) or is_pipe(rest):  # what is read from it would be lost
        return f"{uri}: {SILENT_PIPE}"
    source = open_source(uri, _RATE_HZ, settings.realtime, settings.pcm, channel_numbers(settings.channel))
    with closing(source):
        if source.live:
            with closing(source.blocks()) as blocks:  # type: ignore[type-var]  # a generator, which closes the device
                next(blocks, None)
        return f"{source.name}: {source.description}"


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110  # Path.exists raises for names that are too long


def _broker(mqtt: MqttSettings) -> str:
    if not mqtt.embedded:
        from tagger.mqtt.probe import probe  # imports paho

        probe(mqtt, WAIT_SECONDS - 1)
        return f"broker {mqtt.url}"
    from tagger.mqtt.embedded import EmbeddedBroker

    broker = EmbeddedBroker(mqtt.host, mqtt.port)
    broker.stop()
    return f"the embedded broker, on {mqtt.host}:{broker.port}"


def reach_webhook(webhook: WebhookSettings) -> str:
    """Connects to the web server and sends nothing. A proxy is left alone."""
    parts = urlsplit(webhook.url)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return f"web server {webhook.where}: behind a proxy, so it was not tried"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((host, port), timeout=WAIT_SECONDS - 2) as plain:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host):
                    pass
    except OSError as error:
        raise TaggerError(f"{webhook.where} cannot be reached: {describe(error)}") from None
    return f"web server {webhook.where}"
