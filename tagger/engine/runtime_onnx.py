"""ONNX Runtime as a runtime: networks that `tagger export` wrote, on the processor, without torch."""

import hashlib
from collections.abc import Hashable
from pathlib import Path

import onnxruntime as ort

from tagger.checkpoints.graph import DIGEST_KEY, EMBEDDING, FEATURES, LOGITS, STEP_FRAMES_KEY, STEPS, SURPRISE
from tagger.checkpoints.header import weights_digest
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.columns import Columns
from tagger.engine.cut import parts_of
from tagger.engine.engine import cores
from tagger.engine.scores import NetworkOutputs, Preparer, WindowClassifier
from tagger.errors import CheckpointError
from tagger.events import Samples
from tagger.features.frames import FrontEnd
from tagger.features.incremental import Incremental
from tagger.printable import printable

_FATAL = 4
"""ONNX Runtime's log level: errors are raised, and need not be printed as well."""
_NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory")


class OnnxClassifier(WindowClassifier):
    """An exported graph, ready to classify."""

    def __init__(self, info: CheckpointInfo, checkpoint: Path, graph: Path, threads: int = 1) -> None:
        """
        Args:
            info: what the checkpoint is.
            checkpoint: its file; the graph must have been made of its weights.
            graph: the exported file.
            threads: processor threads of one batch.

        Raises:
            CheckpointError: the graph cannot be read, or was made of other weights.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _FATAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads use no processor time
        try:
            model = graph.read_bytes()
            self._cut = parts_of(model)
            self._session = _session(model if self._cut is None else self._cut.upper, options)
            self._lower = None if self._cut is None else _session(self._cut.lower, options)
            known = self._session.get_modelmeta().custom_metadata_map
            step_frames = int(known[STEP_FRAMES_KEY])
        except Exception as error:  # ONNX Runtime's errors have no class in common
            raise CheckpointError(f"{graph}: cannot be run ({printable(str(error))}); {_again(checkpoint)}") from None
        if known.get(DIGEST_KEY) != weights_digest(checkpoint):
            raise CheckpointError(f"{graph}: was made of other weights than {checkpoint} has; {_again(checkpoint)}")
        super().__init__(info, step_frames, "cpu by ONNX Runtime", max(1, cores() // threads))
        self._names = [each.name for each in self._session.get_outputs()]
        self._features = FrontEnd(info.mel)
        self.front_end: Hashable = ("numpy", info.mel)
        if self._cut is not None:  # the features, for others, are what the upper part is given
            self.front_end = (self.front_end, hashlib.sha256(self._cut.lower).digest())

    def is_out_of_memory(self, error: BaseException) -> bool:
        """By its words: ONNX Runtime's errors have no class of their own for it."""
        return super().is_out_of_memory(error) or any(words in str(error) for words in _NO_MEMORY)

    def features(self, waveforms: Samples) -> Samples:
        """[B, 1, bands, frames]; of a graph that can be cut, the maps there, [B, channels, rows, columns]."""
        return self._maps(self._features(waveforms))

    def preparer(self, window_samples: int, hop_samples: int) -> Preparer:
        """As `features`. Frames, and columns of the maps, that windows share are computed once."""
        features = Incremental(self._features, window_samples, hop_samples)
        if self._cut is None:
            return lambda window: features(window)[None, None]
        return Columns(self._maps, features, self._cut.frames, self._cut.reach, hop_samples)

    def _maps(self, features: Samples) -> Samples:
        if self._lower is None:
            return features
        maps: Samples = self._lower.run(None, {FEATURES: features})[0]
        return maps

    def outputs_of(self, features: Samples) -> NetworkOutputs:
        given = FEATURES if self._cut is None else self._cut.maps
        found = dict(zip(self._names, self._session.run(None, {given: features}), strict=True))
        return NetworkOutputs(found[LOGITS], found[STEPS], found.get(SURPRISE), found.get(EMBEDDING))


def _session(model: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _again(checkpoint: Path) -> str:
    return f"`tagger export {checkpoint}` writes it again (where torch is installed)"
