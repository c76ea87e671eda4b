"""Settings to a running daemon: opens model, sources and sinks, says what it does, and runs it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import click

from tagger import health, policy
from tagger.audio.level import LevelTap
from tagger.checkpoints import checkpoint, store
from tagger.checkpoints.info import CheckpointInfo
from tagger.clips.folder import ClipFolder
from tagger.clips.saver import ClipSaver
from tagger.config.build import Configuration
from tagger.daemon import outputs
from tagger.daemon.control import Control
from tagger.daemon.daemon import Daemon, Task
from tagger.daemon.fanout import Fanout
from tagger.daemon.reload import reload
from tagger.daemon.state import State
from tagger.engine.runtime_torch import Classifier
from tagger.errors import TaggerError
from tagger.events import Stream
from tagger.files import home
from tagger.listen import AudioTap, Listener
from tagger.mqtt.topics import NOT_SOURCES
from tagger.names import unique_slugs
from tagger.policy import Policy
from tagger.settings import ClipSettings, ListenSettings, MqttSettings, check_window
from tagger.sources import Source, open_source, split_name
from tagger.stop import Stop

log = logging.getLogger(__name__)

_WRITE_SECONDS = 10.0
"""Longest wait for the last clips to be written, seconds."""
_SUBSCRIBE_SECONDS = 5.0
"""Longest wait for `--watch` to subscribe before the first event, seconds. It watches a later broker from then on."""
_ALIVE_SECONDS = 5.0
"""Interval at which open events are noted as still open, seconds: the error of their end after a crash."""


def listen(settings: ListenSettings, stop: Stop, build: Configuration | None = None) -> None:
    """`tagger listen`. Returns when all sources have ended, or when asked to stop.

    Args:
        build: the settings anew, from the file as it then is, for SIGHUP; raises UserError.

    Raises:
        TaggerError: something cannot be used, or failed on the way.
    """
    with ExitStack() as stack:
        loaded = checkpoint.load_trained(store.find(settings.model))
        window_s = settings.window_seconds or loaded.info.window_seconds
        check_window(settings.window_seconds, settings.hop_seconds, window_s)
        rate_hz = loaded.info.mel.sample_rate_hz

        def rules_of(settings: ListenSettings) -> tuple[Policy, tuple[str, ...]]:
            return _policy(settings, loaded.info, window_s)

        rules, asked = rules_of(settings)
        memory_s = window_s + settings.hop_seconds + max(max(each.confirm_s, each.min_s) for each in rules.each)
        sources = [open_source(uri, rate_hz, settings.realtime, settings.pcm) for uri in settings.sources]
        classify = Classifier(loaded, settings.device)
        mqtt = stack.enter_context(_broker(settings.mqtt))
        state = stack.enter_context(_state(settings))

        node = (mqtt or MqttSettings()).node
        names = unique_slugs((source.name for source in sources), reserved=NOT_SOURCES)
        streams = tuple(Stream(node, name, loaded.info.name, rules.names) for name in names)
        uris = dict(zip(names, _identities(settings.sources), strict=True))
        _say_what(settings, classify, sources, streams, mqtt, window_s)
        classify.warm_up(round(window_s * rate_hz))
        stack.enter_context(_no_thread_dies_unseen(stop))

        fanout = Fanout([], state)
        control = Control(fanout, state)
        context = outputs.SinkContext(
            settings=settings,
            mqtt=mqtt,
            streams=streams,
            keys=state.keys(uris) if state is not None else dict(zip(names, names, strict=True)),
            asked=asked,
            state=state,
            controls=control,
            on_refused=stop.fail,
        )
        if mqtt is not None and settings.watch:
            stack.enter_context(_watched(mqtt))
        sinks = outputs.Outputs(context, fanout)
        clips = stack.enter_context(_clips(settings.clips))

        def taps(stream: Stream) -> list[AudioTap]:
            saver = clips(stream, rate_hz, memory_s)
            level = LevelTap(rate_hz, settings.audio_s, lambda level: fanout.audio(stream, level))
            return [level, *([saver] if saver is not None else [])]

        listeners = [
            Listener(
                source=source,
                stream=stream,
                classifier=classify,
                sink=fanout,
                window_s=window_s,
                hop_s=settings.hop_seconds,
                policy=rules,
                top_k=settings.top,
                taps=taps(stream),
                paused=state is not None and stream.source in state.paused,
            )
            for source, stream in zip(sources, streams, strict=True)
        ]
        control.listeners = dict(zip(names, listeners, strict=True))
        fanout.open(streams)  # from now on requests come
        for stream, end in state.left_open() if state is not None else ():
            fanout.event(stream, end)
        started = time.monotonic()

        def tell_stats() -> None:
            fanout.stats(health.message(node, listeners, fanout.counts(), time.monotonic() - started))

        tasks = [
            Task(settings.stats_s, tell_stats),
            *([Task(_ALIVE_SECONDS, state.alive)] if state is not None else []),
        ]
        daemon = Daemon(listeners, fanout, stop, tasks, control.close, sinks)
        if build is not None:
            stop.on_reload = lambda: reload(daemon, build, rules_of)
        daemon.run()


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


def _policy(settings: ListenSettings, info: CheckpointInfo, window_s: float) -> tuple[Policy, tuple[str, ...]]:
    """What counts as an event, and which labels and groups the user named."""
    config = (settings.events or policy.EventsConfig()).but(settings.allow, settings.deny)
    rules = policy.policy(info.labels, info.thresholds, window_s, settings.hop_seconds, config, settings.threshold)
    named = settings.homeassistant.labels if settings.homeassistant is not None else ()
    asked = named or tuple(dict.fromkeys([*(config.allow or ()), *config.labels, *config.groups]))
    return rules, asked


def _identities(uris: Sequence[str]) -> list[str]:
    """What is listened to, whatever it is called; the second of the same gets a number."""
    plain = [split_name(uri)[1] for uri in uris]
    return [f"{uri} {plain[:i].count(uri) + 1}" if uri in plain[:i] else uri for i, uri in enumerate(plain)]


@contextmanager
def _state(settings: ListenSettings) -> Iterator[State | None]:
    """The state folder, where something is published that outlives the daemon."""
    is_durable = settings.mqtt is not None and not settings.mqtt.embedded
    if not (is_durable or outputs.has_lasting_sinks(settings) or settings.state):
        yield None
        return
    state = State(settings.state or home() / "state")
    try:
        yield state
    finally:
        state.close()


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
    from tagger.mqtt.embedded import EmbeddedBroker

    broker = EmbeddedBroker(mqtt.host, mqtt.port)
    try:
        yield replace(mqtt, port=broker.port)
    finally:
        broker.stop()


@contextmanager
def _watched(mqtt: MqttSettings) -> Iterator[None]:
    """What standard output shows has been through the broker."""
    from tagger.mqtt.watch import Watcher

    watcher = Watcher(mqtt)
    watcher.start(_SUBSCRIBE_SECONDS)
    try:
        yield
    finally:
        watcher.stop()


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
        parts.append(f"--cafile {mqtt.tls_ca_certs}" if mqtt.tls_ca_certs else "--tls-use-os-certs")
    return " ".join([*parts, f"-t '{mqtt.prefix}/{mqtt.node}/#' -v"])


def configure_logging() -> None:
    """Warnings and news on standard error, one line each, with the time."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    logging.getLogger("tagger").setLevel(logging.INFO)
