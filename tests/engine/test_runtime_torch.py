from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tagger.checkpoints.checkpoint import Checkpoint
from tagger.engine.runtime_torch import Classifier, choose_device
from tagger.engine.scores import BatchScores
from tagger.errors import UserError
from tagger.events import Window
from tagger.models.config import EfficientATConfig
from tagger.models.network import Outputs
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


OTHERS = ("Speech", "Music", "Silence")


class _Surprised(nn.Module):
    """A network of two labels with equal logits, two steps, and another surprise for each window."""

    step_frames = 32
    SURPRISE = ((0.0, 0.0, 0.0), (0.1, 0.8, 0.3), (0.5, 0.0, 0.2))

    def __init__(self, moments: bool) -> None:
        super().__init__()
        self.moments = nn.Identity() if moments else None

    def outputs(self, log_mel: Tensor) -> Outputs:
        return Outputs(torch.full((3, 2), 2.0), torch.full((3, 2, 2), -1.0), torch.tensor(self.SURPRISE))


def surprised_classifier(surprise: float, moments: bool = True) -> Classifier:
    plain = constant_checkpoint("sigmoid", 2.0, 0.0, 0.0)
    config = EfficientATConfig(labels=2, moments=moments, others=3)
    info = replace(plain.info, config=config, others=OTHERS, surprise=surprise, bias=0.5)
    return Classifier(Checkpoint(info, _Surprised(moments)), "cpu")


def surprised(surprise: float, moments: bool = True) -> BatchScores:
    return surprised_classifier(surprise, moments)(WINDOWS)


def sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize("moments", [True, False])
def test_what_no_label_explains_lowers_the_scores(moments: bool) -> None:
    heard = surprised(4.0, moments)
    expected = [sigmoid((2 - 4 * most) / 2 + 0.5) for most in (0.0, 0.8, 0.5)]
    assert heard.values == pytest.approx(np.array([[each, each] for each in expected]), abs=1e-6)
    assert heard.plain == pytest.approx(np.full((3, 2), sigmoid(2 / 2 + 0.5)), abs=1e-6)
    assert heard.other[1:] == ("Music", "Speech")
    assert len(heard.other) == 3


def test_a_surprise_that_costs_nothing_is_still_named() -> None:
    heard = surprised(0.0)
    assert np.array_equal(heard.values, heard.plain)
    assert heard.other[1:] == ("Music", "Speech")


def test_steps_with_a_layer_of_their_own_are_not_calibrated_as_the_whole_is() -> None:
    assert surprised(4.0, moments=True).activity == pytest.approx(np.full((3, 2, 2), sigmoid(-1)), abs=1e-6)
    assert surprised(4.0, moments=False).activity == pytest.approx(np.full((3, 2, 2), sigmoid(-0.5 + 0.5)), abs=1e-6)


def test_each_window_has_its_own_reason() -> None:
    heard = surprised(4.0)
    scores = surprised_classifier(4.0).classify([Window(samples, 0, 32_000, 0.0) for samples in WINDOWS])
    for row, each in enumerate(scores):
        assert each.plain is not None
        assert each.plain.tolist() == heard.plain[row].tolist()
        assert each.other == heard.other[row]
        assert (each.values <= each.plain).all()


def test_auto_finds_a_device_and_a_missing_one_is_the_users_mistake() -> None:
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("gpu", "cuda:99", "tpu0"):
        with pytest.raises(UserError, match="--device"):
            choose_device(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_scores_of_the_cpu(shared: object) -> None:
    from tagger.checkpoints import checkpoint, store

    loaded = checkpoint.load(store.find("esc50"))
    windows = np.random.default_rng(0).standard_normal((4, 160_000)).astype(np.float32) * np.float32(0.1)
    cpu, cuda = Classifier(loaded, "cpu")(windows), Classifier(loaded, "cuda")(windows)
    assert cuda.values == pytest.approx(cpu.values, abs=1e-3)
    assert cuda.activity == pytest.approx(cpu.activity, abs=1e-3)
