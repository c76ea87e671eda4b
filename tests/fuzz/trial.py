"""What every input has to be: refused in one line, or taken; quickly, and in little memory."""

import contextlib
import resource
import time
from collections.abc import Callable
from pathlib import Path

from tagger.errors import UserError

MOST_SECONDS = 1.0
"""Processor time of one input."""
MOST_BYTES = 200_000_000
"""Memory of one input, beyond what was taken before."""


def problem_of(do: Callable[[], object]) -> str | None:
    """Does it. Returns what was wrong with how that went; None: nothing."""
    _forget_peak()
    before, began = _peak(), time.process_time()
    try:
        do()
    except UserError as error:
        if "\n" in str(error):
            return f"more than one line: {error}"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a library's panic is no Exception
        return f"{type(error).__name__}: {str(error)[:300]}"
    seconds, taken = time.process_time() - began, _peak() - before
    if seconds > MOST_SECONDS:
        return f"took {seconds:.1f} s"
    if taken > MOST_BYTES:
        return f"took {taken / 1e6:.0f} MB"
    return None


def _forget_peak() -> None:
    """Linux: what came before does not count."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Highest memory of this process, bytes."""
    try:
        status = Path("/proc/self/status").read_text("ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
