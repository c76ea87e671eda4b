"""Streams that FFmpeg itself sends: UDP, RTP, RTMP; and what the FFmpeg at hand cannot receive."""

from collections.abc import Iterator
from contextlib import closing, suppress

import numpy as np
import pytest

from tagger.condition import SourceError
from tagger.errors import UserError
from tagger.events import Samples
from tagger.sources import Source, open_source
from tagger.sources.network import address, protocols, source
from tagger.sources.network.address import SCHEMES
from tagger.sources.network.readers import READERS
from tests.fakes import RATE_HZ
from tests.programs import LONG_S, free_port, refused, run, until
from tests.radio import sends, serves_rtmp


@pytest.fixture(autouse=True, scope="module")
def limits() -> Iterator[None]:
    """Limits that a busy machine keeps; and no process is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(address, "SILENT_SECONDS", LONG_S / 3)
        patch.setattr(source, "OPEN_SECONDS", LONG_S / 3)
        yield
    READERS.stop()


@pytest.mark.parametrize(
    ("scheme", "container", "codec", "rate_hz", "heard_as"),
    [
        ("udp", "mpegts", "aac", 48_000, "aac"),
        ("rtp", "rtp", "pcm_mulaw", 8_000, "pcm_mulaw"),
        ("rtp", "rtp_mpegts", "aac", 48_000, "aac"),
        ("rtmp", "flv", "aac", 44_100, "aac"),
    ],
)
def test_what_ffmpeg_sends_is_heard(scheme: str, container: str, codec: str, rate_hz: int, heard_as: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}{'/live/x' if scheme == 'rtmp' else ''}"
    sender = serves_rtmp(url) if scheme == "rtmp" else sends(url, container, codec, rate_hz)
    with sender, closing(open_source(url, RATE_HZ)) as made:
        heard: list[Samples] = []
        until(lambda: heard.append(a_second(made)) or heard[-1].size, "it is heard")  # type: ignore[func-returns-value]
        assert f", {heard_as}, " in made.description
    assert np.abs(heard[-1]).max() > 0.2, "packets may be lost on a busy machine, not all of them"


def a_second(made: Source) -> Samples:
    """A second of sound; nothing, where the server does not serve yet."""
    sound = np.zeros(0, np.float32)
    with suppress(SourceError), closing(made.blocks()) as blocks:  # type: ignore[type-var]
        for block in blocks:
            sound = np.append(sound, block.samples)
            if len(sound) > RATE_HZ:
                return sound
    return sound[:0]


def test_a_format_that_rtp_does_not_number_is_said() -> None:
    url = f"rtp://127.0.0.1:{free_port()}"
    with sends(url, "rtp", "aac", 48_000), pytest.raises(SourceError, match="AAC and Opus are not, so send") as caught:
        list(open_source(url, RATE_HZ).blocks())
    assert caught.value.reason == "not_audio"


def test_what_this_ffmpeg_has_is_known() -> None:
    known = protocols.protocols()
    assert {"tcp", "udp", "rtp", "http"} <= known
    for scheme in sorted(set(SCHEMES) - {"srt"}):  # PyPI's PyAV has all of these
        assert not protocols.lacks(scheme), scheme


@pytest.mark.parametrize("command", ["listen --mqtt none", "devices --probe", "config check --offline"])
def test_a_protocol_that_this_ffmpeg_lacks_is_refused_by_name(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "protocols", lambda: frozenset({"tcp", "udp"}))
    words = "srt://10.0.0.1: the FFmpeg that PyAV has here was built without srt", "let go2rtc or mediamtx receive it"
    refused(run(*command.split(), "srt://me:secret@10.0.0.1:9000"), *words)


def test_a_protocol_may_be_there_where_what_ffmpeg_has_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "protocols", frozenset)
    assert open_source("srt://10.0.0.1:9000", RATE_HZ).description == "srt://10.0.0.1:9000, not connected yet"
    monkeypatch.setattr(protocols, "protocols", lambda: frozenset({"tcp"}))
    with pytest.raises(UserError, match="built without https"):
        open_source("https://radio.example/live", RATE_HZ)
