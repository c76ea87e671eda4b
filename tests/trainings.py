"""Small things to train with: sounds that are easy to tell apart, and networks that take next to none."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from tagger.checkpoints import checkpoint, store
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.release import audioset_labels
from tagger.features.config import MelConfig
from tagger.features.logmel import front_end
from tagger.models.config import CRNNConfig, EfficientATConfig
from tagger.models.efficientat import EfficientAT
from tagger.models.network import build
from train.data.corpus import Corpus
from train.data.dataset import Clip, Dataset, Rows
from train.fit.backbone import Backbone
from train.fit.distributed import Place
from train.fit.finetune import FineTuneLearner
from train.fit.stored_spectrograms import Spectrograms
from train.fit.teacher import Teacher
from train.fit.trainer import Setup, Trained, TrainingStoppedError
from train.recipe import Recipe

RATE_HZ = 8_000
SAMPLES = 4_000
MEL = MelConfig(sample_rate_hz=RATE_HZ, n_fft=256, window_samples=200, hop_samples=80, n_mels=32, f_max_hz=3_800.0)
LABELS = ("low", "high", "hiss")
HERE = Place(torch.device("cpu"))
RECIPE = Recipe(
    epochs=3,
    batch=8,
    frozen_norm=False,
    fitted_head=False,
    learning_rate=1e-2,
    head_learning_rate=1e-2,
    warmup_epochs=0.5,
    average=0.5,
    mixed_precision=False,
    activation="softmax",
    mix_spectrograms=0.2,
    jitter_high_hz=100.0,
)
"""Three quick epochs, in which a small network learns."""
SHARED = replace(
    RECIPE,
    epochs=2,
    frozen_norm=True,
    fitted_head=True,
    learning_rate=1e-4,
    head_learning_rate=1e-4,
    mix_spectrograms=0.0,
    jitter_low_hz=0.0,
    jitter_high_hz=0.0,
    bandwidth=0.0,
)
"""Without what each process draws for its own part of a batch."""


@dataclass(frozen=True)
class FakeWaveforms:
    """Windows in memory."""

    windows: np.ndarray
    """[rows, samples]"""

    @property
    def samples(self) -> int:
        return self.windows.shape[1]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.windows[row].copy()

    def batch(self, rows: Rows) -> np.ndarray:
        return self.windows[rows]


def sound(label: int | None, number: int) -> np.ndarray:
    """A low tone, a high one, or a hiss, for most of the window; of no label: next to nothing."""
    rng = np.random.default_rng([5, -1 % 4 if label is None else label, number])
    time = np.arange(SAMPLES) / RATE_HZ
    if label is None:
        return (1e-3 * rng.standard_normal(SAMPLES)).astype(np.float32)
    if label == 2:
        window = 0.1 * rng.standard_normal(SAMPLES)
    else:
        window = 0.4 * np.sin(2 * np.pi * (300, 2_000)[label] * rng.uniform(0.8, 1.2) * time)
    window[: rng.integers(1, 500)] = 0
    return window.astype(np.float32)


def corpus(each: int = 8, background: int = 4) -> Corpus:
    """`each` sounds of every label, one label after the other, and then `background` sounds without a label."""
    rows = [(label, number) for label in (0, 1, 2) for number in range(each)]
    rows += [(None, number) for number in range(background)]
    windows = np.stack([sound(*row) for row in rows])
    clips = tuple(
        Clip(Path(f"{number}.wav"), label, 1 + number % 5, f"{label} {number}", hashlib.sha256(window).hexdigest())
        for (label, number), window in zip(rows, windows, strict=True)
    )
    return Corpus.of(Dataset("tones", LABELS, clips), FakeWaveforms(windows))  # type: ignore[arg-type]


def split(data: Corpus) -> tuple[Rows, Rows]:
    """Every fourth row to choose by, the others to learn from."""
    rows = np.arange(len(data.waveforms))
    return rows[rows % 4 != 0], rows[rows % 4 == 0]


def crnn_backbone(dropout: float = 0.1) -> Backbone:
    shape = CRNNConfig(labels=3, bands=32, channels=(4, 4, 8, 8), sequence=8, hidden=8, dropout=dropout)
    return Backbone("crnn", "crnn", shape, MEL, None, "crnn", (), (), ())


def mn_backbone(seed: int = 0, head: Literal["linear", "mlp"] = "linear") -> Backbone:
    """An `mn` network that has weights: random ones, and batch norms that have seen some sounds."""
    torch.manual_seed(seed)
    config = EfficientATConfig(labels=7, width=0.1, head=head, dropout=0.0)
    network = build("efficientat", config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(front_end(MEL)(torch.from_numpy(corpus().waveforms.windows)))  # type: ignore[attr-defined]
    known = tuple(f"class {number}" for number in range(config.labels))
    return Backbone(
        "small", "efficientat", config, MEL, network.state_dict(), f"digest {seed}", ("MIT",), known, ("0123456789",)
    )


def publish(model: EfficientAT, mel: MelConfig) -> None:
    """Installs a network with 527 classes as the official `mn04_as`, whose usual logits are known."""
    info = CheckpointInfo(
        name="mn04_as",
        architecture="efficientat",
        config=model.config,
        mel=mel,
        window_seconds=1.0,
        labels=audioset_labels(),
        activation="sigmoid",
        thresholds=(0.5,) * 527,
        training={"recipe": "official", "data": "AudioSet"},
    )
    checkpoint.save(store.folder() / "mn04_as.safetensors", info, model)


def fit(
    folder: Path,
    recipe: Recipe = RECIPE,
    backbone: Backbone | None = None,
    place: Place = HERE,
    seed: int = 0,
    teacher: Teacher | None = None,
    spectrograms: Spectrograms | None = None,
) -> FineTuneLearner:
    data = corpus()
    setup = Setup(backbone or crnn_backbone(), recipe, data, seed, place, teacher)
    return FineTuneLearner(setup, *split(data), folder, spectrograms)


class Never:
    """Stands in for tagger.stop.Stop: nobody asks for the end."""

    interrupted = False


@dataclass(frozen=True)
class StopAfter:
    """Stands in for tagger.stop.Stop: interrupts at this step of a fit."""

    fit: FineTuneLearner
    epoch: int
    """Number of the epoch, from 0."""
    step: int
    """Number of batches of this epoch, from 1."""

    @property
    def interrupted(self) -> bool:
        return (self.fit.state.epoch, self.fit.state.step) == (self.epoch, self.step)


def finished(fit: FineTuneLearner) -> Trained:
    return fit.run(quiet, Never())  # type: ignore[arg-type]


def interrupted(fit: FineTuneLearner, epoch: int, step: int) -> None:
    try:
        fit.run(quiet, StopAfter(fit, epoch, step))  # type: ignore[arg-type]
    except TrainingStoppedError:
        return
    raise AssertionError(f"not stopped in epoch {epoch} after batch {step}")


def info_of(found: Trained, name: str) -> CheckpointInfo:
    """Describes what was trained on `corpus()` with sigmoids."""
    return CheckpointInfo(
        name=name,
        architecture="efficientat",
        config=found.model.config,
        mel=MEL,
        window_seconds=SAMPLES / RATE_HZ,
        labels=LABELS,
        activation="sigmoid",
        thresholds=(found.threshold,) * len(LABELS),
        temperature=found.temperature,
        bias=found.bias,
        surprise=found.surprise,
        others=found.others,
        opinion=found.opinion,
    )


def checkpoint_of(model: torch.nn.Module, labels: tuple[str, ...], activation: str = "softmax") -> Checkpoint:
    info = CheckpointInfo(
        name="trained",
        architecture="crnn",
        config=model.config,
        mel=MEL,
        window_seconds=SAMPLES / RATE_HZ,
        labels=labels,
        activation=activation,
        thresholds=(0.5,) * len(labels),
    )
    return Checkpoint(info, model.eval())


def logits(model: torch.nn.Module, data: Corpus, rows: Rows) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(front_end(MEL)(torch.from_numpy(data.waveforms.batch(rows)))).clone()


def quiet(text: str) -> None:
    """Unused."""
