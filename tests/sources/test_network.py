"""Streams by URL, against a server in this process that breaks in every way."""

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tagger import retry
from tagger.condition import Reason, SourceError
from tagger.errors import UserError
from tagger.events import Block
from tagger.sources import open_source
from tagger.sources.network import address, source
from tagger.sources.network.address import Address, shown, without_user
from tagger.sources.network.readers import READERS
from tagger.sources.network.source import NetworkSource
from tests import radio
from tests.builders import daemon
from tests.fakes import RATE_HZ
from tests.programs import LONG_S, run, until
from tests.radio import Radio, on_air
from tests.servers import serving


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limits that a busy machine keeps, and short pauses; and no process is left when a test is over."""
    monkeypatch.setattr(address, "SILENT_SECONDS", LONG_S / 3)
    monkeypatch.setattr(source, "OPEN_SECONDS", LONG_S / 3)
    monkeypatch.setattr(retry, "PAUSES", (0.1, 0.2))
    yield
    until(lambda: not readers(), "all readers have ended")


@pytest.fixture(autouse=True, scope="module")
def no_host_is_left() -> Iterator[None]:
    yield
    READERS.stop()


def readers() -> list[int]:
    """The processes that read."""
    host = READERS.process
    if host is None:
        return []
    command = ["ps", "-o", "pid=,stat=", "--ppid", str(host.pid)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "Z" not in line.split()[1]]


def opened(url: str) -> NetworkSource:
    made = open_source(url, RATE_HZ)
    assert isinstance(made, NetworkSource)
    return made


def heard(url: str, seconds: float) -> tuple[NetworkSource, list[Block]]:
    made, blocks, length_s = opened(url), list[Block](), 0.0
    with closing(made.blocks()) as each:  # type: ignore[type-var]
        for block in each:
            blocks.append(block)
            length_s += len(block.samples) / RATE_HZ
            if length_s >= seconds:
                break
    return made, blocks


def failure(url: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        for _ in opened(url).blocks():
            pass
    return caught.value


def test_a_stream_is_heard_with_its_level_and_dated_by_the_clock() -> None:
    with on_air() as server:
        made, blocks = heard(server.url(), 2.5)
    sound = np.concatenate([each.samples for each in blocks])
    assert np.sqrt(np.mean(np.square(sound[RATE_HZ // 4 :]))) == pytest.approx(0.5 / 2**0.5, rel=0.02)
    assert made.description == f"http://127.0.0.1:{server.port}, pcm_s16le, 16000 Hz, 1 channel"
    assert blocks[-1].time + len(blocks[-1].samples) / RATE_HZ == pytest.approx(time.time(), abs=20)
    # This process plays, too: on a busy machine it may be late, which is a gap, and moves the times that follow.
    assert sum(each.gap for each in blocks) < len(blocks) / 2
    apart = [after.time - before.time - len(before.samples) / RATE_HZ for before, after in pairwise(blocks)]
    assert np.median(apart) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("codec", "container"), [("libmp3lame", "mp3"), ("aac", "adts"), ("libopus", "ogg")])
def test_a_stream_may_be_mp3_aac_or_ogg(codec: str, container: str) -> None:
    sound = radio.encoded(4.0, codec, container)

    def plays(server: Radio, connection: socket.socket) -> None:
        radio.asked(server, connection)
        connection.sendall(radio.answers("200 OK", "application/octet-stream") + sound)

    with on_air(plays) as server:
        made, blocks = heard(server.url(), 3.0)
    assert made.about is not None
    assert made.about.container == {"adts": "aac"}.get(container, container)
    assert np.sqrt(np.mean(np.square(blocks[-1].samples))) == pytest.approx(0.5 / 2**0.5, rel=0.1)


def test_raw_samples_come_over_tcp() -> None:
    def plays(server: Radio, connection: socket.socket) -> None:
        connection.sendall(np.repeat(np.frombuffer(radio.tone(3.0), "<i2"), 2).tobytes())
        server.over.wait()

    with on_air(plays) as server:
        made, blocks = heard(f"{server.url('tcp', path='')},format=s16le,rate=16000,channels=2,channel=2", 2.0)
    assert "16000 Hz" in made.description
    assert np.abs(blocks[-1].samples).max() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("play", "reason", "words"),
    [
        (radio.wants_a_password, "password", "does not accept this user and password"),
        (radio.has_nothing, "not_found", "404"),
        (radio.says_nothing, "no_bytes", "connected, and no sound has come"),
        (radio.hangs_up, "no_bytes", "hung up before any sound came"),
        (radio.plays_and_falls_silent, "no_bytes", "nothing has come"),
        (radio.sends_garbage, "not_audio", "no audio"),
    ],
)
def test_what_is_wrong_is_told_apart(
    play: Callable[..., None], reason: Reason, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if play in (radio.says_nothing, radio.sends_garbage):
        monkeypatch.setattr(source, "OPEN_SECONDS", 2.5)
    elif play is radio.plays_and_falls_silent:
        monkeypatch.setattr(address, "SILENT_SECONDS", 1.5)
    with on_air(play) as server:
        error = failure(server.url(user="me:secret"))
    allowed = {reason, "no_sound"} if play is radio.sends_garbage else {reason}
    assert error.reason in allowed, error
    assert words in str(error) or error.reason == "no_sound"
    assert str(error).startswith(f"http://127.0.0.1:{server.port}: ")
    assert "secret" not in str(error)


def test_a_machine_that_takes_no_connection_or_has_no_address_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert failure(f"rtsp://me:secret@127.0.0.1:{port}/live").reason == "refused"
    error = failure("http://nowhere.invalid/live")
    assert error.reason == "cannot_connect"
    assert "the name nowhere.invalid has no address" in str(error)


def test_a_stream_that_ends_says_so() -> None:
    with on_air(lambda server, connection: radio.plays_tone(server, connection, 0.5)) as server:
        error = failure(server.url())
    assert error.reason == "gone"
    assert "has ended or broke" in str(error)


def test_a_daemon_waits_for_a_server_that_is_down_and_finds_it_again() -> None:
    server = Radio()
    port = server.port
    server.stop()
    with daemon(opened(f"http://127.0.0.1:{port}/live")) as sink:
        until(lambda: sink.of("offline"), "it is said that nobody is there")
        assert "refused" in sink.of("offline")[0]
        with closing(_Stopping(Radio(port))) as first:
            until(lambda: sink.of("begin"), "it is heard")
            assert sink.of("online")[0].startswith(f"http://127.0.0.1:{port}, pcm_s16le")
            said = len(sink.of("offline"))
            first.radio.stop()
        until(lambda: len(sink.of("offline")) > said, "it is said that it is gone")
        until(lambda: sink.of("end"), "the sound has ended with it")
        heard_before = len(sink.of("report"))
        with closing(_Stopping(Radio(port))):
            until(lambda: len(sink.of("online")) >= 2, "it is back")
            until(lambda: len(sink.of("report")) > heard_before, "it is heard again")


class _Stopping:
    def __init__(self, radio: Radio) -> None:
        self.radio = radio

    def close(self) -> None:
        self.radio.stop()


def test_digital_zeros_are_said_while_the_source_is_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.sources.healing.ZEROS_SECONDS", 1.0)
    with on_air(radio.plays_zeros) as server, daemon(opened(server.url())) as sink:
        until(lambda: any("digital silence" in each for each in sink.of("online")), "zeros are said")
        assert not sink.of("offline")


def test_a_reader_that_hangs_is_killed_and_a_host_that_was_killed_is_started_again() -> None:
    with on_air() as server:
        made, blocks = opened(server.url()), list[Block]()
        errors: list[SourceError] = []

        def listen() -> None:
            try:
                for block in made.blocks():
                    blocks.append(block)
            except SourceError as error:
                errors.append(error)

        thread = threading.Thread(target=listen)
        thread.start()
        until(lambda: blocks, "it is heard")
        (reader,) = readers()
        os.kill(reader, signal.SIGKILL)
        thread.join(LONG_S)
        assert [each.reason for each in errors] == ["failed"]

        host = READERS.process
        assert host is not None
        host.kill()
        host.wait()
        assert heard(server.url(), 0.5)[1]
        assert READERS.process is not host


def test_a_stopped_reader_does_not_keep_the_source_from_closing() -> None:
    with on_air() as server:
        made, blocks = opened(server.url()), list[Block]()
        thread = threading.Thread(target=lambda: blocks.extend(made.blocks()))
        thread.start()
        until(lambda: blocks or readers(), "it runs")
        until(lambda: made.about is not None, "it is open")
        (reader,) = readers()
        os.kill(reader, signal.SIGSTOP)
        made.close()
        thread.join(LONG_S)
        assert not thread.is_alive()


def test_a_server_that_sends_all_at_once_is_heard_at_the_pace_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "AHEAD_SECONDS", 1.0)

    def floods(server: Radio, connection: socket.socket) -> None:
        radio.asked(server, connection)
        connection.sendall(radio.answers("200 OK") + radio.wav_head() + radio.tone(60.0))

    with on_air(floods) as server:
        began = time.monotonic()
        heard(server.url(), 3.0)
        assert time.monotonic() - began >= 1.5


def test_a_recording_that_a_server_has_is_never_heard_in_the_future() -> None:
    with serving(radio.encoded(300.0, "pcm_s16le", "wav")) as server:
        ahead_s, length_s = [], 0.0
        with closing(opened(server.url("recording")).blocks()) as blocks:  # type: ignore[type-var]
            for block in blocks:
                ahead_s.append(block.time + len(block.samples) / RATE_HZ - time.time())
                length_s += len(block.samples) / RATE_HZ
                if length_s > 3:
                    break
    assert max(ahead_s) < 1.5  # the server sends as fast as it can


def test_user_and_password_are_sent_and_never_shown(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIO_PASSWORD", "s3cr%40t")

    def asks(server: Radio, connection: socket.socket) -> None:
        if not server.requests:
            radio.wants_a_password(server, connection)
        else:
            radio.plays_tone(server, connection)

    with caplog.at_level(logging.DEBUG), on_air(asks) as server:
        made = opened("door=" + server.url(user="me:${RADIO_PASSWORD}", path="/hidden?token=abc"))
        blocks = made.blocks()
        next(blocks)
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (*readers(), READERS.process.pid)]  # type: ignore[union-attr]
        blocks.close()  # type: ignore[attr-defined]
    assert b"Basic bWU6czNjckB0" in b"".join(server.requests)  # me:s3cr@t
    shown_texts = [caplog.text, made.description, repr(made.address), *map(str, lines)]
    for word in ("s3cr", "hidden", "token", "abc"):
        assert not any(word in text for text in shown_texts), word


def test_a_url_that_cannot_be_is_refused_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    for url, words in (
        ("ftp://me:secret@host/x", "this kind of URL is no source"),
        ("rtsp://me:secret@/x", "names no host"),
        ("rtsp://me:sec/ret@host/x", "port is malformed"),
        ("udp://host", "names no port"),
        ("rtsp://me:${NO_SUCH}@host/secret", "this environment variable is not set"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            open_source(url, RATE_HZ)
        assert "sec" not in str(caught.value).replace("user:password", "")


@pytest.mark.parametrize(
    "option", ["loud_db=a", "calibrate_db=1e9", "channel=q", "gain_db=999", "active=q", "format=q"]
)
def test_an_option_that_cannot_be_shows_no_password(option: str) -> None:
    done = run("listen", f"door=rtsp://me:secret@camera/live,{option}", "--mqtt", "none")
    assert done.exit_code == 2, done.output
    assert f"door=rtsp://camera,{option}: " in done.stderr
    assert "secret" not in done.output


def test_what_is_shown_and_remembered_of_a_url() -> None:
    assert shown("rtsp://me:pw@camera:8554/live?token=x") == "rtsp://camera:8554"
    assert without_user("rtsp://me:pw@camera/live?token=x") == "rtsp://camera/live"
    assert Address.parse("rtsp://me:pw@camera/live").shown == "rtsp://camera"
    assert Address.parse("http://[::1]:8000/x").shown == "http://[::1]:8000"
    assert Address.parse("udp://@:5004").host == "0.0.0.0"
    assert Address.parse("https://radio.example/a/b.m3u8?x=1").is_hls
    assert "pw" not in repr(Address.parse("rtsp://me:pw@camera/live"))


def test_rtsp_is_asked_for_sound_alone_over_tcp_first() -> None:
    modes = Address.parse("rtsp://camera/live").modes
    assert modes[0] == {"rtsp_transport": "tcp", "allowed_media_types": "audio"}
    assert modes[1] == {"rtsp_transport": "tcp"}
    assert Address.parse("http://radio/live").modes == ({},)


@pytest.mark.parametrize("play", [radio.wants_a_password, radio.has_nothing, radio.hangs_up, radio.plays_tone])
def test_words_that_a_url_has_too_stay_in_what_is_said(play: Callable[..., None]) -> None:
    """Streams are called `stream`, users `user`; `***` in place of such a word would tell that the URL has it."""

    def plays(server: Radio, connection: socket.socket) -> None:
        play(server, connection, *([0.5] if play is radio.plays_tone else []))

    for path in ("/stream", "/sound", "/404"):
        with on_air(plays) as server:
            said = str(failure(server.url(user="user:password", path=path)))
        assert "***" not in said.partition(" (")[0]
        assert not any(each in said for each in ("user:password", path))


@pytest.mark.slow
def test_a_server_that_sends_without_end_costs_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg keeps all of a playlist until its end."""

    def plays(server: Radio, connection: socket.socket) -> None:
        radio.asked(server, connection)
        connection.sendall(
            radio.answers("200 OK", "application/vnd.apple.mpegurl") + b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n"
        )
        while True:
            connection.sendall(b"#EXTINF:1,\na.ts\n" * 10_000)

    with on_air(plays) as server:
        error = failure(server.url(path="/live.m3u8"))
    assert error.reason == "not_audio", error
    assert "would take more than 256 MB of memory" in str(error)
