"""A stream by URL as a source: opened when it is wanted, read by a process, dated by its arrival."""

import logging
import threading
import time
from collections.abc import Iterator

import numpy as np

from tagger.audio.chunk import Chunk
from tagger.audio.downmix import check_channel, heard_channels
from tagger.condition import Reason, SourceError
from tagger.errors import UserError
from tagger.events import Block
from tagger.settings import Channel, PcmFormat
from tagger.sources import wait_idly
from tagger.sources.arrivals import Arrivals
from tagger.sources.clock import Arrival, LiveClock, Workload, steady
from tagger.sources.network.address import ENCRYPTED, OPEN_SECONDS, Address
from tagger.sources.network.readers import READERS, Reading
from tagger.sources.network.stamps import Stamps
from tagger.sources.network.wire import About, Order

log = logging.getLogger(__name__)

AHEAD_SECONDS = 40.0
"""Most sound that a server may send ahead of time. Icecast sends some seconds at once, HLS three pieces of up to 10 s.
What comes beyond it waits in the connection."""
_RECORDING_AHEAD_SECONDS = 0.5
"""The same of a recording, all of which is there: it is heard at its own pace, and nothing of it from the future."""
_STAMPED = ("rtsp", "rtp", "mpegts", "flv", "hls")
"""FFmpeg's names of containers whose sender stamps the sound. In others FFmpeg counts samples or bytes."""
_TRIED_OTHERWISE: tuple[Reason, ...] = ("no_bytes", "no_sound", "not_audio", "failed")
"""Reasons for which another way to ask for the stream may help."""


class NetworkSource:
    """Live audio from another machine."""

    live = True

    def __init__(
        self, name: str, address: Address, rate_hz: int, channel: Channel = (), pcm: PcmFormat | None = None
    ) -> None:
        """
        Args:
            rate_hz: rate of the blocks.
            channel: channels that are heard.
            pcm: format of raw samples. None: FFmpeg finds out what comes.
        """
        self.name, self.on_wait = name, wait_idly
        self.description = f"{address.shown}, not connected yet"
        self.about: About | None = None
        """What the stream is. None: it was not open yet."""
        self.address, self._rate_hz, self._channel, self._pcm = address, rate_hz, channel, pcm
        self._mode = 0
        """Way to ask for the stream, of `Address.modes`."""
        self._closed = threading.Event()
        self._reading: Reading | None = None
        self._stamps = Stamps()
        self._workload = Workload(rate_hz)

    def blocks(self) -> Iterator[Block]:
        """
        Raises:
            SourceError: it cannot be opened, broke, or lacks the channels. The next call tries again, perhaps in
                another way.
        """
        if self._closed.is_set():
            return
        self._stamps, self._workload = Stamps(), Workload(self._rate_hz)
        self._reading = reading = READERS.start(self._order())
        reading.on_wait = self._wait
        has_sound = False
        try:
            # What comes at once, at the beginning, has sounded before.
            clock = LiveClock(self.name, self._rate_hz, tells_losses=self._tells_losses)
            blocks = clock.blocks(self._arrivals(reading), reading.has_more)
            for block in self._workload.follow(blocks):
                has_sound = True
                yield block
        except SourceError as error:
            if not has_sound and error.reason in _TRIED_OTHERWISE:
                self._mode = (self._mode + 1) % len(self.address.modes)
            raise SourceError(error.reason, f"{self.address.shown}: {error}") from None
        finally:
            self._reading = None
            reading.close()

    def behind(self) -> float:
        return self._workload.behind_s()

    def close(self) -> None:
        self._closed.set()
        if (reading := self._reading) is not None:
            reading.stop_waiting()

    @property
    def trouble(self) -> tuple[Reason, str] | None:
        """What is wrong with the stream although its sound comes. None: nothing."""
        return ("clock", self._stamps.trouble) if self._stamps.trouble else None

    def _tells_losses(self) -> bool:
        """Whether the sender has stamped its sound, so that what is lost is known, and all else is only late."""
        return self.about is not None and self.about.container in _STAMPED and self._stamps.are_believed

    def _order(self) -> Order:
        address, pcm = self.address, self._pcm
        options = {**address.options, **address.modes[self._mode]}
        if pcm is not None:
            options |= {"sample_rate": str(pcm.rate_hz), "ch_layout": f"{pcm.channels}c"}
        return Order(
            url=address.url,
            host="" if address.host in ("0.0.0.0", "::") else address.host,
            secrets=address.secrets,
            options=options,
            silent_s=address.silent_s,
            open_s=address.silent_s if address.is_hls else OPEN_SECONDS,
            ffmpeg=None if pcm is None else pcm.encoding,
            is_hls=address.is_hls,
            port=address.port,
            ca_file=address.trust.ca_file if address.scheme in ENCRYPTED and address.trust.verify else None,
        )

    def _arrivals(self, reading: Reading) -> Iterator[Arrival]:
        arrivals = Arrivals(self.name, self._rate_hz, self._channel, reading, lambda: (steady(), time.time()))
        yield from arrivals.of(self._chunks(reading))

    def _chunks(self, reading: Reading) -> Iterator[Chunk]:
        began: float | None = None
        heard_s = 0.0
        while (sound := reading.next()) is not None:
            now = steady()
            if began is None:
                began = now
                self._tell(reading.about, sound.channels)
            frames = np.frombuffer(sound.samples, np.float32).reshape(-1, sound.channels)
            length_s = len(frames) / sound.rate_hz
            missing_s = self._stamps.follow(sound.stamp_s, length_s, now)
            heard_s += length_s
            yield Chunk(frames, sound.rate_hz, missing_s or 0.0, is_joined=missing_s == 0)
            is_recording = self.about is not None and self.about.length_s is not None
            ahead_s = min(AHEAD_SECONDS, _RECORDING_AHEAD_SECONDS) if is_recording else AHEAD_SECONDS
            self._hold_back(heard_s - (steady() - began) - ahead_s, reading)

    def _hold_back(self, seconds: float, reading: Reading) -> None:
        """Lets a server wait that sends more than the time that passes."""
        until = steady() + seconds
        while not reading.is_closed and (left_s := until - steady()) > 0:
            self._closed.wait(min(left_s, 0.2))
            self.on_wait(0.0)

    def _tell(self, about: About | None, channels: int) -> None:
        self.about = about
        codec = f"{about.codec}, {about.rate_hz} Hz" if about is not None else "audio"
        try:
            check_channel(self.address.shown, self._channel, channels)
        except UserError as error:
            raise SourceError("failed", str(error)) from None
        self.description = f"{self.address.shown}, {codec}{heard_channels(self._channel, channels) or ', 1 channel'}"

    def _wait(self, silent_s: float) -> None:
        self.on_wait(silent_s)
