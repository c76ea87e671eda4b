"""What another threshold would have given: the daemon's own rules for events, over the scores that were kept.

`python -m tagger.web.whatif DESCRIPTOR` answers one question over a socket: Python's lock is the daemon's, and a month
takes seconds.
"""

import json
import math
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tagger import children
from tagger.errors import TaggerError
from tagger.history.count_cache import keeping
from tagger.history.scores import Chunk, chunks, labels_of, reading, track
from tagger.policy import LabelPolicy
from tagger.web.counted import Counter, parts_of
from tagger.web.replay import offered

SPANS = {"day": 86_400.0, "week": 7 * 86_400.0, "month": 30 * 86_400.0}
"""Names and lengths of what is counted, seconds."""
_LONGEST_SECONDS = 120.0
"""Longest time that a question may take, seconds."""
COUNT_SECONDS = 20.0
"""Time that counting may take, seconds. Spans that are not counted by then are left out of this answer."""
_DAY_SECONDS = 100.0
"""The same for the last day, without which there is no answer."""
_LEAD_SECONDS = 3_600.0
"""Of a span that is counted alone, so much before it is replayed too, seconds: what was heard then may go on in it."""
Mark = tuple[float, float, bool]
"""Onset and offset of a reviewed event, seconds since the epoch, and whether it was right."""


def counted(
    counter: Counter,
    parts: Sequence[Sequence[Chunk]],
    now: float,
    marks: Sequence[Mark],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[dict[str, Any]], float]:
    """The rows (`rows_of`) of as much as can be counted in time: the last day, then the last week, then all.

    Args:
        parts: of the history.
        seconds: time that it may take.
        clock: seconds.

    Returns:
        The rows, None for spans that were left out; and from when on they count, seconds since the epoch.

    Raises:
        TaggerError: the day alone takes too long.
    """
    begun, asked, rows, since = clock(), -1, list[dict[str, Any]](), now
    for number, span in enumerate(SPANS.values()):
        is_last = number + 1 == len(SPANS)
        own = [part for part in parts if is_last or part[-1].end >= now - span - _LEAD_SECONDS]
        if len(own) != asked:
            longest_s = _DAY_SECONDS if number == 0 else seconds
            found = counter.count(own, begun + longest_s, clock)
            if found is None and number == 0:
                raise TaggerError(
                    f"counting the last day takes longer than {longest_s:g} s; what was counted is kept: ask again"
                )
            if found is None:
                return [row | dict.fromkeys(list(SPANS)[number:]) for row in rows], since
            asked, since = len(own), own[0][0].begin if own else now
            rows = rows_of(counter.rules, found, now, [mark for mark in marks if mark[0] >= since])
    return rows, since


def rows_of(
    rules: Sequence[LabelPolicy],
    events: Sequence[Sequence[tuple[float, float | None]]],
    now: float,
    marks: Sequence[Mark],
) -> list[dict[str, Any]]:
    """For each set of rules: how many events began in the last day, week and month, and how many of the reviewed sounds
    would still be announced.

    Args:
        events: onset and offset of those that each set of rules gives.
        now: the end of all spans, seconds since the epoch.
    """
    rows = []
    for own, found in zip(rules, events, strict=True):
        spans = np.array([(onset, now if offset is None else offset) for onset, offset in found]).reshape(-1, 2)
        said = [bool(((spans[:, 0] < end) & (spans[:, 1] > begin)).any()) for begin, end, _ in marks]
        rows.append(
            {
                "enter": own.enter,
                "exit": own.exit,
                **{name: sum(now - span <= onset <= now for onset, _ in found) for name, span in SPANS.items()},
                "right": sum(is_said and is_right for is_said, (_, _, is_right) in zip(said, marks, strict=True)),
                "wrong": sum(is_said and not is_right for is_said, (_, _, is_right) in zip(said, marks, strict=True)),
            }
        )
    return rows


def ask(question: dict[str, Any]) -> dict[str, Any]:
    """Answers `answer`'s question in a process of its own, which yields to the daemon.

    Raises:
        TaggerError: the history cannot be read, which is no mistake of whoever asks; or it took too long.
    """
    text = b""
    try:
        with children.asking("tagger.web.whatif", json.dumps(question).encode(), _LONGEST_SECONDS) as (_, ours):
            text = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    except TimeoutError:
        raise TaggerError(f"the count took longer than {_LONGEST_SECONDS:g} s; keep fewer days of scores") from None
    except ConnectionError:
        pass
    if not text:
        raise TaggerError("the count ended without an answer")
    found: dict[str, Any] = json.loads(text)
    if "wrong" in found:
        raise TaggerError(found["wrong"])
    return found


def answer(question: dict[str, Any], clock: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    """
    Args:
        question: `path`, `node`, `source`; and, to count, `label`, `rules`, `now` and `marks`.
        clock: seconds; a time of infinity ends the count.

    Raises:
        UserError: the history cannot be read.
        TaggerError: the count takes too long.
    """
    path, node, source = Path(question["path"]), question["node"], question["source"]
    with reading(path) as database:
        if "label" not in question:
            return {"labels": labels_of(database, node, source)}
        label, rules, marks = question["label"], LabelPolicy(**question["rules"]), question["marks"]
        parts = parts_of(known := chunks(database, node, source))
        rows, since = list[dict[str, Any]](), question["now"]
        if known:
            with keeping(path) as cache:
                each = [rules.with_enter(enter) for enter in offered(rules)]
                own = Counter(
                    (node, source, label), each, cache, lambda part: track(database, node, source, label, part)
                )
                rows, since = counted(own, parts, question["now"], marks, COUNT_SECONDS, clock)
    inside = [mark for mark in marks if known and mark[0] >= since]
    return {
        "since": known[0].begin if known else None,
        "until": known[-1].end if known else None,
        "windows": sum(chunk.windows for chunk in known),
        "counts": rows,
        "reviewed": {"right": sum(mark[2] for mark in inside), "wrong": sum(not mark[2] for mark in inside)},
    }


def rules_json(rules: LabelPolicy) -> dict[str, float]:
    """The rules as a question has them."""
    return asdict(rules)


def main(descriptor: int) -> None:
    os.nice(10)
    daemon = os.getppid()
    with socket.socket(fileno=descriptor) as theirs:
        question = json.loads(b"".join(iter(lambda: theirs.recv(1 << 16), b"")))
        try:
            found = answer(question, lambda: time.monotonic() if os.getppid() == daemon else math.inf)
        except (TaggerError, sqlite3.Error) as error:
            found = {"wrong": str(error)}
        theirs.sendall(json.dumps(found).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
