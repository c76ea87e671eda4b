import numpy as np
import pytest
import torch

from tagger.classifier import Classifier, choose_device
from tagger.errors import UserError
from tests.fakes import constant_checkpoint

WINDOWS = np.zeros((3, 32_000), np.float32)


def test_softmax_scores_sum_to_one_and_sigmoid_scores_stand_alone() -> None:
    softmax = Classifier(constant_checkpoint("softmax", 1.0, 0.0, np.log(3)), "cpu")(WINDOWS)
    assert softmax == pytest.approx(np.array([[0.25, 0.75]] * 3), abs=1e-6)
    sigmoid = Classifier(constant_checkpoint("sigmoid", 1.0, 0.0, np.log(3)), "cpu")(WINDOWS)
    assert sigmoid == pytest.approx(np.array([[0.5, 0.75]] * 3), abs=1e-6)


def test_temperature_divides_the_logits() -> None:
    (scores,) = Classifier(constant_checkpoint("sigmoid", 2.0, 2 * np.log(3)), "cpu")(WINDOWS[:1])
    assert scores == pytest.approx([0.75])


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
    cpu = Classifier(loaded, "cpu")(windows)
    assert Classifier(loaded, "cuda")(windows) == pytest.approx(cpu, abs=1e-3)
