"""A worker's process: opens the models once, then tags one shard after the other.

It is given its job and its shards through a socket, and ends when that is closed: when the process that started it has
ended, even if it was killed.
"""

import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from tagger.archive.plan import Shard
from tagger.archive.shard import Hearer
from tagger.errors import TaggerError


class Teller:
    """What comes and goes through the socket."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._threads = 1

    def begun(self, number: int) -> None:
        self._connection.send(("begun", number))

    def heard(self, seconds: float) -> None:
        self._connection.send(("heard", seconds))

    def threads(self) -> int:
        while self._connection.poll():
            self._take()
        return self._threads

    def shard(self) -> tuple[Shard, Mapping[int, str]]:
        """Waits for the next one, and the recordings of it that are not read."""
        while (found := self._take()) is None:
            pass
        return found

    def _take(self) -> tuple[Shard, Mapping[int, str]] | None:
        kind, value = self._connection.recv()
        if kind == "threads":
            self._threads = value
            return None
        shard: tuple[Shard, Mapping[int, str]] = value
        return shard


def serve(connection: "Connection[Any, Any]") -> None:
    """Does what comes through the socket, until it is closed."""
    teller = Teller(connection)
    try:
        hearer = Hearer.opened(connection.recv())
    except TaggerError as error:
        connection.send(("refused", error))
        return
    connection.send(("ready", None))
    while True:
        shard, skipped = teller.shard()
        try:
            done = hearer.work(shard, skipped, teller)
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, TaggerError) else f"{type(error).__name__}: {error}"
            connection.send(("failed", reason))
        else:
            connection.send(("done", done))


def main() -> None:
    """The process."""
    with Connection(int(sys.argv[1])) as connection:
        try:
            serve(connection)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # nobody waits for it


if __name__ == "__main__":
    main()
