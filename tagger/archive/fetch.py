"""Recordings as local files: those on other machines are copied, the next one while this one is tagged."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tagger.archive.stores import StoreError, is_url, store_of, without_query
from tagger.errors import UserError

_TRIES = 3
_PAUSE_SECONDS = 1.0
"""Time before the second try; before each further one, twice as long."""


@dataclass(frozen=True)
class Fetched:
    """A recording that can be read now."""

    number: int
    shown: str
    """Its path, or its URL without what is behind the path."""
    began: float | None
    path: Path
    """Where it can be read."""
    error: str | None
    """Why it cannot."""


def fetched(files: Sequence[tuple[str, float | None]], skipped: Mapping[int, str]) -> Iterator[Fetched]:
    """The recordings in order. A copy is deleted when the next one is asked for.

    Args:
        skipped: reasons of recordings that are not read, by their number.

    Raises:
        StoreError: a file system does not answer, at the third try.
    """
    if not any(is_url(path) for path, _ in files):
        for number, (path, began) in enumerate(files):
            yield Fetched(number, path, began, Path(path), skipped.get(number))
        return
    with ThreadPoolExecutor(1, "fetch") as thread, ExitStack() as left:
        coming: Future[tuple[ExitStack, Fetched]] | None = None
        try:
            for number in range(len(files)):
                stack, here = (coming or thread.submit(_fetch, number, *files[number], skipped)).result()
                coming = None
                with stack:
                    if number + 1 < len(files):
                        coming = thread.submit(_fetch, number + 1, *files[number + 1], skipped)
                    yield here
        finally:
            if coming is not None and not coming.cancel() and coming.exception() is None:
                left.enter_context(coming.result()[0])


def _fetch(number: int, path: str, began: float | None, skipped: Mapping[int, str]) -> tuple[ExitStack, Fetched]:
    """A recording, and what deletes its copy."""
    if (reason := skipped.get(number)) is not None or not is_url(path):
        return ExitStack(), Fetched(number, without_query(path), began, Path(path), reason)
    for attempt in range(_TRIES):
        stack = ExitStack()
        try:
            return stack, Fetched(
                number, without_query(path), began, stack.enter_context(store_of(path).reading()), None
            )
        except FileNotFoundError:
            return stack, Fetched(number, without_query(path), began, Path(path), "no such file")
        except (OSError, UserError) as error:
            stack.close()
            if attempt + 1 == _TRIES or isinstance(error, UserError):
                raise StoreError(f"{path}: cannot be fetched ({error})") from None
            time.sleep(_PAUSE_SECONDS * 2**attempt)
    raise AssertionError
