"""What a worker is told of a whole run, and what it answers for a shard. Who only passes it on needs no network."""

from dataclasses import dataclass

from tagger.policy import EventsConfig, Policy
from tagger.settings import Channel


@dataclass(frozen=True)
class Job:
    """How recordings are heard, and where their rows go. It travels to workers."""

    out: str
    models: tuple[str, ...]
    runtime: str
    device: str
    window: float | None
    """As the user gave it. None: each model's own."""
    window_s: float
    hop_s: float
    channel: Channel
    top: int
    """Labels of a window."""
    asked: EventsConfig
    """The classes that it names are labels, too."""
    rules: Policy
    """What counts as an event."""
    embeddings: bool


@dataclass(frozen=True)
class ShardDone:
    """What came of a shard."""

    files: int
    bad: int
    """Recordings that could not be read, or not to their end."""
    heard_s: float
    windows: int
    events: int
    first_error: str | None
