"""Whether somebody speaks, by what a model has to tell it."""

from dataclasses import replace

import numpy as np
import pytest

from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.joint import JointInfo
from tagger.checkpoints.opinion import Opinion
from tagger.engine.speech import speech_in, speech_seconds
from tests.fakes import FakeClassifier

PLAIN = FakeClassifier().info
assert isinstance(PLAIN, CheckpointInfo)
OTHERS = ("Music", "Speech", "Whispering")


def others(info: CheckpointInfo = PLAIN, seconds: float = 1.0) -> CheckpointInfo:
    config = replace(info.config, others=len(OTHERS))
    return replace(info, config=config, others=OTHERS, window_seconds=seconds)


def opinion(info: CheckpointInfo = PLAIN) -> CheckpointInfo:
    section = Opinion(OTHERS, (("Music",), ("Music",)), (0.0,) * 3, (1.0,) * 3)
    return replace(info, config=replace(info.config, opinion=len(OTHERS), shared=12), opinion=section)


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_speech_is_the_highest_of_all_that_the_model_has_of_it() -> None:
    both = opinion(others())
    assert speech_in(row(0.9, 0.2, 0.3), row(0.9, 0.1, 0.1), row(0.8, 0.8), both) == pytest.approx([0.3])
    assert speech_in(row(0.9, 0.2, 0.3), row(0.9, 0.4, 0.1), row(0.8, 0.8), both) == pytest.approx([0.4])
    assert speech_in(None, row(0.9, 0.4, 0.1), row(0.8, 0.8), opinion()) == pytest.approx([0.4])


def test_a_label_for_speech_counts_since_speech_is_no_surprise_then() -> None:
    spoken = others(replace(PLAIN, labels=("loud", "speech")))
    assert speech_in(row(0.9, 0.01, 0.02), None, row(0.1, 0.7), spoken) == pytest.approx([0.7])


def test_a_model_that_does_not_know_speech_cannot_tell() -> None:
    assert speech_in(None, None, row(0.9, 0.9), PLAIN) is None
    shouts = replace(PLAIN, labels=("loud", "shout"))
    assert speech_in(None, None, row(0.9, 0.9), shouts) is None
    assert speech_in(None, None, row(0.9, 0.9), others()) is None, "its graph gives no such output"
    assert speech_seconds(PLAIN) is None
    assert speech_seconds(others(seconds=3.0)) == 3.0


def test_of_several_models_those_count_that_can_tell() -> None:
    plain = replace(PLAIN, window_seconds=5.0)
    other = others(replace(PLAIN, labels=("a", "b")), 2.0)
    assert speech_seconds(JointInfo((plain, other))) == 2.0
    assert speech_seconds(JointInfo((plain, replace(other, labels=("c", "d"), others=("A", "B", "C"))))) is None
