"""Questions at a terminal."""

import sys
from collections.abc import Callable
from typing import TypeVar

import click

from tagger.errors import UserError
from tagger.printable import echo

_Answer = TypeVar("_Answer")


def prompt(question: str, default: str = "", hide_input: bool = False) -> str:
    """
    Raises:
        UserError: the answer is not UTF-8 text.
    """
    try:
        text: str = click.prompt(question, default=default, show_default=bool(default), hide_input=hide_input)
        text.encode()
    except UnicodeError:
        raise UserError("this answer is not UTF-8 text") from None
    return text


def until(question: str, default: str, take: Callable[[str], _Answer], is_secret: bool = False) -> _Answer:
    """Asks until `take` accepts the answer. Spaces around an answer are dropped, but kept in a password."""
    while True:
        try:
            answer = prompt(question, default, hide_input=is_secret and sys.stdin.isatty())
            return take(answer if is_secret else answer.strip())
        except UserError as error:
            echo(f"   {error}")
