"""Builders: what a test of the daemon needs, in one call each.

with daemon(plays(silence(2), loud(1), silence(2))) as heard:
    until(lambda: heard.of("end"), "the event has ended")
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

from tagger.daemon.daemon import Daemon
from tagger.daemon.fanout import Fanout
from tagger.errors import TaggerError
from tagger.events import Block, Stream
from tagger.listen import Listener
from tagger.policy import LabelPolicy, Policy
from tagger.sinks import Sink
from tagger.sources import Source
from tagger.stop import Stop
from tests.fakes import RATE_HZ, FakeClassifier, FakeSource, RecordingSink
from tests.programs import LONG_S

RULES = Policy(FakeClassifier.LABELS, (LabelPolicy(confirm_s=0, merge_s=0.5),) * 2)
"""Events of FakeClassifier's labels, without delay."""


def plays(*blocks: Block, start: float = 100.0) -> FakeSource:
    """A source that plays these blocks, one right after the other, and ends.

    Args:
        start: time of the first sample, seconds since the epoch.
    """
    timed = []
    for block in blocks:
        timed.append(replace(block, time=start))
        start += len(block.samples) / RATE_HZ
    return FakeSource(timed)


class PromptListener(Listener):
    """Carries out requests at once, as the loop does between two blocks."""

    @classmethod
    def of(cls, stream: Stream, sink: Sink, policy: Policy) -> Self:
        """A listener whose source plays nothing."""
        return cls(
            source=FakeSource(),
            stream=stream,
            classifier=FakeClassifier(),
            sink=sink,
            window_s=1.0,
            hop_s=0.5,
            policy=policy,
            top_k=1,
        )

    def request(self, step: Callable[[], None]) -> None:
        super().request(step)
        self.do_requests()


@contextmanager
def daemon(source: Source, sinks: Sequence[Sink] = (), policy: Policy = RULES) -> Iterator[RecordingSink]:
    """A daemon that listens to `source` with a FakeClassifier: windows of 1 s, every 0.5 s. It stops with the block.

    Args:
        sinks: get everything that the returned sink gets. They are opened here.

    Raises:
        TaggerError: at the end of the block, what the daemon raised.
    """
    heard, stop, errors = RecordingSink(), Stop(), list[TaggerError]()
    fanout = Fanout([heard, *sinks])
    stream = Stream("node", source.name, "fake", policy.names)
    listener = Listener(
        source=source,
        stream=stream,
        classifier=FakeClassifier(),
        sink=fanout,
        window_s=1.0,
        hop_s=0.5,
        policy=policy,
        top_k=2,
    )

    def run() -> None:
        try:
            Daemon([listener], fanout, stop).run()
        except TaggerError as error:
            errors.append(error)

    fanout.open([stream])
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join(LONG_S)
    if errors:
        raise errors[0]
