"""`tagger config init`: asks five questions and writes the file."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from tagger.checkpoints import store
from tagger.checkpoints.header import read_header
from tagger.config.schema import schema
from tagger.config.template import SCHEMA_NAME, commented
from tagger.errors import SettingError, UserError, near
from tagger.files import replacing
from tagger.printable import echo, echo_lines
from tagger.settings import DEFAULT_MODEL, DEFAULT_MQTT_URL, MqttSettings

_Answer = TypeVar("_Answer")


@dataclass
class _Answers:
    chosen: dict[str, Any] = field(default_factory=dict)
    """Answers by the option's key."""
    password: str | None = field(default=None, repr=False)


def init(path: Path, force: bool, is_usual: bool) -> None:
    """Asks, then writes the file and, beside it, the schema and a file for the password. Ctrl-C writes nothing.

    Args:
        is_usual: whether `tagger listen` finds `path` without --config.

    Raises:
        UserError: a file is there already, without `force`.
    """
    secret = path.with_name(f"{path.stem}.password")
    for each in (path, secret):
        if each.is_dir():
            raise UserError(f"{each}: a folder; -o names the file to write")
        if each.exists() and not force:
            raise UserError(f"{each}: is there already; --force replaces it, or name another with -o")
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
    echo(f"next:    tagger config check{config}")
    echo(f"then:    tagger listen{config}")


def _ask(secret: Path) -> _Answers:
    answers = _Answers()
    devices = _devices()
    echo("1. What shall be listened to? mic, mic:NAME, demo (a built-in minute) or a file.")
    for number, name in enumerate(devices, 1):
        echo(f"   {number}  mic:{name}")
    answers.chosen["listen.sources"] = [_until("   Source", "mic", lambda text: _source(text, devices))]

    echo("2. Which MQTT broker? mqtt://host:port, mqtts://host:port, embedded (one inside) or none.")
    broker, url = _until("   Broker", DEFAULT_MQTT_URL, _broker)
    answers.chosen["mqtt.url"] = url
    if broker is not None and not broker.embedded:
        user, password = broker.user, broker.password
        if user is None:
            echo("3. User at the broker? Empty if it asks for none.")
            user = _until("   User", "", str) or None
        if user is not None and password is None:
            password = _until("   Password", "", lambda text: text or None, is_secret=True)
        if user is not None:
            answers.chosen["mqtt.user"] = user
        if user is not None and password is not None:
            answers.password = password
            answers.chosen["mqtt.password_file"] = secret.name
    enabled = broker is not None
    if broker is not None:
        echo("4. Shall it appear in Home Assistant, by MQTT discovery?")
        enabled = click.confirm("   Home Assistant", default=True)
    answers.chosen["homeassistant.enabled"] = enabled

    labels = read_header(store.find(DEFAULT_MODEL))["labels"]
    echo("5. Which sounds do you want to be told of? Labels with commas between; empty: all. There are")
    echo_lines(click.wrap_text(", ".join(labels), 100, "   ", "   ").split("\n"))
    allow = _until("   Labels", "", lambda text: _labels(text, labels))
    if allow:
        answers.chosen["events.allow"] = allow
    return answers


def _prompt(question: str, default: str, hide_input: bool = False) -> str:
    """
    Raises:
        UserError: the answer is not UTF-8 text.
    """
    try:
        text: str = click.prompt(question, default=default, show_default=bool(default), hide_input=hide_input)
        text.encode()
    except UnicodeError:
        raise UserError("this answer is not UTF-8 text") from None
    return text


def _until(question: str, default: str, take: Callable[[str], _Answer], is_secret: bool = False) -> _Answer:
    """Asks until `take` accepts the answer. Spaces around an answer are dropped, but kept in a password."""
    while True:
        try:
            answer = _prompt(question, default, hide_input=is_secret and sys.stdin.isatty())
            return take(answer if is_secret else answer.strip())
        except UserError as error:
            echo(f"   {error}")


def _devices() -> list[str]:
    """Names of microphones; empty where PortAudio is missing."""
    try:
        from tagger.sources.portaudio import input_devices

        return [str(each["name"]) for each in input_devices()]
    except UserError as error:
        echo(f"({error})")
        return []


def _source(text: str, devices: Sequence[str]) -> str:
    from tagger.sources import is_keyword, split_name

    if re.fullmatch("[0-9]+", text) and 1 <= int(text) <= len(devices):
        return f"mic:{devices[int(text) - 1]}"
    name, rest = split_name(text)
    if is_keyword(rest):
        return text
    if not Path(rest).is_file():
        raise UserError(f"{text}: is no such file; write mic, mic:NAME or demo for something else")
    return str(Path(rest).resolve()) if name is None else f"{name}={Path(rest).resolve()}"


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


def _labels(text: str, labels: Sequence[str]) -> list[str]:
    chosen = list(dict.fromkeys(each for part in text.split(",") if (each := part.strip())))
    if text in labels:  # some have commas
        return [text]
    for each in chosen:
        if each not in labels:
            raise UserError(f"there is no label {each!r}{near(each, labels)}")
    return chosen
