"""Audio from a pipe by its first bytes: WAV by its header, other formats decoded or refused by name, raw samples."""

import io
import itertools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tagger.audio.chunk import Chunk
from tagger.audio.decode import decode
from tagger.audio.raw import ENCODINGS
from tagger.audio.stream import Bytes, open_stream
from tagger.errors import AudioError
from tagger.settings import PcmFormat
from tests.fuzz.sounds import FORMATS, tone, wav_bytes, write_av, write_tone
from tests.sources.test_pcm import encode

RATE = 48_000
TONE = tone(1, RATE)
RAW = (TONE * 32767).astype("<i2").tobytes()
AT_THE_END = {"tone.m4a", "tone.mp4", "alaw.mov"}


def pieces(data: bytes, size: int) -> Callable[[], bytes]:
    file = io.BytesIO(data)
    return lambda: file.read(size)


def opened(data: bytes, size: int = 1 << 16, pcm: PcmFormat | None = None) -> tuple[str, Iterator[Chunk], list[str]]:
    """What it is said to be, its chunks, and the warnings."""
    said: list[str] = []
    stream = open_stream("stdin", Bytes(pieces(data, size)), pcm or PcmFormat(RATE), said.append)
    return stream.about, stream.chunks(), said


def heard(data: bytes, size: int = 1 << 16) -> tuple[str, NDArray[np.float32], list[str]]:
    about, chunks, said = opened(data, size)
    frames = [chunk.frames for chunk in chunks]
    return about, np.concatenate(frames) if frames else np.zeros((0, 1), np.float32), said


@pytest.mark.parametrize("name", sorted(set(FORMATS) - AT_THE_END))
@pytest.mark.parametrize("size", [700, 1 << 16])
def test_formats_are_decoded_as_they_come(tmp_path: Path, name: str, size: int) -> None:
    path = write_tone(tmp_path / name)
    about, chunks, _ = opened(path.read_bytes(), size)
    seconds = sum(len(chunk.frames) / chunk.rate_hz for chunk in chunks)
    wanted = sum(map(len, decode(path, 8_000, lambda line: None))) / 8_000
    assert seconds == pytest.approx(wanted, abs=0.05)
    assert not about.startswith("raw")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "stdin: PNG: not audio"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(100), "JPEG: not audio"),
        (b"%PDF-1.7\n" + bytes(100), "PDF: not audio"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip: compressed; unpack it first"),
        (b"MThd\0\0\0\x06" + bytes(100), "MIDI: notes, and no sound"),
        (b"<!DOCTYPE html><title>404</title>", "HTML or XML: text"),
        (b"hello\n", "text, and no sound"),
        (b"12:30:45 door opened\n" * 50, "text, and no sound"),
        (("温度計: 二十三度\n" * 50).encode(), "text, and no sound"),
        (("Привет\n" * 50).encode()[:301], "text, and no sound"),
        (("temperature 23\n" * 50).encode("utf-16"), "text, and no sound"),
        (b"\x1b[31merror\x1b[0m: no such device\r\n", "text, and no sound"),
        (b'{"event": "begin", "label": "dog"}\n' * 9, "text, and no sound"),
        (b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, ", "NumPy: an array with a header"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "7-Zip: compressed"),
        (b"Rar!\x1a\x07\x01\0" + bytes(100), "RAR: compressed"),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(100), "WebP: not audio"),
        (b"fLaC" + bytes(1000), "FLAC: cannot be decoded from a pipe"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + bytes(16), "WAV: holds no samples"),
        (b"RIFF\0\0\0\0WAVE", "WAV: holds no samples"),
    ],
)
def test_what_cannot_be_is_refused_by_name(head: bytes, words: str) -> None:
    with pytest.raises(AudioError) as caught:
        heard(head)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", sorted(AT_THE_END))
def test_mp4_with_its_index_at_the_end_is_refused_at_once(tmp_path: Path, name: str) -> None:
    data = write_tone(tmp_path / name).read_bytes()
    with pytest.raises(AudioError, match="MP4: its index is at its end, so it cannot be read from a pipe; name the"):
        opened(data[:100], 10)


@pytest.mark.parametrize("first", [0x0000, 0xFFFF, 0xFBFF, 0xF1FF, 0x770B, 0x4747, 0xE0FF])
def test_raw_samples_that_begin_like_frames_are_raw(first: int) -> None:
    data = struct.pack("<H", first) + RAW
    assert opened(data)[0] == "raw s16le at 48000 Hz"
    quiet = np.random.default_rng(first).integers(-3, 4, 40_000).astype("<i2").tobytes()
    assert opened(struct.pack("<H", first) + quiet)[0] == "raw s16le at 48000 Hz"


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_text_is_refused_however_it_comes(size: int) -> None:
    with pytest.raises(AudioError, match="stdin: text, and no sound: pipe raw samples, WAV, FLAC, Ogg, MP3 or the"):
        heard(("Grüße an 狗, " * 100).encode(), size)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("level", [0.0, 1e-4, 0.3, 0.9])
def test_no_sound_is_text(encoding: str, level: float) -> None:
    samples = level * np.random.default_rng(0).uniform(-1, 1, 1_000)
    about, _, _ = opened(encode(samples, encoding), pcm=PcmFormat(RATE, encoding))
    assert about.startswith("raw")


@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_few_raw_samples_are_heard_too(size: int) -> None:
    assert len(heard(RAW[:8], size)[1]) == 4


@pytest.mark.parametrize("name", ["tone.aac", "tone.mp3", "tone.flac", "tone.wav"])
@pytest.mark.parametrize("size", [5, 1 << 16])
def test_a_tag_may_stand_before_the_sound(tmp_path: Path, name: str, size: int) -> None:
    plain = write_tone(tmp_path / name).read_bytes()
    tag = b"ID3\x04\0\0\0\0\x07\x68" + bytes(1_000)
    about, chunks, _ = opened(tag + tag + plain, size)
    assert about == opened(plain, size)[0]
    assert sum(len(chunk.frames) / chunk.rate_hz for chunk in chunks) == pytest.approx(1, abs=0.1)


# --- WAV ---


def wav(*chunks: tuple[bytes, bytes], data_size: int | None = None, head: bytes = b"RIFF") -> bytes:
    """A WAV of these chunks and the tone."""
    form = (b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
    body = b"".join(struct.pack("<4sI", name, len(of)) + of + bytes(len(of) % 2) for name, of in [form, *chunks])
    size = len(RAW) if data_size is None else data_size
    return head + struct.pack("<I", 0xFFFF_FFFF) + b"WAVE" + body + b"data" + struct.pack("<I", size) + RAW


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_FFFF, 0x8000_0000, 0x7FFF_F000])
def test_a_wav_without_a_length_is_read_to_its_end(size: int) -> None:
    about, frames, said = heard(wav(data_size=size), 999)
    assert about == "WAV, s16le at 48000 Hz"
    np.testing.assert_allclose(frames[:, 0], TONE, atol=1e-4)
    assert not said


@pytest.mark.parametrize(
    "data",
    [
        wav((b"LIST", bytes(3)), (b"JUNK", bytes(70_001))),
        wav(head=b"BW64"),
        wav((b"ds64", struct.pack("<QQQI", 0, len(RAW), 0, 0)), data_size=0xFFFF_FFFF, head=b"RF64")
        + b"LIST\4\0\0\0junk",
        wav((b"ds64", struct.pack("<QQQI", 0, 0, 0, 0)), data_size=0xFFFF_FFFF, head=b"RF64"),
        wav() + b"LIST\4\0\0\0junk" + b"id3 \1\0\0\0x\0",
        wav() + bytes(4),
    ],
)
@pytest.mark.parametrize("size", [13, 5_000, 1 << 20])
def test_only_the_samples_of_a_wav_are_heard(data: bytes, size: int) -> None:
    _, frames, said = heard(data, size)
    np.testing.assert_allclose(frames[:, 0], TONE, atol=1e-4)
    assert not said


def test_joined_wavs_are_heard_one_after_the_other() -> None:
    other = wav_bytes(tone(2, 8_000), 8_000)
    _, chunks, said = opened(wav() + other + wav())
    lengths: dict[int, float] = {}
    for chunk in chunks:
        lengths[chunk.rate_hz] = lengths.get(chunk.rate_hz, 0.0) + len(chunk.frames) / chunk.rate_hz
    assert lengths == {RATE: pytest.approx(2), 8_000: pytest.approx(2)}
    assert not said


def test_junk_behind_a_wav_is_said() -> None:
    _, frames, said = heard(wav() + b"\x01" * 1000)
    assert len(frames) == len(TONE)
    assert said == ["stdin: 1000 bytes after the end that its header tells were not read"]


def test_a_wav_that_ends_early_is_said_after_all_of_it_was_heard() -> None:
    chunks = opened(wav(data_size=2 * len(RAW)))[1]
    frames = 0
    with pytest.raises(AudioError, match=r"truncated: its header promises 1\.00 s more"):  # noqa: PT012
        for chunk in chunks:
            frames += len(chunk.frames)
    assert frames == len(TONE)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
def test_every_encoding_of_wav(subtype: str, form: str) -> None:
    if (form, subtype) in (("WAVEX", "IMA_ADPCM"), ("RF64", "IMA_ADPCM")):
        pytest.skip("libsndfile does not write it")
    content = io.BytesIO()
    soundfile.write(content, np.stack([TONE, 0.5 * TONE], axis=1), RATE, subtype=subtype, format=form)
    _, frames, _ = heard(content.getvalue())
    assert frames.shape[1] == 2
    for channel, gain in ((0, 1.0), (1, 0.5)):  # ADPCM takes some samples to follow
        np.testing.assert_allclose(frames[100 : len(TONE), channel], gain * TONE[100:], atol=0.05)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
@pytest.mark.parametrize("endian", ["BIG", "LITTLE"])
def test_every_encoding_of_caf(subtype: str, endian: str) -> None:
    content = io.BytesIO()
    endian = "FILE" if subtype in ("PCM_S8", "ULAW") else endian
    soundfile.write(content, np.stack([TONE, 0.5 * TONE], axis=1), RATE, subtype, endian, "CAF")
    if subtype == "ULAW":
        with pytest.raises(AudioError, match="CAF: cannot be decoded from a pipe"):
            heard(content.getvalue())
        return
    about, frames, _ = heard(content.getvalue())
    assert about.startswith("CAF, ")
    np.testing.assert_allclose(frames, np.stack([TONE, 0.5 * TONE], axis=1), atol=0.01)


def ogg_pages(data: bytes) -> Iterator[bytes]:
    while data:
        lengths = data[27 : 27 + data[26]]
        size = 27 + len(lengths) + sum(lengths)
        yield data[:size]
        data = data[size:]


@pytest.mark.parametrize(("codec", "page_s"), [("libopus", 0.5), ("libopus", 2.0), ("flac", 1.0)])
def test_it_knows_what_is_left_of_a_page_of_ogg(tmp_path: Path, codec: str, page_s: float) -> None:
    """A page may hold seconds. FFmpeg takes all of it before it gives the first packet."""
    options = {"page_duration": str(round(1e6 * page_s))}
    path = write_av(tmp_path / "live.ogg", codec, tone(6, RATE), RATE, options=options)
    pages, reads = ogg_pages(path.read_bytes()), 0

    def read() -> bytes:
        nonlocal reads
        reads += 1
        return next(pages, b"")

    stream = open_stream("stdin", Bytes(read), PcmFormat(RATE), lambda line: None)
    found = [(reads, stream.is_ready) for _ in stream.chunks()]
    assert len(found) > 50
    for (before, is_ready), (after, _) in itertools.pairwise(found):
        assert is_ready == (after == before)
