"""The work of an archive: which recordings make a shard, written down before anything is tagged."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tagger import __version__
from tagger.archive.listing import Listing
from tagger.archive.recording import Audio
from tagger.archive.stores import STATE, Store
from tagger.errors import UserError
from tagger.times import local

RUN, WORK = f"{STATE}/run.json", f"{STATE}/work.jsonl"
_FORMAT = 1
_NULL = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, and all that read its partitions, take for NULL."""
_MOST_FILES = 500
"""Most recordings of a shard."""
_MOST_OPEN = 20_000
"""Most recordings that wait for others of their date and source."""
MARKER = "files"
"""The table whose file appears last: with it, a shard is done."""


@dataclass(frozen=True)
class Shard:
    """Recordings of one date and source, which become one file of each table."""

    number: int
    date: str | None
    """Local day on which they began, `2026-01-31`. None: nobody knows."""
    source: str
    files: tuple[tuple[str, float | None], ...]
    """Path or URL of each, and when it began, seconds since the epoch."""

    def name(self, table: str) -> str:
        """Its file of a table, below the archive's folder.

        >>> Shard(7, "2026-01-31", "attic/east", ()).name("events")
        'events/date=2026-01-31/source=attic%2Feast/000007.parquet'
        """
        return (
            f"{table}/date={self.date or _NULL}/source={quote(self.source, safe='') or _NULL}/{self.number:06d}.parquet"
        )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Shard":
        fields = json.loads(text)
        files = tuple((path, began) for path, began in fields.pop("files"))
        return cls(**fields, files=files)


@dataclass(frozen=True)
class Plan:
    """What a run is to do."""

    files: int
    shards: int
    left_out: int
    """Files in folders that are no audio by their names."""


def shards(
    recordings: Iterable[Audio], most_bytes: int, most_files: int = _MOST_FILES, most_open: int = _MOST_OPEN
) -> Iterator[Shard]:
    """Groups recordings, in their order. What comes depends on the recordings and these numbers alone."""
    numbers = itertools.count()
    groups: dict[tuple[str | None, str], list[Audio]] = {}
    sizes: dict[tuple[str | None, str], int] = {}
    waiting = 0

    def made(key: tuple[str | None, str]) -> Shard:
        nonlocal waiting
        del sizes[key]
        group = groups.pop(key)
        waiting -= len(group)
        return Shard(next(numbers), *key, tuple((each.path, each.began) for each in group))

    for each in recordings:
        key = None if each.began is None else local(each.began).date().isoformat(), each.source
        groups.setdefault(key, []).append(each)
        sizes[key] = sizes.get(key, 0) + each.size
        waiting += 1
        if len(groups[key]) >= most_files or sizes[key] >= most_bytes:
            yield made(key)
        elif waiting >= most_open:
            yield made(next(iter(groups)))
    for key in list(groups):
        yield made(key)


def write(store: Store, listing: Listing, settings: Mapping[str, Any], most_bytes: int) -> Plan:
    """Lists the recordings, and writes down their shards and the run's settings.

    Raises:
        UserError: the listing raised it, or there is no recording.
    """
    files = count = 0
    with store.writing(WORK) as path, path.open("w", encoding="ascii") as work:
        for shard in shards(listing.recordings(), most_bytes):
            work.write(f"{shard.to_json()}\n")
            files, count = files + len(shard.files), count + 1
        if not files:
            raise listing.errors[0] if listing.errors else UserError("no recordings are named")
    plan = Plan(files, count, listing.left_out)
    document = {
        "format": _FORMAT,
        "settings": dict(settings),
        "plan": dataclasses.asdict(plan),
        "by": f"tagger {__version__}",
    }
    with store.writing(RUN) as path:
        path.write_text(json.dumps(document, indent=1) + "\n", "ascii")
    return plan


def read(store: Store, settings: Mapping[str, Any]) -> Plan | None:
    """The plan of the run that is in the store; None if there is none.

    Raises:
        UserError: that run has other settings.
    """
    if not store.has(RUN):
        return None
    try:
        with store.reading(RUN) as path:
            document = json.loads(path.read_text("ascii"))
        if document["format"] != _FORMAT:
            raise UserError(
                f"{store.shown}: holds an archive of a newer version ({document['by']}); name another --out"
            )
        theirs = document["settings"]
        plan = Plan(**document["plan"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{store.shown}/{RUN}: is damaged; name another --out") from None
    ours = json.loads(json.dumps(settings))
    other = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
    if other:
        said = "; ".join(f"{key} {_brief(theirs.get(key))} there, {_brief(ours.get(key))} here" for key in other)
        raise UserError(
            f"{store.shown}: holds the archive of another run ({said}); name another --out, or give that run's options"
        )
    return plan


def work(store: Store) -> Iterator[Shard]:
    """The shards that were written down, those that are done too."""
    with store.reading(WORK) as path, path.open(encoding="ascii") as file:
        yield from map(Shard.from_json, file)


def is_done(store: Store, shard: Shard) -> bool:
    return store.has(shard.name(MARKER))


def digest(document: Mapping[str, Any]) -> str:
    """What differs for documents that differ."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=sorted).encode()).hexdigest()


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:60]}..."
