"""An MQTT broker inside this process, for a first try and for machines without a broker (extra `broker`)."""

import asyncio
import logging
import socket
import threading
from typing import Any

from tagger.errors import TaggerError, UserError, to_install

_PORTS_TRIED = 20
"""Number of ports to try, from the given one on."""


class EmbeddedBroker:
    """Accepts any client on one address, without passwords. MQTT 3.1.1 only. Keeps nothing after `stop`."""

    def __init__(self, host: str, port: int) -> None:
        """Starts the broker on the first free port from `port` on, which the attribute `port` then holds.

        Raises:
            UserError: the broker's package is not installed.
            TaggerError: the broker does not start, or no port is free.
        """
        try:
            import amqtt.broker
        except ImportError:
            raise UserError(f"--mqtt embedded needs a package more: {to_install('broker')}") from None
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._broker_class: Any = amqtt.broker.Broker
        self.host, self.port = host, _free_port(host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="broker", daemon=True)
        self._thread.start()
        try:
            self._broker = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=10)
        except Exception as error:
            raise TaggerError(f"the embedded broker does not start on {host}:{self.port}: {error}") from None

    async def _start(self) -> Any:
        anonymous = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        listener = {"type": "tcp", "bind": f"{self.host}:{self.port}"}
        broker = self._broker_class({"listeners": {"default": listener}, "plugins": anonymous})
        await broker.start()
        return broker

    def stop(self) -> None:
        """Returns when the broker has ended, or after about 6 s."""
        try:
            asyncio.run_coroutine_threadsafe(self._broker.shutdown(), self._loop).result(timeout=3)
        except Exception as error:  # the broker ends with this process anyway
            logging.getLogger(__name__).debug("embedded broker: %s", error)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=3)
        self._loop.close()


def _free_port(host: str, first: int) -> int:
    for port in range(first, min(first + _PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return port
            except OSError:
                continue
    last = first + _PORTS_TRIED - 1
    raise TaggerError(f"ports {first} to {last} of {host} are all taken; name another: --mqtt embedded:PORT")
