import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tagger.audio.raw import ENCODINGS
from tagger.audio.recorded import Began
from tagger.errors import AudioError
from tagger.events import Block
from tagger.settings import PCM_ENCODINGS, Channel, PcmFormat
from tagger.sources.pcm import PcmSource
from tests.programs import until

RATE = 32_000
RECORDED = Began(1_700_000_000.0, "--start-time")
QUANTUM = dict.fromkeys(ENCODINGS, 2**-23) | {"u8": 2**-7, "s8": 2**-7, "s16le": 2**-15, "s16be": 2**-15}
"""Largest error of a sample between -1 and 1."""


def encode(samples: NDArray[np.float64], encoding: str) -> bytes:
    form = ENCODINGS[encoding]
    dtype = np.dtype(form.dtype)
    if dtype.kind == "f":
        return samples.astype(dtype).tobytes()
    bits = 24 if "24" in encoding else 8 * form.size
    scale = 2 ** (bits - 1)
    levels = np.clip(np.rint(samples * scale), -scale, scale - 1)
    levels = (levels + (scale if dtype.kind == "u" else 0)).astype(dtype)
    if form.size != 3:
        return levels.tobytes()
    whole = np.frombuffer(levels.tobytes(), np.uint8).reshape(-1, 4)
    return (whole[:, :3] if encoding == "s24le" else whole[:, 1:]).tobytes()


class Trickle:
    """A stream that gives pieces of the given sizes, in turn."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._stream, self._sizes, self._reads = io.BytesIO(data), sizes, 0

    def read(self, _: int) -> bytes:
        self._reads += 1
        return self._stream.read(self._sizes[self._reads % len(self._sizes)])


def source(
    pipe: object,
    encoding: str = "s16le",
    rate_hz: int = RATE,
    channels: int = 1,
    channel: Channel = (),
    start: Began | None = None,
) -> PcmSource:
    return PcmSource("stdin", PcmFormat(rate_hz, encoding, channels), RATE, pipe, channel, start)


def joined(blocks: list[Block]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *(block.samples for block in blocks)])


def sine(count: int = 8_000) -> NDArray[np.float64]:
    return 0.5 * np.sin(np.arange(count) / 10)


def test_the_command_line_offers_what_can_be_read():
    assert set(PCM_ENCODINGS) == set(ENCODINGS)


@pytest.mark.parametrize("encoding", PCM_ENCODINGS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_encodings_and_channels(encoding, channels):
    frames = np.outer(sine(), np.arange(1, channels + 1) / channels)
    blocks = list(source(io.BytesIO(encode(frames, encoding)), encoding, channels=channels).blocks())
    np.testing.assert_allclose(joined(blocks), frames.mean(axis=1), atol=2 * QUANTUM[encoding])


@pytest.mark.parametrize(("channel", "heard"), [((), 0.5), ((1,), 0.25), ((3,), 0.75), ((3, 2), 0.625)])
def test_the_chosen_channels_are_averaged(channel, heard):
    data = encode(np.tile([0.25, 0.5, 0.75], (500, 1)), "s16le")
    assert joined(list(source(io.BytesIO(data), channels=3, channel=channel).blocks())) == pytest.approx(heard)


def test_a_channel_that_is_not_there_is_an_error():
    with pytest.raises(AudioError, match="standard input: has no channel 3: it has 2 channels; choose 1 to 2, or mix"):
        list(source(io.BytesIO(encode(sine(), "s16le")), channels=2, channel=(1, 3)).blocks())


def test_damage_on_a_channel_that_is_not_heard_costs_nothing(caplog):
    data = encode(np.stack([sine(), np.full(8_000, np.nan), sine()], axis=1), "f32le")
    blocks = list(source(io.BytesIO(data), "f32le", channels=3, channel=(1,)).blocks())
    np.testing.assert_allclose(joined(blocks), sine(), atol=1e-6)
    assert not caplog.messages


def test_channels_that_cancel_are_said_once(caplog):
    noise = np.random.default_rng(1).normal(0, 0.1, RATE * 6)
    list(
        source(
            Trickle(encode(np.stack([noise, -noise], axis=1), "s16le"), [9_999]), channels=2, start=RECORDED
        ).blocks()
    )
    (line,) = caplog.messages
    assert line.startswith("stdin: its 2 channels cancel, so their mean is more than 60 dB below channel ")


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name[0] != "f"])
def test_full_scale(encoding):
    extremes = ENCODINGS[encoding].floats(encode(np.array([-1.0, 0.0, 1.0]), encoding))
    assert extremes[0] == -1
    assert extremes[1] == 0
    assert 0.99 < extremes[2] <= 1


@pytest.mark.slow
@given(
    st.sampled_from(PCM_ENCODINGS),
    st.sampled_from([8_000, 32_000, 44_100]),
    st.integers(1, 3),
    st.lists(st.integers(1, 5_000), min_size=1, max_size=4),
)
def test_read_sizes_change_nothing(encoding, rate_hz, channels, sizes):
    data = encode(np.random.default_rng(0).uniform(-1, 1, 2_000 * channels), encoding)
    at_once = list(source(io.BytesIO(data), encoding, rate_hz, channels).blocks())
    trickled = list(source(Trickle(data, sizes), encoding, rate_hz, channels).blocks())
    np.testing.assert_array_equal(joined(trickled), joined(at_once))
    assert not any(block.gap for block in trickled)


def test_times_follow_the_samples():
    before = time.time()
    blocks = list(source(Trickle(encode(sine(), "s16le"), [999, 4_000])).blocks())
    starts = np.cumsum([0, *(len(block.samples) for block in blocks)])[:-1]
    times = np.array([block.time for block in blocks])
    assert before <= times[0] <= time.time()
    np.testing.assert_allclose(times - times[0], starts / RATE, atol=1e-6)


@pytest.mark.parametrize(("channels", "extra"), [(1, 1), (2, 1), (2, 3), (6, 11)])
def test_an_end_inside_a_frame_is_said_after_everything_was_heard(channels, extra):
    data = encode(sine(600 * channels), "s16le")
    heard = []
    with pytest.raises(AudioError, match=f"{extra} of {2 * channels} bytes") as caught:
        heard.extend(source(io.BytesIO(data + bytes(extra)), channels=channels).blocks())
    assert caught.value.exit_code == 2
    assert len(joined(heard)) == 600


@pytest.mark.parametrize("rate_hz", [8_000, RATE])
@pytest.mark.parametrize("data", [b"", b"\x00"])
def test_nothing(rate_hz, data):
    with pytest.raises(AudioError, match="ended before any sound came"):
        list(source(io.BytesIO(data), rate_hz=rate_hz).blocks())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("rate_hz", [RATE, 44_100])
def test_not_a_number_makes_a_gap(bad, rate_hz):
    first, lost, second = np.full(4_000, 0.25), np.full(4_000, bad), np.full(4_000, -0.25)
    data = encode(np.concatenate([first, lost, second]), "f32le")
    blocks = list(source(Trickle(data, [4_000]), "f32le", rate_hz).blocks())
    assert [block.gap for block in blocks].count(True) == 1
    at = next(number for number, block in enumerate(blocks) if block.gap)
    before, after = joined(blocks[:at]), joined(blocks[at:])
    assert np.isfinite(joined(blocks)).all()
    assert (before > 0.05).all()  # 0.25, and the filter's ring at the start; nothing of the other side
    assert (after < -0.05).all()


def test_not_a_number_is_said_once(caplog):
    samples = np.concatenate([sine(), [np.nan], sine(), [np.inf], sine()])
    list(source(Trickle(encode(samples, "f32le"), [4_000]), "f32le", start=RECORDED).blocks())
    (line,) = caplog.messages
    assert f"at {len(sine()) / RATE:.3f} s" in line


def test_times_after_a_gap_count_what_was_lost():
    data = encode(np.concatenate([sine(), np.full(RATE, np.nan), sine()]), "f32le")
    blocks = list(source(Trickle(data, [4_000]), "f32le").blocks())
    gap = next(block for block in blocks if block.gap)
    assert gap.time - blocks[0].time == pytest.approx((len(sine()) + RATE) / RATE, abs=0.1)


def test_one_bad_sample_costs_little():
    samples = sine()
    samples[4_000] = np.nan
    blocks = list(source(io.BytesIO(encode(samples, "f32le")), "f32le").blocks())
    assert len(joined(blocks)) > 7_000


def test_a_huge_float64_is_no_sound():
    data = encode(np.concatenate([sine(), np.full(500, 1e300), sine()]), "f64le")
    assert any(block.gap for block in source(Trickle(data, [4_000]), "f64le").blocks())


@contextmanager
def pipe() -> Iterator[tuple[io.BufferedReader, io.FileIO]]:
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "wb", buffering=0) as writer:  # noqa: PTH123  # descriptors
        yield reader, writer


def test_a_real_pipe():
    data = encode(sine(), "s16le")
    with pipe() as (reader, writer):

        def write() -> None:
            for start in range(0, len(data), 1_501):
                writer.write(data[start : start + 1_501])
            writer.close()

        thread = threading.Thread(target=write)
        thread.start()
        blocks = list(source(reader).blocks())
        thread.join()
    np.testing.assert_allclose(joined(blocks), sine(), atol=QUANTUM["s16le"])


def test_samples_come_as_soon_as_they_are_written():
    with pipe() as (reader, writer):
        blocks = source(reader).blocks()
        for level in (0.25, 0.5):
            writer.write(encode(np.full(100, level), "s16le"))
            np.testing.assert_allclose(next(blocks).samples, level)  # the writer is still there


def test_a_pipe_says_for_how_long_nothing_has_come() -> None:
    """While the writer lives and writes nothing; of a stream that is not live, only that it waits."""
    waited: list[float] = []
    with pipe() as (reader, writer):
        waiting = source(reader)
        waiting.on_wait = waited.append
        thread = threading.Thread(target=lambda: list(waiting.blocks()))
        thread.start()
        until(lambda: waited, "it waits for the first sample")
        assert waited == [0.0] * len(waited)
        writer.write(encode(np.full(100, 0.25), "s16le"))
        until(lambda: waited[-1] > 0.5, "it counts")
        waiting.close()
        thread.join()


def test_a_live_pipe_that_loses_sound_has_a_gap_and_right_times():
    """A real pipe and real time: 1.5 s, 2 s of nothing, 1.5 s. A busy machine may cause further gaps, and be late."""
    piece = encode(np.full(RATE // 20, 0.25), "s16le")
    with pipe() as (reader, writer):
        last = [0.0]

        def write() -> None:
            started = time.monotonic()
            for number in range(60):
                due = started + number * 0.05 + (2.0 if number >= 30 else 0.0)
                time.sleep(max(0.0, due - time.monotonic()))
                last[0] = time.time()
                writer.write(piece)
            writer.close()

        thread = threading.Thread(target=write)
        thread.start()
        blocks = []
        for block in source(reader).blocks():
            blocks.append(block)
            assert block.time + len(block.samples) / RATE <= time.time() + 0.3
        thread.join()
    assert joined(blocks).size == 60 * (RATE // 20)
    assert any(block.gap for block in blocks)
    assert blocks[-1].time + len(blocks[-1].samples) / RATE == pytest.approx(last[0], abs=1)


def test_the_end_of_a_live_pipe_is_no_late_sound():
    """The program ends some time after its last sample. A rate that must be converted leaves some in the resampler."""
    piece = encode(np.full(44_100 // 20, 0.25), "s16le")
    with pipe() as (reader, writer):

        def write() -> None:
            started = time.monotonic()
            for number in range(40):
                time.sleep(max(0.0, started + number * 0.05 - time.monotonic()))
                writer.write(piece)
            time.sleep(1.5)
            writer.close()

        thread = threading.Thread(target=write)
        thread.start()
        blocks = list(source(reader, rate_hz=44_100).blocks())
        thread.join()
    before, last = blocks[-2:]
    assert not last.gap
    assert last.time == pytest.approx(before.time + len(before.samples) / RATE, abs=0.3)


def test_a_file_that_is_piped_is_dated_sample_by_sample(tmp_path):
    path = tmp_path / "long.raw"
    path.write_bytes(encode(np.zeros(40 * RATE), "s16le"))
    before = time.time()
    with path.open("rb") as file:
        blocks = list(source(file).blocks())
    assert before <= blocks[0].time <= time.time()
    starts = np.cumsum([0, *(len(block.samples) for block in blocks)])[:-1]
    np.testing.assert_allclose([block.time - blocks[0].time for block in blocks], starts / RATE, atol=1e-6)
    assert not any(block.gap for block in blocks)


@pytest.mark.parametrize("seconds", [0.5, 5])
def test_a_recording_that_is_piped_is_said_once(seconds, caplog):
    data = encode(np.zeros(round(seconds * RATE)), "s16le")
    list(source(io.BytesIO(data)).blocks())
    (line,) = caplog.messages
    assert line == (
        "stdin: comes faster than live sound, and is dated from when it began to come: its times run ahead of the "
        "clock; --start-time says when it was recorded"
    )
    caplog.clear()
    list(source(io.BytesIO(data), start=RECORDED).blocks())
    assert not caplog.messages


def test_close_ends_it_while_it_waits():
    with pipe() as (reader, writer):
        writer.write(encode(sine(100), "s16le"))
        waiting = source(reader)
        threading.Timer(0.1, waiting.close).start()
        started = time.monotonic()
        heard = joined(list(waiting.blocks()))
        assert time.monotonic() - started < 20  # the writer never ends it
        assert len(heard) == 100


def test_close_before_anything_came_is_no_error():
    with pipe() as (reader, _):
        closed = source(reader)
        closed.close()
        assert list(closed.blocks()) == []


def test_it_says_what_it_listens_to():
    heard = source(io.BytesIO(encode(sine(), "f32le")), "f32le", 44_100, 2)
    assert heard.description.startswith("standard input, raw f32le at 44100 Hz, mean of 2 channels, unless it begins")
    list(heard.blocks())
    assert heard.description == "standard input, raw f32le at 44100 Hz, mean of 2 channels"
