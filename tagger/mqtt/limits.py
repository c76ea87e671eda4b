"""Which sizes of message a broker accepts, and the shorter form of an event that is too large."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator

from tagger.retry import Repeats

log = logging.getLogger(__name__)

_ADVICE = "raise its limit, such as max_packet_size of Mosquitto"
_WAITS_SECONDS = (60.0, 86_400.0)
"""First and longest time until what a broker has rejected is tried again, seconds. Each is twice the one before."""
_OPTIONAL = (
    "laeq_before_db",
    "model",
    "published",
    "peak_score",
    "duration_s",
    "source",
    "node",
    "score",
    "offset",
    "onset",
)
"""Fields that an event can do without, in the order in which they are left out. The topic has node and source too. What
stays is `schema`, `id`, `type` and `label`; so an end fits wherever its begin did."""


class SizeLimits:
    """What is known of the largest packet that the broker accepts, in bytes."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.announced: float = math.inf
        """The broker's own word (MQTT 5)."""
        self.accepted = 0
        """The largest that the broker has accepted."""
        self.rejected: float = math.inf
        """The smallest at which the broker has hung up."""
        self._last_rejected: float = math.inf
        """That, also after it was forgotten."""
        self._forget_at, self._wait_s = 0.0, _WAITS_SECONDS[0]
        """When it is to be forgotten, on the monotonic clock; and how long after it was found."""

    def connect(self, announced: float) -> bool:
        """Begins a connection. The broker may have been restarted with a higher limit, so what it has rejected is tried
        again: after a minute at the earliest, then less often, because it hangs up some times before it is found again.

        Args:
            announced: the broker's own word, bytes.

        Returns:
            Whether it may accept what it did not accept before, or the other way round.
        """
        is_other, self.announced = announced != self.announced, announced
        if self.rejected < math.inf and self._now() >= self._forget_at:
            self.rejected, is_other = math.inf, True
        return is_other

    def accept(self, size: int) -> None:
        """Notes that the broker has accepted a packet of this size."""
        self.accepted = max(self.accepted, size)
        if self.accepted >= self._last_rejected:
            self._last_rejected, self._wait_s = math.inf, _WAITS_SECONDS[0]
        if self.accepted >= self.rejected:  # so it was not the size
            self.rejected = math.inf

    def reject(self, size: int) -> None:
        """Notes that the broker hangs up at a packet of this size."""
        if self.rejected == math.inf:
            self._forget_at = self._now() + self._wait_s
            self._wait_s = min(2 * self._wait_s, _WAITS_SECONDS[1])
        self.rejected = self._last_rejected = min(self.rejected, size)
        self.accepted = min(self.accepted, size - 1)

    def allows(self, size: int) -> bool:
        """Whether a packet of this size may be tried."""
        return size <= self.announced and size < self.rejected

    @property
    def comfortable(self) -> float:
        """Size up to which nothing needs to be left out: half-way between what was accepted and what was rejected."""
        return min(self.announced, (self.accepted + self.rejected) / 2)


class TooLarge:
    """Messages that are too large for the broker: counted, and named in the log without flooding it."""

    def __init__(self, url: str) -> None:
        """
        Args:
            url: the broker, for people.
        """
        self._url = url
        self._left_out = Repeats()
        self.open_events: set[str] = set()
        """Ids of events whose begin was left out. Their ends are to be left out too."""
        self._topics: set[str] = set()
        self._has_shortened = False

    @property
    def events(self) -> int:
        """Number of begins and ends of events that were left out."""
        return self._left_out.count

    def begin_anew(self) -> None:
        """Notes that the limit may be another: what is too large for it is news again."""
        self._topics.clear()
        self._has_shortened = False
        self._left_out.begin_anew()

    def leave_out(self, topic: str, size: int) -> None:
        """Notes a message that is no event."""
        if topic not in self._topics:
            self._topics.add(topic)
            self._log(f"the one on {topic}", size)

    def leave_out_event(self, event_id: str, kind: str, label: str, topic: str, size: int) -> None:
        """Notes the begin or the end of an event."""
        if kind == "begin":
            self.open_events.add(event_id)
        else:
            self.open_events.discard(event_id)
        if self._left_out.add():
            self._log(f"the {kind} of {label!r} on {topic}", size)

    def shorten(self, size: int) -> None:
        """Notes an event that is sent in a shorter form."""
        if not self._has_shortened:
            self._has_shortened = True
            log.warning(
                "MQTT: %s takes only small messages: events are sent with fewer fields (one in %d bytes); %s",
                *(self._url, size, _ADVICE),
            )

    def _log(self, what: str, size: int) -> None:
        log.warning(
            "MQTT: %s takes no message as large as %s (%d bytes), which is left out; %s",
            *(self._url, what, size, _ADVICE),
        )


def shorter(payload: str) -> Iterator[str]:
    """Ever shorter forms of an event's JSON. None at all if this is no event."""
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        return
    if not isinstance(event, dict):
        return
    for field in (None, *_OPTIONAL):
        event.pop(field, None)
        yield json.dumps(event, separators=(",", ":"))


def identity(payload: str) -> tuple[str, str, str]:
    """Id, type and label of an event's JSON; empty where there are none."""
    try:
        event = json.loads(payload)
        return str(event["id"]), str(event["type"]), str(event["label"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return "", "", ""
