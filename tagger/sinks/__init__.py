"""Where events go. A new kind of sink is a file here and an entry in `wanted` of `tagger.daemon.outputs`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tagger.events import Event, Level, Report, Stream

SourceState = Literal["online", "offline", "disabled"]


class Sink:
    """Takes what the daemon says; does nothing with it. Real ones override what they care for.

    Called from the sources' threads, several at a time; no method but `open` and `close` waits for a disk or the
    network: what takes time is left to a thread of the sink's own (`tagger.sinks.worker`).
    """

    def open(self, streams: Sequence[Stream]) -> None:
        """Called once, before anything else.

        Raises:
            TaggerError: nothing can be published there.
        """

    def resume(self, stream: Stream, state: SourceState, detail: str, events: Sequence[Event]) -> None:
        """Called for each stream after `open`, where the daemon runs already: how the source is, and begins of events
        that are open, which others were told of.
        """

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        """A source came, went, or was paused."""

    def event(self, stream: Stream, event: Event) -> None:
        """A sound began, or has ended. The end may be of an event whose begin came in an earlier life of the daemon,
        and of a stream that is not among those of `open`.
        """

    def report(self, stream: Stream, report: Report) -> None:
        """What one window gave, every hop."""

    def audio(self, stream: Stream, level: Level) -> None:
        """How loud a source was, every few seconds."""

    def stats(self, message: Mapping[str, Any]) -> None:
        """How the daemon fares, every minute, as `tagger.health` has it."""

    def counts(self) -> Mapping[str, int]:
        """What the sink adds to `stats`: how many messages wait, and how many were dropped."""
        return {}

    def close(self, wait_s: float) -> None:
        """Delivers what is still under way, within `wait_s` seconds. Called once, after everything else.

        Raises:
            TaggerError: something could not be delivered.
        """
