"""A server of live sound, in this process, which can do what broken ones do. It speaks HTTP, or nothing."""

import io
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import av
import numpy as np
import pytest

RATE_HZ = 16_000
_PIECE_SECONDS = 0.1


def wav_head(rate_hz: int = RATE_HZ, channels: int = 1) -> bytes:
    """The header of a WAV without an end."""
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, 2 * channels * rate_hz, 2 * channels, 16)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 16) + form + b"data\xff\xff\xff\xff"


def tone(seconds: float, level: float = 0.5, rate_hz: int = RATE_HZ) -> bytes:
    """Raw samples of a tone of 400 Hz, s16le."""
    wave = level * np.sin(2 * np.pi * 400 * np.arange(round(seconds * rate_hz)) / rate_hz)
    return (32767 * wave).astype("<i2").tobytes()


def encoded(seconds: float, codec: str, container: str, rate_hz: int = 48_000) -> bytes:
    """A tone, as FFmpeg's codec and container have it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate_hz)
        stream.layout = "mono"
        wave = np.frombuffer(tone(seconds, rate_hz=rate_hz), "<i2")[None]
        for start in range(0, wave.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(wave[:, start : start + 1024], format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate_hz, start
            for made in av.AudioResampler(stream.codec_context.format.name, "mono", rate_hz).resample(frame):
                out.mux(stream.encode(made))
        out.mux(stream.encode(None))
    return file.getvalue()


class Radio:
    """Each connection gets what `play` does with it; it may be changed at any time for the next ones."""

    def __init__(self, port: int = 0) -> None:
        self.play: Callable[[Radio, socket.socket], None] = plays_tone
        self.requests: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        self._connections: list[socket.socket] = []
        self.over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, scheme: str = "http", user: str = "", path: str = "/live") -> str:
        return f"{scheme}://{f'{user}@' if user else ''}127.0.0.1:{self.port}{path}"

    def _serve(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._handle, args=[connection], daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self.play(self, connection)

    def hang_up(self) -> None:
        """Breaks the connections that there are."""
        for each in self._connections:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def stop(self) -> None:
        """Takes no connection any more, and breaks those that there are."""
        self.over.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.hang_up()


def asked(radio: Radio, connection: socket.socket) -> bytes:
    """Reads a request."""
    request = b""
    while b"\r\n\r\n" not in request and (data := connection.recv(4096)):
        request += data
    radio.requests.append(request)
    return request


def answers(status: str, kind: str = "audio/wav", extra: str = "") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Type: {kind}\r\n{extra}\r\n".encode()


def plays_tone(radio: Radio, connection: socket.socket, seconds: float = 1e9, level: float = 0.5) -> None:
    """Sound at the pace of the clock, or as much as was asked for; then it hangs up."""
    asked(radio, connection)
    connection.sendall(answers("200 OK") + wav_head())
    began, sent = time.monotonic(), 0.0
    while not radio.over.is_set() and sent < seconds:
        connection.sendall(tone(_PIECE_SECONDS, level))
        sent += _PIECE_SECONDS
        radio.over.wait(max(0.0, began + sent - time.monotonic()))


def plays_noise(radio: Radio, connection: socket.socket) -> None:
    """Noise at the pace of the clock, without end, as samples of a WAV."""
    noise = (3000 * np.random.default_rng(0).standard_normal(RATE_HZ)).astype("<i2").tobytes()
    plays_bytes(radio, connection, noise, 1.0, wav_head())


def plays_bytes(radio: Radio, connection: socket.socket, sound: bytes, seconds: float, head: bytes = b"") -> None:
    """The same bytes again and again, at the pace of the clock.

    Args:
        seconds: length of their sound.
    """
    asked(radio, connection)
    connection.sendall(answers("200 OK", "application/octet-stream") + head)
    began, step, sent = time.monotonic(), max(1, round(len(sound) * _PIECE_SECONDS / seconds)), 0.0
    while not radio.over.is_set():
        for start in range(0, len(sound), step):
            piece = sound[start : start + step]
            connection.sendall(piece)
            sent += seconds * len(piece) / len(sound)
            radio.over.wait(max(0.0, began + sent - time.monotonic()))


def plays_stamped(radio: Radio, connection: socket.socket, offset_s: Callable[[], float]) -> None:
    """MPEG-TS at the pace of the clock, whose time stamps may jump.

    Args:
        offset_s: what is added to the time stamps, asked for each second.
    """
    asked(radio, connection)
    connection.sendall(answers("200 OK", "video/mp2t"))
    wave = (3000 * np.random.default_rng(0).standard_normal(1152)).astype("<i2")[None]
    began, sent = time.monotonic(), 0
    while not radio.over.is_set():
        file = io.BytesIO()
        with av.open(file, "w", format="mpegts") as out:
            stream = out.add_stream("mp2", rate=48_000)
            stream.layout = "mono"
            for _ in range(42):
                frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 48_000, sent + round(48_000 * offset_s())
                sent += 1152
                out.mux(stream.encode(frame))
        connection.sendall(file.getvalue())
        radio.over.wait(max(0.0, began + sent / 48_000 - time.monotonic()))


def plays_zeros(radio: Radio, connection: socket.socket) -> None:
    plays_tone(radio, connection, level=0.0)


def plays_and_falls_silent(radio: Radio, connection: socket.socket) -> None:
    """Some sound; then nothing more, and the connection stays."""
    asked(radio, connection)
    connection.sendall(answers("200 OK") + wav_head() + tone(1.0))
    radio.over.wait()


def says_nothing(radio: Radio, connection: socket.socket) -> None:
    """Takes the connection, and is never heard of again."""
    radio.over.wait()


def hangs_up(radio: Radio, connection: socket.socket) -> None:
    asked(radio, connection)


def wants_a_password(radio: Radio, connection: socket.socket) -> None:
    asked(radio, connection)
    connection.sendall(answers("401 Unauthorized", extra='WWW-Authenticate: Basic realm="x"\r\n'))


def has_nothing(radio: Radio, connection: socket.socket) -> None:
    asked(radio, connection)
    connection.sendall(answers("404 Not Found"))


def sends_garbage(radio: Radio, connection: socket.socket) -> None:
    """Random bytes without end."""
    asked(radio, connection)
    connection.sendall(answers("200 OK", "audio/mpeg"))
    garbage = np.random.default_rng(0)
    while not radio.over.is_set():
        connection.sendall(garbage.bytes(4000))
        radio.over.wait(0.05)


@contextmanager
def sends(url: str, container: str, codec: str, rate_hz: int) -> Iterator[None]:
    """A thread's FFmpeg sends a tone to a URL at the pace of the clock."""
    over = threading.Event()

    def send() -> None:
        with suppress(OSError, av.FFmpegError), av.open(url, "w", format=container) as out:
            stream = out.add_stream(codec, rate=rate_hz)
            stream.layout = "mono"
            resampler = av.AudioResampler(stream.codec_context.format.name, "mono", rate_hz)
            wave, began, sent = np.frombuffer(tone(60.0, rate_hz=rate_hz), "<i2")[None], time.monotonic(), 0
            while sent < wave.shape[1] and not over.wait(max(0.0, began + sent / rate_hz - time.monotonic())):
                frame = av.AudioFrame.from_ndarray(wave[:, sent : sent + 1024], format="s16", layout="mono")
                frame.sample_rate, frame.pts = rate_hz, sent
                sent += 1024
                for made in resampler.resample(frame):
                    out.mux(stream.encode(made))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def serves_rtmp(url: str) -> Iterator[None]:
    """The program FFmpeg gives a tone to whoever asks first. (PyAV cannot be a server.)"""
    if (program := shutil.which("ffmpeg")) is None:
        pytest.skip("the program ffmpeg is not installed (apt install ffmpeg)")
    wave = "aevalsrc=0.5*sin(2*PI*400*t):s=44100:d=600"
    options = f"-loglevel error -re -f lavfi -i {wave} -c:a aac -f flv -listen 1"
    process = subprocess.Popen([program, *options.split(), url], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def on_air(play: Callable[[Radio, socket.socket], None] = plays_tone) -> Iterator[Radio]:
    radio = Radio()
    radio.play = play
    try:
        yield radio
    finally:
        radio.stop()
