"""Damages checkpoints: their documents, their headers, their bytes. Right: a classifier, or one CheckpointError."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tagger.checkpoints import checkpoint, store
from tagger.checkpoints.header import METADATA_KEY
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.runtime_torch import Classifier
from tagger.features.config import MelConfig, MfccConfig
from tagger.models.config import CRNNConfig, EfficientATConfig
from tests.fuzz.trial import problem_of
from tests.fuzz.values import mutated, other_bytes

MEL = MelConfig(sample_rate_hz=8_000, n_fft=256, window_samples=200, hop_samples=100, n_mels=32, f_max_hz=4_000.0)
MFCC = MfccConfig(
    sample_rate_hz=8_000, n_fft=256, window_samples=200, hop_samples=100, n_mels=40, f_max_hz=4_000.0, n_mfcc=32
)
CRNN = CRNNConfig(labels=3, bands=32, channels=(2, 2, 2, 2), sequence=4, hidden=4)


def examples() -> list[CheckpointInfo]:
    common: dict[str, Any] = {
        "window_seconds": 1.0,
        "labels": ("dog", "cat", "Säge"),
        "activation": "sigmoid",
        "thresholds": (0.5, 0.5, 0.5),
        "training": {"recipe": "head", "seed": 0},
        "metrics": {"accuracy": 0.5},
        "licences": ("none",),
    }
    mn = EfficientATConfig(labels=3, width=0.1, head="linear")
    return [
        CheckpointInfo("small", "crnn", CRNN, MEL, **common),
        CheckpointInfo("small", "crnn", CRNN, MFCC, **common),
        CheckpointInfo("small", "efficientat", mn, MEL, **common),
    ]


def fuzz(inputs: int, seed: int = 0) -> Iterator[str]:
    """Reads that many damaged checkpoints. Yields a line for each that was not handled well."""
    with tempfile.TemporaryDirectory() as folder:
        originals = []
        for number, info in enumerate(examples()):
            path = Path(folder) / f"{number}.safetensors"
            checkpoint.save(path, info, checkpoint.build(info))
            originals.append((info.to_document(), path.read_bytes()))
            assert load_file(path)
            assert problem_of(lambda path=path: classify(path)) is None  # type: ignore[misc]
        path = Path(folder) / "damaged.safetensors"
        for number in range(inputs):
            rng = np.random.default_rng([seed, number])
            document, content = originals[number % len(originals)]
            path.write_bytes(damaged(document, content, rng))
            for what, do in (("load", classify), ("list", listed)):
                if (problem := problem_of(lambda do=do: do(path))) is not None:  # type: ignore[misc]
                    yield f"checkpoints: input {number} of seed {seed}, {what}: {problem}"


def classify(path: Path) -> None:
    """Loads the checkpoint, and classifies a window of noise."""
    loaded = checkpoint.load(path)
    samples = round(loaded.info.window_seconds * loaded.info.mel.sample_rate_hz)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, samples)).astype(np.float32)
    if not np.isfinite(Classifier(loaded, "cpu")(noise).values).all():
        raise ValueError("scores that are no numbers")


def listed(path: Path) -> None:
    """What `tagger models` shows of it."""
    entry = store.entry_of(path)
    if entry.document is not None:
        ", ".join(store.describe_metric(key, value) for key, value in entry.document["metrics"].items())
    elif entry.problem is None or "\n" in entry.problem:
        raise ValueError(f"no reason of one line: {entry.problem}")


def damaged(document: Any, content: bytes, rng: np.random.Generator) -> bytes:
    """A checkpoint with another document, another table of tensors, or other bytes."""
    length = int.from_bytes(content[:8], "little")
    table, weights = json.loads(content[8 : 8 + length]), content[8 + length :]
    kind = rng.random()
    if kind < 0.6:
        table["__metadata__"] = {METADATA_KEY: json.dumps(mutated(document, rng))}
    elif kind < 0.7:
        table = mutated(table, rng)
    elif kind < 0.8:
        return other_bytes(content, rng, 7, within=min(len(content), 2 * length))
    elif kind < 0.9:
        return content[: rng.integers(len(content))] + bytes(rng.integers(0, 256, rng.integers(64), np.uint8))
    else:
        depth = int(rng.integers(1, 200_000))
        text = "[" * depth + "]" * depth if rng.random() < 0.5 else json.dumps(["x" * 8] * depth)
        if rng.random() < 0.5:
            table["__metadata__"] = {METADATA_KEY: text}
        else:
            return len(text).to_bytes(8, "little") + text.encode() + weights
    header = json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + weights
