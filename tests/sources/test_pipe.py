"""FIFOs, `/dev/fd/N` and several pipes at once."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tagger.errors import TaggerError, UserError
from tagger.events import Block
from tagger.sources import Source, open_source
from tests.fuzz.sounds import tone, wav_bytes
from tests.programs import refused, run, until
from tests.sources.test_pcm import encode

RATE = 32_000


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "door bell.fifo"
    os.mkfifo(path)
    return path


def write(path: Path, data: bytes) -> threading.Thread:
    """Opens the FIFO, as a program does, writes and ends."""
    thread = threading.Thread(target=path.write_bytes, args=(data,))
    thread.start()
    return thread


def heard(source: Source, error: type[Exception] | None = None) -> float:
    """The mean level of all that comes until the writer ends."""
    blocks: list[Block] = []
    with pytest.raises(error) if error else contextlib.nullcontext():
        blocks.extend(source.blocks())
    return float(np.abs(np.concatenate([block.samples for block in blocks])).mean())


def test_a_fifo_is_waited_for_and_heard_again_with_the_next_writer(fifo: Path) -> None:
    source = open_source(f"{fifo},rate={RATE},format=s24le", RATE)
    assert (source.name, source.live) == ("door_bell", True)
    assert "raw s24le at 32000 Hz, 1 channel, unless it begins as WAV" in source.description
    for level in (0.25, 0.5):
        writer = write(fifo, encode(np.full(1_000, level), "s24le"))
        assert heard(source, TaggerError) == pytest.approx(level)
        writer.join()
    writer = write(fifo, wav_bytes(tone(1, 8_000), 8_000))  # the next one may write another format
    heard(source, TaggerError)
    writer.join()
    assert source.description == f"{fifo}, WAV, s16le at 8000 Hz, 1 channel"


def test_recordings_that_come_through_a_fifo_are_said_once(fifo: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = open_source(f"{fifo},rate={RATE},format=s16le", RATE)
    for _ in range(2):
        writer = write(fifo, encode(np.zeros(5 * RATE), "s16le"))
        heard(source, TaggerError)
        writer.join()
    (line,) = caplog.messages
    assert line.startswith("door_bell: comes faster than live sound")


def test_the_end_of_a_fifo_is_said(fifo: Path) -> None:
    writer = write(fifo, encode(np.full(1_000, 0.5), "s16le"))
    with pytest.raises(TaggerError, match="the program that wrote to it has ended"):
        list(open_source(str(fifo), RATE).blocks())
    writer.join()


def test_a_writer_that_wrote_nothing_is_none(fifo: Path) -> None:
    source, levels = open_source(str(fifo), RATE), list[float]()
    reader = threading.Thread(target=lambda: levels.append(heard(source, TaggerError)))
    reader.start()
    for data in (b"", b"", encode(np.full(1_000, 0.5), "s16le")):
        write(fifo, data).join()
    reader.join()
    assert levels == [pytest.approx(0.5)]


def test_close_ends_the_wait_for_a_writer(fifo: Path) -> None:
    source = open_source(str(fifo), RATE)
    reader = threading.Thread(target=lambda: list(source.blocks()))
    reader.start()
    source.close()
    reader.join(60)
    assert not reader.is_alive()


@contextlib.contextmanager
def pipe(data: bytes) -> Iterator[str]:
    """The path of a pipe with something in it, as the shell gives for `<(...)`."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    try:
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)


def test_several_pipes_each_with_its_format() -> None:
    stereo = np.tile([0.25, 0.5], (1_000, 1))
    with pipe(encode(stereo, "f32le")) as one, pipe(encode(np.full(1_000, 0.125), "s16be")) as two:
        first = open_source(f"{one},format=f32le,rate=32000,channels=2,channel=2", RATE)
        second = open_source(f"hall={two},format=S16_BE,rate=32000", RATE)
        assert (first.name, second.name) == (f"fd_{Path(one).name}", "hall")
        assert not first.live
        assert heard(first) == pytest.approx(0.5)
        assert heard(second) == pytest.approx(0.125)


def test_one_pipe_is_listened_to_only_once(fifo: Path) -> None:
    for sources in (("-", "/dev/stdin"), ("-", "hall=-,rate=8000"), (str(fifo), f"hall={fifo},rate=8000")):
        refused(run("listen", *sources, "--mqtt", "none"), "can be listened to only once")


def test_a_fifo_in_the_file_is_right(fifo: Path) -> None:
    config = fifo.with_name("tagger.toml")
    config.write_text(f'[listen]\nsources = ["{fifo.name},format=s24_3le,rate=48000"]\n[mqtt]\nurl = "none"\n')
    result = run("config", "check", "--config", config)
    assert result.exit_code == 0, result.output


def test_what_is_no_pipe_has_its_own_format(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav_bytes(tone(1, 8_000), 8_000))
    with pytest.raises(UserError, match="rate is for raw samples from a pipe"):
        open_source(f"{path},rate=8000", RATE)


def test_a_fifo_without_a_writer_is_said_once(
    fifo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tagger.sources.pipe.PATIENCE_SECONDS", 0.0)
    source = open_source(str(fifo), RATE)
    reader = threading.Thread(target=lambda: list(source.blocks()))
    reader.start()
    until(lambda: caplog.messages, "it says so")
    source.close()
    reader.join()
    (line,) = caplog.messages
    assert line == f"door_bell: {fifo}: nothing has come yet; it waits for a program that writes"
