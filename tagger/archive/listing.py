"""What the user named, as a stream of recordings: folders, patterns and manifests, here and by URL.

Nothing is kept of a recording when it has been given on, so a million of them need no more memory than a thousand.
"""

import glob
import heapq
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import TextIO

from tagger.archive.manifest import MANIFESTS, listed
from tagger.archive.recording import UNKNOWN_BYTES, Audio, absolute, began
from tagger.archive.stores import Entry, Store, is_url, joined, store_of, without_query
from tagger.errors import UserError
from tagger.folders import is_hidden, may_be_audio

_SORTED_AT_ONCE = 10_000
"""Names of a folder that are sorted in memory; more are sorted on disk."""


@dataclass
class Listing:
    """The recordings that the arguments stand for."""

    sources: Sequence[str]
    """Files, folders, patterns, manifests and URLs."""
    source: str | None = None
    """What recorded all of them. None: the manifest says it, or the folder's name."""
    left_out: int = 0
    """Files in folders that are no audio by their names, as far as the listing has come."""
    errors: list[UserError] = field(default_factory=list)
    """Folders without audio, patterns without a match, and what cannot be listed."""

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: a file or folder is named that is in another one.
        """
        places = [absolute(each) for each in self.sources if not _has_magic(each)]
        for outer, inner in itertools.pairwise(sorted(places, key=_levels)):
            levels = _levels(outer)
            if _levels(inner)[: len(levels)] == levels and _there(inner):
                raise UserError(f"{inner}: is named already, by {outer}; name each recording once")

    def recordings(self) -> Iterator[Audio]:
        """Each recording, in the order of the arguments, and below a folder in the order of names.

        Raises:
            UserError: an argument does not exist, or a manifest cannot be read.
        """
        for each in self.sources:
            yield from self._of(absolute(each))

    def _of(self, place: str) -> Iterator[Audio]:
        store = store_of(place)
        kind = _kind(store)
        if kind == "file" and PurePosixPath(without_query(place)).suffix.lower() in MANIFESTS:
            yield from listed(place, store, self.source)
        elif kind == "file":
            parent = PurePosixPath(without_query(place)).parent.name
            yield Audio(place, self.source or parent, began(place), _size(place))
        elif kind == "folder":
            yield from self._below(place, store)
        elif _has_magic(place):
            yield from self._matches(place)
        else:
            raise _missing(place)

    def _below(
        self, root: str, store: Store, wanted: re.Pattern[str] | None = None, problem: str = ""
    ) -> Iterator[Audio]:
        """Recordings in a folder whose path below it matches."""
        count = 0
        own = PurePosixPath(without_query(root)).name
        for name, size in _files(store, self.errors):
            if wanted is not None and not wanted.match(name):
                continue
            if not may_be_audio(PurePosixPath(name).suffix):
                self.left_out += 1
                continue
            count += 1
            first, separator, _ = name.partition("/")
            yield Audio(joined(root, name), self.source or (first if separator else own), began(name), size)
        if not count:
            self.errors.append(UserError(problem or f"{root}: no audio files in this folder"))

    def _matches(self, pattern: str) -> Iterator[Audio]:
        scheme, separator, path = pattern.partition("://") if is_url(pattern) else ("", "", pattern)
        path, mark, query = path.partition("?") if scheme else (path, "", "")
        parts = path.split("/")
        fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
        root = f"{scheme}{separator}{'/'.join(fixed)}{mark}{query}" or "/"
        store = store_of(root)
        if _kind(store) != "folder":
            raise UserError(f"{pattern}: there is no folder {root}")
        wanted = re.compile(_as_expression(parts[len(fixed) :]), re.DOTALL)
        yield from self._below(root, store, wanted, f"{pattern}: no audio file matches this")


def local_roots(sources: Sequence[str]) -> list[str]:
    """Files and folders of this machine in which the recordings are that are named, as far as they are."""
    here = [each for each in map(absolute, sources) if not is_url(each)]
    return [
        "/".join(itertools.takewhile(lambda part: not glob.has_magic(part), each.split("/"))) or "/" for each in here
    ]


def _levels(place: str) -> list[str]:
    """What is behind a URL's path, and the names of the path: those of a folder begin those of what is in it."""
    path = without_query(place)
    return [place.removeprefix(path), *path.rstrip("/").split("/")]


def _there(place: str) -> bool:
    """
    Raises:
        UserError: there is nothing at this place.
    """
    if _kind(store_of(place)) not in ("file", "folder"):
        raise _missing(place)
    return True


def _missing(place: str) -> UserError:
    return UserError(f"{place}: there is no such file or folder")


def _has_magic(place: str) -> bool:
    return glob.has_magic(without_query(place))


def _kind(store: Store) -> str:
    try:
        return store.kind()
    except OSError as error:
        raise UserError(f"{store.shown}: cannot be reached ({error})") from None


def _size(place: str) -> int:
    return UNKNOWN_BYTES if is_url(place) else Path(place).stat().st_size


def _files(store: Store, errors: list[UserError]) -> Iterator[tuple[str, int]]:
    """Files of a store, their names and sizes: of each folder first its files, then what is in its folders."""
    folders = [""]
    while folders:
        folder = folders.pop()
        inner: list[str] = []
        try:
            for entry in in_order(each for each in store.entries(folder) if not is_hidden(each.name)):
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_folder:
                    inner.append(name)
                else:
                    yield name, entry.size
        except OSError as error:
            errors.append(UserError(f"{joined(store.shown, folder)}: cannot be listed ({error.strerror or error})"))
        folders += reversed(inner)


def in_order(entries: Iterable[Entry], at_once: int = _SORTED_AT_ONCE) -> Iterator[Entry]:
    """Entries by name. Of many, only `at_once` are in memory.

    >>> [each.name for each in in_order((Entry(name, False, 1) for name in "cabed"), at_once=2)]
    ['a', 'b', 'c', 'd', 'e']
    """
    with ExitStack() as stack:
        runs: list[Iterable[Entry]] = []
        source = iter(entries)
        while part := sorted(itertools.islice(source, at_once), key=_name):
            if len(part) < at_once:
                runs.append(part)
                break
            file = stack.enter_context(TemporaryFile("w+", encoding="ascii"))
            file.writelines(f"{json.dumps([each.name, each.is_folder, each.size])}\n" for each in part)
            file.seek(0)
            runs.append(_run(file))
        yield from heapq.merge(*runs, key=_name)


def _run(file: TextIO) -> Iterator[Entry]:
    return (Entry(*json.loads(line)) for line in file)


def _name(entry: Entry) -> str:
    return entry.name


def _as_expression(parts: Sequence[str]) -> str:
    r"""A regular expression for a path below a folder. A folder that matches stands for all below it.

    >>> bool(re.match(_as_expression(["**", "*.wav"]), "a.wav")), bool(re.match(_as_expression(["*.wav"]), "b/a.wav"))
    (True, False)
    """
    text = ""
    for part in parts:
        if part == "**":
            text += r"(?:[^/]+/)*"
            continue
        letters = "".join(
            r"[^/]*"
            if each == "*"
            else r"[^/]"
            if each == "?"
            else _letters(each)
            if each[0] == "["
            else re.escape(each)
            for each in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL)
        )
        text += f"{letters}/"
    return rf"{text.removesuffix('/')}(?:/|\Z)" if not text.endswith(r")*") else text


def _letters(group: str) -> str:
    inner = group[1:-1].replace("\\", r"\\")
    return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
