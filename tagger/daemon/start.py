"""Settings to a running daemon: opens model, sources and sinks, prints what they are, and runs it."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from tagger.audio.meter import Meters
from tagger.clips.folder import ClipFolder
from tagger.clips.saver import ClipSaver
from tagger.config.build import Configuration
from tagger.daemon.control import Control
from tagger.daemon.daemon import Daemon, Task
from tagger.daemon.fanout import Fanout
from tagger.daemon.listeners import Listeners
from tagger.daemon.memory import share_arenas
from tagger.daemon.model import Model, memory_s, open_model
from tagger.daemon.names import source_keys, source_levels
from tagger.daemon.outputs import OpenSinks, SinkContext, has_lasting_sinks
from tagger.daemon.page import Examine, Page
from tagger.daemon.record import Health, Record
from tagger.daemon.reload import reload
from tagger.daemon.state import StateFolder
from tagger.daemon.systemd import Service
from tagger.daemon.web import answering
from tagger.engine.runtime import describe, doubles
from tagger.engine.speech import speech_seconds
from tagger.errors import SettingError, TaggerError, UserError
from tagger.events import AudioTap, Stream
from tagger.files import state_folder
from tagger.levels.measure import Measurer
from tagger.levels.process import MANY, MeasuringProcess
from tagger.logs import REPEAT_SECONDS, say_repeated, tell
from tagger.mqtt.topics import Topics
from tagger.policy import Policy
from tagger.printable import StatusLine, is_terminal
from tagger.settings import ListenSettings, MqttSettings, channel_numbers, start_seconds
from tagger.sources import Source, open_source
from tagger.sources.schedule import ALWAYS
from tagger.sources.spec import Spec
from tagger.stop import Stop, StopOrReload

log = logging.getLogger(__name__)

_WRITE_SECONDS = 10.0
"""Longest wait for the last clips to be written, seconds."""
_SUBSCRIBE_SECONDS = 5.0
"""Longest wait for `--watch` to subscribe before the first event, seconds. It watches a later broker from then on."""
SWITCH_SECONDS = 0.1
"""Time for which a thread may hold the interpreter's lock while others want it (Python's default: 0.005)."""
_ALIVE_SECONDS = 5.0
"""Interval at which open events are noted as still open, seconds: the error of their end after a crash."""


def listen(settings: ListenSettings, stop: StopOrReload, build: Configuration, examine: Examine | None = None) -> None:
    """`tagger listen`. Returns when all sources have ended, or when `stop` is set.

    Args:
        build: called at SIGHUP; reads the settings again, from the file as it then is.
        examine: looks at everything that listening needs, as `tagger doctor` does; for the live page.

    Raises:
        TaggerError: a model, source or sink cannot be opened, or failed later.
    """
    share_arenas()
    with ExitStack() as stack:
        stack.enter_context(patient_threads())
        model = open_model(settings)
        policies = model.policies(settings)
        rules = policies[0]
        sources = _open_sources(settings, model.rate_hz)
        mqtt = stack.enter_context(_broker(settings.mqtt))
        state = stack.enter_context(_state(settings))
        node, levels = (mqtt or settings).node, source_levels([each.name for each in sources], settings.sources)
        deciders = model.deciders(settings)
        streams = tuple(Stream(node, level, model.info.name, rules.names, deciders) for level in levels)
        keys = source_keys(settings.sources, levels, state)
        _print_setup(settings, model, sources, streams, mqtt, state.paused if state is not None else ())
        model.classifier.warm_up(round(model.window_s * model.rate_hz))
        stack.enter_context(_stopped_by_dying_threads(stop))

        record = Record()
        page = Page(settings.web, model.info.mel, settings.clips.folder if settings.clips is not None else None)
        stack.enter_context(page.noting())
        fanout = Fanout([record, *page.sinks], state)
        control = Control(fanout, state)
        meters = stack.enter_context(_watched(mqtt, streams)) if mqtt is not None and settings.watch else None
        outputs = OpenSinks(_sink_context(settings, mqtt, streams, keys, state, control, stop), fanout)
        clip_taps = stack.enter_context(_clip_taps(settings, model, policies))

        measuring = stack.enter_context(MeasuringProcess()).measurer if len(streams) >= MANY else Measurer
        make = Listeners.of(settings, model, measuring)
        listeners = [
            make.listener(
                source,
                spec,
                stream,
                fanout,
                own,
                taps=[
                    *clip_taps(stream),
                    *page.taps(stream.source),
                    *([meters.tap(stream.source, model.rate_hz)] if meters is not None else []),
                ],
                paused=state is not None and stream.source in state.paused,
            )
            for source, spec, stream, own in zip(
                sources, map(Spec.parse, settings.sources), streams, policies, strict=True
            )
        ]
        health = Health(node, listeners, record, outputs.health, fanout.counts)
        stack.enter_context(answering(health.snapshot, settings.http, state_folder(settings.state)))
        control.listeners = {listener.stream.source: listener for listener in listeners}
        fanout.open(streams)  # from now on requests come
        in_force = outputs.event_log, outputs.score_history, outputs.broker
        stack.enter_context(page.serving(health.snapshot, control, control.listeners, *in_force, examine))
        for stream, end in state.left_open() if state is not None else ():
            fanout.event(stream, end)

        tasks = [*_tasks(settings, health, fanout, state), *([Task(1.0, meters.draw)] if meters is not None else [])]
        service = Service.of(os.environ)
        tasks.append(Task(REPEAT_SECONDS, say_repeated))
        tasks.append(Task(service.every_s, lambda: service.report(health.snapshot)))
        daemon = Daemon(listeners, fanout, stop, tasks, control.close, outputs, model.policies, service)
        stop.on_reload = lambda: reload(daemon, build)
        daemon.run()


def _open_sources(settings: ListenSettings, rate_hz: int) -> list[Source]:
    channel = channel_numbers(settings.channel)
    start_time = None if settings.start_time is None else start_seconds(settings.start_time)
    sources = [
        open_source(each, rate_hz, settings.realtime, settings.pcm, channel, start_time, is_dated=True)
        for each in settings.sources
    ]
    for source, spec in zip(sources, map(Spec.parse, settings.sources), strict=True):
        if spec.schedule != ALWAYS and not source.live:
            raise UserError(f"{spec.shown}: active is for live sound, and a recording has no hours")
    if start_time is not None and all(source.live for source in sources):
        raise SettingError("start_time", "is for recordings, and a microphone is dated by the clock")
    return sources


def _sink_context(
    settings: ListenSettings,
    mqtt: MqttSettings | None,
    streams: tuple[Stream, ...],
    keys: Mapping[str, str],
    state: StateFolder | None,
    control: Control,
    stop: Stop,
) -> SinkContext:
    return SinkContext(
        settings=settings,
        mqtt=mqtt,
        streams=streams,
        keys=keys,
        state=state,
        controls=control,
        on_refused=stop.fail,
    )


def _tasks(settings: ListenSettings, health: Health, fanout: Fanout, state: StateFolder | None) -> Sequence[Task]:
    """What the daemon does from time to time: publishes statistics, and notes which events are still open."""
    return [
        Task(settings.stats_s, lambda: fanout.stats(health.stats())),
        *([Task(_ALIVE_SECONDS, state.alive)] if state is not None else []),
    ]


@contextmanager
def patient_threads() -> Iterator[None]:
    """Lets threads wait longer for the interpreter's lock before they ask for it. Each has little to do in Python; a
    hundred that ask for it 200 times a second do little else.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _stopped_by_dying_threads(stop: Stop) -> Iterator[None]:
    """Stops the daemon when any thread dies, such as paho's: without it the daemon would only seem to work."""

    def died(of: threading.ExceptHookArgs) -> None:
        log.debug("in a thread", exc_info=(of.exc_type, of.exc_value or of.exc_type(), of.exc_traceback))
        name = of.thread.name if of.thread else "a thread"
        stop.fail(TaggerError(f"{name}: {of.exc_type.__name__}: {of.exc_value}"))

    previous, threading.excepthook = threading.excepthook, died
    try:
        yield
    finally:
        threading.excepthook = previous


@contextmanager
def _state(settings: ListenSettings) -> Iterator[StateFolder | None]:
    """The state folder. None where nothing is published that outlives the daemon."""
    is_durable = settings.mqtt is not None and not settings.mqtt.embedded
    if not (is_durable or has_lasting_sinks(settings) or settings.state):
        yield None
        return
    state = StateFolder(state_folder(settings.state))
    try:
        yield state
    finally:
        state.close()


@contextmanager
def _clip_taps(
    settings: ListenSettings, model: Model, policies: Sequence[Policy]
) -> Iterator[Callable[[Stream], Sequence[AudioTap]]]:
    """Makes the taps that keep the audio of a stream's events; none without `--save-clips`."""
    if (clips := settings.clips) is None:
        yield lambda stream: []
        return
    speech_s = speech_seconds(model.info) if clips.without_speech else None
    if clips.without_speech and speech_s is None:
        raise SettingError("clips.without_speech", f"{model.info.name} cannot tell whether somebody speaks")
    folder = ClipFolder(clips.folder, clips.keep_days, clips.keep_mb)
    longest_s = memory_s(model.window_s, settings.hop_seconds, policies)
    try:
        yield lambda stream: [ClipSaver(folder, stream, model.rate_hz, longest_s, clips.pre_roll_s, speech_s=speech_s)]
    finally:
        folder.close(_WRITE_SECONDS)


@contextmanager
def _broker(mqtt: MqttSettings | None) -> Iterator[MqttSettings | None]:
    """The broker to publish to. An embedded one is started, and stopped at the end of the block."""
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
def _watched(mqtt: MqttSettings, streams: Sequence[Stream]) -> Iterator[Meters | None]:
    """`--watch`: prints events as they arrive from the broker. Yields the meters below them, if there is a terminal.

    The levels do not come from the broker: a meter needs more of them than the few `audio` messages.
    """
    from tagger.mqtt.watch import Watcher

    watcher = Watcher(mqtt)
    watcher.start(_SUBSCRIBE_SECONDS)
    names = [stream.source for stream in streams]
    meters = Meters(names, StatusLine(sys.stdout)) if is_terminal(sys.stdout) else None
    try:
        yield meters
    finally:
        if meters is not None:
            meters.close()
        watcher.stop()


def _print_setup(
    settings: ListenSettings,
    model: Model,
    sources: Sequence[Source],
    streams: Sequence[Stream],
    mqtt: MqttSettings | None,
    paused: Collection[str],
) -> None:
    """Prints what the daemon listens to and publishes; on standard error, as standard output holds events alone."""
    window_s = model.window_s
    if settings.config is not None:
        tell(f"settings      {settings.config}")
    for source, stream, given in zip(sources, streams, settings.sources, strict=True):
        name = Spec.parse(given).name
        shown = stream.source if name is None or name.isascii() else f"{stream.source} ({name})"
        if stream.source in paused:
            resume = f"paused; {_resume_line(mqtt, stream.source)}"
            tell(f"not heard     {shown}: {source.description}; {resume}")
        else:
            tell(f"listening to  {shown}: {source.description}")
    for line in describe(model.classifier):
        tell(f"model         {line}")
    for line in doubles(model.classifier):
        tell(f"Warning: {line}")
    every = f"{window_s:g} s every {settings.hop_seconds:g} s"
    tell(f"windows       {every}: first labels after {window_s:g} s")
    if settings.http is not None:
        tell(f"health        at {settings.http.url}/readyz, /healthz, /metrics and /status")
    if settings.web is not None:
        tell(f"live page     {settings.web.url}")
    if mqtt is None:
        tell("publishing    to standard output only")
        return
    embedded = " (the embedded broker)" if mqtt.embedded else ""
    tell(f"publishing    to {mqtt.url}{embedded}, topics {mqtt.prefix}/{mqtt.node}/...")
    tell(f"try           {subscribe_line(mqtt)}")


def _resume_line(mqtt: MqttSettings | None, source: str) -> str:
    """What to do so that a paused source is heard again."""
    if mqtt is None or not mqtt.commands:
        return "start with --mqtt and --commands to resume it by a request"
    return f"publish ON to {Topics(mqtt.prefix, mqtt.node).enabled_set(source)} to resume it"


def subscribe_line(mqtt: MqttSettings) -> str:
    """A command that shows everything this node publishes, with PASSWORD where the user's password goes."""
    parts = [f"mosquitto_sub -h {mqtt.host} -p {mqtt.port}"]
    if mqtt.user:
        parts.append(f"-u '{mqtt.user}' -P PASSWORD")
    if mqtt.tls:
        parts.append(f"--cafile {mqtt.tls_ca_certs}" if mqtt.tls_ca_certs else "--tls-use-os-certs")
    return " ".join([*parts, f"-t '{mqtt.prefix}/{mqtt.node}/#' -v"])
