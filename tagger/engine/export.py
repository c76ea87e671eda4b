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
from typing import TypeVar, cast

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from tagger.audio.decode import decode_blocks
from tagger.audio.window import SlidingWindows
from tagger.checkpoints.checkpoint import Checkpoint, load
from tagger.checkpoints.graph import CUT_KEY, DIGEST_KEY, FEATURES, MAPS, OUTPUTS, STEP_FRAMES_KEY, STEPS
from tagger.checkpoints.header import weights_digest
from tagger.engine.runtime_onnx import OnnxClassifier
from tagger.engine.runtime_torch import Classifier
from tagger.engine.scores import WindowClassifier
from tagger.errors import CheckpointError, UserError, checkpoint_errors
from tagger.events import Samples
from tagger.files import replacing
from tagger.models.efficientat import ConvNorm, EfficientAT, SqueezeExcitation
from tagger.models.network import Network
from tagger.models.opinion import SecondOpinion

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


def export(checkpoint: Path, out: Path, sounds: Sequence[Path], runtimes: Sequence[str] = ("onnx",)) -> Exported:
    """Writes the graph in one step, after comparing it with the checkpoint.

    Args:
        sounds: recordings to compare on.
        runtimes: what runs the graph to compare it, `onnx` or `openvino`. All read the same file.

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
        exact = Classifier(loaded, "cpu")
        differences = [_difference(exact, _opened(name, loaded, checkpoint, partial), windows) for name in runtimes]
        largest = max(differences)
        if not largest <= LARGEST_DIFFERENCE:
            name = runtimes[differences.index(largest)]
            raise CheckpointError(
                f"{checkpoint}: its exported graph differs by {largest:.2g} in a logit by {name}, more than "
                f"{LARGEST_DIFFERENCE:g}; nothing was written"
            )
    return Exported(out, len(windows), largest)


def _opened(runtime: str, loaded: Checkpoint, checkpoint: Path, graph: Path) -> WindowClassifier:
    if runtime == "openvino":
        from tagger.engine.runtime_openvino import OpenVinoClassifier

        return OpenVinoClassifier(loaded.info, checkpoint, graph)
    return OnnxClassifier(loaded.info, checkpoint, graph)


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
            raise CheckpointError(f"its network cannot be run once exported: {error}") from None
        pairs: list[tuple[Samples | None, Samples | None]]
        pairs = [(expected.logits, found.logits), (expected.steps, found.steps)]
        pairs += [
            (expected.embedding, found.embedding),
            (expected.opinion, found.opinion),
            (expected.second, found.second),
        ]
        differences = [float(np.abs(a - b).max()) for a, b in pairs if a is not None and b is not None]
        largest = max(largest, *differences)
    return largest


def _write(loaded: Checkpoint, path: Path, digest: str) -> None:
    network = _plain(copy.deepcopy(cast(Network, loaded.model))).eval()
    frames = loaded.info.mel.frames(round(loaded.info.window_seconds * loaded.info.mel.sample_rate_hz))
    example = torch.randn(2, 1, loaded.info.mel.bands, frames, generator=torch.Generator().manual_seed(0))
    module = _Tuple(network)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, for its developers
        names = [name for name, output in zip(OUTPUTS, network.outputs(example), strict=True) if output is not None]
        names += [MAPS] if network.cut else []
        free = {FEATURES: {0: "batch", 3: "frames"}, STEPS: {0: "batch", 1: "steps"}, MAPS: {0: "batch", 3: "columns"}}
        with checkpoint_errors(f"its network ({loaded.info.architecture}) cannot be exported"):
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
    model = _halved(onnx.load(str(path)))
    known = {
        DIGEST_KEY: digest,
        STEP_FRAMES_KEY: str(loaded.model.step_frames),
        "licences": "\n".join(loaded.info.licences),
    }
    if network.cut:
        model.graph.value_info.append(model.graph.output.pop())
        known[CUT_KEY] = f"{MAPS} {network.cut.frames} {network.cut.reach}"
    helper.set_model_props(model, known)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


class _Tuple(nn.Module):
    """The network's outputs as a tuple of tensors; the last is the maps where it can be cut, if it can."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        maps = [self.network.lower(features)] if self.network.cut else []
        outputs = self.network.upper(*maps) if maps else self.network.outputs(features)
        return *(output for output in outputs if output is not None), *maps


N = TypeVar("N", bound=nn.Module)


def _plain(network: N) -> N:
    """Replaces modules, in place, by the same functions in a form that is good to export.

    ONNX Runtime folds batch norms when it loads the graph. It takes convolutions better than matrix products beside
    other convolutions, whose order of numbers in memory it keeps.
    """
    for name, child in network.named_children():
        if isinstance(child, ConvNorm):
            setattr(network, name, nn.Sequential(*child))
        elif isinstance(child, SqueezeExcitation):
            setattr(network, name, _Gate(child))
        else:
            _plain(child)
    if isinstance(network, EfficientAT | SecondOpinion):
        layers = network.classifier
        for number, layer in enumerate(layers):
            if isinstance(layer, nn.Linear):
                layers[number] = _Pointwise(layer)
    return network


class _Pointwise(nn.Module):
    """A linear layer of [B, features] or [B, steps, features], as a convolution."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.conv = _convolution(layer)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return self.conv(x[:, :, None, None]).flatten(1)  # type: ignore[no-any-return]
        return self.conv(x.transpose(1, 2)[:, :, None])[:, :, 0].transpose(1, 2)  # type: ignore[no-any-return]


class _Gate(nn.Module):
    """A squeeze-excitation, as convolutions."""

    def __init__(self, squeeze: SqueezeExcitation) -> None:
        super().__init__()
        self.fc1, self.fc2 = _convolution(squeeze.fc1), _convolution(squeeze.fc2)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.fc2(self.fc1(functional.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()
        return x * gate


def _convolution(layer: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(layer.in_features, layer.out_features, 1)
    conv.weight, conv.bias = nn.Parameter(layer.weight[:, :, None, None]), layer.bias
    return conv


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
        for window in SlidingWindows.of_seconds(window_s, window_s, rate_hz).cut(
            decode_blocks(path, rate_hz), flush=False
        )
    )
    return list(itertools.islice(cut, _MOST_WINDOWS))
