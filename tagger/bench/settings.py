"""What is measured, and for how long."""

import sys
from dataclasses import dataclass
from pathlib import Path

PARTS = ("cost", "daemon", "streams", "compare", "growth", "size")
"""What can be measured, in the order in which it is."""
ALWAYS = ("cost", "daemon", "streams", "size")
"""Those that need no more than tagger itself."""
COMPARE_WINDOW_S = 5.0
"""Window of the comparison with EfficientAT: that of the bundled models, seconds."""
COMPARED_MODEL = "mn04_as"
"""Model of the comparison: the same weights in both programs."""


@dataclass(frozen=True)
class BenchSettings:
    """Options of `tagger bench`."""

    parts: tuple[str, ...] = ALWAYS
    models: tuple[str, ...] = ()
    """Empty: the bundled ones."""
    runtime: str | None = None
    """None: all that are installed."""
    device: str = "cpu"
    window_s: float | None = None
    """None: each model's own."""
    hop_s: float = 1.0
    quick: bool = False
    seconds: float | None = None
    """Length of each measurement that lasts; None: the defaults below."""
    streams: int | None = None
    """Number of live sources. None: the most that this machine carries."""
    efficientat: Path | None = None
    """EfficientAT's repository. None: no comparison."""
    python: str = sys.executable
    """The Python that runs EfficientAT."""
    embedded: bool = False
    """Publish through the embedded broker, also where mosquitto is installed."""

    @property
    def rounds(self) -> int:
        """Number of times that each model's cost is measured, in turn."""
        return 3 if self.quick else 10

    @property
    def windows(self) -> int:
        """Windows of a round."""
        return 5 if self.quick else 10

    @property
    def starts(self) -> int:
        """Number of daemons that are started."""
        return 1 if self.quick else 3

    @property
    def live_s(self) -> float:
        """Time for which one live source is listened to."""
        return self.seconds or (10.0 if self.quick else 60.0)

    @property
    def step_s(self) -> float:
        """Time for which each number of live sources is tried."""
        return 4.0 if self.quick else 8.0

    @property
    def confirm_s(self) -> float:
        """Time for which the number that is reported must be carried."""
        return self.seconds or (6.0 if self.quick else 30.0)
