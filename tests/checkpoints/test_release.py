"""Downloads, from a real HTTP server on this machine that misbehaves on request."""

import gc
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tagger.checkpoints import release
from tagger.checkpoints.release import ReleaseFile
from tagger.errors import DownloadError, UserError
from tests.servers import Server, serving

CONTENT = np.random.default_rng(0).bytes(300_000)
FILE = ReleaseFile("weights.pt", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / FILE.name


def part(target: Path, content: bytes | None = None) -> Path:
    path = target.with_name(target.name + ".part")
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def files(target: Path) -> list[str]:
    return sorted(each.name for each in target.parent.iterdir())


def failure(target: Path, url: str) -> str:
    with pytest.raises(DownloadError) as caught:
        release.download(FILE, target, url)
    assert caught.value.exit_code == 1
    assert not target.exists()
    return str(caught.value)


def test_download(server, target):
    seen: list[tuple[int, int | None]] = []
    release.download(FILE, target, server.url("releases"), lambda have, total: seen.append((have, total)))
    assert target.read_bytes() == CONTENT
    assert files(target) == [FILE.name]
    assert [have for have, _ in seen] == sorted(have for have, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert server.asked == [None]


def test_what_is_there_is_not_fetched_again(server, target):
    release.download(FILE, target, server.url("releases"))
    release.download(FILE, target, server.url("releases"))
    assert len(server.asked) == 1


def test_a_wrong_file_at_the_target_is_replaced(server, target):
    target.parent.mkdir()
    target.write_bytes(b"something else")
    release.download(FILE, target, server.url("releases"))
    assert target.read_bytes() == CONTENT


def test_an_interrupted_download_is_continued(server, target):
    server.breaks_at = 100_000
    message = failure(target, server.url("releases"))
    assert "the same command continues" in message
    assert part(target).read_bytes() == CONTENT[:100_000]
    server.breaks_at = None
    seen: list[tuple[int, int | None]] = []
    release.download(FILE, target, server.url("releases"), lambda have, total: seen.append((have, total)))
    assert server.asked == [None, "bytes=100000-"]
    assert seen[0][0] > 100_000
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert files(target) == [FILE.name]


def test_many_interruptions(server, target):
    server.breaks_at = 70_000
    for _ in range(4):
        failure(target, server.url("releases"))
    release.download(FILE, target, server.url("releases"))
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, target):
    part(target, CONTENT[:100_000])
    server.ranges = False
    release.download(FILE, target, server.url("releases"))
    assert server.asked == ["bytes=100000-"]
    assert target.read_bytes() == CONTENT


def test_a_server_that_does_not_say_the_length(server, target):
    server.says_length = False
    seen: list[int | None] = []
    release.download(FILE, target, server.url("releases"), lambda _, total: seen.append(total))
    assert set(seen) == {None}
    assert target.read_bytes() == CONTENT


def test_an_interruption_without_length_looks_like_wrong_content(server, target):
    server.says_length, server.breaks_at = False, 100_000
    assert FILE.sha256 in failure(target, server.url("releases"))
    server.breaks_at = None
    release.download(FILE, target, server.url("releases"))
    assert target.read_bytes() == CONTENT


def test_wrong_content_is_not_kept(server, target):
    server.content = b"<html>please log in</html>"
    message = failure(target, server.url("releases"))
    assert FILE.sha256 in message
    assert files(target) == []


def test_a_part_of_another_file_is_not_kept(server, target):
    part(target, b"another file's beginning")
    failure(target, server.url("releases"))
    assert files(target) == []
    release.download(FILE, target, server.url("releases"))
    assert target.read_bytes() == CONTENT


def test_a_whole_part_needs_no_server(target):
    part(target, CONTENT)
    release.download(FILE, target, "http://127.0.0.1:9/nobody")
    assert target.read_bytes() == CONTENT
    assert files(target) == [FILE.name]


def test_a_part_that_is_too_long_is_not_kept(server, target):
    part(target, CONTENT + b"more")
    failure(target, server.url("releases"))
    assert server.asked == [f"bytes={len(CONTENT) + 4}-"]  # the server answers 416
    assert files(target) == []


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_refusal_keeps_the_part(server, target, status):
    part(target, CONTENT[:100])
    server.status = status
    assert str(status) in failure(target, server.url("releases"))
    assert part(target).read_bytes() == CONTENT[:100]


def test_a_refused_connection_is_closed(server, target):
    server.status = 404
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        failure(target, server.url("releases"))
        gc.collect()
    assert not [each for each in caught if each.category is ResourceWarning]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://name.invalid", "http://127.0.0.1:port", "http://a b"])
def test_no_server(target, url):
    assert url in failure(target, url)


@pytest.mark.parametrize("url", ["nonsense", "/releases", ""])
def test_no_url(target, url):
    failure(target, url)


def test_the_target_appears_in_one_step(server, target):
    def look(have: int, total: int | None) -> None:
        assert not target.exists()

    release.download(FILE, target, server.url("releases"), look)
    assert target.is_file()


@pytest.mark.parametrize("name", ["mn04", "mn04_as"])
def test_names(name):
    assert release.release_file(name).name == "mn04_as_mAP_432.pt"


def test_an_unknown_name():
    with pytest.raises(UserError, match="did you mean mn04") as caught:
        release.release_file("mn4")
    assert caught.value.exit_code == 2


def test_the_pinned_hash_is_that_of_the_official_file(shared):
    file = release.release_file("mn04")
    assert hashlib.sha256((shared / "weights" / file.name).read_bytes()).hexdigest() == file.sha256
