"""Damages the state folder: its documents and the rows of the outbox. Right: a daemon that starts, and what is sane."""

import contextlib
import json
import logging
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tagger.daemon.state import StateFolder
from tagger.events import Event, Stream
from tagger.mqtt.outbox import Outbox
from tagger.names import is_topic
from tests.fuzz.trial import problem_of
from tests.fuzz.values import VALUES, mutated, other_bytes

STREAM = Stream("attic", "mic", "fake", ("dog", "cat"))
BEGIN = Event("begin", "01M82C9BXHNTRMQRDVRKQ5T24P", "dog", 0.8, 0.9, 1_800_000_000.0)


def fuzz(inputs: int, seed: int = 0) -> Iterator[str]:
    """Starts with that many damaged folders. Yields a line for each that was not handled well."""
    logging.getLogger("tagger").setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(inputs):
                root = Path(folder) / str(number)
                make(root)
                damage(root, np.random.default_rng([seed, number]))
                if (problem := problem_of(lambda root=root: start(root))) is not None:  # type: ignore[misc]
                    yield f"state: input {number} of seed {seed}: {problem}"
                shutil.rmtree(root)
    finally:
        logging.getLogger("tagger").setLevel(logging.NOTSET)


def make(root: Path) -> None:
    """A right folder, as a crash leaves it."""
    state = StateFolder(root)
    state.pause("mic", True)
    state.keys({"mic": "mic:USB"})
    state.begun(STREAM, BEGIN)
    box = Outbox(state.outbox, 100)
    for number in range(3):
        box.put("tagger/attic/mic/event", json.dumps({"id": number}), str(number), True)
    box.add_retained(["tagger/attic/status"])
    box.add_components({"mic_dog": "binary_sensor"})
    box.close()
    state.close()


def damage(root: Path, rng: np.random.Generator) -> None:
    kind = rng.random()
    if kind < 0.6:
        path = root / ("open.json", "known.json")[rng.integers(2)]
        document: Any = mutated(json.loads(path.read_text()), rng)
        path.write_text(json.dumps(document), errors="surrogatepass")
    elif kind < 0.65:
        (root / "open.json").write_text("[" * int(rng.integers(1, 100_000)))
    elif kind < 0.75:
        path = root / ("open.json", "known.json", "outbox.sqlite")[rng.integers(3)]
        path.write_bytes(other_bytes(path.read_bytes(), rng, 19))
    else:
        with contextlib.closing(sqlite3.connect(root / "outbox.sqlite")) as database, database:
            for _ in range(rng.integers(1, 4)):
                with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
                    database.execute(*_change(rng))


def _change(rng: np.random.Generator) -> tuple[str, tuple[Any, ...]]:
    cells = [value for value in VALUES if value is None or isinstance(value, int | float | str)]
    cells += [b"\xff\xfe", b"", "x" * 2_000_000, "a/+/b", "$SYS/x", "a//b", 2**63 - 1, -(2**63)]
    value = cells[rng.integers(len(cells))]
    columns = (("messages", "topic"), ("messages", "payload"), ("messages", "number"), ("begun", "id"))
    columns += (("retained", "topic"), ("components", "id"), ("components", "platform"), ("sqlite_sequence", "seq"))
    table, column = columns[rng.integers(len(columns))]
    if rng.random() < 0.1:
        return f"DROP TABLE {table}", ()
    if rng.random() < 0.1:
        return f"ALTER TABLE {table} ADD COLUMN more", ()
    if rng.random() < 0.5:
        return f"UPDATE {table} SET {column} = ?", (value,)
    if rng.random() < 0.3:
        return f"UPDATE {table} SET {column} = CAST(? AS TEXT)", (b"\xff\xfe\x00",)
    others = [cells[rng.integers(len(cells))] for _ in range(rng.integers(1, 4))]
    return f"INSERT INTO {table} VALUES ({', '.join('?' * len(others))})", tuple(others)


def start(root: Path) -> None:
    """Reads all of it, and uses it as the daemon does."""
    state = StateFolder(root)
    try:
        keys = state.keys({"mic": "mic:USB", "garden": "mic:HDA"})
        if not all(map(is_topic, [state.id, *keys.values()])) or not all(
            isinstance(each, str) for each in state.paused
        ):
            raise ValueError(f"{state.id!r}, {keys!r}, {state.paused!r}")
        for stream, end in state.left_open():
            json.dumps(end.to_json(stream, 1_800_000_000.0), allow_nan=False).encode()
            if not (is_topic(f"{stream.node}/{stream.source}") and math.isfinite(end.onset)):
                raise ValueError(f"{stream}, {end}")
            state.ended(end)
        state.pause("mic", False)
        box = Outbox(state.outbox, 100)
        try:
            box.put("tagger/attic/mic/event", "{}", "new", True)
            if not box.is_durable:
                raise ValueError("a new message is not kept on disk")
            messages = box.read_after(0, 1000)
            for message in messages:
                message.payload.encode()
                if not is_topic(message.topic):
                    raise ValueError(message.topic)
            if not messages or messages[-1].payload != "{}":
                raise ValueError("a new message is not the last")
            for message in messages:
                box.acknowledge(message.number)
            if len(box) or not all(map(is_topic, box.retained)):
                raise ValueError(f"{len(box)} messages are left")
            dict(box.components)
        finally:
            box.close()
    finally:
        state.close()
