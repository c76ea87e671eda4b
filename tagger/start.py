"""Settings to a running daemon: opens model, sources and sinks, says what it does, and runs it."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import click

from tagger import checkpoint, policy, store
from tagger.classifier import Classifier
from tagger.clipfolder import ClipFolder
from tagger.clips import ClipSaver
from tagger.errors import TaggerError
from tagger.events import Stream
from tagger.listen import Daemon, Listener
from tagger.settings import ClipSettings, ListenSettings, MqttSettings, check_window, unique_slugs
from tagger.sinks import Sink
from tagger.sources import Source, open_source
from tagger.stop import Stop

log = logging.getLogger(__name__)

_WRITE_SECONDS = 10.0
"""So long may the last clips take to be written."""
_SUBSCRIBE_SECONDS = 5.0
"""So long is waited for `--watch` to see the first event too. A broker that comes later is watched from then on."""


def listen(settings: ListenSettings, stop: Stop, build: Callable[[], ListenSettings] | None = None) -> None:
    """`tagger listen`. Returns when all sources have ended, or when asked to stop.

    Args:
        build: the settings anew, from the file as it then is; raises UserError.

    Raises:
        TaggerError: something cannot be used, or failed on the way.
    """
    with ExitStack() as stack:
        loaded = checkpoint.load_trained(store.find(settings.model))
        window_s = settings.window_seconds or loaded.info.window_seconds
        check_window(settings.window_seconds, settings.hop_seconds, window_s)
        rate_hz = loaded.info.mel.sample_rate_hz
        rules = _policy(settings, loaded.info, window_s)
        memory_s = window_s + settings.hop_seconds + max(max(each.confirm_s, each.min_s) for each in rules.each)
        sources = [open_source(uri, rate_hz, settings.realtime, settings.pcm) for uri in settings.sources]
        classify = Classifier(loaded, settings.device)
        mqtt = stack.enter_context(_broker(settings.mqtt))

        node = (mqtt or MqttSettings()).node
        names = unique_slugs(source.name for source in sources)
        streams = [Stream(node, name, loaded.info.name, rules.names) for name in names]
        _say_what(settings, classify, sources, streams, mqtt, window_s)
        classify.warm_up(round(window_s * rate_hz))
        stack.enter_context(_no_thread_dies_unseen(stop))
        sinks = stack.enter_context(_sinks(settings, mqtt, streams, stop))
        turn = threading.Lock()
        clips = stack.enter_context(_clips(settings.clips))
        listeners = [
            Listener(
                source=source,
                stream=stream,
                classify=classify,
                turn=turn,
                sinks=sinks,
                window_s=window_s,
                hop_s=settings.hop_seconds,
                policy=rules,
                top_k=settings.top,
                clips=clips(stream, rate_hz, memory_s),
            )
            for source, stream in zip(sources, streams, strict=True)
        ]
        Daemon(listeners, sinks, stop).run()


@contextmanager
def _no_thread_dies_unseen(stop: Stop) -> Iterator[None]:
    """A thread that dies, paho's say, must not leave a daemon that only seems to work."""

    def died(of: threading.ExceptHookArgs) -> None:
        log.debug("in a thread", exc_info=(of.exc_type, of.exc_value or of.exc_type(), of.exc_traceback))
        name = of.thread.name if of.thread else "a thread"
        stop.fail(TaggerError(f"{name}: {of.exc_type.__name__}: {of.exc_value}"))

    previous, threading.excepthook = threading.excepthook, died
    try:
        yield
    finally:
        threading.excepthook = previous


def _policy(settings: ListenSettings, info: checkpoint.CheckpointInfo, window_s: float) -> policy.Policy:
    config = (settings.events or policy.EventsConfig()).but(settings.allow, settings.deny)
    return policy.policy(info.labels, info.thresholds, window_s, settings.hop_seconds, config, settings.threshold)


@contextmanager
def _clips(settings: ClipSettings | None) -> Iterator[Callable[[Stream, int, float], ClipSaver | None]]:
    """Makes what keeps the audio of a stream's events; without `--save-clips`, nothing."""
    if settings is None:
        yield lambda stream, rate_hz, memory_s: None
        return
    folder = ClipFolder(settings.folder, settings.keep_days, settings.keep_mb)
    try:
        yield lambda stream, rate_hz, memory_s: ClipSaver(folder, stream, rate_hz, memory_s, settings.pre_roll_s)
    finally:
        folder.close(_WRITE_SECONDS)


@contextmanager
def _broker(mqtt: MqttSettings | None) -> Iterator[MqttSettings | None]:
    """The broker to publish to: for `embedded`, one that lives as long as the daemon."""
    if mqtt is None or not mqtt.embedded:
        yield mqtt
        return
    from tagger.broker import EmbeddedBroker

    broker = EmbeddedBroker(mqtt.host, mqtt.port)
    try:
        yield replace(mqtt, port=broker.port)
    finally:
        broker.stop()


@contextmanager
def _sinks(
    settings: ListenSettings, mqtt: MqttSettings | None, streams: Sequence[Stream], stop: Stop
) -> Iterator[list[Sink]]:
    """All sinks, open. With `--watch`, what standard output shows has been through the broker."""
    with ExitStack() as stack:
        sinks: list[Sink] = []
        if mqtt is not None and settings.watch:
            from tagger.watch import Watcher

            watcher = Watcher(mqtt)
            watcher.start(_SUBSCRIBE_SECONDS)
            stack.callback(watcher.stop)
        else:
            from tagger.sinks.console import ConsoleSink

            sinks.append(ConsoleSink(as_json=settings.json, explain=settings.explain))
        if mqtt is not None:
            from tagger.sinks.mqtt import MqttSink

            sinks.append(MqttSink(mqtt, stop.fail))
        for sink in sinks:
            sink.open(streams)
        yield sinks


def _say_what(
    settings: ListenSettings,
    classify: Classifier,
    sources: Sequence[Source],
    streams: Sequence[Stream],
    mqtt: MqttSettings | None,
    window_s: float,
) -> None:
    """On standard error, so that standard output holds events alone."""
    info = classify.info
    if settings.config is not None:
        click.echo(f"settings      {click.format_filename(settings.config)}", err=True)
    for source, stream in zip(sources, streams, strict=True):
        click.echo(f"listening to  {stream.source}: {source.description}", err=True)
    click.echo(f"model         {info.name}, {len(info.labels)} labels, on {classify.device}", err=True)
    every = f"{window_s:g} s every {settings.hop_seconds:g} s"
    click.echo(f"windows       {every}: first labels after {window_s:g} s", err=True)
    if mqtt is None:
        click.echo("publishing    to standard output only", err=True)
        return
    embedded = " (the embedded broker)" if mqtt.embedded else ""
    click.echo(f"publishing    to {mqtt.url}{embedded}, topics {mqtt.prefix}/{mqtt.node}/...", err=True)
    click.echo(f"try           {subscribe_line(mqtt)}", err=True)


def subscribe_line(mqtt: MqttSettings) -> str:
    """A command that shows everything this node publishes. The password is left for the reader to put in."""
    parts = [f"mosquitto_sub -h {mqtt.host} -p {mqtt.port}"]
    if mqtt.user:
        parts.append(f"-u '{mqtt.user}' -P PASSWORD")
    if mqtt.tls:
        parts.append("--tls-use-os-certs")
    return " ".join([*parts, f"-t '{mqtt.prefix}/{mqtt.node}/#' -v"])


def configure_logging() -> None:
    """Warnings and news on standard error, one line each, with the time."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    logging.getLogger("tagger").setLevel(logging.INFO)
