"""Does several things at once, each of which may hang."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from tagger.errors import TaggerError

_T = TypeVar("_T")


def at_once(
    calls: Sequence[Callable[[], _T]], wait_s: float, names: Sequence[str] = ()
) -> list[_T | TaggerError | OSError | None]:
    """Calls everything at once, each in a thread of its own.

    Args:
        wait_s: longest wait for all together, seconds. A thread that hangs longer is left behind.
        names: of the threads.

    Returns:
        What each gave, or raised, in the order of the calls; None for what gave no answer in time.
    """
    results: list[_T | TaggerError | OSError | None] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            results[number] = calls[number]()
        except (TaggerError, OSError) as error:
            results[number] = error

    threads = [
        threading.Thread(target=run, args=(number,), daemon=True, name=names[number] if names else None)
        for number in range(len(calls))
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + wait_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return results.copy()
