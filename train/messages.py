"""How a long job tells its user what it does, a line at a time."""

from collections.abc import Callable

Say = Callable[[str], None]
"""Shows one line to the user."""


def silent(text: str) -> None:
    """Shows nothing: for processes that do not lead."""
