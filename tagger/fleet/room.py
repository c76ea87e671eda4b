"""Room for what is heard from a broker, to which anybody may publish anything: so many bytes and no more."""

import logging

from tagger.printable import number_of
from tagger.retry import is_power_of_two

log = logging.getLogger(__name__)

MOST_BYTES = 64_000_000
"""Most bytes of messages of one kind that are kept."""
_ENTRY_BYTES = 500
"""What a message costs besides its own bytes."""


class Room:
    """Counts the bytes of what is kept. The log counts the messages that find no room, and begins anew once half of it
    was free.
    """

    def __init__(self, what: str, fate: str) -> None:
        """
        Args:
            what: whose messages they are, for people.
            fate: what it means that some are left out, for people.
        """
        self._what, self._fate, self._most_bytes = what, fate, MOST_BYTES
        self._taken = 0
        self.left_out = 0
        """Messages that have found no room since half of it was free."""

    def take(self, size: int) -> bool:
        """Takes room for a message of so many bytes. False: there is none."""
        if self._taken + size + _ENTRY_BYTES > self._most_bytes:
            self.left_out += 1
            if is_power_of_two(self.left_out):
                log.warning(
                    "%s: the broker retains more than %.3g MB of what is open; %s left out so far: %s",
                    *(self._what, self._most_bytes / 1e6),
                    *(number_of(self.left_out, "message is", "messages are"), self._fate),
                )
            return False
        self._taken += size + _ENTRY_BYTES
        return True

    def free(self, size: int) -> None:
        """Gives back the room of a message of so many bytes."""
        self._taken -= size + _ENTRY_BYTES
        if 2 * self._taken <= self._most_bytes:
            self.left_out = 0
