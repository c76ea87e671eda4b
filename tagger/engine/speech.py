"""Whether somebody speaks in a window, by all that a model has to tell it: what else it hears, and its own labels."""

from functools import cache

import numpy as np

from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.joint import ModelInfo, parts_of
from tagger.events import Samples
from tagger.names import slug

SPEECH = "Speech"
"""AudioSet's class of all speech. A model that lacks it cannot tell."""
VOICES = (
    SPEECH,
    *("Male speech, man speaking", "Female speech, woman speaking", "Child speech, kid speaking", "Conversation"),
    *("Narration, monologue", "Babbling", "Speech synthesizer", "Whispering", "Chatter"),
    *("Hubbub, speech noise, speech babble", "Shout", "Yell", "Children shouting"),
)
"""AudioSet's classes of sounds that have words in them."""
_VOICES = frozenset(map(slug, VOICES))


def speech_seconds(info: ModelInfo) -> float | None:
    """Length of the longest window of a model that can tell whether somebody speaks, seconds. None: none can."""
    return max((part.window_seconds for part in parts_of(info) if _can_tell(part)), default=None)


def speech_in(
    surprise: Samples | None, opinion: Samples | None, labels: Samples, info: CheckpointInfo
) -> Samples | None:
    """[B], 0 to 1: the highest score of a class of speech. None: the model cannot tell.

    Args:
        surprise: [B, other classes], 0 to 1. A class that a label explains is low in it, so labels count too.
        opinion: [B, classes], 0 to 1: scores of the second opinion.
        labels: [B, labels], 0 to 1: scores of the labels, before what lowers them.
    """
    if not _can_tell(info):
        return None
    named = (surprise, info.others), (opinion, info.opinion.classes if info.opinion else ()), (labels, info.labels)
    heard = [scores[:, columns] for scores, names in named if scores is not None and (columns := _voices(names))]
    return np.concatenate(heard, 1).max(1) if heard else None


def _can_tell(info: CheckpointInfo) -> bool:
    return any(slug(SPEECH) in map(slug, names) for names in _names(info))


def _names(info: CheckpointInfo) -> tuple[tuple[str, ...], ...]:
    return info.others, info.opinion.classes if info.opinion else (), info.labels


@cache
def _voices(names: tuple[str, ...]) -> list[int]:
    """Places of the classes of speech."""
    return [place for place, name in enumerate(names) if slug(name) in _VOICES]
