"""A worker's process: `python -m tagger.fleet.process FOLDER NODE SESSION [PLACE]`. Its settings come by standard input
from the coordinator: so all workers have the same, whatever has become of the file meanwhile.
"""

import logging
import os
import pickle
import signal
import socket
import sys
from pathlib import Path

from tagger import logs
from tagger.errors import TaggerError
from tagger.fleet.file import node_settings
from tagger.fleet.hearing import DaemonHearing
from tagger.fleet.local import Client
from tagger.fleet.machine import take_place
from tagger.fleet.worker import Worker
from tagger.settings import ListenSettings

log = logging.getLogger("tagger.fleet")


def main(fleet: ListenSettings, folder: Path, node: str, session: str, place: str = "") -> int:
    """
    Args:
        fleet: the settings of all workers.
        folder: the coordinator's.
        place: where it computes (`tagger.fleet.machine.Machine`).

    Returns:
        The exit code.
    """
    take_place(place)
    failures: list[TaggerError] = []
    try:
        settings = node_settings(fleet, node)
        logs.configure(settings.log_level, settings.log_format)
        client = Client(folder)

        def fail(error: TaggerError) -> None:
            failures.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

        assert fleet.mqtt is not None
        with DaemonHearing(settings, folder / node, fail, fleet.mqtt.node) as hearing:
            worker = Worker(node, session, hearing, client.report, socket.gethostname())
            signal.signal(signal.SIGTERM, lambda *_: worker.stop())
            worker.run()
    except TaggerError as error:
        failures.append(error)
    for failure in failures[:1]:
        log.error("%s: %s", node, failure)
    return failures[0].exit_code if failures else 0


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    folder_, *rest = sys.argv[1:]
    sys.exit(main(pickle.load(sys.stdin.buffer), Path(folder_), *rest))
