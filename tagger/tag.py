"""A whole file at once: its windows, and what is heard in each."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tagger.checkpoint import CheckpointInfo
from tagger.classifier import Classifier
from tagger.errors import AudioError
from tagger.events import Block, Scores, Window, top
from tagger.sources.decode import decode
from tagger.window import SlidingWindows

_BATCH = 8


def tag(path: Path, classify: Classifier, window_s: float, hop_s: float) -> Iterator[Scores]:
    """The same windows, and so the same scores, as `tagger listen` gets from this file.

    Raises:
        AudioError: the file is missing, not audio, or damaged; the windows before the damage were given.
    """
    rate_hz = classify.info.mel.sample_rate_hz
    windows = _windows(path, SlidingWindows(round(window_s * rate_hz), round(hop_s * rate_hz), rate_hz), rate_hz)
    error: AudioError | None = None
    while error is None:
        batch, error = _take(windows, _BATCH)
        if batch:
            values = classify(np.stack([window.samples for window in batch]))
            for window, of_window in zip(batch, values, strict=True):
                yield Scores.of(window, of_window, rate_hz)
        elif error is None:
            return
    raise error


def _windows(path: Path, sliding: SlidingWindows, rate_hz: int) -> Iterator[Window]:
    given = 0
    try:
        for samples in decode(path, rate_hz):
            yield from sliding.feed(Block(samples, given / rate_hz))
            given += len(samples)
    except AudioError:
        yield from sliding.flush()
        raise
    yield from sliding.flush()


def _take(windows: Iterator[Window], count: int) -> tuple[list[Window], AudioError | None]:
    """Up to `count` windows, and the error that ended them, if one did."""
    taken: list[Window] = []
    try:
        for window in windows:
            taken.append(window)
            if len(taken) == count:
                break
    except AudioError as error:
        return taken, error
    return taken, None


def as_line(path: Path, scores: Scores, info: CheckpointInfo, k: int) -> str:
    """One window as a line of JSON; seconds from the file's start."""
    best = [{"label": label, "score": round(score, 6)} for label, score in top(scores.values, info.labels, k)]
    start, end = round(scores.start_s, 6), round(scores.end_s, 6)
    return json.dumps({"file": str(path), "start": start, "end": end, "top": best})


def as_row(scores: Scores, info: CheckpointInfo, k: int) -> str:
    """One window as a row of a table."""
    best = [f"{score:4.2f} {label}" for label, score in top(scores.values, info.labels, k)]
    return f"{scores.start_s:8.1f} - {scores.end_s:6.1f} s   " + "   ".join(f"{cell:<20}" for cell in best).rstrip()
