"""A worker's process: opens the models once, then tags one shard after the other.

It is given its job and its shards through a socket, and ends when that is closed: when the process that started it has
ended, even if it was killed.
"""

import sys
from multiprocessing.connection import Connection
from typing import Any

from tagger.archive.shard import Hearer
from tagger.errors import TaggerError


class Teller:
    """Sends signs of life through the socket."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection

    def begun(self, number: int) -> None:
        self._connection.send(("begun", number))

    def heard(self, seconds: float) -> None:
        self._connection.send(("heard", seconds))


def serve(connection: "Connection[Any, Any]") -> None:
    """Does what comes through the socket, until it is closed."""
    try:
        hearer = Hearer.opened(connection.recv())
    except TaggerError as error:
        connection.send(("refused", error))
        return
    connection.send(("ready", None))
    while True:
        shard, skipped = connection.recv()
        try:
            done = hearer.work(shard, skipped, Teller(connection))
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
