"""What runtimes that read exported graphs have in common: the file is checked and cut, features are made in numpy."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagger.checkpoints.graph import DIGEST_KEY, INT8_KEY, OUTPUTS, STEP_FRAMES_KEY
from tagger.checkpoints.header import weights_digest
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.columns import Columns
from tagger.engine.cut import parts_of
from tagger.engine.scores import NetworkOutputs, Preparer, WindowClassifier
from tagger.errors import CheckpointError, UserError
from tagger.events import Samples
from tagger.features.frames import FrontEnd
from tagger.features.incremental import Incremental


@dataclass(frozen=True)
class Loaded:
    """A graph that a runtime has loaded."""

    metadata: Mapping[str, str]
    run: Callable[[Samples], Mapping[str, Samples]]
    """Its outputs by name, of its one input. Called by several threads."""


class GraphClassifier(WindowClassifier):
    """An exported graph, ready to classify. Subclasses load graphs."""

    def __init__(
        self, info: CheckpointInfo, checkpoint: Path, graph: Path, runs_on: str, is_cut: bool = True, **batching: Any
    ) -> None:
        """
        Args:
            info: what the checkpoint is.
            checkpoint: its file; the graph must have been made of its weights.
            graph: the exported file.
            is_cut: whether the graph's lower part is run apart, which saves work where it says that it can be.
            batching: as `WindowClassifier`.

        Raises:
            CheckpointError: the graph cannot be read, or was made of other weights.
        """
        try:
            model = graph.read_bytes()
            parts = parts_of(model) if is_cut else None
            self._upper = self.loaded(model if parts is None else parts.upper)
            self._lower = None if parts is None else self.loaded(parts.lower)
            known = self._upper.metadata
            step_frames = int(known[STEP_FRAMES_KEY])
        except UserError:
            raise
        except Exception as error:  # what the runtimes raise has no class in common
            raise CheckpointError(f"{graph}: cannot be run ({error}); {_again(checkpoint)}") from None
        if known.get(DIGEST_KEY) != weights_digest(checkpoint):
            raise CheckpointError(f"{graph}: was made of other weights than {checkpoint} has; {_again(checkpoint)}")
        super().__init__(info, step_frames, f"{runs_on}, int8" if INT8_KEY in known else runs_on, **batching)
        self._features = FrontEnd(info.mel)
        self.front_end: Hashable = ("numpy", info.mel)
        self._cut: tuple[str, int, int] | None = None
        """Name of the maps, frames of a column, and reach (`tagger.engine.cut.Parts`)."""
        if parts is not None:  # the features, for others, are what the upper part is given
            self._cut = parts.maps, parts.frames, parts.reach
            self.front_end = (self.front_end, type(self), parts.digest)

    def loaded(self, model: bytes) -> Loaded:
        """Makes a graph ready to run. Raises anything."""
        raise NotImplementedError

    def features(self, waveforms: Samples) -> Samples:
        """[B, 1, bands, frames]; of a graph that can be cut, the maps there, [B, channels, rows, columns]."""
        return self.maps(self._features(waveforms))

    def preparer(self, window_samples: int, hop_samples: int) -> Preparer:
        """As `features`. Frames, and columns of the maps, that windows share are computed once."""
        features = Incremental(self._features, window_samples, hop_samples)
        if self._cut is None:
            return lambda window: features(window)[None, None]
        return Columns(self.maps, features, *self._cut[1:], hop_samples)

    def maps(self, features: Samples) -> Samples:
        """What the lower part makes of [B, 1, bands, frames]: the same, if the graph is not cut."""
        if self._lower is None or self._cut is None:
            return features
        return self._lower.run(features)[self._cut[0]]

    def outputs_of(self, features: Samples) -> NetworkOutputs:
        found = self._upper.run(features)
        return NetworkOutputs(*map(found.get, OUTPUTS))  # type: ignore[arg-type]


def _again(checkpoint: Path) -> str:
    return f"`tagger export {checkpoint}` writes it again (where torch is installed)"
