"""Counts of what was kept of scores, part by part. What was counted once is kept, and not counted again.

A part is all that began within an hour. What a threshold gives in it depends on the windows in it, on the rules and on
what the part before left open; these are the key under which its events are kept, so they are those of a count of all.
"""

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from tagger import __version__
from tagger.history.count_cache import CountCache, Part
from tagger.history.scores import Chunk, Track
from tagger.policy import LabelPolicy
from tagger.web.replay import Replay, Windows

PART_SECONDS = 3_600.0
Read = Callable[[Sequence[Chunk]], Track]


def parts_of(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """The parts, in order."""
    return [list(each) for _, each in itertools.groupby(chunks, lambda chunk: chunk.begin // PART_SECONDS)]


class Counter:
    """Counts one label of one source by some sets of rules."""

    def __init__(self, name: Sequence[str], rules: Sequence[LabelPolicy], cache: CountCache, read: Read) -> None:
        """
        Args:
            name: of node, source and label.
            rules: one for each threshold.
            read: reads the windows of some chunks.
        """
        self.rules = tuple(rules)
        self._name, self._cache, self._read = tuple(name), cache, read

    def count(
        self, parts: Sequence[Sequence[Chunk]], deadline: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> list[list[tuple[float, float | None]]] | None:
        """Onset and offset of each event that these parts give, for each set of rules.

        Args:
            deadline: when to give up, by `clock`; what was counted by then need not be counted again.

        Returns:
            None: there was no time.
        """
        events: list[list[tuple[float, float | None]]] = [[] for _ in self.rules]
        memories: list[dict[str, Any] | None] = [None] * len(self.rules)
        after = 0
        for number, chunks in enumerate(parts):
            windows: Windows | None = None
            found: Part | None = None
            for place, rules in enumerate(self.rules):
                key = self._key(rules, chunks, memories[place], after)
                found = self._cache.find(key)
                if found is None:
                    if clock() > deadline:
                        return None
                    windows = windows or Windows(self._read(chunks))
                    found = _counted(self._name[-1], rules, windows, memories[place], after)
                    self._cache.add(key, found, lasts=number + 1 < len(parts))
                own = events[place]
                if own and found.end is not None:
                    own[-1] = (own[-1][0], found.end)
                own += zip(found.begins, found.ends, strict=True)
                memories[place] = found.memory
            assert found is not None
            after = found.after
        for place, rules in enumerate(self.rules):
            last = Replay(self._name[-1], rules, memories[place])
            last.finish(after)
            if last.end is not None and events[place]:
                events[place][-1] = (events[place][-1][0], last.end.offset)
            events[place] += [(each.onset, each.offset) for each in last.events]
        return events

    def _key(self, rules: LabelPolicy, chunks: Sequence[Chunk], memory: dict[str, Any] | None, after: int) -> bytes:
        parts = [__version__, self._name, asdict(rules), [asdict(each) for each in chunks], memory, after]
        return hashlib.sha256(json.dumps(parts).encode()).digest()


def _counted(label: str, rules: LabelPolicy, windows: Windows, memory: dict[str, Any] | None, after: int) -> Part:
    replay = Replay(label, rules, memory)
    replay.hear(windows, after)
    begins = [each.onset for each in replay.events]
    ends = [each.offset for each in replay.events]
    end = None if replay.end is None else replay.end.offset
    return Part(begins, ends, end, replay.memory(), int(windows.kept.flags[-1]))
