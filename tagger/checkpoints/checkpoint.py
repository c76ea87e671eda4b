"""Checkpoints: a network, its features and its labels in one `.safetensors` file.

`tagger.checkpoints.header` has the format, `tagger.checkpoints.info` everything but the weights. Training and listening
both build their features from this file alone, so they cannot disagree.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as packed
from torch import Tensor, nn

from tagger.checkpoints.header import METADATA_KEY, read_shapes
from tagger.checkpoints.info import CheckpointInfo, read_info
from tagger.errors import CheckpointError
from tagger.files import replacing
from tagger.models import network


@dataclass(frozen=True)
class Checkpoint:
    """A network that was read from a file."""

    info: CheckpointInfo
    model: nn.Module
    """In eval mode, float32, on the CPU."""


def build(info: CheckpointInfo) -> nn.Module:
    """The network that `info` describes, with fresh weights."""
    return network.build(info.architecture, info.config)


def load(path: Path) -> Checkpoint:
    """
    Raises:
        CheckpointError: the file is missing, truncated, a pickle, of an unknown format, or lacks keys or weights.
    """
    info = read_info(path)
    shapes = read_shapes(path)
    with torch.device("meta"):  # nothing is allocated until the file is known to have the weights
        expected = {name: tuple(tensor.shape) for name, tensor in build(info).state_dict().items()}
    missing = sorted(set(expected) - set(shapes))
    unknown = sorted(set(shapes) - set(expected))
    misshapen = sorted(name for name in expected.keys() & shapes.keys() if expected[name] != shapes[name])
    for problem, names in (("lacks", missing), ("has unknown", unknown), ("has misshapen", misshapen)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(f"{path}: {problem} weights: {', '.join(names[:3])}{more}")
    try:
        weights = {name: _whole(tensor) for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: weights cannot be read ({error})") from None
    not_finite = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if not_finite:
        raise CheckpointError(f"{path}: NaN or infinity in the weights: {', '.join(not_finite[:3])}")
    model = build(info)
    model.load_state_dict(weights)
    return Checkpoint(info, model.eval())


def save(path: Path, info: CheckpointInfo, model: nn.Module, half: bool = False) -> None:
    """Writes the checkpoint in one step: a reader sees the old file or the new one, never a part of it.

    Args:
        half: store matrices and convolutions in float16. Vectors (biases, batch-norm statistics, some as small as
            1e-43) stay in float32; they are a few per cent of the size.
    """
    weights = {
        name: (tensor.half() if half and _fits_half(tensor) else tensor).detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    metadata = {METADATA_KEY: json.dumps(info.to_document())}
    with replacing(path) as partial:
        partial.write_bytes(packed(weights, metadata))  # its own writing has an error of its own for a full disk


def _fits_half(tensor: Tensor) -> bool:
    return tensor.dim() > 1 and bool(tensor.abs().max() <= torch.finfo(torch.float16).max)


def _whole(tensor: Tensor) -> Tensor:
    """The tensor in float32: half precision is used in files only."""
    return tensor.float() if tensor.is_floating_point() else tensor
