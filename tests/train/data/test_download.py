"""ESC-50's archive, from a real HTTP server on this machine that misbehaves on request."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagger.errors import DownloadError
from tests.servers import Server, serving
from train.data import esc50
from train.data.download import ARCHIVE_NAME, ARCHIVE_URL, esc50_archive

CLIPS = 50
"""Instead of 2000, but for one test: unpacking takes a second."""


def archive(clips: int = CLIPS, content: bytes = 1_000 * b"sound", table: str = "meta/esc50.csv") -> bytes:
    """In the official layout. Readers look at no samples, so any bytes are a sound."""
    made = io.BytesIO()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    with zipfile.ZipFile(made, "w") as file:
        for number in range(clips):
            fold, target = 1 + number % 5, number // 5 % 50
            name = f"{fold}-{number}-A-{target}.wav"
            file.writestr(f"ESC-50-master/audio/{name}", content + name.encode())
            rows.append(f"{name},{fold},{target},label {target},{target < 10},{number},A")
        file.writestr(f"ESC-50-master/{table}", "\n".join(rows))
        file.writestr("ESC-50-master/LICENSE", "CC BY-NC")
    return made.getvalue()


CONTENT = archive()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as server:
        yield server


@pytest.fixture(autouse=True)
def fewer_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.download.CLIPS", CLIPS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failure(folder: Path, server: Server) -> str:
    with pytest.raises(DownloadError) as caught:
        esc50_archive(folder, url=server.url("archive/master.zip"))
    assert caught.value.exit_code == 1
    assert not (folder / ARCHIVE_NAME).exists()
    assert server.url("archive/master.zip") in str(caught.value)
    return str(caught.value)


def test_where_it_is():
    assert ARCHIVE_URL == "https://github.com/karolpiczak/ESC-50/archive/master.zip"


@pytest.mark.parametrize("chunked", [False, True])
def test_download(server, folder, chunked):
    server.chunked = chunked
    seen: list[tuple[int, int | None]] = []
    path = esc50_archive(folder, lambda have, total: seen.append((have, total)), server.url("archive/master.zip"))
    assert path == folder / "ESC-50-master.zip"
    assert path.read_bytes() == CONTENT
    assert files(folder) == [path.name]
    assert seen[-1] == (len(CONTENT), None if chunked else len(CONTENT))
    assert len(esc50.read(path).clips) == CLIPS


def test_all_of_it(server, folder, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("TAGGER_HOME", str(folder))
    server.content = archive(2000, b"sound")
    dataset = esc50.read(esc50_archive(folder, url=server.url("archive/master.zip")))
    assert (len(dataset.clips), len(dataset.labels)) == (2000, 50)


def test_less_than_all_of_it(server, folder, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("TAGGER_HOME", str(folder))
    assert "50 clips instead of 2000" in failure(folder, server)


def test_what_is_there_is_not_fetched_again(server, folder):
    esc50_archive(folder, url=server.url("archive/master.zip"))
    assert esc50_archive(folder, url=server.url("archive/master.zip")).is_file()
    assert len(server.asked) == 1


def test_interruptions_are_continued(server, folder):
    server.breaks_at = len(CONTENT) // 3
    for _ in range(2):
        assert "the same command continues" in failure(folder, server)
    server.breaks_at = None
    assert esc50_archive(folder, url=server.url("archive/master.zip")).read_bytes() == CONTENT
    third = len(CONTENT) // 3
    assert server.asked == [None, f"bytes={third}-", f"bytes={2 * third}-"]


def test_without_ranges_all_of_it_comes_again(server, folder):
    server.ranges, server.chunked, server.breaks_at = False, True, 100_000
    failure(folder, server)
    assert files(folder) == [f"{ARCHIVE_NAME}.part"]
    server.breaks_at = None
    assert esc50_archive(folder, url=server.url("archive/master.zip")).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={1 << 16}-"]


def test_a_whole_part_needs_no_server(server, folder):
    folder.mkdir()
    (folder / f"{ARCHIVE_NAME}.part").write_bytes(CONTENT)
    assert esc50_archive(folder, url="http://127.0.0.1:9/nobody").read_bytes() == CONTENT
    assert files(folder) == [ARCHIVE_NAME]


def test_the_part_of_another_version_is_not_kept(server, folder):
    folder.mkdir()
    (folder / f"{ARCHIVE_NAME}.part").write_bytes(archive(content=1_000 * b"other")[: len(CONTENT) // 2])
    assert "nothing was kept" in failure(folder, server)
    assert files(folder) == []
    assert esc50_archive(folder, url=server.url("archive/master.zip")).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_not_kept(server, folder):
    folder.mkdir()
    (folder / f"{ARCHIVE_NAME}.part").write_bytes(b"x" * (len(CONTENT) + 1))
    failure(folder, server)
    assert files(folder) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>please log in</html>", "no ZIP archive"),
        (CONTENT[:100_000], "no ZIP archive"),
        (CONTENT.replace(b"sound1-0-A-0.wav", b"noise1-0-A-0.wav"), "damaged (ESC-50-master/audio/1-0-A-0.wav)"),
        (archive(45), "45 clips instead of 50"),
        (archive(table="meta/other.csv"), "meta/esc50.csv is missing"),
    ],
)
def test_what_is_not_esc50_is_not_kept(server, folder, content, message):
    server.content = content
    said = failure(folder, server)
    assert message in said
    assert "nothing was kept" in said
    assert files(folder) == []
