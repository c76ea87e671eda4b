"""A checkpoint without its weights: architecture, features, labels, calibration. No torch."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tagger.checkpoints.header import FORMAT, read_header
from tagger.checkpoints.opinion import Opinion
from tagger.errors import CheckpointError
from tagger.features.config import CONFIGS, MelConfig
from tagger.models.config import ARCHITECTURES
from tagger.printable import number_of, printable

ACTIVATIONS = ("softmax", "sigmoid")
_LONGEST_NAME = 200
"""Letters."""
NAMES = f"at most {_LONGEST_NAME} letters that can be seen"
"""What a checkpoint's name may be, for people."""
_WINDOW_SECONDS = (0.1, 60.0)
"""Shortest and longest window."""
_MOST_CELLS = 2**25
"""Largest Fourier transform of a window: frames times samples. That of 10 s at 32 kHz has 2^20; 2^25 take 130 MB."""
_LARGEST = 1e4
"""Greatest temperature, bias and surprise, and 1 / the least temperature."""


def is_name(name: str) -> bool:
    """Whether a checkpoint can have this name."""
    return len(name) <= _LONGEST_NAME and printable(name) == name


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
    opinion: Opinion | None = None
    """How its second opinion counts. None: it has none."""
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    licences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is neither softmax nor sigmoid")
        if not is_name(self.name):
            raise ValueError(f"its name is not one of {NAMES}")
        if not all(isinstance(label, str) and label for label in self.labels):
            raise ValueError("labels must be names")
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError("labels are empty or repeat")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError("thresholds must be between 0 and 1")
        if not len(self.labels) == len(self.thresholds) == self.config.labels:
            raise ValueError(
                f"labels: {len(self.labels)}, thresholds: {len(self.thresholds)}, outputs: {self.config.labels}"
            )
        if not (abs(self.bias) <= _LARGEST and 0 <= self.surprise <= _LARGEST):
            raise ValueError(f"bias and surprise must be at most {_LARGEST:g}, and surprise not negative")
        if len(self.others) != getattr(self.config, "others", 0):
            raise ValueError(f"{len(self.others)} names of other classes for {getattr(self.config, 'others', 0)}")
        self._check_opinion()
        if not 1 / _LARGEST <= self.temperature <= _LARGEST:
            raise ValueError(f"temperature must be positive, from {1 / _LARGEST:g} to {_LARGEST:g}")
        if not _WINDOW_SECONDS[0] <= self.window_seconds <= _WINDOW_SECONDS[1]:
            raise ValueError("window_seconds must be from {:g} to {:g}".format(*_WINDOW_SECONDS))
        samples = round(self.window_seconds * self.mel.sample_rate_hz)
        if samples < self.mel.least_samples:
            raise ValueError(f"a window of {samples} samples is too short for a transform of {self.mel.n_fft}")
        if self.mel.frames(samples) * self.mel.n_fft > _MOST_CELLS:
            raise ValueError("its windows, transforms and hops would fill the memory")
        if getattr(self.config, "bands", self.mel.bands) != self.mel.bands:
            raise ValueError(f"the network takes {self.config.bands} bands, and the features have {self.mel.bands}")

    def _check_opinion(self) -> None:
        """
        Raises:
            ValueError: the second opinion is not that of this network and these labels.
        """
        outputs = getattr(self.config, "opinion", 0)
        if (self.opinion is None) != (outputs == 0):
            given = number_of(outputs, "output")
            raise ValueError(f"a network with {given} for a second opinion goes with such a section, or none")
        if self.opinion is None:
            return
        if len(self.opinion.classes) != outputs or len(self.opinion.means) != len(self.labels):
            classes, labels = len(self.opinion.classes), len(self.opinion.means)
            raise ValueError(
                f"opinion: {number_of(classes, 'class', 'classes')} and {number_of(labels, 'label')}, "
                f"for {number_of(outputs, 'output')} and {number_of(len(self.labels), 'label')}"
            )
        if self.opinion.share > 0 and not self.config.seconded:
            raise ValueError("opinion: share needs a second last layer for the labels, which the network lacks")
        if self.activation != "sigmoid":
            raise ValueError("opinion: goes with the activation sigmoid only")

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
            **({"opinion": self.opinion.to_document()} if self.opinion is not None else {}),
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
            opinion=Opinion.from_document(document["opinion"]) if "opinion" in document else None,
            training=document["training"],
            metrics=document["metrics"],
            licences=tuple(map(str, document["licences"])),
        )


def read_info(path: Path) -> CheckpointInfo:
    """What a checkpoint is, without its weights.

    Raises:
        CheckpointError: the file is missing, truncated, no checkpoint, of another format, or describes no network.
    """
    document = read_header(path)
    try:
        return CheckpointInfo.from_document(document)
    except (ValueError, KeyError, TypeError, ArithmeticError, AttributeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: its document cannot be used: {reason}") from None


def check_trained(path: Path, info: CheckpointInfo) -> None:
    """
    Raises:
        CheckpointError: the network was only trained on pictures (`tagger.checkpoints.official`) and cannot listen.
    """
    if info.training.get("data") == "ImageNet":
        raise CheckpointError(
            f"{path}: was never trained on sounds and is only a start for training; "
            "what `tagger train` makes of it can listen"
        )
