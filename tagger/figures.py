"""One style for all pictures, and one way to save them, by matplotlib's object interface.

matplotlib is imported only when a picture is drawn.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008): colour-blind people can tell these apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK = "#222222"
NAME_LETTERS = 28
"""Longest label or source name, letters."""
_STYLE: dict[str, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "text.parse_math": False,  # a label may have a `$`
}


@contextmanager
def style(changes: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Pictures made within look the same whatever the user's matplotlibrc says.

    Args:
        changes: matplotlib's settings besides the style's own.
    """
    import matplotlib

    settings: Any = _STYLE | dict(changes or {})  # the stubs of some versions know the keys one by one
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the font lacks letters of some scripts
        yield


def save(
    path: Path, draw: Callable[[], "Figure"], dots_per_inch: int, changes: Mapping[str, Any] | None = None
) -> None:
    """Draws a figure in the `style`, and writes it as a PNG, in one step.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    with style(changes), replacing(path) as partial:
        draw().savefig(partial, format="png", dpi=dots_per_inch, metadata={"Software": None})


def shortened(text: str, letters: int = NAME_LETTERS) -> str:
    """
    >>> shortened("chirping birds", 9)
    'chirping…'
    """
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
