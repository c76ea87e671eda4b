"""Where events go. A new kind of sink is a file here and a line where `tagger.start` opens them."""

from collections.abc import Sequence
from typing import Literal, Protocol

from tagger.events import Event, Report, Stream

SourceState = Literal["online", "offline", "disabled"]


class Sink(Protocol):
    """Takes what the daemon says. Called from the sources' threads; no method waits for the network."""

    def open(self, streams: Sequence[Stream]) -> None:
        """Called once, before anything else.

        Raises:
            TaggerError: nothing can be published there.
        """

    def status(self, stream: Stream, state: SourceState, detail: str) -> None: ...

    def event(self, stream: Stream, event: Event) -> None: ...

    def report(self, stream: Stream, report: Report) -> None: ...

    def close(self, wait_s: float) -> None:
        """Delivers what is still under way, within `wait_s` seconds. Called once, after everything else.

        Raises:
            TaggerError: something could not be delivered.
        """
