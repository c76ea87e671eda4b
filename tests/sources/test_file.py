"""Files as a source of blocks: times, gaps, pace."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tagger.audio.recorded import Began
from tagger.errors import AudioError, UserError
from tagger.events import Block
from tagger.settings import PcmFormat
from tagger.sources import open_source
from tagger.sources.pcm import PcmSource
from tagger.times import local_text
from tests.fuzz.sounds import tone, write_av
from tests.programs import run, write_siren, write_wav

RATE_HZ = 32_000


@pytest.fixture
def with_gap(tmp_path: Path) -> Path:
    """One second of sound, one second of nothing, one second of sound."""
    return write_av(tmp_path / "gap.mkv", "aac", tone(2, 44_100), 44_100, starts_s=[0.0, 2.0])


@pytest.mark.parametrize("realtime", [False, True])
def test_times_follow_the_files_own_time_stamps(with_gap: Path, realtime: bool) -> None:
    began, started = time.time(), time.monotonic()
    blocks = list[Block](open_source(str(with_gap), RATE_HZ, realtime).blocks())
    took_s = time.monotonic() - started
    assert [block.gap for block in blocks].count(True) == 1
    gap = next(block for block in blocks if block.gap)
    assert gap.time - blocks[0].time == pytest.approx(2, abs=0.05)
    assert blocks[0].time - began < 60
    assert sum(len(block.samples) for block in blocks) / RATE_HZ == pytest.approx(2, abs=0.1)
    ends = [block.time + len(block.samples) / RATE_HZ for block in blocks]
    assert all(following.time >= end - 1e-6 for end, following in zip(ends, blocks[1:], strict=False))
    if realtime:  # nothing is given before it would have sounded
        assert took_s >= 2.9
    assert all(np.isfinite(block.samples).all() for block in blocks)


def dated(path: Path, realtime: bool = False, **options: Any) -> tuple[float, str]:
    """The time of a source's first sample, seconds since the epoch, and its description."""
    source = open_source(f"{path}{options.pop('spec', '')}", RATE_HZ, realtime, is_dated=True, **options)
    time_of_first = next(iter(source.blocks())).time
    source.close()
    return time_of_first, source.description


@pytest.fixture
def named(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "attic_20240131_235959Z.wav", np.zeros(RATE_HZ))


AT = datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def test_a_file_at_full_speed_is_dated_by_when_it_was_recorded(named: Path) -> None:
    at, said = dated(named)
    assert at == AT
    assert said.endswith(f"as fast as it goes, dated from {local_text(AT)} by its name")


def test_the_users_word_comes_first(named: Path) -> None:
    assert dated(named, start_time=AT - 100)[0] == AT - 100
    at, said = dated(named, start_time=AT - 100, spec=",start_time=2024-01-31T00:59:59+01:00")
    assert at == AT - 86_400
    assert said.endswith(f"dated from {local_text(at)} by --start-time")


def test_what_is_replayed_is_dated_by_the_clock(named: Path) -> None:
    before = time.time()
    at, said = dated(named, realtime=True)
    assert before <= at <= time.time()
    assert "dated from" not in said
    assert dated(named, realtime=True, start_time=AT)[0] == AT


def test_the_demo_at_full_speed_ends_now() -> None:
    before = time.time()
    source = open_source("demo", RATE_HZ, realtime=False, is_dated=True)
    last = list(source.blocks())[-1]
    assert last.time + len(last.samples) / RATE_HZ == pytest.approx(before, abs=60)
    assert last.time + len(last.samples) / RATE_HZ <= time.time()


def test_a_clock_that_is_set_is_followed_by_what_is_replayed(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, offset = time.time, [0.0]
    monkeypatch.setattr("tagger.sources.file.time.time", lambda: real() + offset[0])
    blocks = open_source(str(named), RATE_HZ, realtime=True).blocks()
    first = next(blocks)
    offset[0] = -3_600
    last = list(blocks)[-1]
    assert last.time - first.time == pytest.approx(-3_600, abs=60)


def test_a_recording_that_is_piped_is_dated_by_the_users_word(named: Path) -> None:
    with named.open("rb") as pipe:
        source = PcmSource("stdin", PcmFormat(RATE_HZ), RATE_HZ, pipe, start=Began(AT, "--start-time"))
        blocks = list(source.blocks())
    assert blocks[0].time == AT
    assert source.description.endswith(f"dated from {local_text(AT)} by --start-time")


SECONDS = 40
"""More than a live stream's clock holds before it dates anything."""


def encoded(path: Path, form: str) -> Path:
    """A file of silence."""
    if form == "raw":
        path.write_bytes(bytes(2 * RATE_HZ * SECONDS))
    elif form == "mp3":
        return write_av(path, "libmp3lame", np.zeros(RATE_HZ * SECONDS, np.float32), RATE_HZ)
    else:
        soundfile.write(path, np.zeros(RATE_HZ * SECONDS), RATE_HZ, format=form, subtype="PCM_16")
    return path


def redirected(path: Path, monkeypatch: pytest.MonkeyPatch, skip: int = 0, **options: Any) -> tuple[list[Block], str]:
    """Blocks of standard input that is a file, and the description that is said before."""
    with path.open() as file:
        os.lseek(file.fileno(), skip, os.SEEK_SET)
        monkeypatch.setattr("sys.stdin", file)
        source = open_source("-", RATE_HZ, pcm=PcmFormat(RATE_HZ), is_dated=True, **options)
        said = source.description
        return list(source.blocks()), said


def end_of(blocks: list[Block]) -> float:
    return blocks[-1].time + len(blocks[-1].samples) / RATE_HZ


@pytest.mark.parametrize("form", ["raw", "wav", "flac", "mp3"])
def test_a_file_on_standard_input_is_dated_by_its_modification_time(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = encoded(tmp_path / f"long.{form}", form)
    os.utime(path, (AT, AT))
    blocks, said = redirected(path, monkeypatch)
    assert end_of(blocks) == pytest.approx(AT, abs=0.01)
    assert blocks[0].time == pytest.approx(AT - SECONDS, abs=0.2)  # an MP3 is a little longer
    assert said.endswith(f", dated from {local_text(blocks[0].time)} by its modification time, less its length")
    assert "faster than live" not in caplog.text


def test_a_file_on_standard_input_that_was_read_in_part_is_dated_by_its_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encoded(tmp_path / "long.raw", "raw")
    os.utime(path, (AT, AT))
    blocks, _ = redirected(path, monkeypatch, skip=10 * 2 * RATE_HZ)
    assert (blocks[0].time, end_of(blocks)) == (AT - 30, AT)


def test_a_file_on_standard_input_is_never_in_the_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encoded(tmp_path / "long.wav", "wav")
    os.utime(path, (time.time() + 3_600,) * 2)
    assert end_of(redirected(path, monkeypatch)[0]) <= time.time()


def test_the_users_word_comes_first_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encoded(tmp_path / "long.wav", "wav")
    blocks, said = redirected(path, monkeypatch, start_time=AT)
    assert blocks[0].time == AT
    assert said.endswith(f", dated from {local_text(AT)} by --start-time")
    with pytest.raises(UserError, match=r"^standard input: began at .* by --start-time, and would end in the future"):
        redirected(path, monkeypatch, start_time=time.time() - 20)


@pytest.mark.parametrize("data", [b"", b"fLaC" + bytes(99), b"OggS" + bytes(99)])
def test_a_file_on_standard_input_that_is_no_audio_is_said_when_it_is_heard(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "broken"
    path.write_bytes(data)
    with pytest.raises(AudioError):
        redirected(path, monkeypatch)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--start-time", "noon"), "--start-time 'noon': must be a time such as 2026-11-26T14:30:00 (local)"),
        (("--start-time", "2999-01-01T00:00:00Z"), "--start-time '2999-01-01T00:00:00Z': is in the future"),
        (("demo,start_time=yesterday",), "start_time: must be a time such as"),
        (("mic,start_time=2024-01-01",), "start_time is for recordings; live sound is dated by the clock"),
    ],
)
def test_a_start_time_that_cannot_be(named: Path, given: tuple[str, ...], words: str) -> None:
    done = run("listen", str(named), *given, "--no-realtime", "--mqtt", "none")
    assert done.exit_code == 2, done.output
    assert words in done.stderr


def test_a_recording_cannot_end_in_the_future(named: Path) -> None:
    with pytest.raises(UserError, match="would end in the future"):
        open_source(str(write_wav(named, np.zeros(60 * RATE_HZ))), RATE_HZ, False, start_time=time.time() - 30)


@pytest.mark.slow
def test_no_event_ends_after_it_was_published(tmp_path: Path) -> None:
    path = write_siren(tmp_path / "siren.wav", silent_s=4)
    done = run("listen", str(path), "--no-realtime", "--mqtt", "none", "--json", "--threshold", "0.3")
    assert done.exit_code == 0, done.output
    (begin, end) = [event for event in map(json.loads, done.stdout.splitlines()) if event["label"] == "siren"]
    assert begin["onset"] < begin["published"]
    assert end["offset"] <= end["published"]
    assert "by its modification time, less its length" in done.stderr
