"""The state folder survives a restart, and only one daemon uses it."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.daemon.state import StateFolder
from tagger.errors import UserError
from tagger.events import Event, Stream

STREAM = Stream("room", "mic", "fake", ("dog", "cat"))


def test_the_models_of_an_event_that_a_death_left_open_survive(tmp_path: Path) -> None:
    stream = Stream("room", "mic", "esc50+mine", ("dog", "bell"), ("esc50", "mine"))
    state = StateFolder(tmp_path)
    state.begun(stream, begin(1))
    state.close()
    again = StateFolder(tmp_path)
    ((left, end),) = again.left_open()
    assert (left.node, left.source, left.model_of(end.label)) == ("room", "mic", "esc50")
    again.close()


def begin(number: int, onset: float = 100.0) -> Event:
    return Event("begin", str(number), "dog", 0.9, 0.95, onset)


def test_identity_pauses_and_names_survive(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    name, keys = state.id, state.keys({"mic": "mic:USB", "garden": "mic:HDA"})
    state.pause("mic", True)
    state.close()
    again = StateFolder(tmp_path / "state")
    assert (again.id, again.paused) == (name, {"mic"})
    assert keys == {"mic": "mic", "garden": "garden"}
    assert again.keys({"kitchen": "mic:USB", "garden": "mic:HDA"}) == {"kitchen": "mic", "garden": "garden"}
    assert again.paused == {"kitchen"}, "a source stays paused under another name"
    again.pause("kitchen", False)
    again.close()
    third = StateFolder(tmp_path / "state")
    assert third.paused == frozenset()
    third.close()


def test_what_a_death_left_half_written_does_not_pile_up(tmp_path: Path) -> None:
    StateFolder(tmp_path).close()
    (tmp_path / "open.jsonabc123.partial").write_text("{")
    StateFolder(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["known.json", "lock"]


uris = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["mic:1", "mic:2", "mic:3"]), max_size=3)


@given(st.lists(uris.filter(lambda each: len(set(each.values())) == len(each)), max_size=5))
def test_a_source_keeps_its_key_and_no_two_share_one(tmp_path_factory: pytest.TempPathFactory, runs) -> None:
    folder, known = tmp_path_factory.mktemp("state"), {}
    for named in runs:
        state = StateFolder(folder)
        keys = state.keys(named)
        state.close()
        assert len(set(keys.values())) == len(named)
        for name, uri in named.items():
            assert known.setdefault(uri, keys[name]) == keys[name]
    assert len(set(known.values())) == len(known)


def test_events_left_open_are_ended_when_it_last_lived(tmp_path: Path) -> None:
    now = time.time()
    state = StateFolder(tmp_path)
    state.begun(STREAM, begin(1, now - 60))
    state.begun(STREAM, begin(2, now - 30))
    state.ended(begin(1))
    state.alive()
    state.close()  # as if it had been killed

    after = StateFolder(tmp_path)
    ((stream, end),) = after.left_open()
    assert stream == replace(STREAM, labels=("dog",)), "what concerns the event"
    assert (end.id, end.type, end.cause, end.label, end.peak_score) == ("2", "end", "restart", "dog", 0.95)
    assert end.offset == pytest.approx(now, abs=20)
    after.close()  # killed before it could publish the end

    third = StateFolder(tmp_path)
    ((_, end),) = third.left_open()
    third.ended(end)
    assert third.left_open() == []
    third.close()
    fourth = StateFolder(tmp_path)
    assert fourth.left_open() == []
    fourth.close()


def test_an_event_of_an_old_recording_does_not_last_until_today(tmp_path: Path) -> None:
    """A crash left it open: when its sound ended is not known."""
    onset = time.time() - 400 * 86_400
    state = StateFolder(tmp_path)
    state.begun(STREAM, begin(1, onset))
    state.alive()
    state.close()
    for _ in range(2):  # the second daemon dies before it could publish the end
        again = StateFolder(tmp_path)
        ((_, end),) = again.left_open()
        assert (end.onset, end.offset) == (onset, onset)
        again.alive()
        again.close()


def test_a_crash_before_the_onset_was_written_ends_no_earlier_than_it_began(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.begun(STREAM, begin(1, time.time() + 500))
    state.close()
    again = StateFolder(tmp_path)
    ((_, end),) = again.left_open()
    assert end.offset is not None
    assert end.offset >= end.onset
    again.close()


def test_damaged_files_that_are_put_aside_one_after_another_all_stay(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "known.json").write_text(content)
        StateFolder(tmp_path).close()
    assert sorted(each.read_text() for each in tmp_path.glob("known.damaged*")) == ["first", "second"]


@pytest.mark.parametrize(
    ("open_", "known"),
    [
        ("", ""),
        ("{", "{"),
        ("[]", "[]"),
        ("\0", "\0"),
        ('{"events": [{}]}', '{"id": 5}'),
        ('{"events": [{"stream": 3, "event": {}}]}', '{"id": "a", "paused": 7}'),
        ('{"events": 3}', '{"id": "a", "keys": ["mic"]}'),
        ('{"alive": "yesterday", "events": []}', '{"id": "a", "keys": {"mic": 3}}'),
    ],
)
def test_damaged_files_are_no_obstacle(
    tmp_path: Path, open_: str, known: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "open.json").write_text(open_)
    (tmp_path / "known.json").write_text(known)
    state = StateFolder(tmp_path)
    assert state.keys({"mic": "mic"}) == {"mic": "mic"}
    state.pause("mic", True)
    assert state.left_open() == []
    assert len(state.id) == 8
    assert (tmp_path / "known.damaged").read_text() == known
    assert "is damaged" in caplog.text
    state.close()


def test_a_second_daemon_is_told_who_has_it(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    code = (
        f"from tagger.daemon.state import StateFolder; from pathlib import Path; StateFolder(Path({str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UserError" in done.stderr
    assert "is used by another tagger (process " in done.stderr
    assert "--state DIR" in done.stderr
    state.close()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--state"):
        StateFolder(tmp_path / "file" / "state")


def test_a_full_disk_is_said_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = StateFolder(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    state.begun(STREAM, begin(1))
    state.begun(STREAM, begin(2))
    assert caplog.text.count("No space left") == 1
    state.close()


@pytest.mark.parametrize("set_s", [56 * 365 * 86_400.0, -3600.0])
def test_a_clock_that_was_set_makes_no_event_that_a_death_left_open_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_s: float
) -> None:
    wall, steady = 1e9, 1e3
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: steady)
    state = StateFolder(tmp_path)
    state.begun(STREAM, begin(1, wall - 2))
    wall, steady = wall + set_s, steady + 8
    state.alive()
    state.close()
    for _ in range(2):  # the second daemon dies before it could publish the end
        again = StateFolder(tmp_path)
        ((_, end),) = again.left_open()
        assert (end.onset, end.offset) == (1e9 - 2, 1e9 + 8)
        steady += 100
        again.alive()
        again.close()
