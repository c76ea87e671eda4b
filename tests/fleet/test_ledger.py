"""What a worker knows of its own sources."""

import pytest

from tagger.daemon.open_event import Lasting, OpenEvent
from tagger.events import Event, Stream
from tagger.fleet.ledger import Kept, Own


def test_what_a_worker_leaves_open_lasted_as_long_as_it_lived_whatever_the_wall_clock_says() -> None:
    stream = Stream("city-1", "yard", "fake", ("dog",))
    own = Own(stream=stream, alive=1_000.0)
    begin = Event("begin", "1", "dog", 0.9, 0.9, onset=5.0)  # it was 1970, and is not any more
    own.events["1"] = kept = Kept(OpenEvent(stream, begin, noted=7.0), epoch=1, lasting=Lasting(1_000.0))
    own.alive = 1_008.5
    record = own.record("city", "session")
    assert record is not None
    assert record.events == [(kept.event, pytest.approx(15.5))]
    ((event, alive),) = record.events
    assert event.end(alive, "takeover").offset == pytest.approx(15.5)
