"""A process that a measurement runs in: one line of JSON asks it, one line answers."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any, Self

from tagger import children
from tagger.errors import TaggerError, UserError
from tagger.printable import printable

ONE_THREAD: Mapping[str, str] = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "NUMEXPR")
}
"""Environment in which no library uses more than one thread."""
_END_SECONDS = 5.0


class Child:
    """A program that answers requests. It is ended at the end of the `with` block."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None) -> None:
        """
        Args:
            env: changes to the environment.
        """
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,  # Ctrl-C is for the parent
        )

    @classmethod
    def module(cls, name: str, env: Mapping[str, str] | None = None) -> Self:
        """A module of tagger, in this Python."""
        return cls([sys.executable, "-m", name], env)

    def ask(self, **request: Any) -> dict[str, Any]:
        """
        Raises:
            TaggerError: the answer is an error, or the process has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):  # it has ended: the answer is empty
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise TaggerError(f"a process of the measurement ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise (UserError if answer.get("exit_code") == UserError.exit_code else TaggerError)(answer["error"])
        return answer

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)
        return last_words(self.process, self._said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        end(self.process)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._said.close()


def last_words(process: "subprocess.Popen[bytes]", said: IO[bytes]) -> str:
    """Last line of what a process wrote to standard error; if it wrote nothing, its exit code.

    Args:
        said: the file that it wrote to.
    """
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return printable(lines[-1]) if lines else f"exit code {process.poll()}"


def end(process: "subprocess.Popen[bytes]") -> None:
    """Closes the process's standard input, asks it to end, then ends it."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    process.terminate()
    children.end(process, _END_SECONDS)


@contextmanager
def _answers() -> Iterator[IO[bytes]]:
    """Standard output for the answers alone: whatever else is printed goes to standard error."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        yield out


def serve(handle: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Answers requests until standard input ends. Runs in the child."""
    with _answers() as out:
        for line in sys.stdin.buffer:
            try:
                answer = dict(handle(json.loads(line)))
            except TaggerError as error:
                answer = {"error": str(error), "exit_code": error.exit_code}
            out.write(json.dumps(answer).encode() + b"\n")
            out.flush()
