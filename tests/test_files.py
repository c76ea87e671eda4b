"""Files are replaced in one step; what is no file is written to."""

import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tagger.files import replacing
from tests.programs import room_for


def test_a_named_pipe_is_given_the_content_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "out"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with replacing(pipe) as partial:
        partial.write_bytes(b"content")
    reader.join(30)
    assert read == [b"content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
def test_a_device_stays_a_device_and_its_error_is_told() -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)), replacing(Path("/dev/full")) as partial:
        partial.write_bytes(b"content")
    assert Path("/dev/full").is_char_device()


def test_a_file_is_replaced_in_one_step_and_an_error_leaves_it_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with suppress(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("[enforce fail] unexpected pos 64"), ZeroDivisionError()])
def test_a_library_that_finds_no_room_is_told_from_one_that_fails(tmp_path: Path, error: Exception) -> None:
    """Those that write by themselves have errors of their own for a full disk."""
    path = tmp_path / "file"

    def write() -> None:
        with replacing(path) as partial:
            partial.write_bytes(bytes(100_000))
            raise error

    with room_for(100_000), pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
        write()
    assert caught.value.filename == str(path)
    with pytest.raises(type(error)):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_a_library_puts_in_its_place_has_the_permissions_of_others(tmp_path: Path) -> None:
    """As safetensors does. A model that only its owner can read is none for a service with a user of its own."""
    other, path = tmp_path / "other", tmp_path / "file"
    other.touch()
    with replacing(path) as partial:
        partial.unlink()
        partial.touch(0o600)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)
    with replacing(path, 0o640) as partial:
        partial.unlink()
        partial.touch(0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
