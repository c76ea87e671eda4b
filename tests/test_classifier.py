import numpy as np
import pytest
import torch

from tagger.classifier import Classifier, choose_device
from tagger.errors import UserError
from tests.fakes import constant_checkpoint

WINDOWS = np.zeros((3, 32_000), np.float32)


def test_softmax_scores_sum_to_one_and_sigmoid_scores_stand_alone() -> None:
    softmax = Classifier(constant_checkpoint("softmax", 1.0, 0.0, np.log(3)), "cpu")(WINDOWS).values
    assert softmax == pytest.approx(np.array([[0.25, 0.75]] * 3), abs=1e-6)
    sigmoid = Classifier(constant_checkpoint("sigmoid", 1.0, 0.0, np.log(3)), "cpu")(WINDOWS).values
    assert sigmoid == pytest.approx(np.array([[0.5, 0.75]] * 3), abs=1e-6)


def test_temperature_divides_the_logits() -> None:
    (scores,) = Classifier(constant_checkpoint("sigmoid", 2.0, 2 * np.log(3)), "cpu")(WINDOWS[:1]).values
    assert scores == pytest.approx([0.75])


@pytest.mark.parametrize(("activation", "expected"), [("softmax", [0.25, 0.75]), ("sigmoid", [0.5, 0.75])])
def test_steps_are_scored_as_the_whole_is(activation: str, expected: list[float]) -> None:
    heard = Classifier(constant_checkpoint(activation, 1.0, 0.0, np.log(3)), "cpu")(WINDOWS)
    assert heard.activity.shape == (3, 2, 4)
    assert heard.activity.transpose(0, 2, 1) == pytest.approx(np.array([[expected] * 4] * 3), abs=1e-6)
    assert heard.step_s == pytest.approx(0.32)
    assert (heard.plain, heard.other) == (None, ())


def test_auto_finds_a_device_and_a_missing_one_is_the_users_mistake() -> None:
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("gpu", "cuda:99", "tpu0"):
        with pytest.raises(UserError, match="--device"):
            choose_device(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_scores_of_the_cpu(shared: object) -> None:
    from tagger import checkpoint, store

    loaded = checkpoint.load(store.find("esc50"))
    windows = np.random.default_rng(0).standard_normal((4, 160_000)).astype(np.float32) * np.float32(0.1)
    cpu, cuda = Classifier(loaded, "cpu")(windows), Classifier(loaded, "cuda")(windows)
    assert cuda.values == pytest.approx(cpu.values, abs=1e-3)
    assert cuda.activity == pytest.approx(cpu.activity, abs=1e-3)
