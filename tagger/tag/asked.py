"""How the user wants recordings to be heard: models, windows and rules of events, without opening a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger import policy, settings
from tagger.checkpoints.joint import ModelInfo, joined, shortest_window_s
from tagger.checkpoints.named import choose, understood
from tagger.config.file import load_right
from tagger.config.places import placed
from tagger.engine.runtime import described
from tagger.policy import EventsConfig, Policy


@dataclass(frozen=True)
class Asked:
    """What was asked for, checked."""

    info: ModelInfo
    window_s: float
    events: EventsConfig
    """The user's wishes: the classes that they name are labels, too."""
    rules: Policy
    """What counts as an event."""


def ask(models: Sequence[str], window: float | None, hop_s: float, config: Path | None) -> Asked:
    """
    Args:
        models: names or paths.
        window: length of a window, seconds. None: the models' own.
        config: TOML file of what counts as an event. None: the models' own thresholds.

    Raises:
        CheckpointError: there is no such model, or it cannot be read.
        UserError: an argument cannot be used.
    """
    document = None if config is None else load_right(config)
    events = EventsConfig() if document is None else document.events
    info = choose(joined([described(model)[1] for model in models]), [events])
    window_s, shortest_s = window or info.window_seconds, window or shortest_window_s(info)
    settings.check_window(window_s, hop_s, shortest_s)
    with placed(document):
        rules = policy.policy(info.labels, info.thresholds, shortest_s, hop_s, understood(info, events))
    return Asked(info, window_s, events, rules)
