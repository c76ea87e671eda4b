"""The process of one stream: FFmpeg (PyAV) reads it, and its sound goes to the daemon over a socket.

It runs in a fork of `host.py`. A second thread watches it: FFmpeg may hang in a name's look-up, in TLS, in a camera's
silence. Then the thread says why, and ends the process. It ends it too when the daemon closes its end of the socket.
"""

import contextlib
import errno
import math
import os
import re
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tagger.condition import Reason, SourceError
from tagger.sources.network import reasons
from tagger.sources.network.wire import ABOUT, BROKEN, SOUND, SOUND_HEAD, About, Broken, Order, packed, packed_json

_BLOCK_SECONDS = 0.05
"""Least sound of a message: FFmpeg's frames are short."""
_WATCH_SECONDS = 0.25
_TCP_BYTES_RECEIVED = 128
"""Place of `tcpi_bytes_received` in Linux's `struct tcp_info`."""
_ESTABLISHED, _SYN_SENT = 1, 2
_MOST_SOUNDLESS = 20
"""Most packets without sound that are no sign of damage: some decoders need a few for the first."""
_MOST_DAMAGE = 500
"""Damaged pieces in turn after which a stream is no audio."""
_RATES_HZ, _MOST_CHANNELS = range(1_000, 768_001), 64
MOST_BYTES = 256_000_000
"""Memory that one stream may take. FFmpeg keeps what a server sends, such as a playlist without an end; without a
limit, a machine would run out of memory before the stream has been silent for too long.
"""


def preload() -> None:
    """Loads FFmpeg, before forks share it."""
    import av
    import av.audio.resampler

    av.logging.set_level(av.logging.PANIC)


class Reader:
    """Reads one stream until it ends, breaks, or the daemon does not want it any more."""

    def __init__(self, order: Order, to: socket.socket) -> None:
        self._order, self._to = order, to
        self._stage = "resolving"
        self._at = time.monotonic()
        """When it began, or the last sound came, on the monotonic clock."""
        self._bytes, self._bytes_at = 0, self._at
        """Bytes that TCP connections have received, and when they were fewer last."""
        self._damage = ""
        self._packets = 0
        """Packets since the last sound."""
        self._sending = threading.Lock()

    def run(self) -> None:
        """Does all the work. Returns when the stream is over; the daemon knows why."""
        _bound_memory(MOST_BYTES)
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            self._resolve()
            self._read()
            self._say("gone", "the stream has ended")
        except BrokenPipeError:
            pass
        except SourceError as error:
            self._say(error.reason, str(error))
        except Exception as error:
            self._say(*self._explained(error))

    # --- the thread that reads ---

    def _resolve(self) -> None:
        if not self._order.host:
            return
        try:
            socket.getaddrinfo(self._order.host, None)
        except OSError as error:
            text = error.strerror or "unknown"
            raise SourceError("cannot_connect", f"the name {self._order.host} has no address ({text})") from None

    def _read(self) -> None:
        import av

        self._stage, order = "opening", self._order
        options, extra = dict(order.options), dict[str, Any]()
        if order.is_hls and order.ca_file is not None:
            from tagger.sources.network import https  # rarely needed, and each reader would carry it

            extra["io_open"] = https.opener(order.ca_file, order.silent_s)
            options |= https.OPTIONS
        with av.open(
            order.url, format=order.ffmpeg, options=options, metadata_errors="replace",
            timeout=(order.open_s + 2, order.silent_s + 2), **extra,
        ) as container:  # fmt: skip
            tracks = [each for each in container.streams.audio if each.codec_context is not None]
            if not tracks:
                raise SourceError("no_sound", "the stream has no audio track that FFmpeg can decode")
            track = tracks[0]
            self._about(container, track)
            for rate_hz, channels, stamp_s, samples in _joined(self._sound(container, track)):
                self._send_sound(rate_hz, channels, stamp_s, samples)

    def _about(self, container: Any, track: Any) -> None:
        context = track.codec_context
        about = About(
            codec=str(context.name),
            container=str(container.format.name),
            rate_hz=int(context.sample_rate or 0),
            channels=int(context.layout.nb_channels),
            has_pictures=bool(container.streams.video),
            title=str(container.metadata.get("icy-name", ""))[:200],
            length_s=container.duration / 1e6 if container.duration else None,
        )
        self._send(packed_json(ABOUT, about))

    def _sound(self, container: Any, track: Any) -> Iterator[tuple[int, int, float, bytes]]:
        """Rate, channels, time stamp and samples of each frame."""
        import av

        damage = 0
        resampler: Any = None
        form: tuple[int, str, str] | None = None
        for packet in container.demux(track):
            self._packets += bool(packet.size)
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError, ValueError) as error:
                damage += 1
                self._damage = self._said(error)
                if damage > _MOST_DAMAGE:
                    raise SourceError("not_audio", f"what comes is damaged or no audio ({self._damage})") from None
                continue
            for frame in frames:
                channels = frame.layout.nb_channels
                if frame.sample_rate not in _RATES_HZ or not 0 < channels <= _MOST_CHANNELS or not frame.samples:
                    continue
                damage = 0
                stamp_s = math.nan if frame.pts is None or not frame.time_base else float(frame.pts * frame.time_base)
                if form != (frame.sample_rate, frame.layout.name, frame.format.name):
                    form = (frame.sample_rate, frame.layout.name, frame.format.name)
                    resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
                frame.pts = None
                for made in resampler.resample(frame):
                    samples = bytes(made.planes[0])[: 4 * made.samples * channels]
                    yield frame.sample_rate, channels, stamp_s, samples
                    stamp_s = math.nan

    def _send_sound(self, rate_hz: int, channels: int, stamp_s: float, samples: bytes) -> None:
        self._stage = "sending"
        self._send(packed(SOUND, SOUND_HEAD.pack(rate_hz, channels, stamp_s) + samples))
        self._stage, self._at, self._packets, self._damage = "flowing", time.monotonic(), 0, ""

    # --- both threads ---

    def _send(self, message: bytes) -> None:
        with self._sending:
            self._to.sendall(message)

    def _say(self, reason: Reason, detail: str) -> None:
        with contextlib.suppress(OSError):
            self._send(packed_json(BROKEN, Broken(reason, detail)))

    def _said(self, error: Exception) -> str:
        """FFmpeg's words, without secrets. In ours there are none, but words that a URL may have, too: `stream`."""
        text = reasons.said(error)
        for secret in sorted((self._order.url, *self._order.secrets), key=len, reverse=True):
            if len(secret) > 2:
                text = text.replace(secret, "***")
        return text

    def _explained(self, error: Exception) -> tuple[Reason, str]:
        """Why FFmpeg has failed."""
        if reasons.is_timeout(error):
            return self._silence()
        if getattr(error, "errno", None) == errno.ENOMEM or _has_taken(0.8 * MOST_BYTES):  # FFmpeg may call it damage
            return "not_audio", f"what comes would take more than {MOST_BYTES // 1_000_000} MB of memory"
        is_open = self._stage in ("flowing", "sending")
        if self._order.ca_file is not None and not is_open and (problem := self._certificate_problem()):
            return "certificate", problem
        return reasons.explained(error, self._said(error), is_open, self._order.url.partition(":")[0].lower())

    def _certificate_problem(self) -> str:
        """Why the server's certificate cannot be trusted, for which FFmpeg has no error of its own; "" it can be."""
        import ssl  # rarely needed, and each reader would carry it

        order = self._order
        try:
            context = ssl.create_default_context(cafile=order.ca_file or None)
            with socket.create_connection((order.host, order.port), order.open_s / 2) as plain:
                context.wrap_socket(plain, server_hostname=order.host).close()
        except ssl.SSLCertVerificationError as error:
            said = error.verify_message.strip(" .")
            return f"its certificate is not trusted ({said}); {reasons.TRUST}"
        except (OSError, ValueError) as error:
            is_about_file = isinstance(error, ssl.SSLError) and "CERTIFICATE" in (error.reason or "")
            return f"the file of tls_ca_certs holds no certificate; {reasons.TRUST}" if is_about_file else ""
        return ""

    # --- the thread that watches ---

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._to], [], [], _WATCH_SECONDS)
            if ready:
                os._exit(0)  # the daemon sends nothing: it has closed its end
            if (received := _received()[0]) > self._bytes:
                self._bytes, self._bytes_at = received, time.monotonic()
            limit_s = self._order.silent_s if self._stage == "flowing" else self._order.open_s
            if self._stage != "sending" and time.monotonic() - self._at > limit_s:
                self._say(*self._silence())
                os._exit(0)

    def _silence(self) -> tuple[Reason, str]:
        """Why no sound has come for so long."""
        now = time.monotonic()
        waited, dry_s = f"for {now - self._at:.0f} s", now - self._bytes_at
        states = _received()[1]
        if self._stage == "resolving":
            return "cannot_connect", f"the look-up of the name {self._order.host} got no answer {waited}"
        if self._damage or self._packets > _MOST_SOUNDLESS:
            why = f" ({self._damage})" if self._damage else ""
            return "not_audio", f"what came {waited} is damaged or no audio{why}"
        if states and _ESTABLISHED not in states and _SYN_SENT in states:
            return "cannot_connect", f"no answer {waited}"
        if self._bytes and dry_s < (now - self._at) / 2 and not (self._order.is_hls and self._stage == "flowing"):
            return "no_sound", f"bytes come, but no sound has come {waited}"
        if self._bytes:
            return "no_bytes", f"nothing has come for {min(dry_s, now - self._at):.0f} s, though the connection is open"
        return "no_bytes", f"connected, and no sound has come {waited}"


def _bound_memory(more: int) -> None:
    """Lets this process take so many bytes more than it has, and no more. Linux only; elsewhere nothing."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        (kilobytes,) = re.findall(r"^VmData:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = 1024 * int(kilobytes) + more
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _has_taken(most: float) -> bool:
    """Whether this process has had more memory than so many bytes. Linux only; elsewhere False."""
    with contextlib.suppress(ImportError):
        import resource

        return sys.platform == "linux" and 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > most
    return False


def _joined(sound: Iterator[tuple[int, int, float, bytes]]) -> Iterator[tuple[int, int, float, bytes]]:
    """The frames, several as one where they are short, of one rate and number of channels."""
    held: tuple[int, int, float] | None = None
    parts: list[bytes] = []
    size = 0
    for rate_hz, channels, stamp_s, samples in sound:
        if held is not None and held[:2] != (rate_hz, channels):
            yield *held, b"".join(parts)
            held, parts, size = None, [], 0
        held = held or (rate_hz, channels, stamp_s)
        parts.append(samples)
        size += len(samples)
        if size >= 4 * channels * rate_hz * _BLOCK_SECONDS:
            yield *held, b"".join(parts)
            held, parts, size = None, [], 0
    if held is not None:
        yield *held, b"".join(parts)


def _received() -> tuple[int, set[int]]:
    """Bytes that this process's TCP connections have received, and their states. Linux only; elsewhere nothing."""
    total, states = 0, set[int]()
    with contextlib.suppress(OSError):
        for path in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError, struct.error, ValueError):
                copy = os.dup(int(path.name))
                try:
                    each = socket.socket(fileno=copy)
                except OSError:
                    os.close(copy)
                    raise
                with each:
                    if each.type != socket.SOCK_STREAM or each.family not in (socket.AF_INET, socket.AF_INET6):
                        continue
                    info = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    states.add(info[0])
                    total += struct.unpack_from("<Q", info, _TCP_BYTES_RECEIVED)[0]
    return total, states
