"""A message to publish."""

from dataclasses import dataclass

_MAX_OVERHEAD_BYTES = 512
"""Bound of a packet's size without topic and payload, MQTT 5 properties included."""


@dataclass(frozen=True)
class Outgoing:
    """A message to publish."""

    topic: str
    payload: str
    qos: int = 1
    retain: bool = False
    expiry_s: int | None = None
    """MQTT 5 message expiry interval: the broker may discard the message after this time, seconds."""
    outbox_number: int | None = None
    """Number in the outbox. None: the message is not in the outbox."""

    @property
    def max_bytes(self) -> int:
        """Upper bound of the packet's size."""
        return len(self.payload.encode()) + len(self.topic.encode()) + _MAX_OVERHEAD_BYTES

    @property
    def is_json(self) -> bool:
        """Whether the payload is a JSON object. Otherwise it is plain text."""
        return self.payload.startswith("{")
