"""Sends anything to a daemon over MQTT. Right: an answer that can be published, or none; a watcher prints one line."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from tagger.daemon.control import Control
from tagger.events import Stream
from tagger.mqtt.homeassistant import components, removal_message
from tagger.mqtt.requests import Requests
from tagger.mqtt.sink import Discovery, MqttSink
from tagger.mqtt.watch import Watcher
from tagger.policy import LabelPolicy, Policy
from tagger.printable import printable
from tagger.settings import MqttSettings
from tests.builders import PromptListener
from tests.fakes import RecordingSink
from tests.fuzz.trial import problem_of
from tests.fuzz.values import VALUES, mutated, other_bytes

BASE = "tagger/attic"
SETTINGS = MqttSettings("127.0.0.1", 1, node="attic")
RULES = Policy(("loud", "犬"), (LabelPolicy(), LabelPolicy()), groups={"all": ("loud", "犬")})
STREAM = Stream("attic", "mic", "fake", RULES.names)
LONGEST_TOPIC = 65_535
"""Bytes."""
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pause", {"source": "mic"}),
    ("resume", {}),
    ("threshold", {"transaction": "7", "label": "loud", "enter": 0.7, "source": "mic"}),
    ("labels", {"transaction": 7}),
    ("test", {"transaction": "x", "label": "all", "duration_s": 30}),
    ("other", {"transaction": None}),
)
EVENT = {"type": "end", "label": "dog", "score": 0.5, "peak_score": 0.9, "duration_s": 1.5, "id": "1"}


def fuzz(inputs: int, seed: int = 0) -> Iterator[str]:
    """Sends that many messages. Yields a line for each that was not handled well."""
    logging.getLogger("tagger").setLevel(logging.CRITICAL)
    try:
        for number in range(inputs):
            rng = np.random.default_rng([seed, number])
            message = made(rng)
            for what, do in (("daemon", receive), ("watcher", watch)):
                if (problem := problem_of(lambda do=do, message=message: do(*message))) is not None:  # type: ignore[misc]
                    yield f"requests: input {number} of seed {seed}, {what}, {message[0][:60]!r}: {problem}"
    finally:
        logging.getLogger("tagger").setLevel(logging.NOTSET)


def receive(topic: str, payload: bytes) -> None:
    """Gives the message to a daemon of its own, and publishes what that says."""
    heard = RecordingSink()
    control = Control(heard)
    control.listeners = {"mic": PromptListener.of(STREAM, heard, RULES)}
    discovery = Discovery("ha/c", "homeassistant/status", lambda streams, gone: {}, components, removal_message)
    sink = MqttSink(SETTINGS, None, requests=Requests(control), discovery=discovery)
    backlog = sink.delivery.backlog
    backlog.start({f"{BASE}/status": "online", "ha/c": "{}", f"{BASE}/mic/enabled": "ON"})
    try:
        sink.handle_message(topic, payload, retained=False)
        published = 0
        while (message := backlog.next()) is not None:
            published += 1
            sink.connection.publish(message)
            if message.payload and message.topic.startswith(f"{BASE}/response/"):
                answer = json.loads(message.payload)
                assert answer["status"] in ("ok", "error"), answer
                assert "\n" not in str(answer.get("error")), answer
        assert published <= 4, f"{published} messages"
        rules = control.listeners["mic"].policy
        assert all(0 < each.enter <= 1 and 0 < each.exit <= each.enter for each in rules.each), rules
    finally:
        control.close()
        sink.delivery.outbox.close()
    begun, ended = heard.of("begin"), heard.of("end")
    assert len(begun) == len(ended) <= 1, f"{len(begun)} tests began, {len(ended)} ended"


def watch(topic: str, payload: bytes) -> None:
    """What `tagger listen --watch` prints of the message."""
    file = io.StringIO()
    Watcher(SETTINGS, file).print_message(topic, payload, retained=False)
    line = file.getvalue()
    if not (line.endswith("\n") and printable(line[:-1]) == line[:-1] and len(line) < 10_000):
        raise ValueError(f"printed {line[:100]!r}")


def made(rng: np.random.Generator) -> tuple[str, bytes]:
    """A topic that the daemon has subscribed to, and a payload: right, damaged, or anything."""
    kind, request = REQUESTS[rng.integers(len(REQUESTS))]
    topic = f"{BASE}/request/{kind}"
    chance = rng.random()
    if chance < 0.1:
        topic = f"{BASE}/request/{_word(rng)}"[:LONGEST_TOPIC]
    elif chance < 0.2:
        topic = f"{BASE}/{('mic', _word(rng))[rng.integers(2)]}/enabled/set"
    elif chance < 0.25:
        topic = (f"{BASE}/status", "homeassistant/status")[rng.integers(2)]
    elif chance < 0.3:
        request = {**EVENT}
    chance = rng.random()
    if chance < 0.7:
        document = mutated(request, rng) if chance < 0.6 else request
        try:
            payload = json.dumps(document).encode()
        except (ValueError, RecursionError):  # numbers of more digits than Python writes
            payload = b"1" * 5000
    elif chance < 0.75:
        payload = (b"ON", b"OFF", b"online", b"offline", b"", b"on")[rng.integers(6)]
    elif chance < 0.85:
        depth = int(rng.integers(1, 100_000))
        payload = (b"[" * depth, b'{"a":' * depth, b'{"transaction": ' + b"9" * depth + b"}")[rng.integers(3)]
    else:
        payload = rng.bytes(int(rng.integers(0, 5000)))
    if rng.random() < 0.2 and payload:
        payload = other_bytes(payload, rng, 5)
    return topic, payload[:100_000]


def _word(rng: np.random.Generator) -> str:
    """A topic level, as any publisher may choose one: no wildcard, no NUL, no half of a character."""
    texts = [each for each in VALUES if isinstance(each, str)] + [
        "x" * LONGEST_TOPIC,
        "犬" * 20_000,
        "",
        "\x1b]0;a\x07",
        "\u202e",
    ]
    text = texts[rng.integers(len(texts))]
    if rng.random() < 0.3:
        text = "".join(map(chr, rng.integers(1, 0xD7FF, rng.integers(1, 20))))
    room = LONGEST_TOPIC - len(f"{BASE}/request/")
    cleaned = "".join(letter for letter in text if letter not in "/+#\0" and not "\ud800" <= letter <= "\udfff")
    return cleaned.encode()[:room].decode(errors="ignore")
