"""`tagger config init`: asks five questions and writes the file."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from tagger.config import sourcelist
from tagger.config.ask_sounds import ask_sounds
from tagger.config.prompt import until
from tagger.config.schema import schema
from tagger.config.template import SCHEMA_NAME, commented
from tagger.errors import SettingError, UserError
from tagger.files import replacing, unwritable
from tagger.printable import echo
from tagger.settings import DEFAULT_MODEL, DEFAULT_MQTT_URL, MqttSettings
from tagger.sources import is_keyword
from tagger.sources.pipe import is_pipe
from tagger.sources.spec import Spec, repeated_name


@dataclass
class _Answers:
    chosen: dict[str, Any] = field(default_factory=dict)
    """Answers by the option's key."""
    password: str | None = field(default=None, repr=False)
    command: str = ""
    """The command that fetches the model. Empty: it is here."""


def init(path: Path, force: bool, is_usual: bool) -> None:
    """Asks, then writes the file and, beside it, the schema and a file for the password. Ctrl-C writes nothing.

    Args:
        is_usual: whether `tagger listen` finds `path` without --config.

    Raises:
        UserError: a file is there already, without `force`; or none can be written.
    """
    secret = path.with_name(f"{path.stem}.password")
    for each in (path, secret):
        if each.is_dir():
            raise UserError(f"{each}: a folder; -o names the file to write")
        if each.exists() and not force:
            raise UserError(f"{each}: is there already; --force replaces it, or name another with -o")
    if problem := unwritable(path):
        raise UserError(f"{path} cannot be written: {problem}; -o names another file, $TAGGER_HOME another folder")
    answers = _ask(secret)
    if answers.password is not None:
        with replacing(secret, 0o600) as partial:
            partial.write_text(answers.password + "\n", "utf-8")
    with replacing(path.with_name(SCHEMA_NAME)) as partial:
        partial.write_text(json.dumps(schema(), indent=2) + "\n", "utf-8")
    with replacing(path) as partial:
        partial.write_text(commented(answers.chosen), "utf-8")
    config = "" if is_usual else f" --config {path}"
    echo()
    echo(f"written: {path}" + (f", the password to {secret}" if answers.password else ""))
    if answers.command:
        echo(f"first:   {answers.command}")
    echo(f"next:    tagger config check{config}")
    echo(f"then:    tagger listen{config}")


def _ask(secret: Path) -> _Answers:
    answers = _Answers()
    model, labels = ask_sounds()
    if model is not None and model.name != DEFAULT_MODEL:
        answers.chosen["listen.model"] = model.name
        answers.command = model.command
    if labels:
        answers.chosen["events.allow"] = labels

    echo(
        "2. What shall be listened to? mic, mic:NAME, demo (a built-in minute) or a file; several with commas between."
    )
    devices = _devices()
    for number, name in enumerate(devices, 1):
        echo(f"   {number}  mic:{name}")
    sources = until("   Sources", "mic", lambda text: _sources(text, devices))
    answers.chosen["listen.sources"] = sources
    if len(sources) > 1:
        echo(f"   {len(sources)} sources: {'; '.join(sources)}")

    echo("3. Which MQTT broker? mqtt://host:port, mqtts://host:port, embedded (one inside) or none.")
    broker, url = until("   Broker", DEFAULT_MQTT_URL, _broker)
    answers.chosen["mqtt.url"] = url
    if broker is not None and not broker.embedded:
        user, password = broker.user, broker.password
        if user is None:
            echo("4. User at the broker? Empty if it asks for none.")
            user = until("   User", "", str) or None
        if user is not None and password is None:
            password = until("   Password", "", lambda text: text or None, is_secret=True)
        if user is not None:
            answers.chosen["mqtt.user"] = user
        if user is not None and password is not None:
            answers.password = password
            answers.chosen["mqtt.password_file"] = secret.name
    enabled = broker is not None
    if broker is not None:
        echo("5. Shall it appear in Home Assistant, by MQTT discovery?")
        enabled = click.confirm("   Home Assistant", default=True)
    answers.chosen["homeassistant.enabled"] = enabled
    return answers


def _devices() -> list[str]:
    """Names of microphones; empty where PortAudio is missing."""
    try:
        from tagger.sources.portaudio import input_devices

        names = [str(each["name"]) for each in input_devices()]
    except UserError as error:
        echo(f"   ({error})")
        return []
    if not names:
        echo("   (no microphone is connected now)")
    return names


def _sources(text: str, devices: Sequence[str]) -> list[str]:
    """
    Raises:
        UserError: some are no sources; all of these are named.
    """
    found = list(dict.fromkeys(sourcelist.split(text, devices)))
    wrong = [problem for each in found if (problem := _source_problem(each, devices))]
    if not wrong and (name := repeated_name(map(Spec.parse, found))) is not None:
        wrong = [f"{name} is the name of several sources; give each its own"]
    if wrong or not found:
        raise UserError("; ".join(wrong) or "name at least one")
    return [_whole(each) for each in found]


def _source_problem(uri: str, devices: Sequence[str]) -> str:
    try:
        spec = Spec.parse(uri)
        spec.check()
    except UserError as error:
        return str(error)
    rest = spec.uri
    if is_keyword(rest) or is_pipe(rest) or Path(rest).is_file():
        return ""
    if any(rest.lower() in each.lower() for each in devices):
        return f"{uri}: is no such file; write mic:{rest} for the microphone"
    return f"{uri}: is no such file; write mic, mic:NAME or demo for something else"


def _whole(uri: str) -> str:
    """The source, with the whole path of a file."""
    spec = Spec.parse(uri)
    return uri if is_keyword(spec.uri) else str(replace(spec, uri=str(Path(spec.uri).resolve())))


def _broker(text: str) -> tuple[MqttSettings | None, str]:
    """Settings of the broker that was typed, and its URL without user and password. `none`: no settings."""
    if text == "none":
        return None, text
    is_url = "://" in text or re.fullmatch("embedded(:.*)?", text)
    try:
        broker = MqttSettings.from_url(text if is_url else f"mqtt://{text}")
    except SettingError as error:
        raise UserError(error.problem) from None
    if broker.embedded:
        return broker, text
    host = f"[{broker.host}]" if ":" in broker.host else broker.host
    return broker, f"{'mqtts' if broker.tls else 'mqtt'}://{host}:{broker.port}"
