"""The backbone that training starts from: a network by name (`mn04`, `crnn`), with published weights or none, or a
checkpoint.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from tagger.checkpoints import checkpoint, release, store
from tagger.checkpoints.second import is_official
from tagger.errors import CheckpointError, UserError, near
from tagger.features.config import FRONT_ENDS, MelConfig
from tagger.files import sha256
from tagger.models.config import ARCHITECTURES, trainable_names
from tagger.models.efficientat import Others
from tagger.models.network import Network, build
from tagger.printable import number_of
from train.recipe import Recipe

Start = Literal["audioset", "imagenet", "nothing"]
_SUFFIXES = {"audioset": "_as", "imagenet": "_im"}


@dataclass(frozen=True)
class Backbone:
    """A network, with or without weights. Training gives it a new last layer."""

    name: str
    architecture: str
    """A key of `tagger.models.config.ARCHITECTURES`."""
    config: Any
    """Config of the architecture; its number of labels is replaced."""
    mel: MelConfig
    weights: dict[str, torch.Tensor] | None
    """None: training starts from random weights."""
    digest: str
    """sha256 of the file with the weights; the network's name if there is no file."""
    licences: tuple[str, ...]
    labels: tuple[str, ...]
    """Labels that its weights were trained for; empty without weights."""
    trained_on: tuple[str, ...]
    """Identities of its training clips (train.data.dataset.trained_on); empty if they are not recorded."""
    official: Path | None = None
    """The official AudioSet network's file, if the weights are one's."""

    def config_for(self, labels: int, dropout: float | None = None) -> Any:
        """The architecture's config for this many labels; dropout None: unchanged."""
        changes: dict[str, Any] = {"labels": labels}
        if hasattr(self.config, "moments"):
            changes |= {
                "moments": False,
                "joint": True,
                "others": 0,
                "opinion": 0,
            }  # heads that training adds for these labels
        if dropout is not None and hasattr(self.config, "dropout"):
            changes["dropout"] = dropout
        return replace(self.config, **changes)

    def cache_key(self, seed: int) -> dict[str, Any]:
        """The part of a cache's key that says which network made the features; without weights, `seed` makes them."""
        return {
            "backbone": self.digest if self.weights is not None else [self.digest, seed],
            "network": repr(self.config),
            "mel": repr(self.mel),
        }

    def build(self, labels: int, dropout: float | None = None) -> Network:
        """The network with a new last layer. Random weights come from torch's global generator."""
        model = build(self.architecture, self.config_for(labels, dropout))
        if self.weights is not None:
            ours, new = model.state_dict(), model.last_layer
            kept = {key: self.weights[key] for key in ours if not key.startswith(new)}
            model.load_state_dict(ours | kept)
        return model


def load_backbone(name: str, start: Start | None, recipe: Recipe) -> Backbone:
    """
    Args:
        name: a network's name, or a checkpoint's name or path.
        start: published weights. None: AudioSet's where there are any (the `mn` and `dymn` families), else none.

    Raises:
        UserError: no such network or checkpoint, or its weights are not installed.
    """
    config = network_config(name)
    if config is None:
        if start is not None:
            raise UserError(f"--start {start}: is for networks by name (mn04, crnn); {name} has its own weights")
        return _of_checkpoint(name, recipe)
    architecture, shape = config
    is_published = bool(ARCHITECTURES[architecture].family)
    suffix = _SUFFIXES.get(start or ("audioset" if is_published else "nothing"))
    if suffix is None:
        mel = replace(FRONT_ENDS[recipe.front_end], bandwidth_hz=recipe.bandwidth_hz)
        if hasattr(shape, "bands"):
            shape = replace(shape, bands=mel.bands)
        return Backbone(name, architecture, shape, mel, None, name, (), (), ())
    if not is_published:
        raise UserError(f"--start {start}: nobody has published such weights of {name}; leave --start out")
    try:
        store.find(f"{name}{suffix}")
    except CheckpointError:
        fetch = (
            f"`tagger models download {name}`, or "
            if f"{name}{suffix}".removesuffix("_as") in release.RELEASE_FILES
            else ""
        )
        raise UserError(
            f"the {start or 'audioset'} weights of {name} are not here yet: {fetch}"
            "`tagger models add FILE` with EfficientAT's official file"
        ) from None
    return _of_checkpoint(f"{name}{suffix}", recipe)


def network_config(name: str) -> tuple[str, Any] | None:
    """Key of ARCHITECTURES and config of the network with this name. None: no network has it."""
    for key, architecture in ARCHITECTURES.items():
        if not architecture.family:
            if name == key:
                return key, architecture.config(labels=1)
        elif found := re.fullmatch(rf"{architecture.family}(\d\d)", name):
            width = int(found[1]) / 10
            if width not in architecture.widths:
                known = [each for each in trainable_names() if re.fullmatch(rf"{architecture.family}\d\d", each)]
                raise UserError(f"no network {name!r}{near(name, known)} {_trainable()}")
            return key, architecture.config(labels=1, width=width)
    return None


def _trainable() -> str:
    return f"Networks that can be trained by name: {', '.join(trainable_names())}; any checkpoint can, too"


def _of_checkpoint(name: str, recipe: Recipe) -> Backbone:
    try:
        path = store.find(name)
    except CheckpointError as error:
        raise CheckpointError(f"{error}. {_trainable()}") from None
    loaded = checkpoint.load(path)
    info = loaded.info
    mel = info.mel
    if recipe.front_end != Recipe.front_end:
        mel = FRONT_ENDS[recipe.front_end]
        if mel.bands != info.mel.bands:
            rows = number_of(mel.bands, "row")
            raise UserError(f"front end {recipe.front_end} has {rows}, {info.name} takes {info.mel.bands}")
    config = info.config
    if info.training.get("recipe") == "official":
        config = replace(config, head=recipe.head)
    return Backbone(
        info.name,
        info.architecture,
        config,
        replace(mel, bandwidth_hz=recipe.bandwidth_hz),
        loaded.model.state_dict(),
        sha256(path),
        info.licences,
        info.labels,
        tuple(info.training.get("trained_on", ())),
        path if is_official(info) else None,
    )


def others_of(network: Network, backbone: Backbone, heard: torch.Tensor, targets: torch.Tensor) -> Others | None:
    """The backbone's own last layer, and the activity of its classes that the labels explain. None: it has none.

    Args:
        heard: [N, features], inputs of the last layer for clips.
        targets: [N, labels], 0 or 1.
    """
    name = network.last_layer
    if backbone.weights is None or not isinstance(name, str):
        return None
    old = {key.removeprefix(name): value for key, value in backbone.weights.items() if key.startswith(name)}
    if old["weight"].shape[1] != heard.shape[1] or len(backbone.labels) != len(old["weight"]):
        return None  # the hidden layer before it was left out
    others = Others(heard.shape[1], len(backbone.labels))
    others.layer.load_state_dict(old)
    with torch.no_grad():
        by_label = targets.T @ others(heard) / targets.sum(0).clamp(min=1)[:, None]  # [labels, classes]
        others.expected.copy_(by_label.amax(0))
    return others.requires_grad_(False)
