"""What an earlier version of tagger wrote is read: `tests/earlier/` was written by commit 470e964 (26 November 2026).

Databases are kept as their SQL.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tagger.config.file import load_right
from tagger.daemon.state import StateFolder
from tagger.events import Event, Stream
from tagger.history.log import EventLog, EventRow, reading
from tagger.mqtt.outbox import Outbox

EARLIER = Path(__file__).parent / "earlier"
ID = "01KAZZ3W7N8Q2V5T4R6Y9XBC0D"
STREAM = Stream("attic", "mic", "esc50", ("dog", "siren"))


def database(name: str, folder: Path) -> Path:
    path = folder / f"{name}.sqlite"
    with closing(sqlite3.connect(path)) as made:
        made.executescript((EARLIER / f"{name}.sql").read_text("utf-8").replace('DELETE FROM "sqlite_sequence";', ""))
    return path


def test_a_state_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("known.json", "open.json"):
        shutil.copy(EARLIER / name, tmp_path)
    state = StateFolder(tmp_path)
    assert (state.id, state.paused) == ("ad9f990d", {"mic"})
    assert state.keys({"kitchen": "mic:USB"}) == {"kitchen": "mic"}, "the source is known by its first name"
    ((stream, end),) = state.left_open()
    assert (stream.node, stream.source, stream.model_of(end.label)) == ("attic", "mic", "esc50")
    assert (end.id, end.label, end.cause) == (ID, "siren", "restart")
    assert end.offset == pytest.approx(end.onset + 5, abs=0.1), "it lasted until the daemon last lived"
    state.close()
    assert not caplog.records


def test_an_outbox(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(database("outbox", tmp_path), 100)
    (waiting,) = outbox.read_after(0, 10)
    assert (waiting.topic, json.loads(waiting.payload)["id"]) == ("tagger/attic/mic/event", ID)
    assert outbox.retained == {"tagger/attic/mic/siren/state"}
    outbox.put(waiting.topic, "{}", ID, begins=False)
    assert len(outbox) == 2, "the end of an event that it holds"
    outbox.close()
    assert not caplog.records


def test_an_event_log(tmp_path: Path) -> None:
    path = database("events", tmp_path)
    with reading(path) as log:
        (row,) = [EventRow(*each) for each in log.execute("SELECT * FROM events")]
    assert (row.id, row.label, row.duration_s, row.model) == (ID, "siren", pytest.approx(4), "esc50")
    log = EventLog(path)
    log.write([EventRow.of(STREAM, Event("begin", "later", "dog", 0.9, 0.9, row.onset + 60))])
    assert len(list(log.onsets())) == 2
    log.close()


def test_a_configuration() -> None:
    found = load_right(EARLIER / "tagger.toml")
    assert found.events.deny == ("mouse_click",)
    assert found.events.labels["dog"]["enter"] == 0.98
