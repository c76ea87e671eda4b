"""The microphone without hardware: a hand-written PortAudio at the edge."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click.testing
import numpy as np
import pytest

from tagger.cli.main import main
from tagger.condition import reason_of
from tagger.errors import TaggerError, UserError
from tagger.sources import microphone, open_source
from tagger.sources.microphone import MicrophoneSource
from tagger.sources.portaudio import MissingDeviceError, find_input_device

RATE_HZ = 32_000
DEVICES = [
    {"name": "HDA Intel: ALC (hw:0,0)", "max_input_channels": 2, "default_samplerate": 32_000.0},
    {"name": "HDMI output", "max_input_channels": 0, "default_samplerate": 48_000.0},
    {"name": "USB Audio Device", "max_input_channels": 1, "default_samplerate": 32_000.0},
    {"name": "USB Camera", "max_input_channels": 1, "default_samplerate": 16_000.0},
]


class FakePortAudio(ModuleType):
    """The few things of `sounddevice` that are used. `script` is what the device's callback delivers, in order."""

    class PortAudioError(Exception):
        pass

    def __init__(self, devices: list[dict[str, Any]]) -> None:
        super().__init__("sounddevice")
        self.devices = devices
        self.default = SimpleNamespace(device=[2, 1])
        self.script: list[tuple[np.ndarray[Any, Any], bool]] = []
        self.opened: list[int] = []
        self.restarts = 0
        self.refuse: str | None = None
        self.deliver: Callable[..., None]
        """Hands samples to whoever opened a device last."""
        self.started = threading.Event()
        fake = self

        class InputStream:
            def __init__(self, device: int, channels: int, callback: Any, **_: Any) -> None:
                if fake.refuse:
                    raise fake.PortAudioError(fake.refuse)
                fake.opened.append(device)
                self.channels = channels
                self.callback = callback

            def start(self) -> None:
                fake.deliver = self.deliver
                for samples, overflow in fake.script:
                    self.deliver(samples, overflow)
                fake.started.set()

            def deliver(self, samples: np.ndarray[Any, Any], overflow: bool = False) -> None:
                status = SimpleNamespace(input_overflow=overflow)
                frames = np.broadcast_to(samples.reshape(len(samples), -1), (len(samples), self.channels))
                self.callback(frames.astype(np.float32), len(samples), None, status)

            def close(self) -> None: ...

        self.InputStream = InputStream

    def query_devices(self) -> list[dict[str, Any]]:
        return self.devices

    def _terminate(self) -> None:
        self.restarts += 1

    def _initialize(self) -> None: ...


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    fake = FakePortAudio(DEVICES)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    for name in ("SILENT_DEVICE_SECONDS", "FIRST_BLOCK_SECONDS"):
        monkeypatch.setattr(microphone, name, 0.2)
    return fake


def heard(source: MicrophoneSource) -> tuple[list[Any], TaggerError]:
    """Blocks until the device falls silent, and the error that says so."""
    blocks = []
    try:
        for block in source.blocks():
            blocks.append(block)
    except TaggerError as error:
        return blocks, error
    pytest.fail("the device fell silent and nobody said so")


def test_no_portaudio_library_is_said_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    for command in (["devices"], ["listen", "--mqtt", "none"]):
        result = click.testing.CliRunner().invoke(main, command)
        assert result.exit_code == 2
        assert "libportaudio2" in result.stderr
    assert open_source("auto", RATE_HZ, realtime=False).name == "demo"


def test_no_input_device(portaudio: FakePortAudio) -> None:
    portaudio.devices = DEVICES[1:2]
    result = click.testing.CliRunner().invoke(main, ["devices"])
    assert result.exit_code == 2
    assert "no input device" in result.stderr
    assert open_source("auto", RATE_HZ, realtime=False).name == "demo"


@pytest.mark.parametrize("device", [None, "USB Audio"])
def test_a_device_that_is_missing_at_the_start_is_looked_for_by_each_call(
    portaudio: FakePortAudio, device: str | None
) -> None:
    portaudio.devices = DEVICES[1:2] if device is None else DEVICES[:2]
    source = MicrophoneSource("mic", device, RATE_HZ)
    assert "not connected yet" in source.description
    for _ in range(2):
        blocks, error = heard(source)
        assert blocks == []
        assert "no input device" in str(error)
    portaudio.devices = DEVICES
    portaudio.script = [(np.zeros(1_600, np.float32), False)]
    blocks, _ = heard(source)
    assert portaudio.opened == [2]
    assert [block.gap for block in blocks] == [False]
    assert source.description == "microphone 'USB Audio Device', 32000 Hz"


def test_a_device_that_cannot_be_told_from_another_is_an_error_at_once(portaudio: FakePortAudio) -> None:
    """Waiting would not help: someone must name one of them."""
    result = click.testing.CliRunner().invoke(main, ["listen", "mic:USB", "--mqtt", "none"])
    assert result.exit_code == 2
    assert "several input devices fit 'USB'" in result.stderr


def test_devices_are_listed_with_the_default_marked(portaudio: FakePortAudio) -> None:
    result = click.testing.CliRunner().invoke(main, ["devices"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert "HDMI" not in result.stdout
    assert [line for line in lines if line.endswith("(default)")] == [line for line in lines if "USB Audio" in line]


def test_a_device_is_found_by_name_part_or_index(portaudio: FakePortAudio) -> None:
    assert find_input_device(None)["name"] == "USB Audio Device"
    assert find_input_device("camera")["name"] == "USB Camera"
    assert find_input_device("0")["name"] == DEVICES[0]["name"]
    assert open_source("mic", RATE_HZ).name == "mic"
    assert open_source("mic:USB Camera", RATE_HZ).name == "mic_usb_camera"
    assert open_source("attic=mic:USB Camera", RATE_HZ).name == "attic"
    assert open_source("auto", RATE_HZ).name == "mic"


def test_an_unknown_or_ambiguous_name_lists_the_near_ones(portaudio: FakePortAudio) -> None:
    with pytest.raises(UserError, match="did you mean USB Camera"):
        find_input_device("USB Camrea")
    with pytest.raises(UserError, match=r"several .*2 'USB Audio Device', 3 'USB Camera'"):
        find_input_device("USB")


def test_samples_come_through_in_order_with_running_times(portaudio: FakePortAudio) -> None:
    ramp = np.arange(4_800, dtype=np.float32) / 4_800
    portaudio.script = [(part, False) for part in np.split(ramp, 3)]
    blocks, error = heard(MicrophoneSource("mic", None, RATE_HZ))
    assert np.concatenate([block.samples for block in blocks]) == pytest.approx(ramp)
    assert [block.gap for block in blocks] == [False] * 3
    assert np.diff([block.time for block in blocks]) == pytest.approx([1_600 / RATE_HZ] * 2, abs=1e-6)
    assert abs(blocks[0].time - time.time()) < 60
    assert "delivers no audio" in str(error)


ARRAY = {"name": "Array", "max_input_channels": 4, "default_samplerate": 32_000.0}
LEVELS = np.tile(np.array([0.1, 0.2, 0.3, 0.8], np.float32), (1_600, 1))


@pytest.mark.parametrize(
    ("text", "heard", "about"),
    [
        ("mic:Array", 0.35, ", mean of 4 channels"),
        ("mic:Array,channel=4", 0.8, ", channel 4 of 4"),
        ("mic:Array,channel=1+3", 0.2, ", mean of channels 1 and 3 of 4"),
    ],
)
def test_the_chosen_channels_of_a_device_are_averaged(
    portaudio: FakePortAudio, text: str, heard: float, about: str
) -> None:
    portaudio.devices = [ARRAY]
    source = open_source(text, RATE_HZ)
    assert source.description.endswith(about)
    wanted = 3 if "1+3" in text else 4
    portaudio.script = [(LEVELS[:, :wanted], False)]
    assert next(iter(source.blocks())).samples == pytest.approx(heard)


def test_a_channel_that_the_device_does_not_have_is_an_error_at_once(portaudio: FakePortAudio) -> None:
    result = click.testing.CliRunner().invoke(main, ["listen", "mic:HDA,channel=3", "--mqtt", "none"])
    assert result.exit_code == 2
    assert "microphone 'HDA Intel: ALC (hw:0,0)': has no channel 3: it has 2 channels" in result.stderr


def test_a_device_with_as_many_channels_as_one_asks_for_gives_two(portaudio: FakePortAudio) -> None:
    """ALSA's `default` says 32 or 64; most of these would be silent."""
    portaudio.devices = [ARRAY | {"name": "default", "max_input_channels": 64}]
    source = open_source("mic", RATE_HZ)
    portaudio.script = [(LEVELS[:, :2], False)]
    assert next(iter(source.blocks())).samples == pytest.approx(0.15)


def test_an_overflow_is_a_gap(portaudio: FakePortAudio) -> None:
    part = np.zeros(1_600, np.float32)
    portaudio.script = [(part, False), (part, True), (part, False)]
    blocks, _ = heard(MicrophoneSource("mic", None, RATE_HZ))
    assert [block.gap for block in blocks] == [False, True, False]


def test_a_full_buffer_loses_audio_and_says_so_but_never_waits(portaudio: FakePortAudio) -> None:
    part = np.zeros(1_600, np.float32)
    source = MicrophoneSource("mic", None, RATE_HZ)
    portaudio.script = [(part, False)] * 300  # 15 s into a buffer of 10 s, nobody reading
    blocks = source.blocks()
    next(blocks)
    assert source.behind() == pytest.approx(10 - 0.05)
    for _ in range(199):
        next(blocks)
    portaudio.deliver(part)
    assert next(blocks).gap


def test_samples_that_are_not_numbers_become_silence_after_a_gap(portaudio: FakePortAudio) -> None:
    portaudio.script = [(np.full(1_600, np.nan, np.float32), False)]
    (block,), _ = heard(MicrophoneSource("mic", None, RATE_HZ))
    assert block.gap
    assert not block.samples.any()


def test_close_ends_the_wait(portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "FIRST_BLOCK_SECONDS", 30)
    source = MicrophoneSource("mic", None, RATE_HZ)
    threading.Timer(0.1, source.close).start()
    began = time.monotonic()
    assert list(source.blocks()) == []
    assert time.monotonic() - began < 20


def test_after_an_error_the_device_is_looked_for_anew(portaudio: FakePortAudio) -> None:
    source = MicrophoneSource("mic", "USB Audio", RATE_HZ)
    part = np.zeros(1_600, np.float32)
    portaudio.script = [(part, False), (part, False)]
    first, _ = heard(source)
    portaudio.devices = [*DEVICES[:2], DEVICES[3], DEVICES[2]]  # plugged in again, under another index
    second, _ = heard(source)
    assert portaudio.opened == [2, 3]
    assert [block.gap for block in (*first, *second)] == [False, False, True, False]


def test_a_device_may_take_longer_for_its_first_block_than_for_the_others(
    portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PulseAudio's null sink takes 2 s, and more where the machine is busy; each new try would begin to wait anew."""
    monkeypatch.setattr(microphone, "SILENT_DEVICE_SECONDS", 0.01)
    monkeypatch.setattr(microphone, "FIRST_BLOCK_SECONDS", 60.0)
    source = MicrophoneSource("mic", None, RATE_HZ)

    def deliver() -> None:
        portaudio.started.wait(60)
        time.sleep(0.2)
        portaudio.deliver(np.zeros(1_600, np.float32))

    threading.Thread(target=deliver).start()
    blocks, error = heard(source)
    assert len(blocks) == 1
    assert str(error) == "microphone 'USB Audio Device' delivers no audio any more"
    assert reason_of(error) == "gone"


def test_a_device_that_never_delivers_is_told_from_one_that_has_gone(portaudio: FakePortAudio) -> None:
    blocks, error = heard(MicrophoneSource("mic", None, RATE_HZ))
    assert blocks == []
    assert str(error) == "microphone 'USB Audio Device' was opened, and delivers no audio"
    assert reason_of(error) == "no_bytes"


def test_looking_anew_never_ends_another_microphone(portaudio: FakePortAudio) -> None:
    """PortAudio lists devices only when it starts, and starting it anew closes every open stream of the process."""
    lost, healthy = (MicrophoneSource(name, "USB Audio", RATE_HZ) for name in ("lost", "healthy"))
    heard(lost)
    portaudio.script = [(np.zeros(1_600, np.float32), False)]
    open_blocks = healthy.blocks()
    next(open_blocks)
    heard(lost)
    assert portaudio.restarts == 0
    open_blocks.close()
    heard(lost)
    assert portaudio.restarts == 1


def test_a_device_that_does_not_open_says_why(portaudio: FakePortAudio) -> None:
    portaudio.refuse = "Error opening InputStream: Device unavailable [PaErrorCode -9985]"
    source = MicrophoneSource("mic", None, RATE_HZ)
    with pytest.raises(TaggerError, match=r"'USB Audio Device' cannot be opened: Device unavailable$"):
        next(iter(source.blocks()))


def test_two_microphones_of_one_kind_are_told_apart_by_their_usb_sockets(
    portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for card, port in ((1, "1-1.2"), (2, "1-1.4")):
        real = tmp_path / "pci0" / "usb1" / "1-1" / port / f"{port}:1.0" / "sound" / f"card{card}"
        real.mkdir(parents=True)
        (real / "device").symlink_to(real.parent.parent)
        (tmp_path / f"card{card}").symlink_to(real)
    monkeypatch.setattr("tagger.sources.portaudio.CARDS", tmp_path)
    usb = {"max_input_channels": 1, "default_samplerate": 48_000.0}
    portaudio.devices = [{"name": f"USB PnP: Audio (hw:{card},0)", **usb} for card in (1, 2)]
    assert find_input_device("usb:1-1.4")["name"] == "USB PnP: Audio (hw:2,0)"
    with pytest.raises(UserError, match=r"the socket, which stays the same: mic:usb:1-1\.2 or mic:usb:1-1\.4"):
        find_input_device("USB PnP")
    with pytest.raises(MissingDeviceError, match="no input device at 'usb:1-9'"):
        find_input_device("usb:1-9")
    listed = click.testing.CliRunner().invoke(main, ["devices"]).stdout
    assert "mic:usb:1-1.2" in listed
    assert MicrophoneSource("a", "usb:1-1.2", RATE_HZ).description.startswith("microphone 'USB PnP: Audio (hw:1,0)'")
