import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tagger.audio.decode import decode, decode_blocks, open_audio
from tagger.errors import AudioError

RATE = 32_000


def sound(seconds: float, rate_hz: int, channels: int = 1) -> NDArray[np.float32]:
    """A 500 Hz tone that grows steadily, the same on each channel. [N, channels]"""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = (0.1 + 0.4 * time / seconds) * np.sin(2 * np.pi * 500 * time)
    return np.repeat(tone.astype(np.float32)[:, None], channels, axis=1)


def whole(path: Path, rate_hz: int = RATE) -> NDArray[np.float32]:
    return np.concatenate(list(decode(path, rate_hz)))


def until_error(path: Path, rate_hz: int = RATE) -> tuple[NDArray[np.float32], AudioError]:
    """The samples decoded, and the error at their end."""
    given: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    with pytest.raises(AudioError) as caught:
        given.extend(decode(path, rate_hz))
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2
    return np.concatenate(given), caught.value


def write_av(path: Path, codec: str, samples: NDArray[np.float32], rate_hz: int, **options: str) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.T.copy(), format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels", "form"),
    [
        ("low.wav", 8_000, 1, {"subtype": "PCM_16"}),
        ("high.wav", 192_000, 1, {"subtype": "PCM_16"}),
        ("six.wav", 44_100, 6, {"subtype": "PCM_16"}),
        ("float.wav", 48_000, 2, {"subtype": "FLOAT"}),
        ("24bit.wav", 32_000, 1, {"subtype": "PCM_24"}),
        ("8bit.wav", 32_000, 1, {"subtype": "PCM_U8"}),
        ("lossless.flac", 44_100, 2, {}),
        ("lossy.ogg", 44_100, 1, {}),
        ("lossy.mp3", 44_100, 2, {}),
        ("opus.opus", 48_000, 1, {"format": "OGG", "subtype": "OPUS"}),
        ("odd näme.WAV", 11_025, 1, {"format": "WAV"}),
    ],
)
def test_formats_rates_and_channels(tmp_path, name, rate_hz, channels, form):
    path = tmp_path / name
    soundfile.write(path, sound(2, rate_hz, channels), rate_hz, **form)
    ours, theirs = whole(path), sound(2, RATE)[:, 0]
    assert len(ours) == pytest.approx(len(theirs), abs=0.06 * RATE if form == {} else 1)  # lossy codecs pad
    assert same_sound(ours, theirs)


def same_sound(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    """The level of each 0.2 s equals the expected one within 10 %, except at the ends."""
    count, step = min(len(ours), len(theirs)), RATE // 5
    levels = [np.abs(each[: count - count % step]).reshape(-1, step).mean(1)[1:-1] for each in (ours, theirs)]
    return bool(np.allclose(*levels, rtol=0.1))


@pytest.mark.parametrize(("name", "codec"), [("sound.m4a", "aac"), ("sound.mka", "aac"), ("sound.aiff", "pcm_s16be")])
def test_what_libsndfile_does_not_know_goes_through_pyav(tmp_path, name, codec):
    path = tmp_path / name
    if name.endswith("aiff"):
        soundfile.write(path, sound(2, 44_100), 44_100)
    else:
        write_av(path, codec, sound(2, 44_100), 44_100)
    ours = whole(path)
    assert len(ours) == pytest.approx(2 * RATE, abs=0.06 * RATE)
    assert same_sound(ours, sound(2, RATE)[:, 0])


@pytest.mark.parametrize("name", ["whole.wav", "whole.flac", "whole.ogg", "whole.mp3"])
def test_blocks_join_without_a_seam(tmp_path, name):
    path = tmp_path / name
    soundfile.write(path, sound(3, RATE, 2), RATE)
    at_once, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_allclose(whole(path), at_once.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("seconds", [0.3, 0.01])
def test_short_files(tmp_path, seconds):
    soundfile.write(tmp_path / "short.wav", sound(seconds, 44_100), 44_100)
    assert len(whole(tmp_path / "short.wav")) == pytest.approx(seconds * RATE, abs=1)


def test_silence_is_sound(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(44_100), 44_100)
    samples = whole(tmp_path / "silence.wav")
    assert len(samples) == pytest.approx(RATE, abs=1)
    assert not samples.any()


def test_missing(tmp_path):
    assert "no such file" in str(until_error(tmp_path / "missing.wav")[1])


def test_a_folder(tmp_path):
    assert "folder" in str(until_error(tmp_path)[1])


def test_empty(tmp_path):
    (tmp_path / "empty.wav").touch()
    assert "empty" in str(until_error(tmp_path / "empty.wav")[1])


@pytest.mark.parametrize("name", ["text.txt", "text.wav", "text.mp3", "text"])
def test_text(tmp_path, name):
    path = tmp_path / name
    path.write_text("Once upon a time, there was no sound in this file.\n" * 50)
    assert until_error(path)[0].size == 0


def test_random_bytes(tmp_path):
    path = tmp_path / "noise.bin"
    path.write_bytes(np.random.default_rng(0).bytes(50_000))
    assert until_error(path)[0].size == 0


def test_a_video_without_sound(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "silent.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    assert "no audio track" in str(until_error(path)[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_a_gap_and_said_once(tmp_path, bad):
    samples, notes = sound(2, RATE), list[str]()
    samples[40_000:40_100] = samples[50_000] = bad
    soundfile.write(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT")
    blocks = list(decode_blocks(tmp_path / "bad.wav", RATE, notes.append))
    (note,) = notes
    assert "1.250 s" in note
    assert [block.time for block in blocks if block.gap] == [40_100 / RATE, 50_001 / RATE]
    kept = np.delete(samples[:, 0], [*range(40_000, 40_100), 50_000])
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), kept)


def test_nothing_but_not_a_number_is_no_sound(tmp_path):
    soundfile.write(tmp_path / "bad.wav", np.full(1000, np.nan), RATE, subtype="FLOAT")
    given, error = until_error(tmp_path / "bad.wav")
    assert not given.size
    assert "is no sound" in str(error)


@pytest.mark.parametrize("form", [{"subtype": "PCM_16"}, {"format": "FLAC"}])
def test_no_samples(tmp_path, form):
    path = tmp_path / "none.wav"
    soundfile.write(path, np.zeros((0, 1)), RATE, **form)
    assert until_error(path)[0].size == 0


@pytest.mark.parametrize("name", ["cut.wav", "cut.flac", "cut.ogg", "cut.mp3"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_truncated(tmp_path, name, share):
    path = tmp_path / name
    # Noise, so that all parts of a file have the same size, whatever the compression.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 44_100 * 4).astype(np.float32)
    soundfile.write(path, noise, 44_100)
    complete = whole(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    given, error = until_error(path)
    assert "truncated" in str(error)
    # Packets and pages are up to half a second long; a cut one is lost whole.
    assert len(given) == pytest.approx(share * len(complete), abs=RATE / 2)
    # All samples equal those of the whole file, except for the filter's ringing at the cut.
    good = len(given) - 2000
    np.testing.assert_allclose(given[:good], complete[:good], atol=1e-4)


def test_an_ogg_cut_within_its_last_page(tmp_path):
    path = tmp_path / "cut.ogg"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 44_100 * 8), 44_100)
    path.write_bytes(path.read_bytes()[:-1])
    until_error(path)


def with_end_later(ogg: bytes, frames: int) -> bytes:
    """An Ogg file whose last page says that the sound ends so many frames later."""
    at = ogg.rindex(b"OggS")
    page = bytearray(ogg[at:])
    (end,) = struct.unpack_from("<q", page, 6)
    struct.pack_into("<qi", page, 6, end + frames, *struct.unpack_from("<i", page, 14))
    page[22:26] = bytes(4)
    checksum = 0
    for byte in page:  # https://xiph.org/ogg/doc/framing.html
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    page[22:26] = checksum.to_bytes(4, "little")
    return ogg[:at] + page


@pytest.mark.parametrize(("later", "is_whole"), [(0, True), (1500, True), (8000, False)])
def test_an_ogg_whose_end_is_counted_beyond_its_last_block(tmp_path, later, is_whole):
    path = tmp_path / "later.ogg"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 64_000), 32_000)
    path.write_bytes(with_end_later(path.read_bytes(), later))
    if is_whole:
        assert len(whole(path)) == 2 * RATE
    else:
        assert "its header promises" in str(until_error(path)[1])


def test_a_wav_that_lacks_its_last_samples(tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(2 * RATE), RATE, "PCM_16")
    path.write_bytes(path.read_bytes()[:-8])
    assert str(until_error(path)[1]).endswith("truncated or damaged after 2.00 s (4 samples are missing)")


def test_a_long_wav_that_lacks_its_last_seconds(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(600 * 1000), 1000)
    path.write_bytes(path.read_bytes()[: -5 * 1000 * 2])
    until_error(path)


@pytest.mark.parametrize("name", ["cut.aiff", "cut.au", "cut.w64", "cut.mka"])
def test_other_containers_truncated(tmp_path, name):
    path = tmp_path / name
    if name == "cut.mka":
        write_av(path, "aac", sound(4, 44_100), 44_100)
    else:
        soundfile.write(path, sound(4, 8_000), 8_000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    until_error(path)


def test_an_impossible_rate(tmp_path):
    path = tmp_path / "slow.wav"
    soundfile.write(path, np.zeros(20), 1)  # 20 s: longer ones fill the memory
    until_error(path)


def test_one_byte_of_a_flac(tmp_path):
    (tmp_path / "one.flac").write_bytes(b"f")
    until_error(tmp_path / "one.flac")


def test_a_flac_written_to_a_pipe_has_no_length_and_is_whole(tmp_path):
    path = tmp_path / "streamed.flac"
    soundfile.write(path, sound(1, RATE), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of the total, in STREAMINFO
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert len(whole(path)) == RATE


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF, 0xFFFF_FFFF - 36, 0x7FFF_F000])
def test_a_wav_written_to_a_pipe_has_no_length_and_is_whole(tmp_path, size):
    path = tmp_path / "streamed.wav"
    soundfile.write(path, sound(1, RATE), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data")
    content[4:8] = content[at + 4 : at + 8] = struct.pack("<I", size)
    path.write_bytes(content)
    assert len(whole(path)) == RATE


def test_damage_in_the_middle_of_a_flac(tmp_path):
    path = tmp_path / "damaged.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE * 4), RATE)
    complete, content = whole(path), bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(content)
    given, _ = until_error(path)
    assert RATE < len(given) < 3 * RATE
    np.testing.assert_allclose(given[: RATE // 2], complete[: RATE // 2], atol=1e-4)


def test_a_truncated_stream_of_pyav(tmp_path):
    path = tmp_path / "cut.m4a"
    write_av(path, "aac", sound(2, 44_100), 44_100)
    path.write_bytes(path.read_bytes()[:5000])  # its index is at its end
    until_error(path)


def test_without_pyav_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "film.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    assert "pip install" in str(until_error(tmp_path / "film.mkv")[1])


def test_open_audio_tells_rate_and_channels(tmp_path):
    soundfile.write(tmp_path / "six.wav", sound(0.1, 44_100, 6), 44_100)
    audio = open_audio(tmp_path / "six.wav")
    assert (audio.rate_hz, audio.channels) == (44_100, 6)
    audio.close()


def test_a_real_clip(shared):
    (path, *_) = sorted((shared / "data" / "esc50" / "audio").glob("*.ogg"))
    samples = whole(path)
    assert len(samples) == pytest.approx(5 * RATE, abs=1)
    assert 0.01 < np.abs(samples).max() <= 1.5


def test_standard_input_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match="standard input is no file here; name the file itself, or use `tagger listen"):
        open_audio(Path("-"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.wav", "ffconcat version 1.0\nfile other.wav\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.wav\n#EXT-X-ENDLIST\n"),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"),
        ("other.idx", "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"),
        ("days.wav", "-SE\nalloff: -\nts1: pink/40 150+4.0/20\n0:00 ts1\n+100:00:00 alloff\n"),
    ],
)
def test_a_file_that_only_says_what_is_to_be_heard_is_no_recording(tmp_path: Path, name: str, text: str) -> None:
    soundfile.write(tmp_path / "other.wav", np.zeros(8000), 8000)
    (tmp_path / "other.sub").touch()
    (tmp_path / name).write_text(text)
    with pytest.raises(AudioError, match="a list of other files, or a script"):
        open_audio(tmp_path / name)
