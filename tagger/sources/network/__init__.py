"""Streams by URL: RTSP, HTTP (Icecast, HLS), RTMP, RTP, SRT, UDP, TCP.

FFmpeg reads each in a process of its own, which can be killed whatever it hangs in: `reader.py` is that process,
`host.py` the small one that it is forked from, `readers.py` the daemon's side. This module and those of the processes
import no numpy: forty of them would cost 300 MB more.
"""

from typing import TYPE_CHECKING

from tagger.sources.network.address import Address

if TYPE_CHECKING:
    from tagger.sources import Request
    from tagger.sources.network.source import NetworkSource


def open_source(request: "Request") -> "NetworkSource":
    """Opens nothing yet: a stream that is down is waited for.

    Raises:
        UserError: the URL cannot be.
    """
    from tagger.sources.network.source import NetworkSource

    address = Address.parse(request.uri, request.trust)
    pcm = request.pcm if request.raw_options else None
    if pcm is not None:
        address.check_raw(pcm.encoding)
    return NetworkSource(request.name or address.level, address, request.rate_hz, request.channel, pcm)
