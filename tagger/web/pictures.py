"""Spectrograms of saved clips, as the page draws its live ones: bytes of mel bands."""

import base64
import tempfile
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from tagger.audio.decode import decode_blocks
from tagger.errors import AudioError
from tagger.events import Block
from tagger.features.config import MelConfig
from tagger.web.columns import RANGE_DB, Columns

_MOST_COLUMNS = 800
"""Most columns of a clip's spectrogram. Of several that make one, the loudest counts."""


def picture_of(name: str, content: bytes, mel: MelConfig) -> Mapping[str, Any]:
    """A clip's spectrogram. A private copy is decoded: by its name, the clip would be opened again, and could be a link
    by now.

    Args:
        name: of the clip's file.
        content: of the same.
        mel: the model's front end.

    Raises:
        AudioError: the file is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="tagger-") as folder:
        copy = Path(folder, "clip.flac")
        copy.write_bytes(content)
        try:
            return _drawn(copy, mel)
        except AudioError as error:
            raise AudioError(str(error).replace(str(copy), name)) from None


def _drawn(path: Path, mel: MelConfig) -> Mapping[str, Any]:
    """
    Raises:
        AudioError: the file is damaged, or too short.
    """
    columns = Columns(mel)
    rate_hz = columns.config.sample_rate_hz
    strips, samples = [], 0
    for block in decode_blocks(path, rate_hz, lambda line: None):
        for at in range(0, len(block.samples), rate_hz):
            part = block.samples[at : at + rate_hz]
            strip = columns.add([Block(part, samples / rate_hz)])
            samples += len(part)
            if strip is not None:
                strips.append(strip)
    if not strips:
        raise AudioError(f"{path}: too short to be drawn")
    values = np.concatenate([strip.columns for strip in strips])
    together = -(-len(values) // _MOST_COLUMNS)
    values = np.maximum.reduceat(values, np.arange(0, len(values), together), axis=0)
    config = columns.config
    return {
        "bands": columns.bands,
        "step_s": round(together * columns.step_s, 6),
        "range_db": RANGE_DB,
        "hertz": [config.f_min_hz, min(config.bandwidth_hz or inf, config.f_max_hz)],
        "begin_s": round(strips[0].time, 4),
        "seconds": round(samples / rate_hz, 3),
        "data": base64.b64encode(values.tobytes()).decode(),
    }
