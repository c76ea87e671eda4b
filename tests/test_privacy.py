"""Files about sounds are readable by their owner only, whatever the umask; all other files follow the umask."""

import os
import sqlite3
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.clips.folder import ClipFolder, EventClip
from tagger.clips.verdicts import mark
from tagger.config.build import resolve
from tagger.daemon.state import StateFolder
from tagger.daemon.web import answering
from tagger.doctor import bundle
from tagger.doctor.finding import Finding
from tagger.events import Event, Stream
from tagger.files import replacing
from tagger.history.log import EventLog
from tagger.mqtt.outbox import Outbox
from tagger.settings import JsonLinesSettings
from tagger.sinks.jsonl import JsonLinesSink
from tests.healths import snapshot

STREAM = Stream("attic", "mic", "fake", ("dog", "siren"))
BEGIN = Event("begin", "01M82C9BXHNTRMQRDVRKQ5T24P", "siren", 0.8, 0.8, 1_800_000_000.0)
END = replace(BEGIN, type="end", offset=1_800_000_002.0)
NAME = "siren/20270115T080000Z_mic_01M82C9BXHNTRMQRDVRKQ5T24P.flac"


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(root: Path) -> dict[str, str]:
    """Permissions of everything below a folder, and of the folder, in octal."""
    found = [root, *root.rglob("*")]
    return {path.relative_to(root).as_posix(): oct(stat.S_IMODE(path.stat().st_mode)) for path in found}


def is_private(root: Path) -> bool:
    return all(mode == ("0o700" if (root / name).is_dir() else "0o600") for name, mode in modes(root).items())


def save_clip(root: Path) -> None:
    folder = ClipFolder(root)
    event = END.to_json(STREAM, 1_800_000_003.0)
    folder.put(EventClip(NAME, np.zeros(1000, np.int16), 1000, event))
    folder.close(10)
    assert folder.saved == 1


def write_lines(path: Path) -> None:
    sink = JsonLinesSink(JsonLinesSettings(path, max_mb=0.000_5, keep=2))
    sink.open([STREAM])
    for event in (BEGIN, END) * 3:
        sink.event(STREAM, event)
    sink.close(10)


def keep_state(folder: Path) -> None:
    state = StateFolder(folder)
    state.pause("mic", True)
    state.begun(STREAM, BEGIN)
    box = Outbox(state.outbox, 10)
    box.put("t", "{}", BEGIN.id, True)
    assert {"outbox.sqlite", "outbox.sqlite-wal", "outbox.sqlite-shm", "known.json", "open.json"} <= set(modes(folder))
    assert is_private(folder)
    box.close()
    state.close()


def test_clips_and_their_tables_are_private(tmp_path: Path, umask: int) -> None:
    save_clip(tmp_path / "clips")
    mark(tmp_path / "clips", {BEGIN.id: "right"})
    assert is_private(tmp_path / "clips")
    assert {".lock", "events.jsonl", "reviewed.csv", NAME} <= set(modes(tmp_path / "clips"))


def test_state_and_outbox_are_private(tmp_path: Path, umask: int) -> None:
    keep_state(tmp_path / "home" / "state")
    assert is_private(tmp_path / "home")


def test_the_event_log_is_private(tmp_path: Path, umask: int) -> None:
    log = EventLog(tmp_path / "home" / "events.sqlite")
    log.write([])
    assert len(modes(tmp_path / "home")) == 4
    assert is_private(tmp_path / "home")
    log.close()


def test_lines_of_json_and_rotated_ones_are_private(tmp_path: Path, umask: int) -> None:
    write_lines(tmp_path / "log" / "events.jsonl")
    assert len(modes(tmp_path / "log")) == 4
    assert is_private(tmp_path / "log")


def test_the_file_for_whoever_helps_is_private(tmp_path: Path, umask: int) -> None:
    resolved = resolve({"mqtt.url": "mqtt://me:secret@host"}, {}, None)
    bundle.write(tmp_path / "new" / "support.zip", resolved, [Finding("broker", "fail", "it says secret")], [])
    assert is_private(tmp_path / "new")
    with zipfile.ZipFile(tmp_path / "new" / "support.zip") as file:
        assert b"secret" not in b"".join(map(file.read, file.namelist()))
        assert file.read("doctor.txt") == b"fail  broker        it says (hidden)\n"


def test_the_socket_that_says_how_the_daemon_does_is_private(tmp_path: Path, umask: int) -> None:
    with answering(snapshot, None, tmp_path / "home" / "state"):
        assert is_private(tmp_path / "home")
        assert len(modes(tmp_path / "home")) == 3


def test_all_else_is_as_the_umask_says(tmp_path: Path, umask: int) -> None:
    for mode, right in ((None, 0o666 & ~umask), (0o600, 0o600), (0o640, 0o640)):
        path = tmp_path / "folder" / "report.md"
        with replacing(path, mode) as partial:
            partial.write_text("report")
        assert stat.S_IMODE(path.stat().st_mode) == right
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o777 & ~umask


def open_to_everybody(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_files_of_an_earlier_version_are_closed_and_folders_stay(tmp_path: Path) -> None:
    clips, state, lines, log = (tmp_path / name for name in ("clips", "state", "lines", "log"))

    def write_all() -> None:
        save_clip(clips)
        mark(clips, {BEGIN.id: "right"})
        keep_state(state) if not state.exists() else StateFolder(state).close()
        write_lines(lines / "events.jsonl")
        EventLog(log / "events.sqlite").close()
        Outbox(state / "outbox.sqlite", 10).close()

    write_all()
    for root in (clips, state, lines, log):
        open_to_everybody(root)
    write_all()
    for root in (clips, state, lines, log):
        found = modes(root)
        assert found.pop(".") == "0o755"
        assert all(mode == "0o600" for name, mode in found.items() if not (root / name).is_dir()), found


def test_files_beside_a_database_that_is_open_elsewhere_are_closed_too(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    first = Outbox(path, 10)
    first.put("t", "{}", BEGIN.id, True)
    for each in tmp_path.iterdir():
        each.chmod(0o644)
    second = Outbox(path, 10)
    assert all(mode == "0o600" for name, mode in modes(tmp_path).items() if name != ".")
    second.close()
    first.close()


def test_a_group_that_somebody_let_in_may_stay(tmp_path: Path) -> None:
    EventLog(tmp_path / "events.sqlite").close()
    (tmp_path / "events.sqlite").chmod(0o640)
    StateFolder(tmp_path / "state").close()
    (tmp_path / "state" / "known.json").chmod(0o640)
    EventLog(tmp_path / "events.sqlite").close()
    state = StateFolder(tmp_path / "state")
    state.pause("mic", True)
    state.close()
    for path in (tmp_path / "events.sqlite", tmp_path / "state" / "known.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_foreign_database_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (id)")
    database.close()
    path.chmod(0o644)
    with pytest.raises(Exception, match="not an event log"):
        EventLog(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_linked_folder_among_the_clips_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips, elsewhere = tmp_path / "clips", tmp_path / "elsewhere"
    elsewhere.mkdir()
    precious = elsewhere / Path(NAME).name
    precious.write_bytes(b"not ours")
    os.utime(precious, (0, 0))
    precious.chmod(0o644)
    clips.mkdir()
    (clips / "siren").symlink_to(elsewhere, target_is_directory=True)
    (clips / "dog").mkdir()
    (clips / "dog" / Path(NAME).name).symlink_to(precious)
    folder = ClipFolder(clips, keep_days=0.001, keep_mb=0.001)
    folder.put(EventClip(NAME, np.zeros(1000, np.int16), 1000, {}))
    folder.close(10)
    assert (folder.saved, folder.lost) == (0, 1)
    assert "links among the clips are not followed" in caplog.text
    assert [path.name for path in elsewhere.iterdir()] == [precious.name]
    assert (precious.read_bytes(), stat.S_IMODE(precious.stat().st_mode)) == (b"not ours", 0o644)
    assert (clips / "siren").is_symlink()
    assert (clips / "dog" / precious.name).is_symlink()


def test_onnx_runtime_keeps_no_id_of_the_device_for_its_maker(tmp_path: Path) -> None:
    code = "import tagger, onnxruntime"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "HOME": str(tmp_path)})
    assert list(tmp_path.rglob("*")) == []
