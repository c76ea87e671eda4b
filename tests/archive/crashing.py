"""A worker that tags nothing, and dies of recordings whose names say so."""

import os
import signal
import sys
from multiprocessing.connection import Connection

from tagger.archive.job import ShardDone


def main() -> None:
    """Every recording is one second long, and one of those that are skipped is a bad one.

    A hundred seconds of sound for each thread that it may use.
    """
    with Connection(int(sys.argv[1])) as connection:
        if connection.recv().out == "dies at once":
            os._exit(3)
        connection.send(("ready", None))
        while True:
            try:
                kind, value = connection.recv()
            except EOFError:
                return
            if kind == "threads":
                connection.send(("heard", 100.0 * value))
                continue
            shard, skipped = value
            for number, (path, _) in enumerate(shard.files):
                connection.send(("begun", number))
                if number in skipped:
                    continue
                if path == "crashes":
                    os.kill(os.getpid(), signal.SIGSEGV)
                if path == "fills the memory":
                    os.kill(os.getpid(), signal.SIGKILL)
            reason = next(iter(skipped.values()), None)
            connection.send(("heard", float(len(shard.files))))
            connection.send(("done", ShardDone(len(shard.files), len(skipped), 1.0, 0, 0, reason)))


if __name__ == "__main__":
    main()
