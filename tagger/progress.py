"""Progress of a long job, on standard error: how much of it is done, and the time left.

A terminal shows a bar. A log or a pipe gets a line when the job begins, one every few seconds, and one at its end.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import click

from tagger.printable import echo, printable

T = TypeVar("T")
EVERY_S = 15.0
"""Time from one line to the next where standard error is no terminal, seconds."""


class Progress:
    """One stage of a long job, as a context manager. Any thread may call `update`."""

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str = "",
        scale: float = 1.0,
        brief: bool = False,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            label: what is done: `decoding`.
            total: steps of the whole stage. None: nobody knows yet.
            unit: what is counted, as it is shown: `clips`, `MB`.
            scale: steps in one unit.
            brief: whether the stage usually ends at once: a log gets lines only where it does not.
            shown: False shows nothing, as for processes that do not lead.
            clock: returns seconds.
        """
        self.total, self.done = total, 0.0
        """Steps of the whole stage, and those that are done. `total` may change meanwhile."""
        self.note = ""
        """More words, shown behind the count."""
        self._label, self._unit, self._scale = printable(label), unit, scale
        self._brief, self._shown, self._clock = brief, shown, clock
        self._lock = threading.Lock()
        self._bar: Any = None
        self._began = self._said_at = clock()
        self._has_said = False

    def __enter__(self) -> Self:
        self._began = self._said_at = self._clock()
        if self._shown and sys.stderr.isatty():
            self._bar = click.progressbar(
                length=max(1, round(self.total or 0)),
                label=self._label,
                file=sys.stderr,
                show_eta=False,
                show_percent=False,
                item_show_func=lambda _: self.text,
            )
            self._bar.__enter__()
        elif self._shown and not self._brief:
            self._say(self._amount(self.total) if self.total else "begins")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, traceback)
        elif self._has_said and kind is None and self._clock() - self._began >= EVERY_S:
            self._say(f"{self._counts}, took {in_words(self._clock() - self._began)}")

    def update(self, steps: float = 1) -> None:
        """Counts steps that are done. With 0 steps, only what is shown becomes new."""
        with self._lock:
            self.done += steps
            if self._bar is not None:
                self._bar.length = max(1, round(self.total or self.done))
                self._bar.update(min(round(self.done), self._bar.length) - self._bar.pos)
                self._bar.render_progress()
            elif self._shown and self._clock() - self._said_at >= EVERY_S:
                self._say(self.text)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, each of which is one step."""
        for item in items:
            yield item
            self.update()

    @property
    def text(self) -> str:
        """How much is done, and the time left: `640 of 2000 clips, 3 min left`."""
        passed_s = self._clock() - self._began
        left = ""
        if self.total and 0 < self.done < self.total and passed_s > 1:
            left = f", {in_words(passed_s * (self.total - self.done) / self.done)} left"
        return f"{self._counts}{left}"

    @property
    def _counts(self) -> str:
        before = "" if self.total is None else f"{self._number(self.done)} of "
        amount = f"{before}{self._amount(self.done if self.total is None else self.total)}"
        return f"{amount}, {printable(self.note)}" if self.note else amount

    def _amount(self, steps: float) -> str:
        number, unit = self._number(steps), self._unit
        if number == "1" and len(unit) > 2:  # not `s` for seconds
            unit = unit.removesuffix("es") if unit.endswith("ches") else unit.removesuffix("s")
        return f"{number} {unit}".rstrip()

    def _number(self, steps: float) -> str:
        units = steps / self._scale
        return f"{units:.0f}" if self._scale == 1 or units >= 100 else f"{units:.1f}"

    def _say(self, text: str) -> None:
        self._said_at, self._has_said = self._clock(), True
        with contextlib.suppress(OSError):  # nobody reads it: the job is what matters
            echo(f"{self._label}: {text}", err=True)


def counted(label: str, items: Collection[T], unit: str, brief: bool = True) -> Iterator[T]:
    """The items, each of which is a step. The other arguments are those of `Progress`."""
    with Progress(label, len(items), unit, brief=brief) as progress:
        yield from progress.over(items)


def in_words(seconds: float) -> str:
    """A length of time, rounded. Only nothing at all is 0 s.

    >>> in_words(0), in_words(0.1), in_words(40), in_words(150), in_words(9000)
    ('0 s', '1 s', '40 s', '2.5 min', '2.5 h')
    """
    if seconds == 0:
        return "0 s"
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.1f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"
