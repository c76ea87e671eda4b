"""Batches of spectrograms that are computed once: several views of each clip are on disk, and every epoch changes their
level, shift, piece, mixture and masks. For a small network this is many times faster than computing spectrograms in
every epoch.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from train.fit.trainer import unless_stopped
from train.recipe import Recipe

_SOFT = 0.9
"""A frame is soft if it is this far below the loudest, in normalised log-mel: 0.9 is 20 dB at EfficientAT's scale."""


class Spectrograms:
    """Spectrograms of every clip of a data set, in several views. Computed at first use, then found in the cache."""

    def __init__(
        self, corpus: Corpus, mel: MelConfig, views: int, seed: int, place: Place, stop: Stop | None = None
    ) -> None:
        """
        Args:
            views: number of views of each clip with its sound: the first is `plain`, the others are draws of `placed`.

        Raises:
            TrainingStoppedError: after `stop`; the views that are complete stay in the cache.
        """
        self.mel, self._corpus, self._seed, self._place, self._stop = mel, corpus, seed, place, stop
        self.draws = [("plain", 0), *(("placed", draw) for draw in range(views - 1))]
        self.nothing = [("fragment", 0), ("background", 0)]
        self._arrays = {draw: self._made(*draw) for draw in (*self.draws, *self.nothing)}

    def __getitem__(self, draw: tuple[str, int]) -> NDArray[np.float16]:
        """[clips, bands, frames], memory-mapped."""
        return self._arrays[draw]

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
            every = [*self.draws, *self.nothing]
            title = f"spectrograms {every.index((view, draw)) + 1} of {len(every)}, {view}"
            with Progress(title, len(rows), "clips", shown=self._place.leads) as progress:
                for i, waves in enumerate(unless_stopped(self._views(draw).batches(rows, view), self._stop)):
                    array[i * BATCH : i * BATCH + len(waves)] = (
                        extract(waves.to(self._place.device))[:, 0].cpu().numpy()
                    )
                    progress.update(len(waves))
            array.flush()

        return cached("spectrograms", key | ({} if view == "plain" else {"seed": self._seed, "draw": draw}), make)


class StoredBatches(Batches):
    """Like Batches, but the inputs are spectrograms, [B, bands, frames]."""

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

    def _batch(self, epoch: int, positions: NDArray[np.intp], items: Rows) -> Batch:
        found = np.empty((len(items), self._spectrograms.mel.bands, self._frames), np.float32)
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
            found[i] = self._piece(self._spectrograms[draw][row], rng)
        return found, targets

    def _piece(self, whole: NDArray[np.float16], rng: np.random.Generator) -> NDArray[np.float32]:
        """A piece of a spectrogram, [bands, frames]: shifted, cut around a frame that is not soft, at another level."""
        mel, recipe, length = self._spectrograms.mel, self._recipe, whole.shape[1]
        shift = int(rng.integers(length)) if rng.random() < recipe.roll else 0
        loudness = whole.mean(0, dtype=np.float32)
        moments = np.flatnonzero(loudness >= loudness.max() - _SOFT)
        moment = (int(rng.choice(moments)) + shift) % length
        start = min(max(0, moment - int(rng.integers(self._frames))), length - self._frames)
        columns = (np.arange(start, start + self._frames) - shift) % length
        piece: NDArray[np.float32] = whole[:, columns].astype(np.float32)
        if isinstance(mel, MfccConfig):  # cepstra have no level that could be changed
            return piece
        gain_db = rng.uniform(-recipe.gain_db, recipe.gain_db / 2)
        power = np.exp(piece * np.float32(mel.scale) - np.float32(mel.shift)) - np.float32(mel.log_offset)
        louder = np.log(np.maximum(power, 0) * np.float32(10 ** (gain_db / 10)) + np.float32(mel.log_offset))
        normalised: NDArray[np.float32] = (louder + np.float32(mel.shift)) / np.float32(mel.scale)
        return normalised
