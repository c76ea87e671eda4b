"""Recordings as they are found: joined, unfinished, without a length, with time stamps, damaged. All made here."""

import struct
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tagger.audio.decode import decode_blocks, open_audio
from tagger.errors import AudioError
from tagger.events import Block
from tests.fuzz import audio as fuzzer
from tests.fuzz.sounds import FORMATS, tone, wav_bytes, write_av, write_tone

RATE = 16_000
LOW_HZ, HIGH_HZ = 500.0, 2000.0


class Heard:
    """What `decode_blocks` gave: the sound, its blocks, the notes, and the error at the end."""

    def __init__(self, path: Path) -> None:
        self.notes, self.blocks, self.error = list[str](), list[Block](), ""
        try:
            self.blocks.extend(decode_blocks(path, RATE, self.notes.append))
        except AudioError as error:
            self.error = str(error)
        for text in (self.error, *self.notes):
            assert "\n" not in text
            assert not text or str(path) in text
        self.samples = np.concatenate([np.zeros(0, np.float32), *(block.samples for block in self.blocks)])
        self.seconds = len(self.samples) / RATE
        self.gaps = [block.time for block in self.blocks if block.gap]
        for one, following in pairwise(self.blocks):
            lost_s = following.time - one.time - len(one.samples) / RATE
            assert lost_s > -1e-6 if following.gap else lost_s == pytest.approx(0, abs=1e-6)

    def pitch_hz(self, from_s: float, to_s: float) -> float:
        """The strongest frequency in a stretch of the sound."""
        part = self.samples[round(from_s * RATE) : round(to_s * RATE)]
        return float(np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() * RATE / len(part))


def encoded(path: Path, pitch_hz: float, seconds: float, rate_hz: int = 44_100) -> bytes:
    """A tone in the format of the path's suffix."""
    sound, kind = tone(seconds, rate_hz, pitch_hz), path.suffix
    if kind in (".wav", ".flac", ".ogg", ".aiff", ".au", ".caf"):
        soundfile.write(path, sound, rate_hz, **({"subtype": "PCM_16"} if kind == ".wav" else {}))
    elif kind == ".opus":
        soundfile.write(path, sound, rate_hz, format="OGG", subtype="OPUS")
    else:
        write_av(path, {".mp3": "libmp3lame", ".ac3": "ac3"}.get(kind, "aac"), sound, rate_hz)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["mp3", "flac", "ogg", "opus", "wav", "aiff", "au", "caf", "m4a", "mkv", "aac", "ac3"])
@pytest.mark.parametrize("rates_hz", [(48_000, 48_000), (48_000, 32_000)])
def test_joined_recordings_are_read_whole(tmp_path: Path, kind: str, rates_hz: tuple[int, int]) -> None:
    if kind == "opus":
        rates_hz = (48_000, 24_000)
    path = tmp_path / f"joined.{kind}"
    parts = [encoded(path, LOW_HZ, 2.0, rates_hz[0]), encoded(path, HIGH_HZ, 3.0, rates_hz[1])]
    path.write_bytes(b"".join(parts))
    heard = Heard(path)
    assert heard.error == ""
    # FFmpeg does not tell where one recording ends.
    assert heard.gaps == ([] if kind in ("mp3", "aac", "ac3") else pytest.approx([2.0], abs=0.05))
    assert heard.seconds == pytest.approx(5.0, abs=0.15)
    assert heard.pitch_hz(0.5, 1.5) == pytest.approx(LOW_HZ, abs=5)
    assert heard.pitch_hz(2.7, 4.5) == pytest.approx(HIGH_HZ, abs=5)


@pytest.mark.parametrize("kind", ["flac", "ogg", "wav"])
def test_joined_recordings_are_the_same_samples_as_apart(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"joined.{kind}"
    parts = [encoded(path, pitch_hz, 1.0, RATE) for pitch_hz in (LOW_HZ, HIGH_HZ)]
    apart = []
    for part in parts:
        path.write_bytes(part)
        apart.append(Heard(path).samples)
    path.write_bytes(b"".join(parts))
    np.testing.assert_array_equal(Heard(path).samples, np.concatenate(apart))


@pytest.mark.parametrize("kind", ["flac", "ogg", "wav"])
def test_a_truncation_of_the_last_of_joined_recordings_is_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"joined.{kind}"
    parts = [encoded(path, pitch_hz, 2.0) for pitch_hz in (LOW_HZ, HIGH_HZ)]
    path.write_bytes(parts[0] + parts[1][: -len(parts[1]) // 3])
    heard = Heard(path)
    assert "truncated" in heard.error
    assert 2.0 <= heard.seconds < 4.0


def test_an_mp3_without_a_length_is_read_whole(tmp_path: Path) -> None:
    """Variable bit rate, quiet at first: a length that is estimated from the beginning is wrong."""
    sound = np.concatenate([np.zeros(5 * 44_100, np.float32), np.random.default_rng(0).uniform(-0.5, 0.5, 5 * 44_100)])
    write_av(
        tmp_path / "vbr.mp3",
        "libmp3lame",
        sound.astype(np.float32),
        44_100,
        options={"write_xing": "0"},
        codec_options={"compression_level": "5", "abr": "1"},
    )
    heard = Heard(tmp_path / "vbr.mp3")
    assert (heard.error, heard.notes) == ("", [])
    assert heard.seconds == pytest.approx(10.0, abs=0.1)


@pytest.mark.parametrize(("size", "riff"), [(0, 0), (0, 36), (0xFFFF_FFFF, 0xFFFF_FFFF), (0x7FFF_FFFF, 0)])
def test_an_unfinished_wav_is_read_with_a_word(tmp_path: Path, size: int, riff: int) -> None:
    path = tmp_path / "unfinished.wav"
    content = bytearray(wav_bytes(tone(5, RATE), RATE))
    whole = tmp_path / "whole.wav"
    whole.write_bytes(content)
    content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", size)
    path.write_bytes(content)
    heard = Heard(path)
    assert heard.error == ""
    np.testing.assert_array_equal(heard.samples, Heard(whole).samples)
    (note,) = heard.notes
    assert "tells no length" in note


@pytest.mark.parametrize("kind", ["AU", "RF64"])
def test_other_unfinished_files_are_read_with_a_word(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "unfinished"
    soundfile.write(path, tone(5, RATE), RATE, format=kind, subtype="PCM_16")
    whole, content = Heard(path).samples, bytearray(path.read_bytes())
    where = slice(8, 12) if kind == "AU" else slice(20, 44)
    content[where] = bytes(where.stop - where.start)
    path.write_bytes(content)
    heard = Heard(path)
    assert heard.error == ""
    np.testing.assert_array_equal(heard.samples, whole)
    assert ["tells no length" in note for note in heard.notes] == [True]


def test_a_wav_of_no_samples_stays_one_when_other_chunks_follow(tmp_path: Path) -> None:
    content = wav_bytes(tone(0, RATE), RATE) + b"LIST" + struct.pack("<I", 12) + b"INFOICMT\0\0\0\0"
    (tmp_path / "none.wav").write_bytes(content)
    assert "holds no samples" in Heard(tmp_path / "none.wav").error


def test_chunks_after_the_samples_of_a_wav_are_no_sound_and_no_news(tmp_path: Path) -> None:
    content = (
        wav_bytes(tone(1, RATE), RATE) + b"LIST" + struct.pack("<I", 12) + b"INFOICMT\0\0\0\0" + b"id3 \x01\0\0\0x\0"
    )
    (tmp_path / "tagged.wav").write_bytes(content)
    heard = Heard(tmp_path / "tagged.wav")
    assert (heard.seconds, heard.notes, heard.error) == (1.0, [], "")


def test_what_is_behind_the_end_of_a_wav_is_said(tmp_path: Path) -> None:
    (tmp_path / "more.wav").write_bytes(wav_bytes(tone(1, RATE), RATE) + bytes(range(256)) * 10)
    heard = Heard(tmp_path / "more.wav")
    assert (heard.seconds, heard.error) == (1.0, "")
    (note,) = heard.notes
    assert "2,560 bytes" in note


def test_pictures_that_are_longer_than_the_sound_are_no_truncation(tmp_path: Path) -> None:
    for name in ("film.mp4", "film.mkv", "film.avi"):
        write_av(tmp_path / name, "mp2" if name.endswith("avi") else "aac", tone(3, 44_100), 44_100, picture_s=7)
        heard = Heard(tmp_path / name)
        assert (heard.error, heard.notes) == ("", [])
        assert heard.seconds == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp4"])
def test_a_truncated_film_is_one(tmp_path: Path, name: str) -> None:
    options = {"movflags": "+frag_keyframe"} if name == "cut.mp4" else {}
    path = write_av(tmp_path / name, "aac", tone(20, 44_100), 44_100, picture_s=20, options=options)
    if name == "cut.mp4":
        return  # fragments tell no length of the whole
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "truncated" in Heard(path).error


def test_a_stream_without_a_length_is_not_called_truncated(tmp_path: Path) -> None:
    """Silence takes few bytes, noise many: estimates from bytes are wrong."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * 44_100)
    sound = np.concatenate([noise, np.zeros(8 * 44_100)]).astype(np.float32)
    for name in ("stream.aac", "reversed.aac"):
        write_av(tmp_path / name, "aac", sound if name == "stream.aac" else sound[::-1].copy(), 44_100)
        heard = Heard(tmp_path / name)
        assert (heard.error, heard.notes) == ("", [])
        assert heard.seconds == pytest.approx(10, abs=0.1)


def test_mp3_in_a_wav(tmp_path: Path) -> None:
    path = write_av(tmp_path / "mp3.wav", "libmp3lame", tone(3, 44_100), 44_100, form="wav")
    heard = Heard(path)
    assert (heard.error, heard.notes) == ("", [])
    assert heard.seconds == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv"])
def test_sound_that_starts_late_has_the_time_of_the_recording(tmp_path: Path, name: str) -> None:
    write_av(tmp_path / name, "aac", tone(4, 44_100), 44_100, picture_s=7, starts_s=[3.0])
    heard = Heard(tmp_path / name)
    assert heard.error == ""
    assert heard.blocks[0].time == pytest.approx(3, abs=0.05)
    assert heard.gaps == pytest.approx([3], abs=0.05)
    assert heard.seconds == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("name", ["gap.mp4", "gap.mkv", "gap.ts"])
def test_a_gap_keeps_the_files_own_time(tmp_path: Path, name: str) -> None:
    codec, rate_hz = ("mp2", 48_000) if name.endswith("ts") else ("aac", 44_100)
    sound = np.concatenate([tone(4, rate_hz, LOW_HZ), tone(4, rate_hz, HIGH_HZ)])
    write_av(tmp_path / name, codec, sound, rate_hz, starts_s=[0.0, 10.0])
    heard = Heard(tmp_path / name)
    assert heard.error == ""
    assert heard.gaps == pytest.approx([10], abs=0.1)
    assert heard.blocks[-1].time + len(heard.blocks[-1].samples) / RATE == pytest.approx(14, abs=0.1)
    after = np.concatenate([block.samples for block in heard.blocks if block.time > 9.5])
    assert len(after) / RATE == pytest.approx(4, abs=0.1)


def test_a_title_in_another_encoding(tmp_path: Path) -> None:
    path = write_av(tmp_path / "title.m4a", "aac", tone(2, RATE), RATE, metadata={"title": "Xbung"})
    path.write_bytes(path.read_bytes().replace(b"Xbung", b"\xdcbung"))
    heard = Heard(path)
    assert (heard.error, heard.notes) == ("", [])
    assert heard.seconds == pytest.approx(2, abs=0.1)


def test_a_format_that_nothing_decodes_is_one_line(tmp_path: Path) -> None:
    content = bytearray(wav_bytes(tone(1, RATE), RATE))
    content[20:22] = struct.pack("<H", 0x1234)
    (tmp_path / "odd.wav").write_bytes(content)
    assert "no decoder" in Heard(tmp_path / "odd.wav").error


def test_a_reason_of_ffmpeg_is_passed_on(tmp_path: Path) -> None:
    path = write_av(tmp_path / "bad.m4a", "aac", tone(1, RATE), RATE)
    content = path.read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:start] + np.random.default_rng(0).bytes(end - start) + content[end:])
    error = Heard(path).error
    assert "holds no samples (" in error
    assert "Invalid data" in error


@pytest.mark.parametrize("name", ["named.raw", "named.RAW"])
def test_a_wav_named_as_raw_samples_is_opened_by_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(wav_bytes(tone(1, RATE), RATE))
    assert Heard(tmp_path / name).seconds == 1.0


def test_raw_samples_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "some.raw").write_bytes(np.random.default_rng(0).bytes(20_000))
    assert Heard(tmp_path / "some.raw").error


@pytest.mark.parametrize("name", ["rec-12:30:45.m4a", "http:sound.m4a", "concat:a.m4a"])
def test_a_relative_name_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_av(tmp_path / "plain.m4a", "aac", tone(1, RATE), RATE).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert Heard(Path(name)).seconds == pytest.approx(1, abs=0.1)


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    name = b"caf\xe9.m4a".decode(errors="surrogateescape")
    write_av(tmp_path / "plain.m4a", "aac", tone(1, RATE), RATE).rename(tmp_path / name)
    assert Heard(tmp_path / name).seconds == pytest.approx(1, abs=0.1)


def test_a_change_of_format_is_followed_and_said(tmp_path: Path) -> None:
    path = tmp_path / "change.aac"
    first = write_av(path, "aac", tone(3, 44_100, LOW_HZ), 44_100).read_bytes()
    second = write_av(path, "aac", tone(3, 32_000, HIGH_HZ), 32_000, stereo=True).read_bytes()
    path.write_bytes(first + second)
    heard = Heard(path)
    assert (heard.error, heard.gaps) == ("", [])
    assert heard.seconds == pytest.approx(6, abs=0.15)
    (note,) = heard.notes
    assert "from 44100 Hz, 1 channel to 32000 Hz, 2 channels" in note
    assert heard.pitch_hz(3.5, 5.5) == pytest.approx(HIGH_HZ, abs=5)


def test_a_sample_a_frame_costs_no_more_than_its_frames(tmp_path: Path) -> None:
    path, count = tmp_path / "one_sample_blocks.wav", 60_000  # IMA ADPCM, whose block of 4 bytes holds its first sample
    form = struct.pack("<HHIIHH", 0x11, 1, 192_000, 4 * 192_000, 4, 4)
    sounds = struct.pack("<hBx", 3000, 0) * count
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(sounds)) + sounds
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    begun = time.process_time()
    assert Heard(path).seconds == pytest.approx(count / 192_000, abs=0.01)
    assert time.process_time() - begun < 20  # it takes 2 s; with a sum over all that waits, for each frame, a minute


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
def test_surround_sound(tmp_path: Path, layout: str) -> None:
    path = write_av(tmp_path / "surround.m4a", "aac", tone(2, 44_100), 44_100, layout=layout)
    assert open_audio(path).channels == (6 if layout == "5.1" else 8)
    heard = Heard(path)
    assert (heard.error, heard.notes, heard.gaps) == ("", [], [])
    assert heard.seconds == pytest.approx(2, abs=0.1)
    assert heard.pitch_hz(0.5, 1.5) == pytest.approx(500, abs=5)


def test_junk_in_the_middle_is_left_out_with_a_word(tmp_path: Path) -> None:
    path = write_av(tmp_path / "junk.mp3", "libmp3lame", tone(10, 44_100), 44_100)
    content, junk = path.read_bytes(), np.random.default_rng(1).bytes(3000)
    middle = len(content) // 2
    path.write_bytes(content[:middle] + junk + content[middle:])
    heard = Heard(path)
    assert heard.error == ""
    assert heard.seconds == pytest.approx(10, abs=0.6)  # the junk looks like the head of a frame here and there
    (note,) = heard.notes
    assert "the rest was read" in note


@pytest.mark.parametrize(
    "error", [ValueError("odd"), UnicodeDecodeError("utf-8", b"\xdc", 0, 1, "bad"), EOFError(), MemoryError()]
)
@pytest.mark.parametrize("when", ["open", "read"])
def test_whatever_a_decoder_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, when: str
) -> None:
    path = write_tone(tmp_path / "tone.wav")

    def broken(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr(soundfile.SoundFile, "__init__" if when == "open" else "read", broken)
    assert type(error).__name__ in Heard(path).error


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_that_is_fuzzed_is_read_whole(tmp_path: Path, name: str) -> None:
    heard = Heard(write_tone(tmp_path / name, 2.0))
    assert (heard.error, heard.notes, heard.gaps) == ("", [], [])
    assert heard.seconds == pytest.approx(2, abs=0.1)
    assert heard.pitch_hz(0.5, 1.5) == pytest.approx(500, abs=5)


def test_damaged_files_give_sound_or_one_line() -> None:
    assert list(fuzzer.fuzz(3 * len(FORMATS), seed=7)) == []


def test_an_open_file_is_closed(tmp_path: Path) -> None:
    for name in ("tone.wav", "tone.mp3"):
        audio = open_audio(write_tone(tmp_path / name))
        audio.close()
        with pytest.raises(Exception, match=r"not open|closed"):
            next(audio.chunks(lambda note: None))


# --- Lengths that headers tell too short or too long ---


def test_a_flac_that_is_longer_than_its_header_tells_is_read_to_its_end(tmp_path: Path) -> None:
    """A recorder that was killed had written the number of samples some time before."""
    path = tmp_path / "killed.flac"
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * 32_000)
    soundfile.write(path, noise, 32_000)
    data = bytearray(path.read_bytes())
    data[22:26] = struct.pack(">I", 32_000)
    path.write_bytes(data)
    heard = Heard(path)
    assert heard.seconds == pytest.approx(4, abs=0.01)
    assert (heard.gaps, heard.error) == ([], "")
    assert heard.notes == [f"{path}: its header tells only 1.00 s; read to its end"]


def test_a_wav_that_is_longer_than_its_header_tells_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "killed.wav"
    data = wav_bytes(tone(4, RATE), RATE)
    path.write_bytes(data[:40] + struct.pack("<I", RATE) + data[44:])
    heard = Heard(path)
    assert heard.seconds == pytest.approx(4, abs=0.01)
    assert heard.notes == [f"{path}: its header tells a length that is too small; read to its end"]


def test_an_au_that_is_longer_than_its_header_tells_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "killed.au"
    data = encoded(path, 440, 4, RATE)
    path.write_bytes(data[:8] + struct.pack(">I", RATE) + data[12:])
    heard = Heard(path)
    assert heard.seconds == pytest.approx(4, abs=0.01)
    assert heard.notes == [f"{path}: its header tells a length that is too small; read to its end"]


@pytest.mark.parametrize("frames", [1, 10**6, 0xFFFF_FFFF])
def test_an_mp3_whose_bytes_are_all_there_is_whole_whatever_its_index_counts(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "index.mp3"
    data = encoded(path, 440, 2)
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    path.write_bytes(data[:at] + struct.pack(">I", frames) + data[at + 4 :])
    heard = Heard(path)
    assert heard.seconds == pytest.approx(2, abs=0.1)
    assert (heard.notes, heard.error) == ([], "")


def test_a_gap_inside_ogg_follows_its_time_stamps(tmp_path: Path) -> None:
    path = tmp_path / "gap.ogg"
    write_av(path, "libopus", tone(4, 48_000), 48_000, form="ogg", starts_s=(0.0, 5.0))
    heard = Heard(path)
    assert heard.seconds == pytest.approx(4, abs=0.05)
    assert heard.gaps == [pytest.approx(5, abs=0.05)]
    assert (heard.notes, heard.error) == ([], "")


@pytest.mark.parametrize(("form", "size"), [("CAF", 4), ("CAF", 16_004), ("RF64", 16_000), ("RF64", 0)])
def test_a_caf_or_rf64_that_is_longer_than_its_header_tells_is_read_to_its_end(
    tmp_path: Path, form: str, size: int
) -> None:
    path = tmp_path / "killed"
    soundfile.write(path, tone(4, RATE), RATE, subtype="PCM_16", format=form)
    data = path.read_bytes()
    at = data.find(b"data", 40) + 4 if form == "CAF" else 28
    path.write_bytes(data[:at] + struct.pack(">q" if form == "CAF" else "<q", size) + data[at + 8 :])
    heard = Heard(path)
    assert heard.seconds == pytest.approx(4, abs=0.01)
    assert len(heard.notes) == 1
    assert heard.notes[0].endswith("; read to its end")


@pytest.mark.parametrize("form", ["CAF", "RF64", "AU", "AIFF", "W64"])
def test_a_length_that_is_right_needs_no_word(tmp_path: Path, form: str) -> None:
    path = tmp_path / "whole"
    soundfile.write(path, tone(4, RATE), RATE, subtype="PCM_16", format=form)
    heard = Heard(path)
    assert (heard.seconds, heard.notes) == (pytest.approx(4, abs=0.01), [])
