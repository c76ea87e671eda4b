"""Standard streams that are closed or full, and a user without a home: one line, and nothing in another's place."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tagger import files
from tagger.errors import UserError
from tagger.sources.spec import Spec
from tests.programs import ROOT, TAGGER, refused_process

KINDS = {"closed": ">&-", "full": ">/dev/full"}


def with_streams(redirection: str, *command: object) -> "subprocess.CompletedProcess[str]":
    words = ["sh", "-c", f'exec "$@" {redirection}', "sh", *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", [("--help",), ("--version",), ("recipes",), ("tag", "--help")])
def test_output_that_cannot_be_written_is_an_error(kind: str, command: tuple[str, ...]) -> None:
    refused_process(with_streams(KINDS[kind], *TAGGER, *command))


@pytest.mark.parametrize("command", [("tag", "missing.wav"), ("tag", "--nope"), ("listen", "missing.wav"), ("nope",)])
def test_an_error_that_cannot_be_written_has_its_exit_code(command: tuple[str, ...], tmp_path: Path) -> None:
    assert with_streams("2>/dev/full", *TAGGER, *command).returncode == 2


def test_the_error_says_that_it_was_the_output() -> None:
    refused_process(with_streams(">&-", *TAGGER, "recipes"), "standard output: ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "<&- 2>&-"])
def test_no_file_gets_the_place_of_a_stream_that_was_closed(closed: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    program = f"""
import os, sys
from tagger.printable import open_missing_streams
open_missing_streams()
with open({str(kept)!r}, "w") as file:
    file.write(str(file.fileno()) + sys.stdin.read())
    file.flush()
    sys.stderr.write("an error")
    for number in (1, 2):
        try:
            os.write(number, b"what a library prints")
        except OSError:
            pass
"""
    redirection = closed if "<" in closed else f"{closed} </dev/null"
    assert with_streams(redirection, sys.executable, "-c", program).returncode == 0
    assert int(kept.read_text()) > 2


def test_a_full_disk_is_said_with_the_file(tmp_path: Path) -> None:
    def write() -> None:
        with files.replacing(tmp_path / "out.csv"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as of a write, which names no file

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.filename == str(tmp_path / "out.csv")


def test_a_umask_takes_no_right_from_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "made" / "tagger.toml"
    words = ["sh", "-c", 'umask 777; exec "$@"', "sh", *TAGGER, "config", "init", "-o", str(path)]
    answers = "dog\ndemo\nnone\nn\n\n"
    done = subprocess.run(words, input=answers, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has no HOME and is unknown, as in a container that runs as any number."""
    for name in ("HOME", "TAGGER_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_011)


@pytest.mark.usefixtures("nobody")
def test_a_user_without_a_home_is_told_to_name_a_folder() -> None:
    with pytest.raises(UserError, match="set TAGGER_HOME"):
        files.home()


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("path", ["~/ca.pem", "~nosuchuser/ca.pem"])
def test_a_path_below_nobodys_home_stays_as_it_is(path: str) -> None:
    assert files.expanded(Path(path)) == Path(path)
    assert Spec.parse(f"rtsps://camera.local/live,tls_ca_certs={path}").trust.ca_certs == Path(path)


def test_ctrl_c_while_the_program_is_imported_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*TAGGER, "models"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
