"""Bounds what has come from a broker and waits for a thread: anybody may publish anything, and a disk may hang."""

import logging
import threading
from collections.abc import Callable

from tagger.printable import number_of
from tagger.retry import Repeats

log = logging.getLogger(__name__)

MOST_BYTES = 128_000_000
"""Most bytes of messages that wait: more than a broker retains for a large fleet."""
_ENTRY_BYTES = 500
"""What a message costs besides its own bytes."""
Handle = Callable[[str, bytes, bool], None]
"""Takes topic, payload, and whether the message was retained."""


class Inbox:
    """Hands messages from one thread to another, in order. Those that find no room are left out and counted."""

    def __init__(self, enqueue: Callable[[Callable[[], None]], None], handle: Handle) -> None:
        """
        Args:
            enqueue: queues a step for the thread that handles messages.
            handle: called there with each message.
        """
        self._enqueue, self._handle = enqueue, handle
        self._lock = threading.Lock()
        self._taken = 0
        self.left_out = Repeats()
        """Messages that found no room."""

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Takes a message, in the thread that receives."""
        size = len(topic) + len(payload) + _ENTRY_BYTES
        with self._lock:
            has_room = self._taken + size <= MOST_BYTES
            self._taken += size if has_room else 0
        if has_room:
            self._enqueue(lambda: self._take_out(size, topic, payload, retained))
        elif self.left_out.add():
            log.warning(
                "MQTT: messages of %.3g MB from the broker wait already, as the disk hangs or they come too fast: %s "
                "left out so far",
                *(MOST_BYTES / 1e6, number_of(self.left_out.count, "message is", "messages are")),
            )

    def _take_out(self, size: int, topic: str, payload: bytes, retained: bool) -> None:
        with self._lock:
            self._taken -= size
        self._handle(topic, payload, retained)
