"""Looks at what the settings name: model, sources, broker, receivers, and a daemon that runs already."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from tagger.audio.level import LevelMeter
from tagger.condition import SourceError
from tagger.config.reach import SILENT_PIPE, reach_webhook
from tagger.daemon.status import Answer
from tagger.doctor import machine
from tagger.doctor.finding import Finding, State, failed
from tagger.engine.engine import cores
from tagger.engine.runtime import describe, open_models
from tagger.errors import TaggerError, UserError
from tagger.events import SILENCE_DBFS, Window
from tagger.names import slug
from tagger.printable import number_of
from tagger.settings import ListenSettings, MqttSettings, WebhookSettings, channel_numbers, model_names
from tagger.sources import Source, open_source
from tagger.sources.pipe import is_pipe, is_stdin
from tagger.sources.spec import Spec

_RATE_HZ = 32_000
_SOUND_SECONDS = 1.0
"""Sound of a source whose level is measured, seconds."""
_BROKER_SECONDS = 8.0
_WINDOWS = 3
"""Windows that are classified to learn how long one takes."""


def model(settings: ListenSettings) -> Iterator[Finding]:
    """The model, the runtime, whether it is quick enough, and whether a GPU is left unused."""
    classifier = open_models(model_names(settings.model), settings.runtime, settings.device, settings.window_seconds)
    window_s = settings.window_seconds or classifier.info.window_seconds
    samples = np.zeros(round(window_s * classifier.info.mel.sample_rate_hz), np.float32)
    window = Window(samples, 0, len(samples), 0.0)
    classifier.warm_up(len(samples))
    took_s = []
    for _ in range(_WINDOWS):
        began = time.monotonic()
        classifier.classify([window])
        took_s.append(time.monotonic() - began)
    each_s, hop_s = min(took_s), settings.hop_seconds
    said = f"{'; '.join(describe(classifier))}; a window takes {1000 * each_s:.0f} ms, the hop is {hop_s:g} s"
    load = each_s * len(settings.sources) / (hop_s * cores())
    if each_s > hop_s or load > 1:
        wants = number_of(len(settings.sources), "source")
        yield Finding("model", "fail", f"{said}: too slow for {wants}", "use a longer --hop, or fewer sources")
    elif load > 0.7:
        yield Finding("model", "warn", f"{said}: it fills the processor", "use a longer --hop, or fewer sources")
    else:
        yield Finding("model", "ok", said)
    yield from machine.gpu(", ".join(describe(classifier)))


def source(text: str, settings: ListenSettings, running: Sequence[Answer]) -> Iterator[Finding]:
    """One source: opened for a second, unless a daemon that runs has it.

    Args:
        text: as the user wrote it.
        running: answers of daemons that run with the same state folder.
    """
    spec = Spec.parse(text)
    if is_stdin(spec.uri) or is_pipe(spec.uri):
        yield Finding(f"source {spec.name or spec.uri}", "ok", SILENT_PIPE)
        return
    opened = open_source(text, _RATE_HZ, settings.realtime, settings.pcm, channel_numbers(settings.channel))
    about = f"source {spec.name or opened.name}"
    for answer in running:
        if (known := answer["sources"].get(spec.level or slug(opened.name))) is not None:
            state: State = "fail" if known["problems"] else "ok"
            yield Finding(about, state, f"the daemon that runs says: {known['state']} {known['detail']}".rstrip())
            return
    with closing(opened):
        yield from _heard(about, opened)


def _heard(about: str, source: Source) -> Iterator[Finding]:
    """Hears a source for a second."""
    meter = LevelMeter(_RATE_HZ, _SOUND_SECONDS)
    try:
        with closing(source.blocks()) as blocks:  # type: ignore[type-var]  # a generator, which closes the device
            level = next((found for block in blocks if (found := meter.feed(block)) is not None), None)
    except TaggerError as error:
        says_what_to_do = isinstance(error, SourceError) and error.reason == "certificate"
        advice = "" if says_what_to_do else "see that it is there; `tagger listen` tries again by itself"
        yield failed(about, error, advice)
        return
    if level is None:
        yield Finding(about, "ok", f"{source.description}; shorter than a second")
    elif source.live and level.rms_dbfs <= SILENCE_DBFS:
        said = f"{source.description}: only digital silence comes"
        yield Finding(about, "fail", said, "is it muted, or the wrong input? `tagger devices --meter` shows levels")
    elif level.clipped > _RATE_HZ // 100:
        yield Finding(
            about, "warn", f"{source.description}: it clips, at {level.rms_dbfs:.0f} dBFS", "turn its gain down"
        )
    else:
        yield Finding(about, "ok", f"{source.description}; heard at {level.rms_dbfs:.0f} dBFS")


def broker(mqtt: MqttSettings) -> Iterator[Finding]:
    """A message to the broker and back."""
    if mqtt.embedded:
        yield Finding("broker", "ok", "the embedded one, which `tagger listen` starts")
        return
    from tagger.mqtt.probe import round_trip

    try:
        took_s = round_trip(mqtt, _BROKER_SECONDS)
    except UserError as error:
        yield failed("broker", error)
        return
    except TaggerError as error:
        yield failed("broker", error, "start one, such as Mosquitto, or name another: --mqtt mqtt://HOST")
        return
    if took_s is None:
        said = f"{mqtt.url} lets this node in, but no message came back within {_BROKER_SECONDS:g} s"
        yield Finding("broker", "fail", said, f"let this user publish and read {mqtt.prefix}/{mqtt.node}/#")
    else:
        yield Finding("broker", "ok", f"{mqtt.url}: a message was back after {1000 * took_s:.0f} ms")


def webhook(settings: WebhookSettings) -> Iterator[Finding]:
    yield Finding("webhook", "ok", reach_webhook(settings))


def daemon(running: Sequence[Answer], folder: Path) -> Iterator[Finding]:
    """Daemons that run already."""
    for answer in running:
        advice = "; ".join(answer["problems"])
        state: State = "ok" if answer["verdict"] == "ok" else "fail"
        yield Finding("daemon", state, f"{answer['node']} runs: {answer['verdict']}", advice)
    if not running:
        yield Finding("daemon", "ok", f"none runs with {folder}")
