"""Files that a training has written for itself, and finds damaged later: a full disk, a cut copy, another version."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagger.errors import TaggerError, UserError


@contextmanager
def made_again_if_deleted(path: Path) -> Iterator[None]:
    """Reads a file that the same command writes anew where it is missing.

    Raises:
        UserError: whatever the block makes of a damaged file.
    """
    try:
        yield
    except (OSError, MemoryError, TaggerError):
        raise
    except Exception as error:  # whatever torch, numpy, zipfile or a wrong shape raises
        why = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
        raise UserError(
            f"{path}: damaged, or written by another version ({why}); delete it, and the same command makes it again"
        ) from None
