"""When a file was recorded: by its name, its metadata, or its modification time."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from tagger.audio.chunk import Chunk
from tagger.audio.decode import open_audio
from tagger.audio.ffmpeg import tags
from tagger.audio.libsndfile import SoundFile
from tagger.errors import UserError
from tagger.times import local_text

log = logging.getLogger(__name__)

SLACK_SECONDS = 2.0
"""Largest time by which a recording may end in the future: clocks differ, and names have whole seconds."""
_SURELY_PAST_SECONDS = 7 * 86_400.0
"""Age of a recording whose end is in the past, however long it is."""
_EARLIEST = 1990
"""First year that is believed. Earlier ones are what clocks say that were never set."""
_NAME = re.compile(
    r"""(?<!\d)
    ((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])  # 20240131, 2024-01-31
    (?:[ _T$@-]{0,3}|-birdnet-|[ ]at[ ])
    ([01]\d|2[0-3])([-_.:h]?)([0-5]\d)[-_.:m]?([0-5]\d)            # 235959, 23-59-59
    (?:\.?(\d{3}))?                                                # milliseconds
    (Z|[+-](?:0\d|1[0-4]):?(?:00|30|45))?
    (?!\d|[ ]?[ap]\.?m)""",
    re.VERBOSE | re.IGNORECASE,
)
_AUDIOMOTH = re.compile(r"Recorded at (\d\d:\d\d:\d\d)(?:\.\d+)? (\d\d/\d\d/\d{4}) \(UTC([+-]\d{1,2})?(?::(\d\d))?\)")
"""Comment of an AudioMoth's recordings."""
_ONLY_TIME = re.compile(r"\d\d[-:_. ]\d\d[-:_. ]\d\d")


@dataclass(frozen=True)
class Began:
    """When a recording began."""

    time: float
    """Seconds since the epoch."""
    why: str
    """What says so, for people."""

    def __str__(self) -> str:
        return f"dated from {local_text(self.time)} by {self.why}"


def began(path: Path, now: float | None = None) -> Began:
    """When a recording began: by its name, else its metadata, else its modification time less its length.

    A time without a zone is local time. Of a time in the name that the metadata has too, with a zone, that zone counts.
    What would put the recording's end into the future is not believed.

    Args:
        path: an audio file that can be opened.
        now: seconds since the epoch; the wall clock's time if it is None.
    """
    now = time.time() if now is None else now
    length_s: float | None = None
    refused = ""
    for moment, why in _candidates(path):
        if moment.year < _EARLIEST or moment.year > 9998:
            continue
        at = moment.timestamp()
        if at > now - _SURELY_PAST_SECONDS:
            length_s = length_of(path) if length_s is None else length_s
        if at + (length_s or 0.0) <= now + SLACK_SECONDS:
            return Began(min(at, now - (length_s or 0.0)), why + refused)
        refused = refused or f" (by {why} it would end in the future: {local_text(at)})"
    length_s = length_of(path) if length_s is None else length_s
    return by_modification(path.stat().st_mtime, length_s, now, refused)


def by_modification(modified: float, length_s: float, now: float, refused: str = "") -> Began:
    """When a recording began that ended when its file was last modified.

    Args:
        modified: seconds since the epoch. A time after `now` counts as `now`.
        refused: other times that were not believed, and why, for people.
    """
    return Began(min(modified, now) - length_s, f"its modification time, less its length{refused}")


def by_user(where: str, start_time: float, length_s: float) -> Began:
    """When a recording began by the user's word, seconds since the epoch.

    Args:
        where: the recording, for messages.

    Raises:
        UserError: it would end in the future.
    """
    ends = start_time + length_s
    if ends > time.time() + SLACK_SECONDS:
        raise UserError(
            f"{where}: began at {local_text(start_time)} by --start-time, and would end in the future, "
            f"at {local_text(ends)}"
        )
    return Began(start_time, "--start-time")


def _candidates(path: Path) -> Iterator[tuple[datetime, str]]:
    """Times at which the recording may have begun, the best first, and what says so."""
    named, noted = by_name(path.stem), _by_tags(tags(path))
    if named is not None and noted is not None and _is_same_clock(named, noted[0]):
        yield noted[0], "its name, in its metadata's time zone"
    if named is not None:
        yield named, "its name"
    if noted is not None:
        yield noted


def _is_same_clock(named: datetime, noted: datetime) -> bool:
    """Whether the second time is the first one, which has no zone, in a zone."""
    has_zone = named.tzinfo is None and noted.tzinfo is not None
    return has_zone and abs(noted.replace(tzinfo=None) - named) <= timedelta(seconds=2)


def by_name(stem: str) -> datetime | None:
    """The time in a file's name, without its suffix; local, unless it has a zone. None if there is none.

    >>> by_name("attic_20240131_235959"), by_name("2024-01-31T23-59-59Z").isoformat(), by_name("clip 20240131")
    (datetime.datetime(2024, 1, 31, 23, 59, 59), '2024-01-31T23:59:59+00:00', None)
    """
    for found in _NAME.finditer(stem):
        year, _, month, day, hour, _, minute, second, millis, zone = found.groups()
        text = f"{year}-{month}-{day}T{hour}:{minute}:{second}.{millis or '000'}{zone or ''}"
        try:
            return datetime.fromisoformat(text)
        except ValueError:  # the 31st of June
            continue
    return None


def _by_tags(found: Mapping[str, str]) -> tuple[datetime, str] | None:
    """The time in the tags of a file, and what says so; None if there is none."""
    if (comment := _AUDIOMOTH.search(found.get("comment", ""))) is not None:
        clock, date, hours, minutes = comment.groups()
        try:
            offset = timedelta(hours=int(hours or 0), minutes=int(f"{(hours or '+')[0]}{minutes or 0}"))
            naive = datetime.strptime(f"{date} {clock}", "%d/%m/%Y %H:%M:%S")
            return naive.replace(tzinfo=timezone(offset)), "its metadata (AudioMoth's comment)"
        except ValueError:
            pass
    date, created = found.get("date", ""), found.get("creation_time", "")
    texts = [("creationdate", found.get("com.apple.quicktime.creationdate", "")), ("creation_time", created)]
    if _ONLY_TIME.fullmatch(created):  # FFmpeg's names for the two parts of a WAV's bext
        texts = [("bext", re.sub(r"\D", "-", date) + "T" + re.sub(r"\D", ":", created))]
    for name, text in [*texts, ("date", date)]:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            continue
        if re.search(r"\d[T ]\d", text) and moment.year >= _EARLIEST:
            return moment, f"its metadata ({name})"
    return None


def length_of(path: Path) -> float:
    """Length of a recording, seconds: by its header where that is exact, else by decoding it once."""
    decoder = open_audio(path)
    if isinstance(decoder, SoundFile) and (length_s := decoder.length_s) is not None:
        decoder.close()
        return length_s
    return measured(str(path), lambda: decoder.chunks(lambda line: None))


def measured(where: str, decode: Callable[[], Iterator[Chunk]]) -> float:
    """Length of a recording up to where it is damaged, seconds, by decoding it. What is wrong is said when it is heard.

    Args:
        where: the recording, for the log.
    """
    length_s = 0.0
    try:
        for chunk in decode():
            length_s += chunk.missing_s + len(chunk.frames) / chunk.rate_hz
    except Exception:  # whatever a library makes of a damaged file
        log.debug("%s: while its length was measured", where, exc_info=True)
    return length_s
