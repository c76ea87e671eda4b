"""Batches of spectrograms that are computed once: several views of each clip are on disk, and every epoch changes their
level, shift, piece, mixture and masks. For a small network this is many times faster than computing spectrograms in
every epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tagger.features.config import MelConfig, MfccConfig
from tagger.features.logmel import front_end
from tagger.progress import Progress
from tagger.stop import Stop
from train.augment.views import BATCH, Views
from train.data.cache import cached
from train.data.corpus import Corpus
from train.data.dataset import Rows
from train.fit.batches import Batch, Batches
from train.fit.distributed import Place
from train.fit.held import held
from train.fit.trainer import unless_stopped
from train.recipe import Recipe

SOFT = 0.9
"""A frame is soft if it is this far below the loudest, in normalised log-mel: 0.9 is 20 dB at EfficientAT's scale."""


class Spectrograms:
    """Spectrograms of every clip of a data set, in several views. Computed at first use, then found in the cache."""

    def __init__(
        self,
        corpus: Corpus,
        mel: MelConfig,
        views: int,
        seed: int,
        place: Place,
        stop: Stop | None = None,
        only: int | None = None,
    ) -> None:
        """
        Args:
            views: number of views of each clip with its sound: the first is `plain`, the others are draws of `placed`.
            only: makes the cache of this one of `every`, and nothing else; processes may share the work so.

        Raises:
            TrainingStoppedError: after `stop`; the views that are complete stay in the cache.
        """
        self.mel, self._corpus, self._seed, self._place, self._stop = mel, corpus, seed, place, stop
        self.draws = [("plain", 0), *(("placed", draw) for draw in range(views - 1))]
        self.nothing = [("fragment", 0), ("background", 0)]
        wanted = self.every if only is None else [self.every[only]]
        self._arrays = {draw: self._made(*draw) for draw in wanted}
        self._held = self._on_device() if only is None else None

    @property
    def every(self) -> list[tuple[str, int]]:
        """All views and draws, in the order of `held`."""
        return [*self.draws, *self.nothing]

    def __getitem__(self, draw: tuple[str, int]) -> NDArray[np.float16]:
        """[clips, bands, frames], memory-mapped."""
        return self._arrays[draw]

    @property
    def held(self) -> Tensor | None:
        """[draws, clips, bands, frames], float16, on the GPU. None: it has no room for them, or there is none."""
        return self._held

    def _on_device(self) -> Tensor | None:
        if self._place.device.type == "cpu":
            return None
        whole = {"whole": torch.from_numpy(np.stack([self[draw] for draw in self.every]))}
        found = held(whole, self._place.device)["whole"]
        return found if found.device.type != "cpu" else None

    def _views(self, draw: int) -> Views:
        return Views(self._corpus.waveforms, self.mel.sample_rate_hz, self._seed + 1000 * draw)

    def _made(self, view: str, draw: int) -> NDArray[np.float16]:
        corpus, mel = self._corpus, self.mel
        rows = np.arange(len(corpus.waveforms))
        key: dict[str, Any] = {
            "data": corpus.dataset.fingerprint,
            "samples": corpus.waveforms.samples,
            "mel": repr(mel),
            "view": view,
            "version": 1,
        }

        def make(path: Path) -> None:
            extract = front_end(mel).to(self._place.device)
            shape = (len(rows), mel.bands, mel.frames(corpus.waveforms.samples))
            array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
            title = f"spectrograms {self.every.index((view, draw)) + 1} of {len(self.every)}, {view}"
            with Progress(title, len(rows), "clips", shown=self._place.leads) as progress:
                for i, waves in enumerate(unless_stopped(self._views(draw).batches(rows, view), self._stop)):
                    array[i * BATCH : i * BATCH + len(waves)] = (
                        extract(waves.to(self._place.device))[:, 0].cpu().numpy()
                    )
                    progress.update(len(waves))
            array.flush()

        return cached("spectrograms", key | ({} if view == "plain" else {"seed": self._seed, "draw": draw}), make)


class StoredBatches(Batches):
    """Like Batches, but the inputs are spectrograms, [B, bands, frames]; on the GPU, if it holds them."""

    def __init__(
        self,
        spectrograms: Spectrograms,
        corpus: Corpus,
        rows: Rows,
        recipe: Recipe,
        seed: int,
        place: Place,
    ) -> None:
        rate_hz = spectrograms.mel.sample_rate_hz
        super().__init__(corpus.waveforms, corpus.targets.numpy(), rows, recipe, rate_hz, seed, place.rank, place.ranks)
        self._spectrograms = spectrograms
        self._frames = spectrograms.mel.frames(self._crop)
        held = spectrograms.held
        self._loudness = None if held is None else [_loudness(each) for each in held]

    def _batch(self, epoch: int, positions: NDArray[np.intp], items: Rows) -> Batch:
        pieces: list[tuple[tuple[str, int], int, _Piece]] = []
        targets = np.zeros((len(items), self._targets.shape[1]), np.float32)
        for i, (position, item) in enumerate(zip(positions, items, strict=True)):
            rng = self._generator(epoch, int(position))
            if item < 0 and self._backgrounds.size and rng.random() < 0.5:
                draw, row = self._spectrograms.draws[0], int(rng.choice(self._backgrounds))
            elif item < 0:
                draw = self._spectrograms.nothing[int(rng.integers(2))]
                row = int(rng.choice(self.rows))
            else:
                row = int(item)
                draws = self._spectrograms.draws
                is_placed = len(draws) > 1 and rng.random() < self._recipe.placed
                draw = draws[int(rng.integers(1, len(draws)))] if is_placed else draws[0]
                targets[i] = self._targets[row]
            pieces.append((draw, row, self._drawn(draw, row, rng)))
        if self._spectrograms.held is not None:
            return self._on_device(self._spectrograms.held, pieces), torch.from_numpy(targets)
        return np.stack([self._changed(self._spectrograms[draw][row], piece) for draw, row, piece in pieces]), targets

    def _drawn(self, draw: tuple[str, int], row: int, rng: np.random.Generator) -> "_Piece":
        """A piece of this spectrogram: shifted, cut around a frame that is not soft, at another level."""
        recipe = self._recipe
        if self._loudness is None:
            loudness = self._spectrograms[draw][row].mean(0, dtype=np.float32)
        else:
            loudness = self._loudness[self._spectrograms.every.index(draw)][row]
        length = len(loudness)
        shift = int(rng.integers(length)) if rng.random() < recipe.roll else 0
        moments = np.flatnonzero(loudness >= loudness.max() - SOFT)
        moment = (int(rng.choice(moments)) + shift) % length
        start = min(max(0, moment - int(rng.integers(self._frames))), length - self._frames)
        columns = (np.arange(start, start + self._frames) - shift) % length
        if isinstance(self._spectrograms.mel, MfccConfig):  # cepstra have no level that could be changed
            return _Piece(columns, None)
        return _Piece(columns, rng.uniform(-recipe.gain_db, recipe.gain_db / 2))

    def _changed(self, whole: NDArray[np.float16], drawn: "_Piece") -> NDArray[np.float32]:
        """The piece, [bands, frames]."""
        mel = self._spectrograms.mel
        piece: NDArray[np.float32] = whole[:, drawn.columns].astype(np.float32)
        if drawn.gain_db is None:
            return piece
        power = np.exp(piece * np.float32(mel.scale) - np.float32(mel.shift)) - np.float32(mel.log_offset)
        louder = np.log(np.maximum(power, 0) * np.float32(10 ** (drawn.gain_db / 10)) + np.float32(mel.log_offset))
        normalised: NDArray[np.float32] = (louder + np.float32(mel.shift)) / np.float32(mel.scale)
        return normalised

    def _on_device(self, held: Tensor, pieces: Sequence[tuple[tuple[str, int], int, "_Piece"]]) -> Tensor:
        """The same pieces, [B, bands, frames], of spectrograms [draws, clips, bands, frames] on a device."""
        numbers = [(self._spectrograms.every.index(draw), row) for draw, row, _ in pieces]
        draws, rows = torch.tensor(numbers).to(held.device).unbind(1)
        columns = torch.from_numpy(np.stack([piece.columns for _, _, piece in pieces])).to(held.device)
        whole = held[draws, rows]
        found = whole.gather(2, columns[:, None].expand(-1, whole.shape[1], -1)).float()
        gains_db = [piece.gain_db for _, _, piece in pieces if piece.gain_db is not None]
        if not gains_db:
            return found
        mel = self._spectrograms.mel
        gains = 10 ** (torch.tensor(gains_db).to(held.device) / 10)
        return log_mel_of(power_of(found, mel) * gains[:, None, None], mel)


@dataclass(frozen=True)
class _Piece:
    columns: NDArray[np.intp]
    """Frames of the whole spectrogram, in the order of the piece."""
    gain_db: float | None
    """None: the level stays."""


def _loudness(whole: Tensor) -> NDArray[np.float32]:
    """Mean over the bands, [clips, bands, frames] to [clips, frames]."""
    mean: NDArray[np.float32] = whole.mean(1, dtype=torch.float32).cpu().numpy()
    return mean


def power_of(log_mel: Tensor, mel: MelConfig) -> Tensor:
    """Power in each band, from normalised log-mel of the same shape."""
    return ((log_mel * mel.scale - mel.shift).exp() - mel.log_offset).clamp(min=0)


def log_mel_of(power: Tensor, mel: MelConfig) -> Tensor:
    """Normalised log-mel, from the power in each band; of the same shape."""
    return ((power + mel.log_offset).log() + mel.shift) / mel.scale
