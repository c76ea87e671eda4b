"""Exceptions that nobody foresaw, where others are answered: a message, a request, a file that is looked at again.

Such an exception costs what was being handled, never the daemon: whoever can send it could else end the daemon, and
would end its next start too. Where audio becomes events it is not so: there a fault must be loud.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

_MOST_TOLD = 200
"""Most places whose traceback is remembered as told."""
_told: dict[tuple[str, str, str], None] = {}


def tell(what: str, error: BaseException) -> None:
    """Logs an exception that nobody foresaw; its traceback comes with the first from each place.

    Args:
        what: what was handled, for people; nothing that others have written, since each text is logged for itself.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "an unknown place"
    key = what, type(error).__name__, place
    is_new = key not in _told
    if is_new:
        _told[key] = None
        while len(_told) > _MOST_TOLD:
            del _told[next(iter(_told))]
    log.error(
        "%s: failed (%s in %s), and only that; please report it, with its traceback",
        *key,
        exc_info=error if is_new else None,
    )


@contextmanager
def contained(what: str) -> Iterator[None]:
    """An exception in the block ends the block alone, and is told.

    Args:
        what: as `tell` takes it.
    """
    try:
        yield
    except Exception as error:
        tell(what, error)
