"""Classes of a second opinion, scored beside the labels from one run of the network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tagger.checkpoints import checkpoint
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.classes import MODEL
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.named import choose
from tagger.checkpoints.opinion import Opinion
from tagger.engine.joint import JointClassifier
from tagger.engine.runtime import describe, open_models
from tagger.engine.runtime_torch import Classifier
from tagger.engine.scores import NetworkOutputs
from tagger.errors import CheckpointError
from tagger.events import Window
from tagger.features.config import MelConfig
from tagger.models.config import EfficientATConfig
from tagger.models.efficientat import EfficientAT
from tagger.policy import EventsConfig

CONFIG = EfficientATConfig(labels=2, width=0.1, moments=True, opinion=4, shared=10)
OPINION = Opinion(("Dog", "Bark", "Doorbell", "Water"), (("Dog", "Bark"), ("Water",)), (0.0,) * 4, (1.0,) * 4)
INFO = CheckpointInfo(
    name="small",
    architecture="efficientat",
    config=CONFIG,
    mel=MelConfig(),
    window_seconds=1.0,
    labels=("dog", "drops"),
    activation="sigmoid",
    thresholds=(0.5, 0.5),
    opinion=OPINION,
)
WANTED = [EventsConfig(allow=("dog", "Doorbell", "water"), deny=("drops",))]


def network(config: EfficientATConfig = CONFIG) -> EfficientAT:
    torch.manual_seed(0)
    return EfficientAT(config).eval()


@pytest.fixture(scope="module")
def alone() -> Classifier:
    return Classifier(Checkpoint(INFO, network()), "cpu")


def windows(count: int = 2) -> list[Window]:
    noise = np.random.default_rng(0).standard_normal((count, 32_000)).astype(np.float32) / 10
    return [Window(each, 16_000 * number, 32_000, 100.0 + 0.5 * number) for number, each in enumerate(noise)]


def test_classes_are_the_last_labels_and_the_others_stay_as_they_are(alone: Classifier) -> None:
    both = JointClassifier([alone], choose(INFO, WANTED))
    found, plain = both.classify(windows()), alone.classify(windows())
    assert both.info.labels == ("dog", "drops", "Doorbell", "Water")
    opinion = alone.outputs(np.stack([each.samples for each in windows()])).opinion
    for row, (one, other) in enumerate(zip(found, plain, strict=True)):
        np.testing.assert_allclose(one.values[:2], other.values, atol=1e-6)
        np.testing.assert_allclose(one.activity[:2], other.activity, atol=1e-6)
        np.testing.assert_allclose(one.values[2:], 1 / (1 + np.exp(-opinion[row, 2:])), atol=1e-5)
        assert np.isnan(one.activity[2:]).all()
        assert [one.other_of(column) for column in range(4)] == [*(other.other_of(each) for each in range(2)), "", ""]


def test_the_network_runs_once(alone: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    outputs_of = alone.outputs_of

    def counted(features: torch.Tensor) -> NetworkOutputs:
        ran.append(len(features))
        return outputs_of(features)

    monkeypatch.setattr(alone, "outputs_of", counted)
    both = JointClassifier([alone], choose(INFO, WANTED))
    ran.clear()
    both.classify(windows(1))
    assert ran == [1]


def test_a_graph_without_a_second_opinion_is_named(alone: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    both = JointClassifier([alone], choose(INFO, WANTED))
    outputs_of = alone.outputs_of
    monkeypatch.setattr(alone, "outputs_of", lambda features: replace(outputs_of(features), opinion=None))
    with pytest.raises(CheckpointError, match="`tagger export small` writes it again"):
        both.classify(windows(1))


def test_models_that_listen_together_have_them_too(tmp_path: Path) -> None:
    plain = EfficientATConfig(labels=1, width=0.1, moments=True)
    other = replace(INFO, name="other", config=plain, labels=("cat",), thresholds=(0.5,), opinion=None)
    checkpoint.save(tmp_path / "other.safetensors", other, network(plain))
    checkpoint.save(tmp_path / "small.safetensors", INFO, network())
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("other", "small")]
    both = open_models(paths, "torch", rules=WANTED)
    assert both.info.labels == ("cat", "dog", "drops", "Doorbell", "Water")
    assert both.info.name == f"other+small+{MODEL}"
    assert list(describe(both))[-1] == "audioset, its second opinion, for Doorbell; Water"
    (alone,) = open_models(paths[1:], "torch", rules=WANTED).classify(windows(1))
    (found,) = both.classify(windows(1))
    np.testing.assert_allclose(found.values[1:], alone.values, atol=1e-6)
    assert len(open_models(paths, "torch").info.labels) == 3
