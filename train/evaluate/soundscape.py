"""Soundscapes and their files: streams with annotations of what sounds when, against which events are measured.

They are made in `synthesis`.
"""

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from tagger.audio.decode import decode
from tagger.events import Samples
from tagger.files import replacing

COLUMNS = ("filename", "onset", "offset", "event_label")
"""Columns of an annotation in DCASE's format, separated by tabs; times in seconds."""
BLOCK_SAMPLES = 1 << 18
"""Samples that are written, or summed, at once."""


@dataclass(frozen=True)
class Annotation:
    """One sound of a stream, from the beginning to the end of its active part, with the pauses inside."""

    label: str
    onset_s: float
    """Seconds from the beginning of the stream; so is `offset_s`."""
    offset_s: float
    snr_db: float
    """Mean power of the active part against that of the background at that time, without other sounds, dB."""
    clip: str
    """Title of the recording."""


@dataclass(frozen=True, eq=False)
class Soundscape:
    name: str
    """Name of the soundscape and of its files."""
    samples: Samples
    """[N], mono, full scale -1 to 1."""
    rate_hz: int
    annotations: tuple[Annotation, ...]
    """Sounds, sorted by onset."""
    background: str
    """Title of the recording, or the kind of noise."""
    background_db: float = 0.0
    """RMS of the background over the whole stream, dBFS."""
    seed: int = 0

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate_hz


def write(folder: Path, soundscape: Soundscape) -> Path:
    """Writes `name.flac` (16 bits), `name.tsv` (DCASE's annotation) and `name.json` (everything but the samples).

    Returns:
        The JSON file: `read` takes it.
    """
    flac, tsv, document = (folder / f"{soundscape.name}.{kind}" for kind in ("flac", "tsv", "json"))
    samples, rate_hz = soundscape.samples, soundscape.rate_hz
    with (
        replacing(flac) as partial,
        soundfile.SoundFile(partial, "w", rate_hz, 1, "PCM_16", format="FLAC") as file,
    ):
        for start in range(0, len(samples), BLOCK_SAMPLES):
            file.write(samples[start : start + BLOCK_SAMPLES])
    with replacing(tsv) as partial, partial.open("w", encoding="utf-8", newline="") as table:
        rows = csv.writer(table, delimiter="\t", lineterminator="\n")
        rows.writerow(COLUMNS)
        for each in soundscape.annotations:
            rows.writerow([flac.name, f"{each.onset_s:.3f}", f"{each.offset_s:.3f}", each.label])
    known = {
        "name": soundscape.name,
        "seed": soundscape.seed,
        "rate_hz": rate_hz,
        "duration_s": soundscape.duration_s,
        "background": soundscape.background,
        "background_db": soundscape.background_db,
        "annotations": [asdict(each) for each in soundscape.annotations],
    }
    with replacing(document) as partial:
        partial.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
    return document


def read(path: Path) -> Soundscape:
    """Reads what `write` wrote; samples have 16 bits.

    Args:
        path: the JSON file; the FLAC file is beside it.

    Raises:
        AudioError: the FLAC file is missing or damaged.
    """
    known = json.loads(path.read_text("utf-8"))
    samples = np.concatenate(list(decode(path.with_name(f"{known['name']}.flac"), known["rate_hz"])))
    annotations = tuple(Annotation(**each) for each in known["annotations"])
    return Soundscape(
        known["name"],
        samples,
        known["rate_hz"],
        annotations,
        known["background"],
        known["background_db"],
        known["seed"],
    )
