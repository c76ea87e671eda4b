"""A message to publish."""

from dataclasses import dataclass


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
    is_plain: bool = False
    """Whether to leave out those MQTT 5 properties that only describe the message."""

    @property
    def is_json(self) -> bool:
        """Whether the payload is a JSON object. Otherwise it is plain text."""
        return self.payload.startswith("{")
