"""ONNX Runtime as a runtime: networks that `tagger export` wrote, without torch."""

from pathlib import Path

import onnxruntime as ort

from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.engine import cores
from tagger.engine.graphs import GraphClassifier, Loaded
from tagger.engine.scores import ON_GPU
from tagger.errors import UserError
from tagger.events import Samples

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_FATAL = 4
"""ONNX Runtime's log level: errors are raised, and need not be printed as well."""
_NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory")


class OnnxClassifier(GraphClassifier):
    """An exported graph in ONNX Runtime."""

    def __init__(
        self, info: CheckpointInfo, checkpoint: Path, graph: Path, threads: int = 1, device: str = "cpu"
    ) -> None:
        """
        Args:
            info, checkpoint, graph: as `GraphClassifier`.
            threads: processor threads of one batch.
            device: `cpu`, or `cuda` or `cuda:1`, where `runs_on_device` says so.

        Raises:
            CheckpointError: the graph cannot be read, or was made of other weights.
            UserError: ONNX Runtime cannot use this GPU.
        """
        self._threads, self._device = threads, device
        is_cpu = device == "cpu"
        batching = {"batches": max(1, cores() // threads)} if is_cpu else ON_GPU
        # On a GPU the maps would travel to the processor and back.
        super().__init__(info, checkpoint, graph, f"{device} by ONNX Runtime", is_cpu, **batching)

    def loaded(self, model: bytes) -> Loaded:
        """
        Raises:
            UserError: ONNX Runtime cannot use the GPU.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = _FATAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads use no processor time
        providers: list[object] = [_CPU]
        if self._device != "cpu":
            providers.insert(0, (_CUDA, {"device_id": self._device.partition(":")[2] or "0"}))
        session = ort.InferenceSession(model, options, providers=providers)
        if self._device != "cpu" and _CUDA not in session.get_providers():
            raise UserError(f"--device {self._device}: ONNX Runtime cannot use it; use --device auto or cpu")
        (given,) = (each.name for each in session.get_inputs())
        names = [each.name for each in session.get_outputs()]

        def run(features: Samples) -> dict[str, Samples]:
            return dict(zip(names, session.run(None, {given: features}), strict=True))

        return Loaded(session.get_modelmeta().custom_metadata_map, run)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """By its words: ONNX Runtime's errors have no class of their own for it."""
        return super().is_out_of_memory(error) or any(words in str(error) for words in _NO_MEMORY)


def runs_on_device(device: str) -> bool:
    """Whether the ONNX Runtime that is installed runs networks there: on the processor, and on CUDA in the package
    `onnxruntime-gpu`.
    """
    return device == "cpu" or (device.partition(":")[0] == "cuda" and _CUDA in ort.get_available_providers())
