"""`--watch`: subscribes to a node's events, and prints them as they arrive back from the broker."""

import contextlib
import json
import sys
import threading
from typing import Any, TextIO

from tagger.mqtt.connection import Connection
from tagger.mqtt.topics import Topics
from tagger.printable import write_line
from tagger.settings import MqttSettings

_MAX_CHARACTERS = 500
"""Longest line that is printed whole."""


class Watcher:
    """A subscriber with its own connection. It knows the broker's address and the node's name, not the daemon."""

    def __init__(self, settings: MqttSettings, file: TextIO | None = None) -> None:
        """
        Args:
            file: receives one line a message. None: standard output.
        """
        self._topics = Topics(settings.prefix, settings.node)
        self._file = file or sys.stdout
        self._subscribed = threading.Event()
        self._node_offline = threading.Event()
        self._was_online = False
        self._connection = Connection(settings, lambda error: self._subscribed.set(), quiet=True)
        self._connection.on_connected = self._subscribe
        self._connection.on_subscribed = self._subscribed.set
        self._connection.on_message = self.print_message

    def start(self, wait_s: float) -> None:
        """Returns once subscribed, or after `wait_s` seconds; the connection is still tried after that."""
        self._connection.start()
        self._subscribed.wait(wait_s)

    def stop(self, wait_s: float = 2.0) -> None:
        """Returns once the node's `offline` has arrived, or after `wait_s` seconds."""
        self._node_offline.wait(wait_s)
        self._connection.stop()

    def _subscribe(self) -> None:
        self._connection.subscribe([self._topics.node_status, self._topics.event("+")])

    def print_message(self, topic: str, message: bytes, retained: bool) -> None:
        """Prints one line of a message that has arrived: an event, or a status."""
        payload = message.decode(errors="replace")
        if topic == self._topics.node_status:
            self._was_online |= payload == "online"
            if self._was_online and payload == "offline":
                self._node_offline.set()
            line = payload
        else:
            try:
                line = _describe(json.loads(payload))
            except Exception:  # another program may publish anything there; an onlooker never ends the daemon
                line = payload
        self._print(f"{topic:<28} {line}")

    def _print(self, line: str) -> None:
        """Prints one line, whatever is in it."""
        text = line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}... ({len(line)} characters)"
        with contextlib.suppress(OSError, ValueError):  # the reader of the output has gone, or the file is closed
            write_line(text, self._file)


def _describe(event: dict[str, Any]) -> str:
    """One line, from the JSON of an event. Raises some exception if this is no event."""
    line = f"{event['type']:<5} {event['label']:<18} score {event['score']:.2f}"
    if event["type"] == "end":
        line += f"  peak {event['peak_score']:.2f}  lasted {event['duration_s']:.1f} s"
    return line
