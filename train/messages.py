"""Messages of a long job to its user, one line each."""

from collections.abc import Callable

Say = Callable[[str], None]
"""Shows one line to the user."""


def silent(text: str) -> None:
    """Shows nothing: for processes that do not lead."""
