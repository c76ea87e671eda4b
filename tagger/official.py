"""EfficientAT's official weights, converted to our checkpoints."""

import logging
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from tagger.checkpoint import CheckpointInfo
from tagger.errors import CheckpointError
from tagger.features import MelConfig
from tagger.files import sha256
from tagger.models import EfficientAT, EfficientATConfig
from tagger.store import official_name

log = logging.getLogger(__name__)

WIDTHS = (0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0, 3.0, 4.0)
_WINDOW_SECONDS = 10.0
"""AudioSet's clips, on which these networks were trained."""
_THRESHOLD = 0.5
_LICENCES = (
    "Weights: EfficientAT, https://github.com/fschmid56/EfficientAT, MIT licence, copyright (c) 2022 Florian Schmid",
    "Labels: AudioSet ontology, Google LLC, CC BY-SA 4.0",
)


def audioset_labels() -> tuple[str, ...]:
    """AudioSet's 527 display names, in the order of the networks' outputs."""
    return tuple((Path(__file__).parent / "audioset_labels.txt").read_text("utf-8").splitlines())


def convert(path: Path) -> tuple[CheckpointInfo, nn.Module]:
    """
    Args:
        path: an official `.pt` file of the `mn` family, trained on AudioSet, such as `mn04_as_mAP_432.pt`. Nothing in
            it is executed.

    Raises:
        CheckpointError: not such a file.
    """
    weights = _read(path)
    labels = audioset_labels()
    name = official_name(path)
    if re.search(r"_(hop|mels|fc|im)(_|$)", name) or name.startswith("dymn"):
        raise CheckpointError(f"{path}: {name} has another front end, head or network than mn*_as; not supported")
    model = _matching(weights, path)
    if model.config.labels != len(labels):
        raise CheckpointError(f"{path}: has {model.config.labels} outputs, AudioSet has {len(labels)} labels")
    info = CheckpointInfo(
        name=name,
        architecture="efficientat",
        config=model.config,
        mel=MelConfig(),
        window_seconds=_WINDOW_SECONDS,
        labels=labels,
        activation="sigmoid",
        thresholds=(_THRESHOLD,) * len(labels),
        training={"recipe": "official", "data": "AudioSet", "file": path.name, "sha256": sha256(path)},
        metrics={"audioset_map": int(found[1]) / 1000} if (found := re.search(r"_mAP_(\d{3})", path.stem)) else {},
        licences=_LICENCES,
    )
    return info, model


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler meets any bytes, and fails in any way
        log.debug("torch.load: %s", error)
        raise CheckpointError(
            f"{path}: not a whole file of PyTorch weights, or one that holds more than weights"
        ) from None
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    ):
        raise CheckpointError(f"{path}: holds something else than a network's weights")
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise CheckpointError(f"{path}: NaN or infinity in the weights")
    return weights


def _matching(weights: dict[str, Tensor], path: Path) -> EfficientAT:
    """The network of the width that these weights have, with every one of them in its place."""
    ours = {key.replace(".conc_se_layers.0.", "."): value for key, value in weights.items()}
    outputs = ours.get("classifier.5.bias")
    if outputs is not None and outputs.dim() == 1 and len(outputs) > 0:
        shapes = {key: value.shape for key, value in ours.items()}
        for width in WIDTHS:
            config = EfficientATConfig(labels=len(outputs), width=width)
            with torch.device("meta"):
                expected = EfficientAT(config).state_dict()
            if shapes == {key: value.shape for key, value in expected.items()}:
                model = EfficientAT(config)
                model.load_state_dict(ours)
                return model.eval()
    raise CheckpointError(f"{path}: its weights fit no network of the mn family (mn01 to mn40)")
