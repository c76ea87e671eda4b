"""`tagger export`: a checkpoint's network as a graph that runs without torch.

The graph holds the network alone: features are made by `tagger.features.frames`, and scores by `tagger.engine.scores`.
Batch and length of a window stay free. It is written only if it gives the network's logits on real sounds.
"""

import copy
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tagger.audio.decode import decode_blocks
from tagger.audio.window import SlidingWindows
from tagger.checkpoints.checkpoint import Checkpoint, load
from tagger.checkpoints.graph import DIGEST_KEY, FEATURES, OUTPUTS, STEP_FRAMES_KEY, STEPS
from tagger.checkpoints.header import weights_digest
from tagger.engine.runtime_onnx import OnnxClassifier
from tagger.engine.runtime_torch import Classifier
from tagger.engine.scores import WindowClassifier
from tagger.errors import CheckpointError, UserError
from tagger.events import Samples
from tagger.files import replacing
from tagger.models.efficientat import ConvNorm
from tagger.printable import printable

LARGEST_DIFFERENCE = 1e-3
"""Most that a logit, of the window or of a step, may differ from the checkpoint's."""
_OPSET = 17
_MOST_WINDOWS = 20
"""Number of windows that are compared, at most."""


@dataclass(frozen=True)
class Exported:
    """A graph that was written."""

    path: Path
    windows: int
    """Number of windows on which it was compared with the checkpoint."""
    difference: float
    """Largest difference of a logit."""


def export(checkpoint: Path, out: Path, sounds: Sequence[Path]) -> Exported:
    """Writes the graph in one step, after comparing it with the checkpoint.

    Args:
        sounds: recordings to compare on.

    Raises:
        CheckpointError: the checkpoint cannot be read, its network cannot be exported, or the graph gives other logits.
        UserError: the sounds hold no window.
    """
    loaded = load(checkpoint)
    windows = _windows(sounds, loaded)
    if not windows:
        raise UserError("no sound to compare the exported graph on")
    with replacing(out) as partial:
        _write(loaded, partial, weights_digest(checkpoint))
        largest = _difference(Classifier(loaded, "cpu"), OnnxClassifier(loaded.info, checkpoint, partial), windows)
        if not largest <= LARGEST_DIFFERENCE:
            raise CheckpointError(
                f"{checkpoint}: its exported graph differs by {largest:.2g} in a logit, more than "
                f"{LARGEST_DIFFERENCE:g}; nothing was written"
            )
    return Exported(out, len(windows), largest)


def _difference(one: WindowClassifier, other: WindowClassifier, windows: Sequence[Samples]) -> float:
    """Largest difference of an output: window by window, all in a batch, and the first half of one alone.

    Raises:
        CheckpointError: the other cannot run.
    """
    batches = [*(window[None] for window in windows), np.stack(windows), windows[0][None, : len(windows[0]) // 2]]
    largest = 0.0
    for batch in batches:
        expected = one.outputs(batch)
        try:
            found = other.outputs(batch)
        except Exception as error:  # ONNX Runtime's errors have no class in common
            raise CheckpointError(f"its network cannot be run once exported: {printable(str(error))}") from None
        pairs = [(expected.logits, found.logits), (expected.steps, found.steps)]
        if expected.embedding is not None and found.embedding is not None:
            pairs.append((expected.embedding, found.embedding))
        largest = max(largest, *(float(np.abs(a - b).max()) for a, b in pairs))
    return largest


def _write(loaded: Checkpoint, path: Path, digest: str) -> None:
    network = _plain(copy.deepcopy(loaded.model)).eval()
    frames = loaded.info.mel.frames(round(loaded.info.window_seconds * loaded.info.mel.sample_rate_hz))
    example = torch.randn(2, 1, loaded.info.mel.bands, frames, generator=torch.Generator().manual_seed(0))
    module = _Tuple(network)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, for its developers
        names = [name for name, output in zip(OUTPUTS, network.outputs(example), strict=True) if output is not None]  # type: ignore[operator]
        free = {FEATURES: {0: "batch", 3: "frames"}, STEPS: {0: "batch", 1: "steps"}}
        try:
            torch.onnx.export(
                module,
                (example,),
                str(path),
                input_names=[FEATURES],
                output_names=names,
                dynamic_axes={name: free.get(name, {0: "batch"}) for name in (FEATURES, *names)},
                opset_version=_OPSET,
                dynamo=False,  # the newer exporter fixes the length of the window
                training=torch.onnx.TrainingMode.PRESERVE,  # keeps batch norms apart, so that weights stay in half
            )
        except Exception as error:  # the exporter raises anything
            why = str(error).strip().splitlines()[0]
            raise CheckpointError(f"its network ({loaded.info.architecture}) cannot be exported: {why}") from None
    model = _halved(onnx.load(str(path)))
    helper.set_model_props(
        model,
        {
            DIGEST_KEY: digest,
            STEP_FRAMES_KEY: str(loaded.model.step_frames),
            "licences": "\n".join(loaded.info.licences),
        },
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


class _Tuple(nn.Module):
    """The network's outputs as a tuple of tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        return tuple(output for output in self.network.outputs(features) if output is not None)  # type: ignore[operator]


def _plain(network: nn.Module) -> nn.Module:
    """Replaces modules that fold their batch norm, in place. ONNX Runtime folds it when it loads the graph."""
    for name, child in network.named_children():
        if isinstance(child, ConvNorm):
            setattr(network, name, nn.Sequential(*child))
        else:
            _plain(child)
    return network


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores weights in float16 where that loses nothing, as checkpoints do. Loading the graph casts them."""
    kept, casts = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16) if values.dtype == np.float32 and values.ndim > 1 else None
        if half is None or not np.array_equal(half.astype(np.float32), values):
            kept.append(tensor)
            continue
        name = f"{tensor.name}.half"
        kept.append(numpy_helper.from_array(half, name))
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    return model


def _windows(sounds: Sequence[Path], loaded: Checkpoint) -> list[Samples]:
    """The first windows of the sounds, each of one sound, one behind the other."""
    rate_hz, window_s = loaded.info.mel.sample_rate_hz, loaded.info.window_seconds
    cut = (
        window.samples
        for path in sounds
        for sliding in [SlidingWindows.of_seconds(window_s, window_s, rate_hz)]
        for block in decode_blocks(path, rate_hz)
        for window in sliding.feed(block)
    )
    return list(itertools.islice(cut, _MOST_WINDOWS))
