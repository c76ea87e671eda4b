"""Whether a broker can be reached and lets this node in."""

import queue
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tagger.errors import TaggerError, UserError
from tagger.mqtt.connection import Connection
from tagger.mqtt.message import Outgoing
from tagger.mqtt.topics import Topics
from tagger.settings import MqttSettings

_LOOK_SECONDS = 0.05


def probe(settings: MqttSettings, wait_s: float) -> None:
    """Connects once, and leaves again. Nothing is published. Raises as `connected`."""
    with connected(settings, wait_s):
        pass


@contextmanager
def connected(settings: MqttSettings, wait_s: float) -> Iterator[Connection]:
    """A connection that ends with the block. The client id is another one than that of a daemon that runs with the same
    settings, so that stays connected.

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
        yield connection
    finally:
        connection.stop()


def round_trip(settings: MqttSettings, wait_s: float) -> float | None:
    """Time that a message takes to the broker and back, seconds; it is not retained. None: it does not come back.

    Args:
        wait_s: longest wait for the connection, and for the message, seconds.

    Raises:
        UserError, TaggerError: as `connected`.
    """
    token = secrets.token_hex(8)
    topic = Topics(settings.prefix, settings.node).response(f"doctor-{token}")
    subscribed, back = threading.Event(), threading.Event()
    with connected(settings, wait_s) as connection:
        connection.on_subscribed = subscribed.set
        connection.on_message = lambda of, payload, retained: back.set() if of == topic else None
        connection.subscribe([topic])
        if not subscribed.wait(wait_s):
            return None
        sent = time.monotonic()
        connection.publish(Outgoing(topic, token))
        return time.monotonic() - sent if back.wait(wait_s) else None
