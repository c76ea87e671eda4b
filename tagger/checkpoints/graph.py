"""Names in exported graphs, and where they lie: what writes and what runs them agree on these."""

from pathlib import Path

SUFFIX = ".onnx"
"""A graph lies beside its checkpoint, under the same name: `esc50.onnx` beside `esc50.safetensors`."""
FEATURES = "features"
"""Input: [B, 1, bands, frames], float32."""
LOGITS, STEPS, SURPRISE, EMBEDDING, OPINION, SECOND = "logits", "steps", "surprise", "embedding", "opinion", "second"
OUTPUTS = LOGITS, STEPS, SURPRISE, EMBEDDING, OPINION, SECOND
"""Outputs, in the order of `tagger.models.network.Outputs`, each under its name there. A network without surprise or
second opinion has no such output, and graphs of earlier versions have no embedding."""
DIGEST_KEY = "tagger.weights"
"""Metadata: the digest of the checkpoint's weights (`tagger.checkpoints.header.weights_digest`)."""
INT8_KEY = "tagger.int8"
"""Metadata: there if the network computes with integers of 8 bits."""
STEP_FRAMES_KEY = "tagger.step_frames"
"""Metadata: frames from one step of the time axis to the next."""
MAPS = "maps"
"""Value between the lower and the upper part of a graph that can be cut (`tagger.models.network.Cut`)."""
CUT_KEY = "tagger.cut"
"""Metadata: the name of that value, `Cut.frames` and `Cut.reach`. Absent: the graph cannot be cut."""


def graph_of(checkpoint: Path) -> Path:
    """The exported graph that belongs to a checkpoint. It may be missing."""
    return checkpoint.with_suffix(SUFFIX)
