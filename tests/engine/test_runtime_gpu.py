"""The path of a GPU, run on the processor: what the processor's own path gives, and recordings that are replayed."""

import threading

import numpy as np
import pytest
import torch

from tagger.checkpoints import checkpoint
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.engine.runtime_gpu import SIZES, GpuClassifier, Replays
from tagger.engine.runtime_torch import Classifier
from tagger.events import Window
from tests.engine.test_onnx import SMALL, saved

SIZE = 32_000


@pytest.fixture(scope="module", params=["efficientat", "opinion", "crnn"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    assert request.param in SMALL
    return checkpoint.load(saved(tmp_path_factory.mktemp("gpu") / "small.safetensors", request.param))


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((9, SIZE)).astype(np.float32) / 10


def test_it_gives_what_the_processors_path_gives(loaded, sound):
    gpu, cpu = GpuClassifier(loaded, "cpu", half=False), Classifier(loaded, "cpu")
    windows = [Window(each, 0, SIZE, 0.0) for each in sound]
    kept = gpu.outputs(sound[:2])
    for count in (1, 9, 4):
        found, expected = gpu.classify(windows[:count]), cpu.classify(windows[:count])
        for a, b in zip(found, expected, strict=True):
            assert a.values == pytest.approx(b.values, abs=1e-6)
            assert a.activity == pytest.approx(b.activity, abs=1e-6)
            assert a.other == b.other
    for a, b in zip(vars(kept).values(), vars(cpu.outputs(sound[:2])).values(), strict=True):
        assert (a is None) == (b is None)
        assert a is None or a == pytest.approx(b, abs=1e-5)


def test_threads_have_memory_of_their_own(loaded, sound):
    gpu = GpuClassifier(loaded, "cpu", half=False)
    expected, wrong = [gpu(each[None]).values for each in sound], []

    def run(number: int) -> None:
        for _ in range(5):
            if not np.allclose(gpu(sound[number : number + 1]).values, expected[number], atol=1e-6):
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


def test_half_precision_changes_scores_by_little(loaded, sound):
    half, whole = GpuClassifier(loaded, "cpu", half=True), Classifier(loaded, "cpu")
    assert half(sound[:1]).values == pytest.approx(whole(sound[:1]).values, abs=0.02)


# --- recordings ---


class Recorder:
    """Makes recordings on the processor; counts what was recorded, and what ran."""

    def __init__(self, off_by: float = 0.0, error: str = "") -> None:
        self.off_by, self.error = off_by, error
        self.recorded: list[int] = []
        self.ran: list[int] = []

    def run(self, features: torch.Tensor) -> torch.Tensor:
        self.ran.append(len(features))
        return features.sum((2, 3))

    def capture(self, run, given):
        self.recorded.append(len(given))
        if self.error:
            raise torch.OutOfMemoryError(self.error)

        def replay(features: torch.Tensor) -> torch.Tensor:
            given[: len(features)] = features
            return given.sum((2, 3))[: len(features)] + self.off_by

        return replay


def batch(count: int, frames: int = 5) -> torch.Tensor:
    return torch.randn(count, 1, 3, frames, generator=torch.Generator().manual_seed(count))


def test_batches_are_filled_up_to_the_size_of_a_recording():
    recorder = Recorder()
    replays = Replays(recorder.run, recorder.capture)
    for count in (1, 3, 4, 3, 64, 33, 2, 65, 300):
        assert torch.allclose(replays(batch(count)), batch(count).sum((2, 3)))
    assert recorder.recorded == [1, 4, 64, 2]
    assert recorder.ran == [1, 3, 64, 2, 65, 300]  # once for each recording, to compare


def test_recordings_of_many_lengths_of_window_do_not_fill_the_memory():
    recorder = Recorder()
    replays = Replays(recorder.run, recorder.capture)
    for frames in range(1, 100):
        assert torch.allclose(replays(batch(1, frames)), batch(1, frames).sum((2, 3)))
    assert len(recorder.recorded) <= 3 * len(SIZES)


@pytest.mark.parametrize("recorder", [Recorder(off_by=0.1), Recorder(error="no memory"), Recorder(off_by=float("nan"))])
def test_where_recordings_fail_or_differ_the_network_runs_without(recorder):
    replays = Replays(recorder.run, recorder.capture)
    for count in (2, 2, 5):
        assert torch.equal(replays(batch(count)), batch(count).sum((2, 3)))
    assert recorder.recorded == [2]
    assert replays.is_off


def test_recordings_that_failed_are_tried_again_after_an_hour():
    now, recorder = [0.0], Recorder(error="no memory")
    replays = Replays(recorder.run, recorder.capture, lambda: now[0])
    replays(batch(2))
    recorder.error = ""
    now[0] += 3_599
    replays(batch(2))
    assert recorder.recorded == [2]
    now[0] += 2
    replays(batch(2))
    assert recorder.recorded == [2, 2]
    assert not replays.is_off


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_the_processor_in_batches_of_any_size(loaded, sound):
    gpu, cpu = GpuClassifier(loaded, "cuda"), Classifier(loaded, "cpu")
    for count in (1, 3, 9):
        assert gpu(sound[:count]).values == pytest.approx(cpu(sound[:count]).values, abs=0.02)
