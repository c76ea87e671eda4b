"""OpenVINO as a runtime: networks that `tagger export` wrote, on the processor.

It reads the graphs that ONNX Runtime reads: a format of its own would be a second file to check and to copy.
"""

import functools
import threading
from pathlib import Path

import openvino

from tagger.checkpoints.graph import DIGEST_KEY, INT8_KEY, STEP_FRAMES_KEY
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.engine import cores
from tagger.engine.graphs import GraphClassifier, Loaded
from tagger.events import Samples


@functools.cache
def _core() -> openvino.Core:
    """The only one, which lives as long as the process.

    The processor plug-in of each has a stack on which Python's signal handlers run. When it ends, the stack of the one
    before comes back, even if that has ended too; then the next signal, such as Ctrl-C, is a segmentation fault.
    """
    return openvino.Core()


class OpenVinoClassifier(GraphClassifier):
    """An exported graph in OpenVINO."""

    def __init__(self, info: CheckpointInfo, checkpoint: Path, graph: Path, threads: int = 1) -> None:
        """
        Args:
            info, checkpoint, graph: as `GraphClassifier`.
            threads: processor threads of one batch.

        Raises:
            CheckpointError: the graph cannot be read, or was made of other weights.
        """
        self._threads = threads
        batches = max(1, cores() // threads)
        self._settings = {
            "INFERENCE_NUM_THREADS": threads * batches,
            "NUM_STREAMS": batches,
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it: off by more than 1e-3
        }
        super().__init__(info, checkpoint, graph, "cpu by OpenVINO", batches=batches)

    def loaded(self, model: bytes) -> Loaded:
        read = _core().read_model(model)
        names = [each.any_name for each in read.outputs]
        keys = [key for key in (DIGEST_KEY, STEP_FRAMES_KEY, INT8_KEY) if read.has_rt_info(["framework", key])]
        known = {key: str(read.get_rt_info(["framework", key]).value) for key in keys}
        compiled = _core().compile_model(read, "CPU", self._settings)
        of_thread = threading.local()  # a request runs for one thread at a time

        def run(features: Samples) -> dict[str, Samples]:
            if not hasattr(of_thread, "request"):
                of_thread.request = compiled.create_infer_request()
            found = of_thread.request.infer([features])
            return {name: found[number] for number, name in enumerate(names)}

        return Loaded(known, run)
