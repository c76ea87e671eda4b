"""A worker's process: `python -m tagger.fleet.process FILE FOLDER NODE SESSION [PLACE]`."""

import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

from tagger import logs
from tagger.errors import TaggerError
from tagger.fleet import file
from tagger.fleet.hearing import DaemonHearing
from tagger.fleet.local import Client, take_place
from tagger.fleet.worker import Worker

log = logging.getLogger("tagger.fleet")


def main(path: Path, folder: Path, node: str, session: str, place: str = "") -> int:
    """
    Args:
        path: `fleet.toml`.
        folder: the coordinator's.
        place: where it computes (`tagger.fleet.local.Machine`).

    Returns:
        The exit code.
    """
    take_place(place)
    failures: list[TaggerError] = []
    try:
        settings = file.node_settings(file.load(path).settings, node)
        logs.configure(settings.log_level, settings.log_format)
        client = Client(folder)

        def fail(error: TaggerError) -> None:
            failures.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

        with DaemonHearing(settings, folder / node, fail) as hearing:
            worker = Worker(node, session, hearing, client.report, socket.gethostname(), time.time())
            signal.signal(signal.SIGTERM, lambda *_: worker.stop())
            worker.run()
    except TaggerError as error:
        failures.append(error)
    for failure in failures[:1]:
        log.error("%s: %s", node, failure)
    return failures[0].exit_code if failures else 0


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    path_, folder_, *rest = sys.argv[1:]
    sys.exit(main(Path(path_), Path(folder_), *rest))
