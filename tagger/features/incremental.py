"""Features of a stream's windows, one after another: what windows share is computed once.

A frame far from a window's ends sees samples alone, and is the same in each window that has it. At the ends, half a
transform is mirrored: these few frames belong to their window, and are computed anew.
"""

import logging
from functools import lru_cache

import numpy as np

from tagger.events import Samples, Window
from tagger.features.frames import FrontEnd

log = logging.getLogger(__name__)


class Incremental:
    """The features of a `FrontEnd`, of windows of one stream. One thread at a time calls it.

    >>> from tagger.features.config import MelConfig
    >>> features = Incremental(FrontEnd(MelConfig()), window_samples=160_000, hop_samples=32_000)
    >>> features(Window(np.zeros(160_000, np.float32), start=0, valid=160_000, time=0.0)).shape
    (128, 500)
    """

    def __init__(self, front_end: FrontEnd, window_samples: int, hop_samples: int) -> None:
        """
        Args:
            window_samples: length of the windows.
            hop_samples: distance of their starts, but for gaps.
        """
        self._front_end = front_end
        config = front_end.config
        self.hop_samples = config.hop_samples
        """Distance of frames, samples."""
        self._samples = window_samples
        self._frames = config.frames(window_samples)
        self.inner = inner_frames(front_end, window_samples)
        """Frames that the window's ends do not touch."""
        self._last: tuple[int, Samples] | None = None
        """Where the last window began in the stream, samples, and its features."""
        if hop_samples % self.hop_samples:
            rate_hz = config.sample_rate_hz
            log_once(
                f"a hop of {hop_samples / rate_hz:g} s is no multiple of {self.hop_samples / rate_hz:g} s, the time "
                "from frame to frame: all of each window is computed anew, which costs up to twice as much"
            )

    def __call__(self, window: Window) -> Samples:
        """
        Args:
            window: not before the last one. What both have of the stream is equal, up to `Window.valid`.

        Returns:
            [bands, frames], float32. Nobody may change them.
        """
        known = self._shared(window)
        if known is None:
            features: Samples = self._front_end(window.samples[None])[0, 0]
        else:
            features = self._continued(window.samples, *known)
        self._last = (window.start, features) if self.is_whole(window) else None
        return features

    def is_whole(self, window: Window) -> bool:
        """Whether a window has the length of the others, and no silence fills it up."""
        return len(window.samples) == window.valid == self._samples

    def _shared(self, window: Window) -> tuple[int, range] | None:
        """The frames that the last window had, and how many frames later it was there. None: there are none."""
        if self._last is None or not self.is_whole(window):
            return None
        shift, rest = divmod(window.start - self._last[0], self.hop_samples)
        shared = range(self.inner.start, self.inner.stop - shift)
        return (shift, shared) if shift >= 0 and not rest and shared else None

    def _continued(self, samples: Samples, shift: int, shared: range) -> Samples:
        assert self._last is not None
        features = np.empty((self._front_end.config.bands, self._frames), np.float32)
        features[:, shared.start : shared.stop] = self._last[1][:, shared.start + shift : shared.stop + shift]
        pieces = [(0, shared.start), (shared.stop, self._frames)]
        frames = [self._front_end.frames(samples, first, stop) for first, stop in pieces if first < stop]
        found = self._front_end.of_frames(np.concatenate(frames))
        features[:, : shared.start] = found[:, : shared.start]
        features[:, shared.stop :] = found[:, shared.start :]
        return features


def inner_frames(front_end: FrontEnd, samples: int) -> range:
    """The frames of a waveform of so many samples that see nothing mirrored."""
    config = front_end.config
    length = samples - bool(config.preemphasis)
    reach = config.n_fft // 2 - (config.n_fft - config.window_samples) // 2  # samples before a frame's centre
    first = -(-reach // config.hop_samples)
    stop = (length - config.window_samples + reach) // config.hop_samples + 1
    return range(first, max(first, min(stop, config.frames(samples))))


@lru_cache(maxsize=32)
def log_once(message: str) -> None:
    log.info("%s", message)
