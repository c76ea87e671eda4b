"""Measures part by part, with the time left, and keeps what is there when it is interrupted."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tagger.bench.machine import describe_machine
from tagger.bench.parts import MEASURE, check, expected_s
from tagger.bench.results import Results
from tagger.bench.settings import BenchSettings
from tagger.bench.usage import LoadWatch
from tagger.errors import TaggerError
from tagger.progress import Progress

WORDS = {
    "cost": "processor time of the models",
    "daemon": "one live source",
    "streams": "many live sources",
    "compare": "EfficientAT's own code",
    "growth": "how the cost grows",
    "size": "installed size",
}
"""What is measured, for people."""


def run(settings: BenchSettings) -> Results:
    """Ctrl-C and SIGTERM end it: what was measured is returned, and `complete` is False.

    Raises:
        UserError: something that was asked for is not there; nothing was measured.
    """
    check(settings)
    results = Results(describe_machine())
    expected = {part: expected_s(part, settings) for part in settings.parts}
    watch = LoadWatch()
    try:
        with _terminated(), Progress("measuring", sum(expected.values()), "s") as progress:
            ends_at = 0.0
            for part in settings.parts:
                progress.note, ends_at = WORDS[part], ends_at + expected[part]
                try:
                    MEASURE[part](settings, results, _up_to(ends_at, progress))
                except TaggerError as error:
                    results.left_out.append(f"{WORDS[part]}: {error}")
                progress.update(ends_at - progress.done)
        results.complete = True
    except KeyboardInterrupt:
        pass
    results.load = watch.load()
    return results


def _up_to(end_s: float, progress: Progress) -> Callable[[float], None]:
    """Counts seconds that have passed, but none of the next part's."""
    return lambda seconds: progress.update(max(0.0, min(seconds, end_s - progress.done)))


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does, so that every child ends."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
