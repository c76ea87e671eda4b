"""What a lane prepares of its windows gives the scores of the waveforms, alone and in a batch."""

from pathlib import Path

import numpy as np
import pytest

from tagger.audio.window import SlidingWindows
from tagger.checkpoints.store import BUNDLED
from tagger.engine.runtime import open_models
from tagger.events import Block, Window
from tests.engine.test_joint import RATE_HZ, copied, sound
from tests.fakes import FakeClassifier

ESC50 = str(BUNDLED / "esc50.safetensors")


def windows(hop_s: float) -> list[Window]:
    """Of a stream with a gap after 7 s, and an end that fills no window."""
    sliding = SlidingWindows.of_seconds(5.0, hop_s, RATE_HZ)
    stream = [Block(sound(7.0), 100.0), Block(sound(6.5)[::-1], 120.0, gap=True)]
    return [*(window for block in stream for window in sliding.feed(block)), *sliding.flush()]


@pytest.mark.parametrize("models", ["esc50 by onnx", "esc50-crnn by onnx", "esc50 by torch", "esc50+short by torch"])
def test_a_stream_is_scored_as_its_windows_are(models: str, tmp_path: Path) -> None:
    names, _, runtime = models.partition(" by ")
    paths = [str(short(tmp_path)) if name == "short" else name for name in names.split("+")]
    classifier = open_models(paths, runtime)
    cut = windows(1.0)
    assert len(cut) == 6
    assert cut[-1].valid < len(cut[-1].samples)
    prepare = classifier.preparer(len(cut[0].samples), RATE_HZ)
    prepared = [prepare(window) for window in cut]
    together = classifier.scores_of(prepared, cut)
    for window, one, each in zip(cut, prepared, together, strict=True):
        (anew,) = classifier.classify([window])
        (alone,) = classifier.scores_of([one], [window])
        assert (each.time, each.start_s, each.end_s) == (anew.time, anew.start_s, anew.end_s)
        np.testing.assert_allclose(each.values, anew.values, atol=1e-4)
        np.testing.assert_allclose(each.activity, anew.activity, atol=1e-4)
        np.testing.assert_allclose(each.values, alone.values, atol=2e-6)


def test_a_late_window_leaves_no_trace() -> None:
    """The windows that come are scored the same, whichever of them were left out."""
    classifier = open_models([ESC50], "onnx")
    cut = windows(1.0)
    prepare = classifier.preparer(len(cut[0].samples), RATE_HZ)
    for window in cut[::2]:
        (found,) = classifier.scores_of([prepare(window)], [window])
        (expected,) = classifier.classify([window])
        np.testing.assert_allclose(found.values, expected.values, atol=1e-4)


def test_without_a_front_end_the_waveform_is_what_is_prepared() -> None:
    classifier = FakeClassifier()
    prepare = classifier.preparer(RATE_HZ, RATE_HZ)
    cut = [Window(np.full(RATE_HZ, level, np.float32), 0, RATE_HZ, 0.0) for level in (0.25, 0.5)]
    found = classifier.scores_of([prepare(window) for window in cut], cut)
    assert [each.values[0] for each in found] == [0.25, 0.5]


def short(folder: Path) -> Path:
    return copied(folder / "short.safetensors", "short", window_seconds=2.5)
