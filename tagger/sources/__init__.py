"""Sources of audio: microphones, streams by URL, files, pipes, standard input.

A new kind of source is a module here with a function `open_source(request)`, and a line in `_MODULES`.
Decoding, resampling and windows are in `tagger.audio`. This module imports no numpy.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tagger.errors import UserError
from tagger.settings import Channel, PcmFormat
from tagger.sources.network.address import SCHEMES, SYSTEM, Trust
from tagger.sources.network.address import shown as shown_url
from tagger.sources.pipe import is_pipe
from tagger.sources.spec import Spec

if TYPE_CHECKING:
    from tagger.events import Block  # imports numpy

_MODULES = {
    "auto": "auto",
    "mic": "microphone",
    "mic:": "microphone",
    "demo": "file",
    "-": "pcm",
    **{f"{scheme}://": "network" for scheme in SCHEMES},
}
"""A whole URI, or what it begins with up to `:` or `://`, and the module in this package that opens it."""


class Source(Protocol):
    """A stream of mono float32 blocks, at the rate that it was opened with.

    The constructor checks all that can be checked; reading begins with `blocks`.
    """

    name: str
    """One MQTT topic level."""
    description: str
    """Description of the source, for people."""

    on_wait: Callable[[float], None]
    """What the reader does while it waits. A source that may wait for long calls it some times a second, in the thread
    of `blocks`, with the seconds for which a live stream has said nothing; 0 if it is not live.
    """

    live: bool
    """Whether it may break and come back, as a microphone does: `blocks` can be called again after an error."""

    def blocks(self) -> "Iterator[Block]":
        """Blocks until the stream ends or `close` is called.

        Raises:
            TaggerError: the stream broke. The blocks before the error are good.
        """

    def behind(self) -> float:
        """Seconds of audio that wait to be read; 0 where the stream waits for its reader, as a pipe does."""

    def close(self) -> None:
        """Ends `blocks`. May be called from another thread or a signal handler."""


@dataclass(frozen=True)
class Request:
    """Argument of a module's `open_source`."""

    name: str | None
    """The source's name as the user gave it; None: the module chooses one."""
    uri: str
    """Without the name."""
    rate_hz: int
    """Rate of the blocks."""
    realtime: bool
    """Whether to replay files at the pace of the clock."""
    channel: Channel
    """Channels that are heard."""
    pcm: PcmFormat
    """Format of raw samples."""
    start_time: float | None = None
    """When a recording began, seconds since the epoch, if the user says it."""
    is_dated: bool = False
    """Whether the source says when its recording began, which may cost decoding it once."""
    raw_options: tuple[str, ...] = ()
    """Options of this source that say the format of raw samples: `rate`."""
    trust: Trust = SYSTEM
    """Which servers are believed."""

    def refuse_raw_options(self) -> None:
        """
        Raises:
            UserError: the source says the format of raw samples, and is none of them.
        """
        if self.raw_options:
            raise UserError(f"{self.uri}: {self.raw_options[0]} is for raw samples from a pipe, and this has its own")


def open_source(
    text: str,
    rate_hz: int,
    realtime: bool = True,
    pcm: PcmFormat | None = None,
    channel: Channel = (),
    start_time: float | None = None,
    is_dated: bool = False,
) -> Source:
    """
    Args:
        text: `[NAME=]`; `mic`, `mic:DEVICE`, `demo`, `auto` (the microphone, or else the demo), `-`, a URL, or a file;
            `[,OPTION=VALUE]...`.
        rate_hz: rate of the blocks.
        realtime: replay files and the demo at the pace of the clock.
        pcm: format of raw samples, where the source does not say its own.
        channel: channels that are heard, where the source does not say its own.
        start_time: when a recording began, seconds since the epoch, where the source does not say its own.
        is_dated: whether a file at full speed is dated by its name, metadata or modification time; else from now.

    Raises:
        UserError: there is no such device, file or channel, its name cannot be one, it is not audio, or its start is
            in the future.
    """
    spec = Spec.parse(text)
    if not is_keyword(spec.uri) and "://" not in spec.uri:
        spec.check_name()
    channel, pcm = spec.channel(channel), spec.pcm(pcm or PcmFormat())
    start_time = spec.start_time(start_time)
    if "start_time" in spec.options and _module(spec.uri) in ("microphone", "network"):
        raise UserError(f"{spec.shown}: start_time is for recordings; live sound is dated by the clock")
    trust = spec.trust
    if trust != SYSTEM and _module(spec.uri) != "network":
        raise UserError(f"{spec.shown}: tls_verify and tls_ca_certs are for encrypted streams")
    return open_request(
        Request(spec.level, spec.uri, rate_hz, realtime, channel, pcm, start_time, is_dated, spec.raw_options, trust)
    )


def open_request(request: Request) -> Source:
    """
    Raises:
        UserError: as `open_source`.
    """
    module = _module(request.uri)
    if module is None and "://" in request.uri:  # the message leaves most of the URL out: it may hold a password
        raise UserError(f"{shown_url(request.uri)}: this kind of URL is no source; there is {', '.join(SCHEMES)}")
    module = module or ("pcm" if is_pipe(request.uri) else "file")
    source: Source = importlib.import_module(f"tagger.sources.{module}").open_source(request)
    return source


def wait_idly(silent_s: float) -> None:
    """Default of `Source.on_wait`: nothing is to be done."""


def is_keyword(uri: str) -> bool:
    """Whether a URI without its name is one of the table above. If not, it is a file's path, or an unsupported URL.

    >>> is_keyword("mic:USB"), is_keyword("rtsp://camera/1"), is_keyword("door.wav"), is_keyword("ftp://host/1.wav")
    (True, True, False, False)
    """
    return _module(uri) is not None


def _module(uri: str) -> str | None:
    if uri in _MODULES:
        return _MODULES[uri]
    prefix = re.match("[^:]*:(//)?", uri)
    if prefix is None or ("://" in uri and not prefix[1]):
        return None
    return _MODULES.get(prefix[0].lower() if prefix[1] else prefix[0])


def split_name(text: str) -> tuple[str | None, str]:
    """A source's given name as a topic level, or None, and what it listens to, without options.

    >>> split_name("kitchen=mic:USB,channel=2"), split_name("Küche=mic"), split_name("mic"), split_name("a/b=c.wav")
    (('kitchen', 'mic:USB'), ('kuche_a9ec872e', 'mic'), (None, 'mic'), (None, 'a/b=c.wav'))
    """
    try:
        spec = Spec.parse(text)
    except UserError:  # an unknown option, which is said where sources are opened
        return None, text
    return spec.level, spec.uri
