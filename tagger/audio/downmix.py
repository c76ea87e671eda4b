"""One channel out of several: those that the user chose, or all, averaged. The one rule for every source and file."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tagger.audio.chunk import Frames, Warn
from tagger.errors import AudioError
from tagger.events import Samples
from tagger.printable import number_of
from tagger.settings import Channel

_PIECE_SECONDS = 0.5
"""Length of the pieces whose level is measured."""
_STRETCH_SECONDS = 2.0
"""Audible sound over which the mean is compared with its channels."""
_WATCHED_SECONDS = 60.0
"""Audible sound after which nothing is compared any more."""
_AUDIBLE_POWER = 1e-6
"""Power of a piece, of its loudest channel, from which it counts as audible: -60 dB of full scale."""
_FAR_DB = 10.0
"""Least distance of the mean below the loudest channel that is said. One silent channel of two makes 6 dB."""
_MOST_DB = 60.0


class Downmix:
    """Averages the chosen channels of one source, and says once if little is left of them."""

    def __init__(self, where: str, channel: Channel = (), warn: Warn = lambda line: None) -> None:
        """
        Args:
            where: file or source, the beginning of each message.
        """
        self._where, self._channel = where, channel
        self._watch = _Watch(lambda problem: warn(f"{where}: {problem}"), channel)

    def chosen(self, frames: Frames) -> Frames:
        """The channels that are heard, [N, chosen], of frames [N, channels].

        Raises:
            AudioError: a chosen channel is not there.
        """
        if not self._channel:
            return frames
        check_channel(self._where, self._channel, frames.shape[1])
        return frames[:, [number - 1 for number in self._channel]]

    def mean(self, frames: Frames, rate_hz: int) -> Samples:
        """The mean of frames that `chosen` returned, [N]."""
        if frames.shape[1] == 1:
            return frames[:, 0]
        mono: Samples = frames.mean(axis=1, dtype=np.float32)
        self._watch.compare(frames, mono, rate_hz)
        return mono

    def finish(self) -> None:
        """Compares what is left of a recording that is over."""
        self._watch.finish()


def check_channel(where: str, channel: Channel, channels: int) -> None:
    """
    Raises:
        AudioError: a source of that many channels does not have one of the chosen.
    """
    if (missing := max(channel, default=0)) > channels:
        has, right = number_of(channels, "channel"), "1" if channels == 1 else f"1 to {channels}"
        raise AudioError(f"{where}: has no channel {missing}: it has {has}; choose {right}, or mix")


def heard_channels(channel: Channel, channels: int) -> str:
    """What is heard of that many channels, as the end of a source's description.

    >>> heard_channels((), 2), heard_channels((1, 3), 4), heard_channels((), 1)
    (', mean of 2 channels', ', mean of channels 1 and 3 of 4', '')
    """
    if channels == 1:
        return ""
    if not channel:
        return f", mean of {channels} channels"
    if len(channel) == 1:
        return f", channel {channel[0]} of {channels}"
    return f", mean of channels {', '.join(map(str, channel[:-1]))} and {channel[-1]} of {channels}"


class _Watch:
    """Compares the mean of channels with the loudest of them, and says once if it is far below.

    Powers are those around the mean value, so a constant offset is no sound.
    """

    def __init__(self, say: Callable[[str], None], channel: Channel) -> None:
        self._say, self._channel = say, channel
        self._channels = 0
        self._left_s = _WATCHED_SECONDS
        self._clear(0)

    def compare(self, frames: Frames, mono: Samples, rate_hz: int) -> None:
        """Takes consecutive frames [N, channels] and their mean [N]."""
        if self._left_s <= 0 or not len(frames):
            return
        if frames.shape[1] != self._channels:
            self._clear(frames.shape[1])
        both = np.concatenate([frames, mono[:, None]], axis=1).astype(np.float64)
        self._sums += both.sum(axis=0)
        self._squares += np.einsum("ij,ij->j", both, both)
        self._count += len(both)
        self._piece_s += len(both) / rate_hz
        if self._piece_s >= _PIECE_SECONDS:
            self._end_piece()
            if self._audible_s >= _STRETCH_SECONDS:
                self._judge()

    def finish(self) -> None:
        if self._left_s > 0 and self._channels:
            self._end_piece()
            self._judge()

    def _clear(self, channels: int) -> None:
        self._channels = channels
        self._powers: NDArray[np.float64] = np.zeros(channels + 1)
        """Power of each channel and of the mean, times the seconds of audible sound."""
        self._audible_s = 0.0
        self._begin_piece()

    def _begin_piece(self) -> None:
        self._sums, self._squares = np.zeros(self._channels + 1), np.zeros(self._channels + 1)
        self._count, self._piece_s = 0, 0.0

    def _end_piece(self) -> None:
        if self._count:
            powers = np.maximum(self._squares / self._count - (self._sums / self._count) ** 2, 0.0)
            if powers[:-1].max() >= _AUDIBLE_POWER:
                self._powers += powers * self._piece_s
                self._audible_s += self._piece_s
        self._begin_piece()

    def _judge(self) -> None:
        channels, mean = self._powers[:-1], float(self._powers[-1])
        loudest = int(channels.argmax())
        unrelated = channels.sum() / self._channels**2  # the mean's power if the channels had nothing in common
        if mean < min(channels[loudest] * 10 ** (-_FAR_DB / 10), 0.5 * unrelated):
            below_db = 10 * np.log10(channels[loudest] / max(mean, 1e-30))
            below = f"{below_db:.0f} dB" if below_db < _MOST_DB else f"more than {_MOST_DB:.0f} dB"
            number = self._channel[loudest] if self._channel else loudest + 1
            self._say(
                f"its {self._channels} channels cancel, so their mean is {below} below channel {number}: one is "
                f"inverted; `--channel {number}` of `tagger listen` and `tagger tag` hears that one alone"
            )
            self._left_s = 0.0
        self._left_s -= self._audible_s
        self._clear(self._channels)
