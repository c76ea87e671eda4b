"""Events for tests of sinks. Imports little: tests start processes that need it."""

from typing import Any

from tagger.events import Event, Stream

STREAM = Stream("attic", "mic", "fake", ("dog",))


def begin(id_: str, onset: float = 1000.0, **others: Any) -> Event:
    return Event("begin", id_, "dog", 0.8, 0.8, onset, **others)


def end(id_: str, offset: float = 1002.0, score: float = 0.2, peak: float = 0.9, **others: Any) -> Event:
    return Event("end", id_, "dog", score, peak, 1000.0, offset, **others)
