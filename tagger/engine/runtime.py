"""Which runtime runs a model, and the model ready to classify.

A new runtime is a module with a subclass of `WindowClassifier` and a line in `RUNTIMES`.
"""

import importlib.util
import logging
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.checkpoints import store
from tagger.checkpoints.graph import graph_of
from tagger.checkpoints.info import CheckpointInfo, check_trained, read_info
from tagger.checkpoints.joint import JointInfo
from tagger.engine.joint import JointClassifier
from tagger.engine.scores import WindowClassifier
from tagger.errors import CheckpointError, UserError, to_install
from tagger.printable import number_of

log = logging.getLogger(__name__)

_NVIDIA = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/nvhost-gpu"))
"""Any of these is there where a driver for NVIDIA's GPUs is loaded."""


@dataclass(frozen=True)
class Runtime:
    """A library that runs networks."""

    package: str
    """The package that is imported."""
    extra: str
    """The extra of tagger that installs it. Empty: every installation has it."""
    open: Callable[[CheckpointInfo, Path, str], WindowClassifier]
    """Opens a model: its document, its checkpoint, the device."""
    needs_graph: bool
    """Whether it runs exported graphs, on the processor, instead of checkpoints."""

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


def _open_onnx(info: CheckpointInfo, checkpoint: Path, device: str) -> WindowClassifier:
    from tagger.engine.runtime_onnx import OnnxClassifier

    return OnnxClassifier(info, checkpoint, graph_of(checkpoint))


def _open_torch(info: CheckpointInfo, checkpoint: Path, device: str) -> WindowClassifier:
    from tagger.checkpoints.checkpoint import load
    from tagger.engine.runtime_torch import Classifier

    return Classifier(load(checkpoint), device)


RUNTIMES: Mapping[str, Runtime] = {
    "onnx": Runtime("onnxruntime", "", _open_onnx, needs_graph=True),
    "torch": Runtime("torch", "torch", _open_torch, needs_graph=False),
}
"""Runtimes by the name that `--runtime` takes. Those for the processor come first, the quickest in front."""
AUTO = "auto"
_NAMED = 5
"""Most labels in one message."""


def open_model(model: str, runtime: str = AUTO, device: str = AUTO) -> WindowClassifier:
    """The model that `--model` names, ready to classify.

    Args:
        runtime: a key of RUNTIMES, or `auto`: torch if there is a GPU that it can use, or if `device` asks for one;
            else the first that is installed and has what it needs.

    Raises:
        CheckpointError: there is no such model, it cannot be read, it was never trained on sounds, or it has no graph
            for a runtime that needs one.
        UserError: there is no such runtime, it is not installed, or it has no such device.
    """
    path = store.find(model)
    info = read_info(path)
    check_trained(path, info)
    if runtime != AUTO:
        return _forced(runtime, device, path, info)
    if device not in (AUTO, "cpu"):
        return _forced("torch", device, path, info)
    for name in _order(device):
        each = RUNTIMES[name]
        if not each.is_installed or (each.needs_graph and not graph_of(path).is_file()):
            continue
        try:
            return each.open(info, path, device)
        except CheckpointError as error:
            if not each.needs_graph or not RUNTIMES["torch"].is_installed:
                raise
            log.warning("%s; running the checkpoint with torch", error)
    raise CheckpointError(_needs(path))


def open_models(
    models: Sequence[str], runtime: str = AUTO, device: str = AUTO, window_s: float | None = None
) -> WindowClassifier:
    """The models that `--model` names, ready to classify: one, or several as one.

    Args:
        models: each once.
        window_s: length of every model's window, seconds. None: each model's own.

    Raises:
        CheckpointError: they cannot listen together. Or as `open_model`.
        UserError: as `open_model`.
    """
    parts = [open_model(model, runtime, device) for model in models]
    if len(parts) == 1:
        return parts[0]
    info = JointInfo(tuple(part.info for part in parts if isinstance(part.info, CheckpointInfo)))
    return JointClassifier(parts, info, window_s)


def describe(classifier: WindowClassifier) -> Iterator[str]:
    """A line about each model: name, labels, and what runs it."""
    for part in classifier.parts if isinstance(classifier, JointClassifier) else [classifier]:
        yield f"{part.info.name}, {number_of(len(part.info.labels), 'label')}, on {part.runs_on}"


def doubles(classifier: WindowClassifier) -> Iterator[str]:
    """Lines about labels that two models have, and which decides."""
    if not isinstance(classifier.info, JointInfo):
        return
    for name, labels in classifier.info.doubles.items():
        more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
        yield (
            f"{name} is not asked for {', '.join(labels[:_NAMED])}{more}: a model that was named before it has "
            f"{'this label' if len(labels) == 1 else 'these labels'}, and the first decides"
        )


def _forced(runtime: str, device: str, path: Path, info: CheckpointInfo) -> WindowClassifier:
    if runtime not in RUNTIMES:
        raise UserError(f"--runtime {runtime}: unknown; use one of {', '.join((AUTO, *RUNTIMES))}")
    chosen = RUNTIMES[runtime]
    if not chosen.is_installed:
        raise UserError(f"--runtime {runtime}: {chosen.package} is not installed: {to_install(chosen.extra)}")
    if chosen.needs_graph and device not in (AUTO, "cpu"):
        raise UserError(f"--runtime {runtime}: runs on the processor, not on --device {device}; use --runtime torch")
    if chosen.needs_graph and not graph_of(path).is_file():
        raise CheckpointError(f"{path}: has no exported graph; `tagger export {path}` writes it, where torch is")
    return chosen.open(info, path, device)


def _order(device: str) -> list[str]:
    """Names of the runtimes in the order in which they are tried: those that use a GPU first, where there is one."""
    has_gpu = device == AUTO and _may_have_gpu() and RUNTIMES["torch"].is_installed and _torch_has_gpu()
    return sorted(RUNTIMES, key=lambda name: has_gpu and RUNTIMES[name].needs_graph)


def _may_have_gpu() -> bool:
    """Whether it is worth to import torch, which takes seconds, to ask for a GPU."""
    is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return is_apple or any(path.exists() for path in _NVIDIA)


def _torch_has_gpu() -> bool:
    from tagger.engine.runtime_torch import choose_device

    return choose_device(AUTO).type != "cpu"


def _needs(path: Path) -> str:
    return (
        f"{path}: has no exported graph, and torch, which runs checkpoints, is not installed: "
        f"{to_install('torch')}, or run `tagger export {path.stem}` where torch is and copy "
        f"{graph_of(path).name} beside it"
    )
