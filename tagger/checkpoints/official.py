"""Converts EfficientAT's official weights to checkpoints."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from tagger.checkpoints import checkpoint, torchfile
from tagger.checkpoints.info import NAMES, CheckpointInfo, is_name
from tagger.checkpoints.release import audioset_labels
from tagger.checkpoints.store import SUFFIX, folder
from tagger.errors import CheckpointError
from tagger.features.config import MelConfig
from tagger.files import sha256
from tagger.models.config import DYMN_WIDTHS, WIDTHS, DyMNConfig, EfficientATConfig
from tagger.models.dymn import DyMN
from tagger.models.efficientat import HEAD_CHANNELS, EfficientAT, round_channels
from tagger.printable import number_of

log = logging.getLogger(__name__)

UNTRAINED = "untrained"
"""The only label of a network that was trained on pictures alone."""
_MOST_OUTPUTS = 10_000
"""AudioSet has 527 labels, ImageNet 1000."""
_WINDOW_SECONDS = 10.0
"""Length of AudioSet's clips, on which these networks were trained."""
_THRESHOLD = 0.5
_IMAGENET_TEMPERATURE = 30.0
"""Temperature of DyMN's attention over kernels at the end of the ImageNet training (AudioSet training: 1)."""
_LICENCE = (
    "Weights: EfficientAT, https://github.com/fschmid56/EfficientAT, MIT licence, copyright (c) 2022 Florian Schmid"
)
_AUDIOSET_LICENCE = "Labels: AudioSet ontology, Google LLC, CC BY-SA 4.0"


def add(path: Path) -> Path:
    """Converts an official `.pt` file into `$TAGGER_HOME/models`. Returns the path there.

    Raises:
        CheckpointError: the file is not such a file.
    """
    info, model = convert(path)
    target = folder() / f"{info.name}{SUFFIX}"
    checkpoint.save(target, info, model)
    return target


def official_name(path: Path) -> str:
    """Name of the model in an official file: the file's stem up to `_mAP`.

    >>> official_name(Path("mn04_as_mAP_432.pt"))
    'mn04_as'
    """
    return re.split("_mAP", path.stem)[0]


def convert(path: Path) -> tuple[CheckpointInfo, nn.Module]:
    """Reads an official file.

    A network that was trained on ImageNet alone recognises no sound; it is where training begins, which replaces its
    last layer. Its checkpoint has one label, `untrained`, with the score 0.5 for every input and the threshold 1, and
    `"data": "ImageNet"` under `training`.

    Args:
        path: an official `.pt` file of the `mn` or `dymn` family, trained on AudioSet or ImageNet, such as
            `mn04_as_mAP_432.pt`, `dymn10_as.pt` or `mn10_im.pt`. No code in it is run.

    Returns:
        The description and the network, in evaluation mode.

    Raises:
        CheckpointError: the file is not such a file.
    """
    shapes = _read_shapes(path)
    name = official_name(path)
    if not is_name(name):
        raise CheckpointError(f"{path}: rename it: its name is not one of {NAMES}")
    if re.search(r"_(hop|mels|fc|replace_se)(_|$)", name):
        raise CheckpointError(
            f"{path}: {name} has another front end, head or network than mn*_as and dymn*_as; not supported"
        )
    model = _network_of(shapes, path)
    model.load_state_dict(_read(path))
    model.eval()
    is_imagenet = re.match(r"(dy)?mn\d\d_im(_|$)", name) is not None
    labels = (UNTRAINED,) if is_imagenet else audioset_labels()
    if is_imagenet:
        _replace_outputs(model)
    elif model.config.labels != len(labels):
        raise CheckpointError(
            f"{path}: has {number_of(model.config.labels, 'output')}, AudioSet has {number_of(len(labels), 'label')}"
        )
    info = CheckpointInfo(
        name=name,
        architecture="dymn" if isinstance(model, DyMN) else "efficientat",
        config=model.config,
        mel=MelConfig(),
        window_seconds=_WINDOW_SECONDS,
        labels=labels,
        activation="sigmoid",
        thresholds=(1.0 if is_imagenet else _THRESHOLD,) * len(labels),
        training={
            "recipe": "official",
            "data": "ImageNet" if is_imagenet else "AudioSet",
            "file": path.name,
            "sha256": sha256(path),
        },
        metrics={"audioset_map": int(found[1]) / 1000} if (found := re.search(r"_mAP_(\d{3})", path.stem)) else {},
        licences=(_LICENCE,) if is_imagenet else (_LICENCE, _AUDIOSET_LICENCE),
    )
    return info, model


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights by the name in our networks, from the file's table alone.

    Our parameters have the official names, except squeeze-excitation, which lies two levels deeper in the files.

    Raises:
        CheckpointError: the file is missing, damaged, or holds anything but weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        return {_ours(name): shape for name, shape in torchfile.read_shapes(path).items()}
    except Exception as error:  # a pickle may raise anything
        log.debug("%s: %s: %s", path, type(error).__name__, error)
        raise CheckpointError(
            f"{path}: not a whole file of PyTorch weights, or one that holds more than weights"
            + (f" ({error})" if type(error) is ValueError else "")
        ) from None


def _ours(name: str) -> str:
    return name.replace(".conc_se_layers.0.", ".")


def _read(path: Path) -> dict[str, Tensor]:
    """Weights by the name in our networks.

    Raises:
        CheckpointError: the file is damaged, or holds anything but finite weights.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler may raise anything for bytes that are no pickle
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
    return {_ours(name): value for name, value in weights.items()}


def _network_of(shapes: dict[str, tuple[int, ...]], path: Path) -> EfficientAT | DyMN:
    """The network of the family and width that weights of these shapes fit, with fresh weights.

    Raises:
        CheckpointError: the weights fit no network.
    """
    (outputs,) = bias if len(bias := shapes.get("classifier.5.bias", ())) == 1 else (0,)
    if 0 < outputs <= _MOST_OUTPUTS:
        configs = [
            *(EfficientATConfig(labels=outputs, width=width) for width in WIDTHS),
            *(DyMNConfig(labels=outputs, width=width) for width in DYMN_WIDTHS),
        ]
        for config in configs:
            if shapes.get("classifier.2.bias") != (round_channels(HEAD_CHANNELS * config.width),):
                continue  # to build a network to compare with takes a moment
            with torch.device("meta"):
                expected = _network(config).state_dict()
            if shapes == {key: tuple(value.shape) for key, value in expected.items()}:
                return _network(config)
    raise CheckpointError(
        f"{path}: its weights fit no network of the mn family (mn01 to mn40) or dymn family (dymn04 to dymn20)"
    )


def _network(config: EfficientATConfig) -> EfficientAT | DyMN:
    return DyMN(config) if isinstance(config, DyMNConfig) else EfficientAT(config)


def _replace_outputs(model: EfficientAT | DyMN) -> None:
    """Replaces ImageNet's outputs by one that is always 0."""
    replaced = model.classifier[-1]
    assert isinstance(replaced, nn.Linear)
    last = nn.Linear(replaced.in_features, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    model.classifier[-1] = last.eval()
    model.config = replace(model.config, labels=1)
    if isinstance(model, DyMN):
        model.set_temperature(_IMAGENET_TEMPERATURE)
