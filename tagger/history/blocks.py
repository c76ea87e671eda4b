"""What is kept of each window's scores, and how windows that follow each other lie in a row of the database.

A score below FLOOR can neither begin nor hold an event at any threshold that is offered (`least_enter` of
`tagger.web.replay`), so it is left out. Of a window in which no label reaches it, only its time is kept. What is kept
is exact: the rules for events give the same events from it as from the scores themselves.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger.events import ACTIVE_SHARE, Samples, Scores

FLOOR = 0.1
"""Lowest score that is kept."""
BLOCK_WINDOWS = 900
"""Most windows in a row of the database."""
FIRST, CLOSED, NEW = 1, 2, 4
"""Of a window: it is the first of its stream; before it the open events were ended; before it the daemon started."""
HEAD_BYTES = 400
"""Bytes of a block that hold its head."""


@dataclass(frozen=True, eq=False)
class KeptWindow:
    """What is kept of one window."""

    time: float
    """Wall-clock time of its first sample, seconds since the epoch."""
    duration_s: float
    flags: int
    """FIRST, CLOSED and NEW."""
    step_s: float
    columns: NDArray[np.intp]
    """[K], the labels that reach FLOOR."""
    values: Samples
    """[K]"""
    activity: Samples
    """[K, steps]"""

    @classmethod
    def of(cls, scores: Scores) -> "KeptWindow":
        """What is kept of these scores."""
        columns = np.flatnonzero(scores.values >= FLOOR)
        activity = scores.activity[columns].astype(np.float32)
        if len(columns):
            count = int(np.searchsorted(scores.step_times, scores.end_time, "right"))
            activity = _needed(activity, count)
        flags = FIRST if scores.start_s <= 0 else 0
        values = scores.values[columns].astype(np.float32)
        return cls(scores.time, scores.duration_s, flags, scores.step_s, columns, values, activity)


def _needed(activity: Samples, count: int) -> Samples:
    """Sets to 0 what no rule reads: steps in which the label is not active, and that are no neighbours of such.

    Args:
        activity: [K, steps]; a row of a label without a time axis is NaN, and stays.
        count: steps within the window's real samples.
    """
    low = np.maximum(FLOOR, ACTIVE_SHARE * activity[:, :count].max(axis=1, initial=0.0)) * 0.999
    is_near = activity >= low[:, None]
    is_near[:, 1:] |= activity[:, :-1] >= low[:, None]
    is_near[:, :-1] |= activity[:, 1:] >= low[:, None]
    return np.where(is_near | np.isnan(activity), activity, np.float32(0))


@dataclass
class Block:
    """Windows of one source that follow each other, up to BLOCK_WINDOWS."""

    node: str
    source: str
    labels: tuple[str, ...]
    """All of the model."""
    windows: list[KeptWindow] = field(default_factory=list)
    after: int = 0
    """CLOSED, if the open events were ended after the last window."""
    id: int | None = None
    """Its row, once it was written."""

    @property
    def is_full(self) -> bool:
        return len(self.windows) >= BLOCK_WINDOWS

    def fits(self, window: KeptWindow, labels: Sequence[str]) -> bool:
        """Whether the window can be in this block: its labels and its steps are the same."""
        last = self.windows[-1]
        same_steps = (last.step_s, last.activity.shape[1]) == (window.step_s, window.activity.shape[1])
        return not self.is_full and tuple(labels) == self.labels and same_steps

    def packed(self) -> tuple[str, bytes]:
        """The labels that occur, as JSON, and the windows."""
        windows = self.windows
        columns = np.concatenate([each.columns for each in windows])
        occurring, places = np.unique(columns, return_inverse=True)
        parts = [
            _bytes(_differences(np.array([each.time for each in windows], np.float64))),
            _bytes(_differences(np.array([each.duration_s for each in windows], np.float64))),
            np.array([each.flags for each in windows], np.uint8).tobytes(),
            _bytes(np.array([len(each.columns) for each in windows], np.uint16)),
            _bytes(places.astype(np.uint16)),
            _bytes(np.concatenate([each.values for each in windows])),
            _bytes(np.concatenate([each.activity for each in windows])),
        ]
        head = {
            "windows": len(windows),
            "entries": len(columns),
            "steps": windows[0].activity.shape[1],
            "step_s": windows[0].step_s,
            "after": self.after,
        }
        data = json.dumps(head).encode() + b"\n" + b"".join(parts)
        return json.dumps([self.labels[column] for column in occurring]), zlib.compress(data, 6)


def _differences(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Differences of the bit patterns: small where the values grow evenly, and exact."""
    bits = values.view(np.int64)
    found = bits.copy()
    found[1:] -= bits[:-1]
    return found


def _bytes(values: NDArray[Any]) -> bytes:
    """First the lowest bytes of all values, then the next: similar ones lie together."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.view(np.uint8).reshape(len(flat), flat.itemsize).T.tobytes() if len(flat) else b""


class Reader:
    """Reads the parts of a block, one after the other."""

    def __init__(self, data: bytes) -> None:
        head, _, self._rest = zlib.decompress(data).partition(b"\n")
        self.head = json.loads(head)
        self._at = 0

    def take(self, kind: type[np.generic], count: int) -> NDArray[Any]:
        size = np.dtype(kind).itemsize
        found = np.frombuffer(self._rest, np.uint8, count * size, self._at).reshape(size, count)
        self._at += count * size
        return np.ascontiguousarray(found.T).reshape(-1).view(kind)


def head_of(packed: bytes) -> dict[str, Any]:
    """The head of a block, of its first bytes."""
    head: dict[str, Any] = json.loads(zlib.decompressobj().decompress(packed, HEAD_BYTES).partition(b"\n")[0])
    return head
