"""Whether a broker can be reached and lets this node in."""

import queue
import secrets
import threading
import time
from collections.abc import Callable

from tagger.errors import TaggerError, UserError
from tagger.mqtt.connection import Connection
from tagger.mqtt.message import Outgoing
from tagger.mqtt.topics import Topics
from tagger.settings import MqttSettings

_LOOK_SECONDS = 0.05


def probe(settings: MqttSettings, wait_s: float, then: Callable[[Connection], None] = lambda connection: None) -> None:
    """Connects once, and leaves again. A daemon that runs with the same settings stays connected: the client id is
    another one. Nothing is published.

    Args:
        wait_s: longest wait for the broker's answer, seconds.
        then: called with the connection, before it is ended.

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
        then(connection)
    finally:
        connection.stop()


def round_trip(settings: MqttSettings, wait_s: float) -> float | None:
    """Time that a message takes to the broker and back, seconds; it is not retained. None: it does not come back.

    Args:
        wait_s: longest wait for the connection, and for the message, seconds.

    Raises:
        UserError, TaggerError: as `probe`.
    """
    token = secrets.token_hex(8)
    topic = Topics(settings.prefix, settings.node).response(f"doctor-{token}")
    took_s: list[float] = []

    def exchange(connection: Connection) -> None:
        subscribed, back = threading.Event(), threading.Event()
        connection.on_subscribed = subscribed.set
        connection.on_message = lambda of, payload, retained: back.set() if of == topic else None
        connection.subscribe([topic])
        if not subscribed.wait(wait_s):
            return
        sent = time.monotonic()
        connection.publish(Outgoing(topic, token))
        if back.wait(wait_s):
            took_s.append(time.monotonic() - sent)

    probe(settings, wait_s, exchange)
    return took_s[0] if took_s else None
