"""The lower part of a network over a stream's windows: columns that windows share are computed once.

A column far from a window's ends sees a few frames, and is the same in each window that has it. At the ends,
convolutions see zeros instead of frames: these few columns belong to their window, and are computed anew.
"""

from collections.abc import Callable

import numpy as np

from tagger.events import Samples, Window
from tagger.features.incremental import Incremental

_WORTH = 0.8
"""Largest share of a window's frames that goes through the network to save the rest. Copying has its price."""


class Columns:
    """The lower part's maps, of windows of one stream. One thread at a time calls it."""

    def __init__(
        self, lower: Callable[[Samples], Samples], features: Incremental, frames: int, reach: int, hop_samples: int
    ) -> None:
        """
        Args:
            lower: [1, 1, bands, frames] to [1, channels, rows, ceil(frames / `frames`)].
            frames: frames from one column to the next.
            reach: column c depends on no frame further than this from frame `frames` * c.
            hop_samples: distance of the windows' starts, but for gaps.
        """
        self._lower, self._features = lower, features
        self._frames, self._reach = frames, reach
        self._column_samples = frames * features.hop_samples
        first = -(-(features.inner.start + reach) // frames)
        stop = (features.inner.stop - 1 - reach) // frames + 1
        self.inner = range(first, max(first, stop))
        """Columns that the window's ends do not touch."""
        self._left = -(-((first - 1) * frames + reach + 1) // frames) if first else 0
        """Columns of the piece from which those before `inner` are taken."""
        self._keeps = hop_samples % features.hop_samples == 0
        self._kept: dict[int, tuple[int, Samples]] = {}
        """Where the columns lie between two columns of the stream's start, samples -> the last window whose columns lie
        there: where it begins, samples, and its maps. At most one for each frame of a column."""

    @property
    def kept(self) -> int:
        """Number of windows whose maps are kept, at most `frames`."""
        return len(self._kept)

    def __call__(self, window: Window) -> Samples:
        """
        Args:
            window: not before the last one. What both have of the stream is equal, up to `Window.valid`.

        Returns:
            [1, channels, rows, columns], float32. Nobody may change them.
        """
        features = self._features(window)
        longest = len(self.inner) * self._column_samples
        self._kept = {key: kept for key, kept in self._kept.items() if window.start - kept[0] < longest}
        if not self._keeps or not self._features.is_whole(window):
            self._kept.clear()
            return self._lower(features[None, None])
        place = window.start % self._column_samples
        maps = self._continued(features, window.start, *self._kept.get(place, (0, None)))
        self._kept[place] = window.start, maps
        return maps

    def _continued(self, features: Samples, start: int, kept_start: int, kept: Samples | None) -> Samples:
        """Maps of a window, from those of an earlier one."""
        shift = (start - kept_start) // self._column_samples
        shared = range(self.inner.start, self.inner.stop - shift)
        from_column = shared.stop - -(-self._reach // self._frames)
        new = features.shape[1] - self._frames * from_column
        left = self._left * self._frames
        if kept is None or shift < 0 or not shared or left + new > _WORTH * features.shape[1]:
            return self._lower(features[None, None])
        # One run for both ends: where they meet, columns are wrong, and none of these is taken.
        ends = np.concatenate([features[:, :left], features[:, -new:]], axis=1)
        found = self._lower(ends[None, None])
        maps = np.empty(kept.shape, np.float32)
        maps[..., : shared.start] = found[..., : shared.start]
        maps[..., shared.start : shared.stop] = kept[..., shared.start + shift : shared.stop + shift]
        maps[..., shared.stop :] = found[..., self._left + shared.stop - from_column :]
        return maps
