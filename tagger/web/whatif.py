"""What another threshold would have given: the daemon's own rules for events, over the scores that were kept.

`python -m tagger.web.whatif DESCRIPTOR` answers one question over a socket: Python's lock is the daemon's, and a month
takes seconds.
"""

import itertools
import json
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tagger import children
from tagger.decide import Decider
from tagger.errors import TaggerError
from tagger.events import Event, Scores
from tagger.history.scores import CLOSED, FIRST, FLOOR, NEW, Track, labels_of, reading, track
from tagger.policy import LabelPolicy, Policy

SPANS = {"day": 86_400.0, "week": 7 * 86_400.0, "month": 30 * 86_400.0}
"""Names and lengths of what is counted, seconds."""
_GRID = (*(round(0.05 * step, 2) for step in range(4, 19)), 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
_NOT_FIRST = 5e-324
"""Where a window begins that is not its stream's first, seconds: any number above 0. Added to another it is lost."""
_LONGEST_SECONDS = 120.0
"""Longest time that a question may take, seconds: a limit for what `_COUNT_SECONDS` does not foresee."""
_COUNT_SECONDS = 20.0
"""Time that counting may take, seconds. Spans that would take longer are left out, the longest first."""
_LEAST_PACE_SECONDS = 5e-5
"""Least time that is foreseen for a window that reaches a threshold, seconds: a day may be too short to tell."""
_LEAD_SECONDS = 3_600.0
"""Of a span that is counted alone, so much before it is replayed too, seconds: what was heard then may go on in it."""
_NO_AXIS = (np.full((1, 1), 0, np.float32), 1.0)


def least_enter(rules: LabelPolicy) -> float | None:
    """The lowest threshold whose events the kept scores give exactly: its `exit` is not below FLOOR. None: there is
    none, as `exit` is 0.
    """
    share = rules.exit / rules.enter
    return None if not share else min(1.0, max(FLOOR, np.ceil(1000 * FLOOR / share) / 1000))


def offered(rules: LabelPolicy) -> list[float]:
    """The thresholds that are counted, the present one among them."""
    least = least_enter(rules)
    if least is None:
        return []
    return sorted({each for each in (*_GRID, rules.enter) if each >= least and rules.exit_at(each) >= FLOOR})


def replay(kept: Track, label: str, rules: LabelPolicy) -> list[Event]:
    """The events of one label by these rules, as the daemon would have announced them: of each its end, or, where it
    has not ended, its begin; in the order of their begins.

    Windows that change nothing are passed over: all while nothing is open or waits to be confirmed, and the score is
    below `enter`.
    """
    numbers = itertools.count()
    policy = Policy((label,), (rules,))

    def new() -> Decider:
        return Decider(policy, lambda time: str(next(numbers)))

    decider, events = new(), dict[str, Event]()
    count, ends = len(kept.time), kept.time + kept.duration_s
    reaches = kept.values >= rules.enter
    is_needed = reaches | ((kept.flags[:-1] & (CLOSED | NEW)) > 0)
    is_needed[:-1] |= reaches[1:]  # what came just before says whether audio was lost between
    is_needed[1:] |= ends[1:] < ends[:-1] - 1.0  # the clock was set back
    at = -1
    for needed in np.flatnonzero(is_needed).tolist():
        if needed <= at:
            continue
        at = needed
        while True:
            flags = int(kept.flags[at])
            found = decider.close() if flags & (CLOSED | NEW) else []
            if flags & NEW:
                decider = new()
            for event in [*found, *decider.update(_scores(kept, at))]:
                events[event.id] = event
            if decider.is_idle or at + 1 >= count:
                break
            at += 1
    if kept.flags[-1] & CLOSED:
        events |= {event.id: event for event in decider.close()}
    return list(events.values())


def _scores(kept: Track, at: int) -> Scores:
    entry = int(kept.entries[at])
    activity, step_s = (kept.activity[entry][0][None], kept.activity[entry][1]) if entry >= 0 else _NO_AXIS
    start_s = 0.0 if kept.flags[at] & FIRST else _NOT_FIRST
    return Scores(
        values=kept.values[at : at + 1],
        start_s=start_s,
        end_s=start_s + float(kept.duration_s[at]),
        time=float(kept.time[at]),
        activity=activity,
        step_s=step_s,
    )


def part_of(kept: Track, since: float) -> Track:
    """The windows from the first on that begins at `since`, seconds since the epoch, or later."""
    later = np.flatnonzero(kept.time >= since)
    at = int(later[0]) if len(later) else len(kept.time)
    return replace(
        kept,
        time=kept.time[at:],
        duration_s=kept.duration_s[at:],
        flags=kept.flags[at:],
        values=kept.values[at:],
        entries=kept.entries[at:],
    )


def counted_part(
    kept: Track,
    label: str,
    rules: LabelPolicy,
    now: float,
    marks: Sequence[tuple[float, float, bool]],
    seconds: float = _COUNT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[dict[str, Any]], Track]:
    """As `counts`, of as much as can be counted in time: all, or the last week, or the last day alone. What a longer
    span would take is foreseen from the last day.

    Args:
        seconds: time that it may take.
        clock: seconds.

    Returns:
        The counts, None for spans that were left out; and the windows that were counted.
    """

    def work(part: Track) -> int:
        """Number of windows that reach a threshold, all thresholds together."""
        values = np.sort(part.values)
        return sum(len(values) - int(np.searchsorted(values, enter)) for enter in offered(rules))

    day, week = (part_of(kept, now - SPANS[name] - _LEAD_SECONDS) for name in ("day", "week"))
    begun = clock()
    rows = counts(day, label, rules, now, marks)
    left = seconds - (clock() - begun)
    pace = max((seconds - left) / max(work(day), 1), _LEAST_PACE_SECONDS)
    for part, left_out in ((kept, ()), (week, ("month",))):
        is_counted = len(part.time) == len(day.time)
        if is_counted or pace * work(part) <= left:
            found = rows if is_counted else counts(part, label, rules, now, marks)
            return [row | dict.fromkeys(left_out) for row in found], part
    return [row | dict.fromkeys(("week", "month")) for row in rows], day


def counts(
    kept: Track, label: str, rules: LabelPolicy, now: float, marks: Sequence[tuple[float, float, bool]]
) -> list[dict[str, Any]]:
    """For each threshold that is offered: how many events began in the last day, week and month, and how many of the
    reviewed sounds since the first window would still be announced.

    Args:
        now: the end of all spans, seconds since the epoch.
        marks: onset and offset of each reviewed event, seconds since the epoch, and whether it was right.
    """
    rows = []
    marks = [mark for mark in marks if len(kept.time) and mark[0] >= kept.time[0]]
    for enter in offered(rules):
        own = rules.with_enter(enter)
        events = replay(kept, label, own)
        spans = np.array([(each.onset, now if each.offset is None else each.offset) for each in events]).reshape(-1, 2)
        said = [bool(((spans[:, 0] < end) & (spans[:, 1] > begin)).any()) for begin, end, _ in marks]
        rows.append(
            {
                "enter": enter,
                "exit": own.exit,
                **{name: sum(now - span <= each.onset <= now for each in events) for name, span in SPANS.items()},
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


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """
    Args:
        question: `path`, `node`, `source`; and, to count, `label`, `rules`, `now` and `marks`.

    Raises:
        UserError: the history cannot be read.
    """
    with reading(Path(question["path"])) as database:
        node, source = question["node"], question["source"]
        if "label" not in question:
            return {"labels": labels_of(database, node, source)}
        kept = track(database, node, source, question["label"])
    rules = LabelPolicy(**question["rules"])
    is_kept = len(kept.time) > 0
    since = float(kept.time[0]) if is_kept else None
    rows, counted = list[dict[str, Any]](), kept
    if is_kept:
        rows, counted = counted_part(kept, question["label"], rules, question["now"], question["marks"])
    inside = [mark for mark in question["marks"] if is_kept and mark[0] >= counted.time[0]]
    return {
        "since": since,
        "until": float(kept.time[-1] + kept.duration_s[-1]) if is_kept else None,
        "windows": len(kept.time),
        "counts": rows,
        "reviewed": {"right": sum(mark[2] for mark in inside), "wrong": sum(not mark[2] for mark in inside)},
    }


def rules_json(rules: LabelPolicy) -> dict[str, float]:
    """The rules as a question has them."""
    return asdict(rules)


def main(descriptor: int) -> None:
    os.nice(10)
    with socket.socket(fileno=descriptor) as theirs:
        question = json.loads(b"".join(iter(lambda: theirs.recv(1 << 16), b"")))
        try:
            found = answer(question)
        except (TaggerError, sqlite3.Error) as error:
            found = {"wrong": str(error)}
        theirs.sendall(json.dumps(found).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
