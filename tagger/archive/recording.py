"""A recording that is to be tagged: where it is, what recorded it and when."""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tagger.archive.stores import is_url, without_query
from tagger.audio.recorded import by_name
from tagger.errors import UserError

UNKNOWN_BYTES = 4_000_000
"""Size that is assumed of a recording on another machine that a manifest lists."""
_SECRET = re.compile(r"(secret|token|password|passwd|signature|credential)[^=&]*=", re.IGNORECASE)
"""What a URL's query says of a secret."""
_EARLIEST = 1990
"""First year that is believed of a name. Earlier ones are what clocks say that were never set."""


@dataclass(frozen=True)
class Audio:
    """A recording to be tagged."""

    path: str
    """Absolute path, or URL."""
    source: str
    """What recorded it."""
    began: float | None
    """When it began, seconds since the epoch. None: nobody knows."""
    size: int
    """Bytes, or a guess."""


def absolute(place: str) -> str:
    """A URL, or an absolute path, with `/`, and without `.` and `..`.

    Raises:
        UserError: there is a password in the URL, or nothing but its scheme.
    """
    if place.startswith("file://"):
        place = place.removeprefix("file://")
    if is_url(place) and not without_query(place).partition("://")[2].strip("/"):
        raise UserError(f"{place}: names no bucket or server; write {place.partition('://')[0]}://NAME/folder")
    if not is_url(place):
        return Path(os.path.abspath(place)).as_posix()  # noqa: PTH100
    if _has_secret(place):
        raise UserError(
            f"{place.partition('://')[0]}://...: a password in a URL would be written into the archive; give it by the "
            "environment, as the file system's documentation says"
        )
    return place.rstrip("/")


def began(name: str) -> float | None:
    """When a recording began by its name, seconds since the epoch; a time without a zone is local."""
    found = by_name(PurePosixPath(without_query(name)).stem)
    return found.timestamp() if found is not None and found.year >= _EARLIEST else None


def _has_secret(url: str) -> bool:
    path, _, query = url.partition("?")
    user, at, _ = path.partition("://")[2].partition("/")[0].rpartition("@")
    return bool(at and ":" in user) or _SECRET.search(query) is not None
