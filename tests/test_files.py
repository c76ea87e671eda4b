"""Files are replaced in one step; what is no file is written to."""

import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tagger.files import replacing


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
