"""What was measured: filled part by part, so that an interruption keeps what is there."""

from dataclasses import asdict, dataclass, field
from typing import Any

from tagger.bench.machine import Machine
from tagger.bench.usage import MachineLoad

SCHEMA = 1


@dataclass(frozen=True)
class Cost:
    """Processor time of one model on one runtime, milliseconds for each second of audio: medians of rounds."""

    model: str
    runtime: str
    runs_on: str
    window_s: float
    hop_s: float
    ms: float
    """All, from samples to published scores."""
    features_ms: float
    """What is made of each source on its own, before a batch."""
    network_ms: float
    """What is made of a batch: the network, and scores of its output."""
    levels_ms: float
    """What is measured beside the network: levels, and alarms by their pattern."""
    least_ms: float
    """The quickest round: all."""
    rounds: int

    @property
    def rest_ms(self) -> float:
        """Blocks, windows, decisions, messages."""
        return max(0.0, self.ms - self.features_ms - self.network_ms - self.levels_ms)


@dataclass(frozen=True)
class DaemonResult:
    """One daemon with one live source."""

    model: str
    hop_s: float
    broker: str
    ready_s: float
    first_score_s: float
    starts: int
    """The two above are medians of so many."""
    seconds: float
    cpu_ms: float
    """Processor time of the whole process for each second of audio, milliseconds."""
    resident_mb: float
    latency: dict[str, Any]
    """From the last sample to the message at a subscriber: `tagger.bench.daemon.quantiles_ms`."""


@dataclass(frozen=True)
class StreamsResult:
    """Live sources in one process."""

    model: str
    hop_s: float
    streams: int
    """The most that were carried: nothing skipped, and the 99th percentile of the lag below a hop."""
    carried: bool
    """False: not even these, which were asked for."""
    seconds: float
    windows: int
    skipped: int
    lag_p50_ms: float
    lag_p99_ms: float
    cpu_share: float
    """Share of all cores that the process used, 0 to 1."""
    broker: str
    tried: tuple[dict[str, Any], ...] = ()
    """Every number that was tried."""


@dataclass(frozen=True)
class CompareResult:
    """tagger beside EfficientAT's own code: the same weights, the same windows, in turn."""

    model: str
    window_s: float
    hop_s: float
    rounds: int
    ours_ms: float
    """Processor time of a window, milliseconds: median of rounds."""
    peer_ms: float
    times: float
    """Median of the rounds' ratios."""
    ours_wall_ms: float
    peer_wall_ms: float
    windows: int
    """Windows whose answers were compared."""
    logit_difference: float
    """The largest, among logits of -12 to 12."""
    score_difference: float
    same_first: int
    """Windows of which both have the same label first."""


@dataclass(frozen=True)
class Point:
    """One measurement of how cost grows."""

    x: float
    ms: float
    """Processor time for each second of real time, milliseconds."""


@dataclass(frozen=True)
class Growth:
    """Cost against windows a second, length of a window, and number of live sources."""

    model: str
    hop_s: float
    window_s: float
    hops: tuple[Point, ...]
    """x: windows a second."""
    windows: tuple[Point, ...]
    """x: seconds of a window."""
    sources: tuple[Point, ...]
    """x: number of live sources."""


@dataclass
class Results:
    """Everything that one run has measured so far."""

    machine: Machine
    costs: list[Cost] = field(default_factory=list)
    daemon: DaemonResult | None = None
    streams: StreamsResult | None = None
    compare: CompareResult | None = None
    growth: Growth | None = None
    installed_mb: float | None = None
    left_out: list[str] = field(default_factory=list)
    """What could not be measured, and why."""
    load: MachineLoad | None = None
    complete: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}
