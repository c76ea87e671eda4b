"""The checks in a process of their own, beside a daemon: the model is opened there, so the daemon neither waits for
Python's lock nor keeps the memory.

`python -m tagger.doctor.child DESCRIPTOR` is told what to look at over a socket, and answers a line of JSON a finding.
"""

import json
import os
import pickle
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tagger import children
from tagger.daemon.status import Answer
from tagger.doctor.finding import Finding

_LONGEST_SECONDS = 120.0
"""Longest time that the checks may take, seconds."""
_END_SECONDS = 5.0
"""Longest wait for the process to end by itself, seconds."""
_MOST_BYTES = 1_000_000
"""Longest answer."""


def examine(
    flags: Mapping[str, Any], env: Mapping[str, str], config: Path | None, running: Answer
) -> Iterator[Mapping[str, str]]:
    """Each finding as JSON, as soon as it is known.

    Args:
        flags, env, config: as `resolve` takes them.
        running: how the daemon does that asks.
    """
    question = pickle.dumps((dict(flags), dict(env), config, dict(running)))
    said, deadline = 0, time.monotonic() + _LONGEST_SECONDS
    try:
        with children.asking("tagger.doctor.child", question, _LONGEST_SECONDS) as (process, ours):
            with ours.makefile("rb") as lines:
                for line in lines:
                    said += len(line)
                    yield json.loads(line)
                    if said > _MOST_BYTES or time.monotonic() > deadline:
                        raise TimeoutError
            children.end(process, _END_SECONDS)
            if process.returncode:
                raise ConnectionError
    except ConnectionError:
        yield Finding("doctor", "fail", "the checks ended before they were done", "run tagger doctor").to_json()
    except TimeoutError:
        yield Finding("doctor", "fail", f"no end within {_LONGEST_SECONDS:g} s", "run tagger doctor").to_json()


def main(descriptor: int) -> None:
    from tagger.config.build import resolve
    from tagger.doctor import run
    from tagger.errors import TaggerError

    os.nice(5)
    with socket.socket(fileno=descriptor) as theirs:
        # From the daemon that started this process.
        flags, env, config, running = pickle.loads(b"".join(iter(lambda: theirs.recv(1 << 16), b"")))
        try:
            for each in run.examine(resolve(flags, env, config), [running]):
                theirs.sendall(json.dumps(each.to_json()).encode() + b"\n")
        except TaggerError as error:
            theirs.sendall(json.dumps(Finding("settings", "fail", str(error)).to_json()).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
