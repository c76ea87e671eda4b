"""What those who use the page may do. The server asks `may`; the page hides what it denies (`/api/me`)."""

from enum import StrEnum


class Role(StrEnum):
    """Who somebody is to this daemon."""

    OWNER = "owner"
    GUEST = "guest"


class Right(StrEnum):
    """What a request does. Each route names one; a route that names none is for owners."""

    SEE = "see"
    """Sees what is heard now, what was announced, and how the daemon does."""
    HEAR = "hear"
    """Plays the clips of events."""
    MARK = "mark"
    """Sees and changes the marks of a review."""
    SET = "set"
    """Sees what other thresholds would have given, what was logged and what doctor finds, and changes settings."""
    PAUSE = "pause"
    """Pauses a source, or resumes it."""


def may(role: Role, right: Right | None) -> bool:
    """Whether somebody may do this.

    >>> [str(right) for right in Right if may(Role.GUEST, right)]
    ['see']
    >>> all(may(Role.OWNER, right) for right in Right)
    True
    """
    return role is Role.OWNER or right is Right.SEE
