"""The history of scores: what cannot be used keeps nobody from listening, and is used once it can be."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tagger import retry
from tagger.errors import TaggerError
from tagger.events import Report, Scores, Stream
from tagger.history.scores import ScoreHistory, chunks, reading
from tagger.settings import ScoreHistorySettings
from tagger.sinks.scores import ScoreHistorySink
from tests.programs import until

STREAM = Stream("attic", "mic", "fake", ("dog", "siren"))


def damaged(path: Path) -> Callable[[], None]:
    path.write_bytes(b"no database" * 1_000)
    return path.unlink


def of_a_later_version(path: Path) -> Callable[[], None]:
    ScoreHistory(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    return path.unlink


def a_folder(path: Path) -> Callable[[], None]:
    path.mkdir()
    return path.rmdir


def below_a_file(path: Path) -> Callable[[], None]:
    path.parent.rmdir()
    path.parent.write_text("")
    return path.parent.unlink


def locked(path: Path) -> Callable[[], None]:
    ScoreHistory(path).close()
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("BEGIN EXCLUSIVE")
    return database.close


@contextmanager
def opened(path: Path) -> Iterator[ScoreHistorySink]:
    sink = ScoreHistorySink(ScoreHistorySettings(path))
    sink.open([STREAM])
    yield sink


def report(at: float) -> Report:
    activity = np.zeros((2, 16), np.float32)
    return Report(Scores(np.array([0.9, 0.0], np.float32), at, at + 5, 1e9 + at, activity, 0.32), (), None, 0.0)


@pytest.mark.parametrize("spoil", [damaged, of_a_later_version, a_folder, below_a_file, locked])
def test_a_file_that_cannot_be_used_is_said_and_used_once_it_can_be(
    tmp_path: Path,
    spoil: Callable[[Path], Callable[[], None]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.05))
    monkeypatch.setattr("tagger.history.sqlite.WAIT_SECONDS", 0.2)
    path = tmp_path / "kept" / "scores.sqlite"
    path.parent.mkdir()
    mend = spoil(path)
    with opened(path) as sink:
        until(sink.trouble, "it is shown why")
        assert str(path) in caplog.text
        for at in range(3):
            sink.report(STREAM, report(at))
        mend()
        until(lambda: sink.trouble() is None, "it is used")
        sink.close(60)
    with reading(path) as database:
        assert [each.windows for each in chunks(database, "attic", "mic")] == [3]


def test_what_could_not_be_written_by_the_end_is_said(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    damaged(path)
    with opened(path) as sink:
        sink.report(STREAM, report(0))
        with pytest.raises(TaggerError, match=str(path)):
            sink.close(60)
