"""Times as people and messages write them. A day is a day of the local calendar: 23, 24 or 25 hours."""

from datetime import UTC, date, datetime, timedelta

from tagger.errors import UserError

_WORDS = {"today": 0, "yesterday": 1}


def rfc3339(time: float) -> str:
    """A time (seconds since the epoch) in UTC, to the millisecond.

    >>> rfc3339(0.25)
    '1970-01-01T00:00:00.250+00:00'
    """
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")


def day(flag: str, text: str) -> date:
    """
    Args:
        flag: for the error, `--day`.
        text: `2026-11-26`, `today` or `yesterday`.

    Raises:
        UserError: `text` is none of these.
    """
    try:
        return _day(text)
    except ValueError:
        raise UserError(f"{flag} {text}: must be a day, such as 2026-11-26, today or yesterday") from None


def moment(flag: str, text: str, end: bool = False) -> float:
    """Seconds since the epoch.

    Args:
        text: a day as `day` takes it, or `2026-11-26T14:30`, local or with an offset from UTC.
        end: whether a day means its end instead of its beginning.

    Raises:
        UserError: `text` is neither.
    """
    try:
        return bounds(_day(text))[1 if end else 0]
    except ValueError:
        pass
    try:
        return seconds(text)
    except ValueError:
        raise UserError(
            f"{flag} {text}: must be a time, such as 2026-11-26, 2026-11-26T14:30, today or yesterday"
        ) from None


def seconds(text: str) -> float:
    """Seconds since the epoch of a time in ISO 8601: local, unless it ends in `Z` or an offset such as `+01:00`.

    Raises:
        ValueError: it is no time, or not one from 1970 to 9998.

    >>> seconds("1970-01-01T00:01:00Z"), seconds("19710101T010000+0100")  # the first, by a clock that was never set
    (60.0, 31536000.0)
    """
    found = datetime.fromisoformat(text.strip())
    if not 1970 <= found.year < 9999 or found.timestamp() < 0:
        raise ValueError("out of what clocks can tell")
    return found.timestamp()


def bounds(of: date) -> tuple[float, float]:
    """Begin of a day and of the next one, seconds since the epoch: 23, 24 or 25 hours apart.

    If clocks go forward at midnight, the day begins at that moment.
    """
    return _midnight(of), _midnight(of + timedelta(days=1))


def local(time: float) -> datetime:
    """A time (seconds since the epoch) on the local clock."""
    return datetime.fromtimestamp(time)


def local_text(time: float) -> str:
    """A time (seconds since the epoch) on the local clock, with its offset from UTC: `2026-11-26 14:30:00+01:00`."""
    return local(time).astimezone().isoformat(" ", "seconds")


def _midnight(of: date) -> float:
    found = datetime(of.year, of.month, of.day).timestamp()  # the first of two midnights; the jump, if there is none
    return max(0.0, found)


def _day(text: str) -> date:
    word = text.strip().lower()
    found = (
        date.today() - timedelta(days=_WORDS[word]) if word in _WORDS else datetime.strptime(word, "%Y-%m-%d").date()
    )
    if not 1970 <= found.year < 9999:
        raise ValueError("out of what clocks can tell")
    return found


def age_text(seconds: float) -> str:
    """A time for people.

    >>> age_text(0.4), age_text(75), age_text(7_260), age_text(200_000)
    ('0 s', '1 min', '2 h 1 min', '2 d 7 h')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
