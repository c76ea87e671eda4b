"""`tagger features`: writes the input of a network as arrays for numpy and pictures for people."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.audio.decode import decode
from tagger.checkpoints import checkpoint, store
from tagger.errors import AudioError, UserError, near, to_install
from tagger.events import Samples
from tagger.features.config import FRONT_ENDS, MelConfig
from tagger.features.logmel import LogMel, front_end
from tagger.files import replacing

DEFAULT_FRONT_END = "efficientat"
_PIECE_SECONDS = 5.0


def chosen(name: str | None, model: str | None) -> MelConfig:
    """The front end of this name, or the model's own.

    Raises:
        UserError: both are given, or there is no such front end or model.
    """
    if name and model:
        raise UserError("--front-end and --model each say how features are made: give one of them")
    if model:
        return checkpoint.load(store.find(model)).info.mel
    name = name or DEFAULT_FRONT_END
    if name not in FRONT_ENDS:
        raise UserError(f"--front-end {name} is unknown{near(name, FRONT_ENDS)}")
    return FRONT_ENDS[name]


def targets(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """The `.npy` path for each file.

    Raises:
        UserError: two files would get the same one.
    """
    taken: dict[str, Path] = {}
    for file in dict.fromkeys(files):
        # Some file systems do not distinguish upper and lower case.
        other = taken.setdefault(file.stem.casefold(), file)
        if other is not file:
            raise UserError(
                f"{other} and {file} would both become {folder / file.stem}.npy: give each a folder of its own"
            )
    return {file: folder / f"{file.stem}.npy" for file in taken.values()}


def write(file: Path, target: Path, config: MelConfig, picture: bool) -> tuple[int, int]:
    """Writes the features of `file` to `target`, [bands, frames], float32, and a picture beside it.

    The file may have any length: it is read in pieces. A damaged file gives nothing.

    Returns:
        numbers of bands and frames.

    Raises:
        AudioError: the file is missing, not audio, damaged, or too short for a single frame.
        ImportError: matplotlib, which a picture needs, is not installed; see `check_pictures`.
    """
    module = front_end(config)
    with replacing(target) as partial, partial.open("wb") as out:
        frames = 0
        _write_header(out, config.bands, frames)
        try:
            for piece in pieces(module, decode(file, config.sample_rate_hz)):
                out.write(piece.tobytes("F"))
                frames += piece.shape[1]
        except TooShortError as error:
            raise AudioError(f"{file}: {error}") from None
        out.seek(0)
        _write_header(out, config.bands, frames)
    if picture:
        from train.features import pictures

        values = np.load(target, mmap_mode="r")
        name = file.name.encode(errors="replace").decode()  # bytes that are no text cannot be drawn
        pictures.write(target.with_name(f"{file.stem}.png"), values, config, name)
    return config.bands, frames


class TooShortError(ValueError):
    """The recording is shorter than one frame needs."""


def pieces(module: LogMel, blocks: Iterable[Samples]) -> Iterator[NDArray[np.float32]]:
    """The features of a recording that need not fit into memory, in pieces of [bands, frames]. Joined, they are those
    of the whole recording, to rounding.

    Args:
        blocks: [N] each, float32, at the config's rate.

    Raises:
        TooShortError: there are fewer than `config.least_samples`.
    """
    config = module.config
    hop = config.hop_samples
    # A frame is whole where `reach` samples follow its centre. Each piece but the first skips its first `overlap`
    # frames: its left end was mirrored. One more than they need leaves the last piece long enough to mirror.
    reach = config.n_fft // 2 + 1
    overlap = math.ceil(reach / hop) + 1
    least = int(_PIECE_SECONDS * config.sample_rate_hz) + overlap * hop + reach
    held, skipped = np.zeros(0, np.float32), 0
    waiting: list[Samples] = []

    def computed(samples: Samples) -> NDArray[np.float32]:
        with torch.inference_mode():
            values: NDArray[np.float32] = module(torch.from_numpy(samples)[None])[0, 0].numpy()
        return values

    for block in blocks:
        waiting.append(block)
        if len(held) + sum(map(len, waiting)) < least:
            continue
        held, waiting = np.concatenate([held, *waiting]), []
        whole = (len(held) - reach) // hop + 1
        yield computed(held)[:, skipped:whole]
        held, skipped = held[(whole - overlap) * hop :], overlap
    held = np.concatenate([held, *waiting])
    if len(held) < config.least_samples:
        shortest = config.least_samples / config.sample_rate_hz
        raise TooShortError(
            f"{len(held)} samples at {config.sample_rate_hz} Hz; features need {1000 * shortest:.0f} ms"
        )
    yield computed(held)[:, skipped:]


def check_pictures() -> None:
    """
    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UserError(f"pictures need matplotlib: {to_install('train')}, or give --no-picture") from None


def _write_header(out: BinaryIO, bands: int, frames: int) -> None:
    """Writes the header of a `.npy` whose columns are stored one after another, so that frames can be appended. The
    header's length does not depend on `frames`: numpy leaves room for the axis that grows.
    """
    descr = np.lib.format.dtype_to_descr(np.dtype(np.float32))
    header = {"descr": descr, "fortran_order": True, "shape": (bands, frames)}
    np.lib.format.write_array_header_1_0(out, header)
