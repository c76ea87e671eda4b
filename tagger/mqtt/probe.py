"""Whether a broker can be reached and lets this node in."""

import queue
import secrets
import time

from tagger.errors import TaggerError, UserError
from tagger.mqtt.connection import Connection
from tagger.settings import MqttSettings

_LOOK_SECONDS = 0.05


def probe(settings: MqttSettings, wait_s: float) -> None:
    """Connects once, and leaves again. A daemon that runs with the same settings stays connected: the client id is
    another one. Nothing is published.

    Args:
        wait_s: longest wait for the broker's answer, seconds.

    Raises:
        UserError: the broker refuses for good, as for a wrong password; or a certificate cannot be used.
        TaggerError: the broker cannot be reached, or does not answer.
    """
    refusals: queue.SimpleQueue[UserError] = queue.SimpleQueue()
    connection = Connection(settings, refusals.put, f"tagger-check-{secrets.token_hex(4)}", quiet=True)
    connection.start()
    try:
        deadline = time.monotonic() + wait_s
        while not connection.ready.wait(_LOOK_SECONDS) and time.monotonic() < deadline:
            # Without an answer to MQTT 5 the connection tries once more, and says less.
            if connection.trouble and settings.version != "5":
                break
        if connection.refused:
            raise refusals.get()  # it comes at once, in paho's thread
        if not connection.is_connected:
            why = connection.trouble or f"no answer within {wait_s:g} s"
            raise TaggerError(f"the broker at {settings.url} cannot be reached: {why}")
    finally:
        connection.stop()
