import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tagger.audio.decode import decode, decode_blocks
from tagger.errors import UserError
from tagger.files import sha256
from tests.programs import ROOT
from train.data import cache, esc50, own, waveforms
from train.data.dataset import Clip, Dataset, combined

RATE = 8_000
SECONDS = 0.5
SAMPLES = 4_000


def noise(seconds: float, seed: int = 0, rate_hz: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate_hz))


def write(path: Path, samples: np.ndarray, rate_hz: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path


def dataset(*paths: Path, any_length: bool = False, labels: int = 1) -> Dataset:
    clips = (
        Clip(path, number % labels, 1, path.stem, sha256(path), any_length=any_length)
        for number, path in enumerate(paths)
    )
    return Dataset("some", tuple("abcdefgh"[:labels]), tuple(clips))


@pytest.fixture
def files(tmp_path) -> list[Path]:
    return [write(tmp_path / f"{number}.wav", noise(0.2 + 0.1 * number, number)) for number in range(6)]


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the files that were decoded."""
    names: list[str] = []

    def noted(path, rate_hz, warn):
        names.append(path.name)
        return decode_blocks(path, rate_hz, warn)

    monkeypatch.setattr(waveforms, "decode_blocks", noted)
    return names


def load(data: Dataset, strict: bool = False, say: Callable[[str], None] = lambda line: None):
    return waveforms.load(data, RATE, SECONDS, strict, say)


def stored(path: Path) -> np.ndarray:
    """A clip by the official protocol: cut or padded with zeros, 16 bits."""
    heard = np.concatenate(list(decode(path, RATE)))[:SAMPLES]
    row = np.zeros(SAMPLES, np.int16)
    row[: len(heard)] = np.clip(np.rint(heard * 32767), -32768, 32767)
    return row.astype(np.float32) / np.float32(32767)


def test_clips_are_cut_or_padded_with_zeros(files):
    data, sound = load(dataset(*files))
    assert data == dataset(*files)
    assert (len(sound), sound.samples) == (6, SAMPLES)
    for row, path in enumerate(files):
        assert sound[row].dtype == np.float32
        np.testing.assert_array_equal(sound[row], stored(path))
    np.testing.assert_array_equal(list(sound), [sound[row] for row in range(6)])
    np.testing.assert_array_equal(sound.batch(np.array([4, 1])), [sound[4], sound[1]])
    with pytest.raises(IndexError):
        sound[6]


def test_they_can_be_shared_by_threads_and_processes(files):
    _, sound = load(dataset(*files))
    copy = pickle.loads(pickle.dumps(sound))
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(copy.__getitem__, [5, 0, 3] * 20))
    np.testing.assert_array_equal(rows[-3:], sound.batch([5, 0, 3]))


def test_other_rates_are_resampled(tmp_path):
    time_s = np.arange(4_410) / 44_100
    path = write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 440 * time_s), 44_100)
    _, sound = load(dataset(path))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(800) / RATE)
    np.testing.assert_allclose(sound[0][20:780], expected[20:780], atol=2e-3)
    assert not sound[0][820:].any()


def test_nothing_is_decoded_twice(files, decoded, capfd):
    load(dataset(*files))
    assert sorted(decoded) == [path.name for path in files]
    assert "decoding" in capfd.readouterr().err
    decoded.clear()
    _, sound = load(dataset(*reversed(files)))
    assert decoded == []
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(sound[0], stored(files[-1]))


def test_only_what_is_new_or_changed_is_decoded(files, tmp_path, decoded):
    load(dataset(*files))
    decoded.clear()
    new = write(tmp_path / "new.wav", noise(0.3, 50))
    write(files[2], noise(0.3, 51))
    moved = files[0].rename(tmp_path / "moved.wav")
    _, sound = load(combined([dataset(moved, *files[1:]), dataset(new)]))
    assert sorted(decoded) == ["2.wav", "new.wav"]
    np.testing.assert_array_equal(sound[2], stored(files[2]))
    np.testing.assert_array_equal(sound[6], stored(new))


def test_copies_are_decoded_once(files, tmp_path, decoded):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(files[0].read_bytes())
    _, sound = load(dataset(files[0], copy))
    assert len(decoded) == 1
    np.testing.assert_array_equal(sound[0], sound[1])


def test_rates_lengths_and_kinds_are_kept_apart(files, decoded):
    for rate_hz, seconds in ((RATE, 0.5), (RATE, 0.25), (16_000, 0.5)):
        _, sound = waveforms.load(dataset(files[0]), rate_hz, seconds, True, print)
        assert len(sound[0]) == rate_hz * seconds
    _, sound = load(dataset(files[0], any_length=True))
    assert len(decoded) == 4


def cached_files() -> list[Path]:
    return sorted((cache.folder() / "clips").iterdir())


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "longer", "footer", "text", "length"])
def test_a_damaged_cache_is_made_again(files, decoded, damage):
    load(dataset(files[0]))
    (path,) = cached_files()
    content = path.read_bytes()
    changed = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "flipped": content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
        "longer": content + b"\0\0",
        "footer": content[:-20] + b"x" + content[-19:],
        "text": b"something else altogether",
        "length": content[:-4] + b"\xff\xff\xff\xff",
    }[damage]
    path.write_bytes(changed)
    decoded.clear()
    _, sound = load(dataset(files[0]))
    assert decoded == ["0.wav"]
    np.testing.assert_array_equal(sound[0], stored(files[0]))


def test_interruption_keeps_what_was_decoded(files, monkeypatch):
    def broken(path, rate_hz, warn):
        if path == files[3]:
            raise KeyboardInterrupt
        return decode_blocks(path, rate_hz, warn)

    monkeypatch.setattr(waveforms.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(waveforms, "decode_blocks", broken)
    with pytest.raises(KeyboardInterrupt):
        load(dataset(*files))
    assert 3 <= len(cached_files()) < 6
    assert not [path for path in cached_files() if path.suffix != ".pcm"]
    monkeypatch.undo()


PROGRAM = """
import sys
from pathlib import Path
from train.data import own, waveforms
waveforms.load(own.read_background(Path(sys.argv[1])), 32_000, 5.0, True, print)
"""


def test_ctrl_c_ends_decoding_at_once_and_the_rest_comes_later(tmp_path, home, decoded):
    sounds = tmp_path / "sounds"
    for number in range(3):
        write(sounds / f"{number}.wav", noise(0.2, number))
    write(sounds / "long.wav", np.tile(noise(60, 9, 48_000), 12), 48_000)  # takes a while
    running = subprocess.Popen([sys.executable, "-c", PROGRAM, str(sounds)], stderr=subprocess.PIPE, cwd=ROOT)
    folder = cache.folder() / "clips"
    while running.poll() is None and not (folder.is_dir() and len(list(folder.glob("*.pcm"))) == 3):
        time.sleep(0.01)
    started = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=300)
    assert time.monotonic() - started < 20
    assert b"KeyboardInterrupt" in said
    assert not list(folder.glob("*.partial"))
    waveforms.load(own.read_background(sounds), 32_000, 5.0, True, print)
    assert decoded == ["long.wav"]


def test_two_processes_at_once(tmp_path, home):
    for number in range(40):
        write(tmp_path / "sounds" / f"{number}.wav", noise(0.5, number))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "sounds")]
    both = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0]
    data, sound = waveforms.load(own.read_background(tmp_path / "sounds"), 32_000, 5.0, True, print)
    assert len(data.clips) == len(sound) == 40
    assert len(cached_files()) == 40


def test_unusable_files_are_named_counted_and_left_out(files, tmp_path):
    bad = []
    for number in range(13):
        bad.append(tmp_path / f"bad {number}.wav")
        bad[-1].write_bytes(b"RIFF nothing like a sound %d" % number)
    silent = write(tmp_path / "silent.wav", np.full(SAMPLES, 0.5e-4))
    said: list[str] = []
    data, sound = load(dataset(*bad, silent, *files), say=said.append)
    assert [clip.path for clip in data.clips] == files
    np.testing.assert_array_equal(sound[0], stored(files[0]))
    assert said[0] == "left out 14 of 20 files that cannot be used:"
    assert [f"bad {number}.wav" in line for number, line in enumerate(said[1:11])] == [True] * 10
    assert said[11:] == ["  and 4 more"]
    said.clear()
    load(dataset(silent, *files), say=said.append)
    assert said[1] == f"  {silent}: silent (nothing above -80 dBFS)"
    load(dataset(*files), strict=True)


def test_silence_ends_at_minus_80_dbfs(tmp_path):
    quiet = write(tmp_path / "quiet.wav", np.full(100, 4 / 32768))  # -78 dBFS
    data, _ = load(dataset(quiet), strict=True)
    assert len(data.clips) == 1


@pytest.mark.parametrize("again", [False, True])
def test_strict_refuses_the_first_unusable_file(files, tmp_path, again):
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(files[0].read_bytes()[:1000])
    silent = write(tmp_path / "silent.wav", np.zeros(SAMPLES))
    if again:
        load(dataset(*files, silent, damaged))
    with pytest.raises(UserError, match=r"a clip cannot be used: .*silent") as caught:
        load(dataset(*files, silent, damaged), strict=True)
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match=r"damaged\.wav: truncated"):
        load(dataset(*files, damaged, silent), strict=True)


def test_a_label_without_a_usable_clip(files, tmp_path):
    silent = write(tmp_path / "silent.wav", np.zeros(SAMPLES))
    with pytest.raises(UserError, match=r"no usable clip is left of b: .*silent.wav"):
        load(dataset(files[0], silent, labels=2))
    with pytest.raises(UserError, match=r"no usable clip is left of background: .*silent.wav"):
        load(own.read_background(silent))
    with pytest.raises(UserError, match="no usable clip is left of a: there were none"):
        load(replace(dataset(files[0]), clips=()))


def test_files_of_the_users_are_cut_into_windows(tmp_path):
    samples = noise(1.75)  # 3.5 windows of 0.5 s
    (path, short) = write(tmp_path / "long.wav", samples), write(tmp_path / "short.wav", noise(0.1, 1))
    before = Clip(path, 0, 3, "long", sha256(path), any_length=True)
    plain = dataset(short)
    data, sound = load(replace(plain, clips=(before, *plain.clips)))
    assert [clip.start_seconds for clip in data.clips] == [0, 0.5, 1, 1.25, None]
    assert not any(clip.any_length for clip in data.clips)
    assert {(clip.path, clip.fold, clip.source) for clip in data.clips[:4]} == {(path, 3, "long")}
    for row, start in enumerate((0, 4_000, 8_000, 10_000)):
        np.testing.assert_allclose(sound[row], samples[start : start + SAMPLES], atol=1e-4)
    assert len(cached_files()) == 2
    assert len({data.fingerprint, replace(plain, clips=(before,)).fingerprint}) == 2


@given(st.integers(0, 500), st.lists(st.integers(0, 70), max_size=12), st.integers(1, 40))
def test_windows_of_any_file(start, lengths, samples):
    sound = np.arange(start, start + sum(lengths), dtype=np.float32)
    blocks = np.split(sound, np.cumsum(lengths))
    found = list(waveforms.cut(blocks, samples))
    for first, window in found:
        np.testing.assert_array_equal(window, sound[first : first + samples])
    if len(sound) < samples:
        assert [len(window) for _, window in found] == [len(sound)]
        return
    assert all(len(window) == samples for _, window in found)
    assert [first for first, _ in found[:-1]] == list(range(0, samples * (len(found) - 1), samples))
    left = len(sound) - (found[-1][0] + samples)
    assert left == 0 or 0 < left < samples / 2
    assert found[-1][0] - (len(found) - 2) * samples >= samples / 2


def test_no_window_joins_both_sides_of_a_gap(tmp_path):
    low, high = np.full(SAMPLES, 0.1), np.full(SAMPLES, 0.3)
    samples = np.concatenate([low, low[: SAMPLES // 2], [np.nan], high, high])
    path = tmp_path / "gap.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    said = list[str]()
    data, sound = load(dataset(path, any_length=True), say=said.append)
    begin = 1.5 * SECONDS + 1 / RATE
    starts = [0, 0.5 * SECONDS, begin, begin + SECONDS]
    assert [clip.start_seconds for clip in data.clips] == pytest.approx(starts, abs=1e-3)
    assert [np.ptp(window) < 0.01 for window in sound] == [True] * 4
    assert "NaN" in " ".join(said)


def test_silent_windows_of_the_users_files_are_dropped(tmp_path):
    samples = np.concatenate([np.zeros(SAMPLES), noise(0.5), np.zeros(2 * SAMPLES), noise(0.4, 1)])
    data, sound = load(dataset(write(tmp_path / "sparse.wav", samples), any_length=True))
    assert [clip.start_seconds for clip in data.clips] == [0.5, 1.9]
    np.testing.assert_allclose(sound[1], samples[-SAMPLES:], atol=1e-4)
    silent = write(tmp_path / "silent.wav", np.zeros(5 * SAMPLES))
    with pytest.raises(UserError, match="silent"):
        load(dataset(silent, any_length=True), strict=True)


def test_short_files_of_the_users_lie_in_faint_noise(tmp_path):
    paths = [write(tmp_path / f"{number}.wav", np.full(400, 0.5) + number / 1000) for number in range(30)]
    data, sound = load(dataset(*paths, any_length=True))
    assert {clip.start_seconds for clip in data.clips} == {0.0}
    starts = []
    for window in sound:
        loud = np.flatnonzero(window > 0.4)
        assert loud[-1] - loud[0] + 1 == len(loud) == 400
        starts.append(loud[0])
        floor = np.delete(window, loud)
        assert 20 * np.log10(np.sqrt(np.mean(floor**2))) == pytest.approx(-75, abs=1)
        assert np.abs(floor).max() < 1e-2
    assert len(set(starts)) > 20
    assert min(starts) < 900
    assert max(starts) > 2_700
    before = list(sound)
    for path in cached_files():
        path.unlink()
    np.testing.assert_array_equal(before, list(load(dataset(*paths, any_length=True))[1]))


def test_what_was_loaded_can_be_loaded_again(tmp_path, decoded):
    paths = [write(tmp_path / f"{number}.wav", noise(length, number)) for number, length in enumerate((1.3, 0.2, 2.0))]
    data, sound = load(dataset(*paths, any_length=True))
    decoded.clear()
    again, same = load(data)
    assert again == data
    assert decoded == []
    np.testing.assert_array_equal(list(sound), list(same))
    part, some = load(replace(data, clips=data.clips[2:5]))
    assert part.clips == data.clips[2:5]
    np.testing.assert_array_equal(list(some), list(sound)[2:5])


def test_a_file_that_is_gone_is_left_out(files):
    data = dataset(*files)
    files[1].unlink()
    said: list[str] = []
    assert len(load(data, say=said.append)[0].clips) == 5
    assert "1.wav: no such file" in said[1]


def test_real_clips(shared):
    data = esc50.read(shared / "data" / "esc50")
    some = replace(data, clips=tuple(clip for clip in data.clips if clip.label == 0)[::8], labels=data.labels[:1])
    loaded, sound = waveforms.load(some, 32_000, 5.0, True, print)
    assert loaded == some
    for row, clip in enumerate(some.clips):
        heard = np.concatenate(list(decode(clip.path, 32_000)))
        assert len(heard) == len(sound[row]) == 160_000
        np.testing.assert_allclose(sound[row], np.clip(heard, -32768 / 32767, 1), atol=0.51 / 32767)
