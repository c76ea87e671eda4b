"""When files were recorded."""

import os
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tagger.audio.recorded import began, length_of
from tests.fuzz.sounds import tone, write_av
from tests.programs import write_wav

RATE_HZ = 32_000
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC+1 in winter, UTC+2 in summer."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def recording(path: Path, *chunks: tuple[bytes, bytes], seconds: float = 2.0, modified: float | None = None) -> Path:
    """A WAV with further chunks, each a name and a content, before its samples."""
    write_wav(path, np.zeros(round(seconds * RATE_HZ)))
    content = path.read_bytes()
    more = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8 + len(more)) + b"WAVE" + more + content[12:])
    if modified is not None:
        os.utime(path, (modified, modified))
    return path


def bext(date: str, clock: str) -> tuple[bytes, bytes]:
    """EBU Tech 3285."""
    return b"bext", bytes(320) + date.encode() + clock.encode() + bytes(8) + b"\1\0" + bytes(254)


def comment(text: str) -> tuple[bytes, bytes]:
    data = text.encode() + b"\0" * (1 + (len(text) + 1) % 2)
    return b"LIST", b"INFOICMT" + struct.pack("<I", len(data)) + data


def said(path: Path, now: float = NOW) -> tuple[str, str]:
    found = began(path, now)
    return datetime.fromtimestamp(found.time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3], found.why


@pytest.mark.parametrize(
    ("name", "utc"),
    [
        ("20240131_235959", "2024-01-31T22:59:59.000"),
        ("attic_20240131_235959", "2024-01-31T22:59:59.000"),
        ("S4A01234_20240731_235959_000", "2024-07-31T21:59:59.000"),
        ("24E144085F256AE3_20240131_235959T", "2024-01-31T22:59:59.000"),
        ("SM2_20240131$235959", "2024-01-31T22:59:59.000"),
        ("20240131-235959", "2024-01-31T22:59:59.000"),
        ("rec 2024-01-31 23.59.59", "2024-01-31T22:59:59.000"),
        ("2024-01-31-birdnet-23:59:59", "2024-01-31T22:59:59.000"),
        ("WhatsApp Audio 2024-01-31 at 23.59.59", "2024-01-31T22:59:59.000"),
        ("2024_01_31_23_59_59", "2024-01-31T22:59:59.000"),
        ("20240131T235959Z", "2024-01-31T23:59:59.000"),
        ("2024-01-31T23-59-59Z", "2024-01-31T23:59:59.000"),
        ("20240131T235959+0530", "2024-01-31T18:29:59.000"),
        ("20240131235959", "2024-01-31T22:59:59.000"),
        ("VOICE_20240131_235959123", "2024-01-31T22:59:59.123"),
        ("20240631_101010 20240630_101010", "2024-06-30T08:10:10.000"),
    ],
)
def test_names(tmp_path: Path, name: str, utc: str) -> None:
    assert said(recording(tmp_path / f"{name}.wav")) == (utc, "its name")


@pytest.mark.parametrize(
    "name", ["clip", "20240131", "rec-12:30:45", "1234567890123456", "20241331_000000", "20240131_250000", "5-9032-A-0",
             "Rec 2024-01-31 at 11.59.59 PM", "19700101_000000"],
)  # fmt: skip
def test_names_without_a_time(tmp_path: Path, name: str) -> None:
    path = recording(tmp_path / f"{name}.wav", seconds=3, modified=NOW - 3600)
    assert said(path) == ("2026-11-26T10:59:57.000", "its modification time, less its length")


def test_metadata_of_wav(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", bext("2024-01-31", "23:59:59"))
    assert said(path) == ("2024-01-31T22:59:59.000", "its metadata (bext)")


@pytest.mark.parametrize(("zone", "utc"), [("UTC", "23"), ("UTC+2", "21"), ("UTC-3:30", "03")])
def test_an_audiomoth_says_its_zone(tmp_path: Path, zone: str, utc: str) -> None:
    words = comment(f"Recorded at 23:59:59 31/01/2024 ({zone}) by AudioMoth 24E144085F256AE3 at medium gain")
    day, minute = ("02-01", "29") if utc == "03" else ("01-31", "59")
    at = f"2024-{day}T{utc}:{minute}:59.000"
    assert said(recording(tmp_path / "a.wav", words)) == (at, "its metadata (AudioMoth's comment)")
    named = recording(tmp_path / "20240131_235959.wav", words)
    assert said(named) == (at, "its name, in its metadata's time zone")
    other = recording(tmp_path / "20240131_120000.wav", words)
    assert said(other) == ("2024-01-31T11:00:00.000", "its name")


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("creation_time", "2024-01-31T22:59:59.000000Z", ("2024-01-31T22:59:59.000", "its metadata (creation_time)")),
        ("creation_time", "1904-01-01T00:00:00.000000Z", None),
        ("creation_time", "1970-01-01T00:00:00.000000Z", None),
    ],
)
def test_metadata_of_containers(tmp_path: Path, key: str, text: str, expected: tuple[str, str] | None) -> None:
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        container.metadata[key] = text
        stream = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), "fltp", "mono")
        frame.sample_rate = 44_100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    os.utime(path, (NOW - 60, NOW - 60))
    assert said(path)[1] == (expected or ("", "its modification time, less its length"))[1]
    if expected is not None:
        assert said(path) == expected


def test_nothing_is_dated_into_the_future(tmp_path: Path) -> None:
    """A recorder's clock runs ahead; so does that of the computer which has copied the file."""
    path = recording(tmp_path / "20310101_000000.wav", bext("2030-01-01", "00:00:00"), modified=NOW + 86_400)
    at, why = said(path)
    assert at == "2026-11-26T11:59:58.000"
    assert why == (
        "its modification time, less its length (by its name it would end in the future: 2031-01-01 00:00:00+01:00)"
    )


def test_a_recording_that_would_end_in_the_future_is_not_dated_by_its_name(tmp_path: Path) -> None:
    """It began a minute ago, and lasts for 90 s."""
    path = recording(tmp_path / "20261126_125900.wav", seconds=90, modified=NOW - 5)
    assert said(path)[0] == "2026-11-26T11:58:25.000"
    just = recording(tmp_path / "20261126_125859.wav", seconds=60.4, modified=NOW)
    assert said(just) == ("2026-11-26T11:58:59.000", "its name")


def test_the_length_is_that_of_the_sound(tmp_path: Path) -> None:
    """By the header where it is exact; else what can be decoded."""
    for name in ("a.wav", "a.flac"):
        soundfile.write(tmp_path / name, tone(2, RATE_HZ), RATE_HZ)
        assert length_of(tmp_path / name) == pytest.approx(2)
    joined = tmp_path / "joined.flac"
    joined.write_bytes((tmp_path / "a.flac").read_bytes() * 2)
    assert length_of(joined) == pytest.approx(4)
    unfinished = tmp_path / "unfinished.wav"
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = bytes(4)
    unfinished.write_bytes(content)
    assert length_of(unfinished) == pytest.approx(2)
    late = write_av(tmp_path / "late.mkv", "aac", tone(2, 44_100), 44_100, starts_s=[0.0, 2.0])
    assert length_of(late) == pytest.approx(3, abs=0.1)
    cut = tmp_path / "cut.flac"
    cut.write_bytes((tmp_path / "a.flac").read_bytes()[:-500])
    assert length_of(cut) <= 2
