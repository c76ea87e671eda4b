"""A broker of its own process: mosquitto where it is installed, else the embedded one."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tagger.bench.child import end
from tagger.errors import TaggerError

_START_SECONDS = 20.0


@dataclass(frozen=True)
class Broker:
    name: str
    """`mosquitto`, or `the embedded broker`."""
    port: int
    """On 127.0.0.1."""


@contextmanager
def broker(embedded: bool = False) -> Iterator[Broker]:
    """
    Args:
        embedded: take the embedded one in any case.

    Raises:
        TaggerError: it does not start, or no broker is installed.
    """
    mosquitto = None if embedded else shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    port = _free_port()
    command = [mosquitto, "-p", str(port)] if mosquitto else [sys.executable, "-m", "tagger.bench.broker", str(port)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait(process, port)
        yield Broker(Path(mosquitto).name if mosquitto else "the embedded broker", port)
    finally:
        end(process)


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise TaggerError("no broker to publish to: install mosquitto, or run `./scripts/setup` for the embedded one")


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """The embedded broker, until standard input ends."""
    from tagger.mqtt.embedded import EmbeddedBroker

    running = EmbeddedBroker("127.0.0.1", int(sys.argv[1]))
    waiting = threading.Thread(target=sys.stdin.buffer.read, daemon=True)
    waiting.start()
    waiting.join()
    running.stop()


if __name__ == "__main__":
    main()
