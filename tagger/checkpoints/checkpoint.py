"""Checkpoints: a network, its features and its labels in one `.safetensors` file.

See `tagger.checkpoints.header` for the format.
Training and listening both build their features from this file alone, so they cannot disagree.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tagger.checkpoints.header import FORMAT, METADATA_KEY, read_header
from tagger.errors import CheckpointError
from tagger.features.config import CONFIGS, MelConfig
from tagger.files import replacing
from tagger.models import MODELS

ACTIVATIONS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class CheckpointInfo:
    """The checkpoint's document, typed and validated."""

    name: str
    architecture: str
    """A key of MODELS."""
    config: Any
    """That architecture's frozen config."""
    mel: MelConfig
    """Its features: log-mels, or MFCCs if it is an MfccConfig."""
    window_seconds: float
    """Length of the windows it was trained on."""
    labels: tuple[str, ...]
    """In output order."""
    activation: str
    """`softmax` or `sigmoid`."""
    thresholds: tuple[float, ...]
    """Score at which a label's event begins, one a label."""
    temperature: float = 1.0
    bias: float = 0.0
    """Before the activation, logits are divided by `temperature`, and then `bias` is added."""
    others: tuple[str, ...] = ()
    """Names of the classes that the network knew before and still recognises (`tagger.models.efficientat.Others`)."""
    surprise: float = 0.0
    """So much is taken from every logit for each unit of the highest surprise among them, before all else."""
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    licences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is neither softmax nor sigmoid")
        if not all(isinstance(label, str) and label for label in self.labels):
            raise ValueError("labels must be names")
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError("labels are empty or repeat")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError("thresholds must be between 0 and 1")
        if not len(self.labels) == len(self.thresholds) == self.config.labels:
            raise ValueError(
                f"{len(self.labels)} labels, {len(self.thresholds)} thresholds, {self.config.labels} outputs"
            )
        if not math.isfinite(self.bias) or not 0 <= self.surprise < math.inf:
            raise ValueError("bias must be finite, and surprise finite and not negative")
        if len(self.others) != getattr(self.config, "others", 0):
            raise ValueError(f"{len(self.others)} names of other classes for {getattr(self.config, 'others', 0)}")
        if not (0 < self.temperature < math.inf and 0 < self.window_seconds < math.inf):
            raise ValueError("temperature and window_seconds must be positive")

    def to_document(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "architecture": {"name": self.architecture, "config": asdict(self.config)},
            "features": {"name": self.mel.name, "window_seconds": self.window_seconds, "mel": asdict(self.mel)},
            "labels": list(self.labels),
            "activation": self.activation,
            "thresholds": list(self.thresholds),
            "calibration": {"temperature": self.temperature, "bias": self.bias, "surprise": self.surprise},
            "others": list(self.others),
            "training": self.training,
            "metrics": self.metrics,
            "licences": list(self.licences),
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "CheckpointInfo":
        """
        Raises:
            ValueError, KeyError, TypeError: the document does not describe a network this version can build.
        """
        architecture, features = document["architecture"], document["features"]
        if architecture["name"] not in MODELS:
            raise ValueError(f"unknown architecture {architecture['name']!r}")
        if features["name"] not in CONFIGS:
            raise ValueError(f"unknown features {features['name']!r}")
        return cls(
            name=document["name"],
            architecture=architecture["name"],
            config=MODELS[architecture["name"]].config(**architecture["config"]),
            mel=CONFIGS[features["name"]](**features["mel"]),
            window_seconds=float(features["window_seconds"]),
            labels=tuple(document["labels"]),
            activation=document["activation"],
            thresholds=tuple(map(float, document["thresholds"])),
            temperature=float(document["calibration"]["temperature"]),
            bias=float(document["calibration"].get("bias", 0.0)),
            others=tuple(map(str, document.get("others", ()))),
            surprise=float(document["calibration"].get("surprise", 0.0)),
            training=document["training"],
            metrics=document["metrics"],
            licences=tuple(map(str, document["licences"])),
        )


@dataclass(frozen=True)
class Checkpoint:
    info: CheckpointInfo
    model: nn.Module
    """In eval mode, float32, on the CPU."""


def build(info: CheckpointInfo) -> nn.Module:
    """The network that `info` describes, with fresh weights."""
    architecture = MODELS[info.architecture]
    return architecture.network(info.config)


def load(path: Path) -> Checkpoint:
    """
    Raises:
        CheckpointError: the file is missing, truncated, a pickle, of an unknown format, or lacks keys or weights.
    """
    document = read_header(path)
    try:
        info = CheckpointInfo.from_document(document)
        model = build(info)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: its document cannot be used: {reason}") from None
    try:
        weights = {name: _whole(tensor) for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: weights cannot be read ({error})") from None
    expected = model.state_dict()
    missing = sorted(set(expected) - set(weights))
    unknown = sorted(set(weights) - set(expected))
    misshapen = sorted(name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape)
    for problem, names in (("lacks", missing), ("has unknown", unknown), ("has misshapen", misshapen)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(f"{path}: {problem} weights: {', '.join(names[:3])}{more}")
    not_finite = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if not_finite:
        raise CheckpointError(f"{path}: NaN or infinity in the weights: {', '.join(not_finite[:3])}")
    model.load_state_dict(weights)
    return Checkpoint(info, model.eval())


def load_trained(path: Path) -> Checkpoint:
    """For listening.

    Raises:
        CheckpointError: also where the network has only ever seen pictures (`tagger.checkpoints.official`).
    """
    loaded = load(path)
    if loaded.info.training.get("data") == "ImageNet":
        raise CheckpointError(
            f"{path}: was never trained on sounds and is only a start for training; "
            "what `tagger train` makes of it can listen"
        )
    return loaded


def save(path: Path, info: CheckpointInfo, model: nn.Module, half: bool = False) -> None:
    """Writes the checkpoint in one step: a reader sees the old file or the new one, never a part.

    Args:
        half: store matrices and convolutions in float16. Vectors (biases, batch-norm statistics, some as small as
            1e-43) stay in float32: they are a few per cent of the size.
    """
    weights = {
        name: (tensor.half() if half and _fits_half(tensor) else tensor).detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    metadata = {METADATA_KEY: json.dumps(info.to_document())}
    with replacing(path) as partial:
        save_file(weights, partial, metadata)


def _fits_half(tensor: Tensor) -> bool:
    return tensor.dim() > 1 and bool(tensor.abs().max() <= torch.finfo(torch.float16).max)


def _whole(tensor: Tensor) -> Tensor:
    """Half precision is for the file alone."""
    return tensor.float() if tensor.is_floating_point() else tensor
