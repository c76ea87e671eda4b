"""Which runtime runs a model, and the model ready to classify.

A new runtime is a module with a subclass of `WindowClassifier` and a line in `RUNTIMES`.
"""

import importlib.util
import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.checkpoints import store
from tagger.checkpoints.classes import MODEL as CLASSES
from tagger.checkpoints.graph import graph_of
from tagger.checkpoints.info import CheckpointInfo, check_trained, read_info
from tagger.checkpoints.joint import JointInfo, joined
from tagger.checkpoints.named import choose, chosen_of
from tagger.engine.joint import JointClassifier
from tagger.engine.scores import WindowClassifier
from tagger.errors import CheckpointError, UserError, to_install
from tagger.policy import EventsConfig
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
    """Whether it runs exported graphs instead of checkpoints."""
    has: Callable[[str], bool]
    """Whether it could run a network on a device, `cpu`, `cuda`, `cuda:1` or `mps`. It is asked only if installed."""

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


def _open_onnx(info: CheckpointInfo, checkpoint: Path, device: str) -> WindowClassifier:
    from tagger.engine.runtime_onnx import OnnxClassifier

    return OnnxClassifier(info, checkpoint, graph_of(checkpoint), device="cpu" if device == AUTO else device)


def _onnx_has(device: str) -> bool:
    if device == "cpu":
        return True
    from tagger.engine.runtime_onnx import runs_on_device

    return runs_on_device(device)


def _open_openvino(info: CheckpointInfo, checkpoint: Path, device: str) -> WindowClassifier:
    from tagger.engine.runtime_openvino import OpenVinoClassifier

    return OpenVinoClassifier(info, checkpoint, graph_of(checkpoint))


def _open_torch(info: CheckpointInfo, checkpoint: Path, device: str) -> WindowClassifier:
    from tagger.checkpoints.checkpoint import load
    from tagger.engine.runtime_torch import Classifier, choose_device

    if choose_device(device).type == "cpu":
        return Classifier(load(checkpoint), device)
    from tagger.engine.runtime_gpu import GpuClassifier

    return GpuClassifier(load(checkpoint), device)


AUTO = "auto"
RUNTIMES: Mapping[str, Runtime] = {
    "onnx": Runtime("onnxruntime", "", _open_onnx, needs_graph=True, has=_onnx_has),
    "openvino": Runtime("openvino", "openvino", _open_openvino, needs_graph=True, has=lambda device: device == "cpu"),
    "torch": Runtime("torch", "torch", _open_torch, needs_graph=False, has=lambda device: True),
}
"""Runtimes by the name that `--runtime` takes, in the order in which they are tried for the processor."""
_FOR_GPU = ("torch", "onnx")
"""The same for a GPU: torch makes the features there, too."""
_NAMED = 5
"""Most labels in one message."""


def open_model(model: str, runtime: str = AUTO, device: str = AUTO) -> WindowClassifier:
    """The model that `--model` names, ready to classify.

    Args:
        runtime: a key of RUNTIMES, or `auto`: what can use the GPU, if there is one or `device` asks for one; else the
            first that is installed and has what it needs.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        CheckpointError: there is no such model, it cannot be read, it was never trained on sounds, or it has no graph
            for a runtime that needs one.
        UserError: there is no such runtime, it is not installed, or it has no such device.
    """
    path, info = described(model)
    if runtime != AUTO:
        return _forced(runtime, device, path, info)
    if device not in (AUTO, "cpu"):
        return _forced(_for_gpu(path, device), device, path, info)
    for name, where in _choices(device, path):
        each = RUNTIMES[name]
        try:
            return each.open(info, path, where)
        except (CheckpointError, UserError) as error:
            # A damaged graph, or a GPU that cannot be used after all: what comes next may do.
            if not each.needs_graph or (where == "cpu" and not RUNTIMES["torch"].is_installed):
                raise
            log.warning("%s; trying another runtime", error)
    raise CheckpointError(_needs(path))


def described(model: str) -> tuple[Path, CheckpointInfo]:
    """File and document of the model that `--model` names.

    Raises:
        CheckpointError: there is no such model, it cannot be read, or it was never trained on sounds.
    """
    path = store.find(model)
    info = read_info(path)
    check_trained(path, info)
    return path, info


def open_models(
    models: Sequence[str],
    runtime: str = AUTO,
    device: str = AUTO,
    window_s: float | None = None,
    rules: Iterable[EventsConfig] = (),
) -> WindowClassifier:
    """The models that `--model` names, ready to classify: one, or several as one.

    Args:
        models: each once.
        window_s: length of every model's window, seconds. None: each model's own.
        rules: the classes of a second opinion that they name are labels, too.

    Raises:
        CheckpointError: they cannot listen together. Or as `open_model`.
        UserError: as `open_model`.
    """
    parts = [open_model(model, runtime, device) for model in models]
    info = choose(joined([part.info for part in parts if isinstance(part.info, CheckpointInfo)]), rules)
    return JointClassifier(parts, info, window_s) if isinstance(info, JointInfo) else parts[0]


def describe(classifier: WindowClassifier) -> Iterator[str]:
    """A line about each model: name, labels, and what runs it."""
    for part in classifier.parts if isinstance(classifier, JointClassifier) else [classifier]:
        yield f"{part.info.name}, {number_of(len(part.info.labels), 'label')}, on {part.runs_on}"
    if chosen := chosen_of(classifier.info):
        yield f"{CLASSES}, its second opinion, for {'; '.join(chosen)}"


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
    if device != AUTO and not chosen.has(device):
        raise UserError(f"--runtime {runtime}: cannot use --device {device} here; use --runtime torch, or --device cpu")
    if chosen.needs_graph and not graph_of(path).is_file():
        raise CheckpointError(f"{path}: has no exported graph; `tagger export {path}` writes it, where torch is")
    return chosen.open(info, path, device)


def _choices(device: str, path: Path) -> Iterator[tuple[str, str]]:
    """Runtimes, each with a device, in the order in which they are tried."""
    if device == AUTO and may_have_gpu() and (runtime := _on_gpu(path)):
        yield runtime
    for name, each in RUNTIMES.items():
        if each.is_installed and (not each.needs_graph or graph_of(path).is_file()):
            yield name, "cpu"


def _on_gpu(path: Path) -> tuple[str, str] | None:
    """The runtime that can use this machine's GPU, and its name for it."""
    if RUNTIMES["torch"].is_installed:
        return ("torch", AUTO) if torch_has_gpu() else None
    return ("onnx", "cuda") if RUNTIMES["onnx"].has("cuda") and graph_of(path).is_file() else None


def _for_gpu(path: Path, device: str) -> str:
    """The runtime for a GPU that the user named: torch, if none is installed that could use it."""
    fit = (
        name
        for name in _FOR_GPU
        if RUNTIMES[name].is_installed
        and RUNTIMES[name].has(device)
        and (not RUNTIMES[name].needs_graph or graph_of(path).is_file())
    )
    return next(fit, "torch")


def may_have_gpu() -> bool:
    """Whether it is worth to ask for a GPU: torch takes seconds to be imported."""
    is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return is_apple or any(path.exists() for path in _NVIDIA)


def torch_has_gpu() -> bool:
    from tagger.engine.runtime_torch import choose_device

    return choose_device(AUTO).type != "cpu"


def _needs(path: Path) -> str:
    return (
        f"{path}: has no exported graph, and torch, which runs checkpoints, is not installed: "
        f"{to_install('torch')}, or run `tagger export {path.stem}` where torch is and copy "
        f"{graph_of(path).name} beside it"
    )
