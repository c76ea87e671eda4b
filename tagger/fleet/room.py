"""Room for what is heard from a broker, to which anybody may publish anything: so many bytes and no more."""

import logging

from tagger.printable import number_of
from tagger.retry import Repeats

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
        self._left_out = Repeats()
        self.is_full = False
        """Whether messages have found no room since half of it was free."""

    def take(self, size: int) -> bool:
        """Takes room for a message of so many bytes. False: there is none."""
        if self._taken + size + _ENTRY_BYTES > self._most_bytes:
            self.is_full = True
            if self._left_out.add():
                log.warning(
                    "%s: the broker retains more than %.3g MB of what is open; %s left out so far: %s",
                    *(self._what, self._most_bytes / 1e6),
                    *(number_of(self._left_out.count, "message is", "messages are"), self._fate),
                )
            return False
        self._taken += size + _ENTRY_BYTES
        return True

    def free(self, size: int) -> None:
        """Gives back the room of a message of so many bytes."""
        self._taken -= size + _ENTRY_BYTES
        if 2 * self._taken <= self._most_bytes:
            self.is_full = False
            self._left_out.begin_anew()
