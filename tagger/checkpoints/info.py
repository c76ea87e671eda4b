"""A checkpoint without its weights: architecture, features, labels, calibration. No torch."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from tagger.checkpoints.header import FORMAT
from tagger.features.config import CONFIGS, MelConfig
from tagger.models.config import ARCHITECTURES

ACTIVATIONS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class CheckpointInfo:
    """The checkpoint's document, typed and validated."""

    name: str
    architecture: str
    """A key of `tagger.models.config.ARCHITECTURES`."""
    config: Any
    """That architecture's frozen config."""
    mel: MelConfig
    """Config of its features: log-mels, or MFCCs if it is an MfccConfig."""
    window_seconds: float
    """Length of the windows that it was trained on."""
    labels: tuple[str, ...]
    """In the order of the network's outputs."""
    activation: str
    """`softmax` or `sigmoid`."""
    thresholds: tuple[float, ...]
    """[labels]: the score at which each label's event begins."""
    temperature: float = 1.0
    bias: float = 0.0
    """Before the activation, logits are divided by `temperature`, and then `bias` is added."""
    others: tuple[str, ...] = ()
    """Names of the classes that the network knew before and still recognises (`tagger.models.efficientat.Others`)."""
    surprise: float = 0.0
    """Weight: this times the highest surprise is subtracted from every logit, before temperature and bias."""
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
        if architecture["name"] not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {architecture['name']!r}")
        if features["name"] not in CONFIGS:
            raise ValueError(f"unknown features {features['name']!r}")
        return cls(
            name=document["name"],
            architecture=architecture["name"],
            config=ARCHITECTURES[architecture["name"]].config(**architecture["config"]),
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
