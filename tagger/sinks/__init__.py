"""Sinks, which take events: the protocol of a sink, and every sink but MQTT's, which is in `tagger.mqtt`.

A new kind of sink is a module here and a line in `_SINKS` of `tagger.daemon.outputs`. `tagger.daemon` starts and
stops sinks, and passes them events.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tagger.events import Event, Level, Report, Stream

SourceState = Literal["online", "offline", "disabled"]


class Sink:
    """Receives everything that the daemon publishes, and ignores it. Subclasses override the methods that they need.

    The sources' threads call the methods, several at a time. Only `open` and `close` may wait for a disk or the
    network: a sink leaves slow work to its own thread (`tagger.sinks.worker`).
    """

    def open(self, streams: Sequence[Stream]) -> None:
        """Called once, before all other methods.

        Raises:
            TaggerError: the sink cannot be used.
        """

    def join(self, stream: Stream) -> None:
        """Called when a source is added while the daemon runs, before all that is published of it. Only a worker of a
        fleet does that.
        """

    def leave(self, stream: Stream) -> None:
        """Called after all that is published of a source that was taken out while the daemon runs."""

    def resume(self, stream: Stream, state: SourceState, detail: str, events: Sequence[Event]) -> None:
        """Called for each stream after `open`, if the daemon was running already.

        Args:
            state, detail: as in `status`.
            events: begins of the events that are open. Earlier sinks have received them.
        """

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        """Called when a source appears, disappears, is paused or is resumed.

        Args:
            detail: why, in words.
        """

    def event(self, stream: Stream, event: Event) -> None:
        """Called when a sound begins, and when it has ended. After a crash of the daemon, an end may belong to an event
        of the earlier run, and to a stream that `open` did not name.
        """

    def when_kept(self, step: Callable[[], None]) -> None:
        """Calls `step` when the sink has written down the events that it was given before, if it does so at all: then
        the death of the process does not lose them. Here: at once.
        """
        step()

    def report(self, stream: Stream, report: Report) -> None:
        """Called every hop with the result of one window."""

    def audio(self, stream: Stream, level: Level) -> None:
        """Called every few seconds with the level of a source."""

    def stats(self, message: Mapping[str, Any]) -> None:
        """Called every minute with the daemon's statistics (`tagger.health`)."""

    def counts(self) -> Mapping[str, int]:
        """The sink's share of `stats`: number of messages that wait (`waiting`) and that were dropped (`dropped`)."""
        return {}

    def trouble(self) -> str | None:
        """Why the sink cannot deliver at present, for people and without secrets. None: it can, as far as it knows."""
        return None

    def close(self, wait_s: float) -> None:
        """Delivers what still waits, within `wait_s` seconds. Called once, after all other methods.

        Raises:
            TaggerError: something could not be delivered.
        """
