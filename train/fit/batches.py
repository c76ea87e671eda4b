"""Training batches made from clips. Every draw depends only on (seed, epoch, position): a run that is repeated, resumed
within an epoch, or shared by several processes gets the same batches.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tagger.events import Samples
from train.augment import waveform
from train.data.dataset import Rows
from train.recipe import Recipe

Batch = tuple[NDArray[np.float32] | Tensor, NDArray[np.float32] | Tensor]
"""Waveforms [B, N], full scale -1 to 1, and targets [B, labels], 0 to 1; all zeros: no label. Tensors may be on a
device."""

_NOTHING, _ORDER, _CLIP, _SPECTROGRAM = range(4)
"""Purposes of the generators; each has its own seeds."""


class HasWaveforms(Protocol):
    def __getitem__(self, row: int, /) -> Samples: ...


class Batches:
    """Batches of waveforms. An epoch has every clip once and, as a share of them, windows without a label."""

    def __init__(
        self,
        waveforms: HasWaveforms,
        targets: NDArray[np.float32],
        rows: Rows,
        recipe: Recipe,
        rate_hz: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """
        Args:
            waveforms: one for each row of the data set, of a window's length.
            targets: [rows of the data set, labels]. A row of zeros is a background recording.
            rows: those to train on.
            rank: number of this process, of `ranks`; each gets its part of every batch.
        """
        labelled = targets[rows].any(axis=1)
        self.rows, self._backgrounds = rows[labelled], rows[~labelled]
        nothing = round(len(self.rows) * recipe.nothing) if recipe.nothing else 0
        self._items = np.concatenate([self.rows, np.full(nothing, -1)])
        self._waveforms, self._targets = waveforms, targets
        self._recipe, self._rate_hz, self._seed = recipe, rate_hz, seed
        self._rank, self._ranks = rank, ranks
        self._samples = len(waveforms[int(rows[0])])
        self._noise = waveform.Noise(self._samples, np.random.default_rng([seed, _NOTHING]))
        self._crop = min(round(recipe.crop_seconds * rate_hz) or self._samples, self._samples)

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return math.ceil(len(self._items) / self._recipe.batch)

    def epoch(self, number: int, first: int = 0, whole: bool = False) -> Iterator[Batch]:
        """The batches of an epoch, from the `first` on. Another thread makes two ahead.

        Args:
            whole: every process's part, not only this one's.
        """
        order = np.random.default_rng([self._seed, _ORDER, number]).permutation(len(self._items))
        size = self._recipe.batch
        order = np.resize(order, len(self) * size)  # the first items fill up the last batch
        with ThreadPoolExecutor(1) as pool:
            pending = []
            try:
                for step in range(first, len(self)):
                    positions = np.arange(step * size, (step + 1) * size)
                    positions = positions if whole else positions[self._rank :: self._ranks]
                    pending.append(pool.submit(self._batch, number, positions, self._items[order[positions]]))
                    if len(pending) > 2:
                        yield pending.pop(0).result()
                while pending:
                    yield pending.pop(0).result()
            finally:
                for future in pending:
                    future.cancel()

    def spectrogram_generator(self, epoch: int, step: int) -> np.random.Generator:
        """Generator for changes of the batch's spectrograms."""
        return np.random.default_rng([self._seed, _SPECTROGRAM, epoch, step, self._rank])

    def _generator(self, epoch: int, position: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, _CLIP, epoch, position])

    def _batch(self, epoch: int, positions: NDArray[np.intp], items: Rows) -> Batch:
        waveforms = np.empty((len(items), self._crop), np.float32)
        targets = np.zeros((len(items), self._targets.shape[1]), np.float32)
        for i, (position, item) in enumerate(zip(positions, items, strict=True)):
            rng = self._generator(epoch, int(position))
            window, targets[i] = self._nothing(rng) if item < 0 else self._clip(item, rng)
            waveforms[i] = window if self._crop == self._samples else waveform.cropped(window, self._crop, rng)
        return waveforms, targets

    def _clip(self, row: int, rng: np.random.Generator) -> tuple[Samples, NDArray[np.float32]]:
        recipe = self._recipe
        window, target = self._view(row, rng), self._targets[row]
        if rng.random() < recipe.mix_waveforms:
            other = int(rng.choice(self.rows))
            share = rng.uniform(0.3, 0.7)
            window = waveform.mixed(window, self._view(other, rng), share)
            target = share * target + (1 - share) * self._targets[other]
        if rng.random() < recipe.background:
            window = waveform.over(window, self._floor(rng), rng.uniform(*recipe.background_snr_db))
        return window, target.astype(np.float32)

    def _view(self, row: int, rng: np.random.Generator) -> Samples:
        recipe, clip = self._recipe, self._waveforms[row]
        if rng.random() < recipe.placed:
            floor = self._floor(rng) if self._backgrounds.size else None
            return waveform.placed(clip, self._noise, self._rate_hz, rng, floor)
        gain = rng.uniform(-recipe.gain_db, recipe.gain_db / 2)
        louder: Samples = clip * np.float32(10 ** (gain / 20))
        return np.roll(louder, rng.integers(len(clip))) if rng.random() < recipe.roll else louder

    def _nothing(self, rng: np.random.Generator) -> tuple[Samples, NDArray[np.float32]]:
        none = np.zeros(self._targets.shape[1], np.float32)
        kind = rng.random()
        if self._backgrounds.size and kind < 0.5:
            return self._view(int(rng.choice(self._backgrounds)), rng), none
        if kind < 0.75 and not self._recipe.crop_seconds:
            return waveform.fragment(self._waveforms[int(rng.choice(self.rows))], self._noise, self._rate_hz, rng), none
        return waveform.noise_window(self._noise, self._samples, self._rate_hz, rng), none

    def _floor(self, rng: np.random.Generator) -> Samples:
        """Background under a sound, [samples]: a background recording, or noise."""
        if self._backgrounds.size and rng.random() < 0.7:
            recording: Samples = np.roll(self._waveforms[int(rng.choice(self._backgrounds))], rng.integers(1 << 20))
            return recording
        return self._noise.draw(rng)
