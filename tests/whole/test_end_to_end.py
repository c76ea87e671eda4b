"""The whole chain on real clips: our own training, the daemon, a real broker, a (virtual) microphone."""

import csv
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

from tagger.audio.decode import decode
from tagger.checkpoints import checkpoint
from tagger.checkpoints.store import BUNDLED
from tagger.engine.runtime_torch import Classifier
from tagger.events import Samples
from tagger.features.config import MelConfig
from tagger.features.logmel import LogMel
from tagger.models.efficientat import EfficientAT
from tests.programs import (
    LONG_S,
    ROOT,
    Mosquitto,
    Subscriber,
    VirtualMicrophone,
    running,
    stop,
    subscribed,
    tagger,
    until,
    write_wav,
)

RATE_HZ = 32_000
HELD_OUT = 1
GAP_SECONDS = 6.0
ALL_CORES = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
"""Environment of the long programs, which else compute with one thread, as tests do."""
NOISE_FLOOR = 10 ** (-70 / 20)


@dataclass(frozen=True)
class Trained:
    folder: Path
    home: Path
    printed: str


@pytest.fixture(scope="session")
def trained(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`tagger train` on all of ESC-50, as a user calls it; a few minutes."""
    folder, home = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("home")
    added = tagger("models", "add", shared / "weights" / "mn04_as_mAP_432.pt", TAGGER_HOME=str(home))
    assert added.returncode == 0, added.stderr
    done = tagger(
        *("train", shared / "data" / "esc50", "--model", "mn04", "--freeze", "-o", folder),
        timeout=1500,
        TAGGER_HOME=str(home),
        **ALL_CORES,
    )
    assert done.returncode == 0, done.stderr
    return Trained(folder, home, done.stdout)


def test_five_folds_reach_93_percent(trained: Trained) -> None:
    by_fold = {int(fold): float(percent) for fold, percent in re.findall(r"fold (\d): +([\d.]+) %", trained.printed)}
    assert sorted(by_fold) == [1, 2, 3, 4, 5]
    mean = float(re.search(r"mean +: +([\d.]+) %", trained.printed)[1])  # type: ignore[index]
    assert mean == pytest.approx(np.mean(list(by_fold.values())), abs=0.01)
    assert mean >= 93.0


@pytest.mark.slow
def test_training_again_gives_the_same_checkpoint_and_repeats_nothing(trained: Trained, shared: Path) -> None:
    again = trained.folder / "again"
    done = tagger(
        *("train", shared / "data" / "esc50", "--model", "mn04", "--freeze", "--fold", "1", "-o", again),
        timeout=600,
        TAGGER_HOME=str(trained.home),
        **ALL_CORES,
    )
    assert done.returncode == 0, done.stderr
    assert "features" not in done.stderr, "the frozen features were extracted a second time"
    assert (again / "fold1.safetensors").read_bytes() == (trained.folder / "fold1.safetensors").read_bytes()


def test_the_bundled_model_says_how_it_was_made() -> None:
    info = checkpoint.load(BUNDLED / "esc50.safetensors").info
    assert info.training["recipe"] == "stream"
    assert info.training["data"]["name"] == "ESC-50 + background"
    assert len(info.training["trained_on"]) > 2_000
    assert info.metrics["five_fold_accuracy"] > 0.9
    assert info.others[:2] == ("Speech", "Male speech, man speaking")
    assert any("CC BY-NC" in licence for licence in info.licences)


def test_full_band_recordings_are_heard_as_their_16_khz_copies(shared: Path) -> None:
    """The checkpoint has the bandwidth of its training data, and the features are limited to it."""
    loaded = checkpoint.load(BUNDLED / "esc50.safetensors")
    assert isinstance(loaded.model, EfficientAT)
    full = sorted((shared / "data" / "esc10_44k").glob("*.wav"))
    pairs = [(path, shared / "data" / "esc50" / "audio" / f"{path.stem}.ogg") for path in full]

    def differing_by(mel: MelConfig) -> float:
        with torch.inference_mode():
            one, other = (
                torch.cat([loaded.model.embed(LogMel(mel)(torch.from_numpy(whole(path)[None]))) for path in paths])
                for paths in zip(*pairs, strict=True)
            )
        return float((one - other).norm() / one.norm())

    assert loaded.info.mel.bandwidth_hz == 7_500
    assert differing_by(loaded.info.mel) < 0.08
    assert differing_by(replace(loaded.info.mel, bandwidth_hz=None)) > 0.3


@pytest.mark.parametrize("level_db", [-80, -60, -40, -30])
def test_noise_hum_and_silence_are_nothing(level_db: int) -> None:
    """A softmax over fifty labels calls white noise `crickets`. Our network can answer that it is no label."""
    classify = Classifier(checkpoint.load(BUNDLED / "esc50.safetensors"), "cpu")
    white = np.random.default_rng(level_db + 100).standard_normal((4, 5 * RATE_HZ))
    time_s = np.arange(5 * RATE_HZ) / RATE_HZ
    hum = sum(np.sin(2 * np.pi * 50 * overtone * time_s) / overtone for overtone in range(1, 6))
    windows = np.concatenate([white, [hum], np.zeros((1, 5 * RATE_HZ))]) * 10 ** (level_db / 20)
    assert (classify(windows.astype(np.float32)).values < np.array(classify.info.thresholds)).all()


def whole(path: Path) -> Samples:
    return np.concatenate(list(decode(path, RATE_HZ)))


@dataclass(frozen=True)
class Played:
    label: str
    start_s: float
    end_s: float


def ten_clips(shared: Path) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """The held-out fold's first clip of every fifth class.

    Five such choices are possible. In three the network clearly knows all ten clips; in two it misses one, and through
    a microphone perhaps another. The test is about the microphone, so it uses one of the three. The test above measures
    how often the network is right over all clips, and `bench/streams.py` does so for all folds.
    """
    with (shared / "data" / "esc50" / "meta" / "esc50.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["filename"])
    clips = []
    for target in range(1, 50, 5):
        row = next(row for row in rows if int(row["fold"]) == HELD_OUT and int(row["target"]) == target)
        path = shared / "data" / "esc50" / "audio" / f"{Path(row['filename']).stem}.ogg"
        samples, rate_hz = soundfile.read(path, dtype="float32")
        clips.append((row["category"], soxr.resample(samples, rate_hz, RATE_HZ)))
    return clips


def stream_of(clips: list[tuple[str, np.ndarray[Any, Any]]]) -> tuple[np.ndarray[Any, Any], list[Played]]:
    """The clips in a row, with pauses, over a quiet noise floor."""
    gap = int(GAP_SECONDS * RATE_HZ)
    total = gap + sum(len(samples) + gap for _, samples in clips)
    stream = (np.random.default_rng(0).standard_normal(total) * NOISE_FLOOR).astype(np.float32)
    played, at = [], gap
    for label, samples in clips:
        stream[at : at + len(samples)] += samples
        played.append(Played(label, at / RATE_HZ, (at + len(samples)) / RATE_HZ))
        at += len(samples) + gap
    return np.clip(stream, -1, 1), played


def announced(events: list[dict[str, Any]], played: list[Played], began: float) -> list[str]:
    """Labels of the clips during which an event of their own label has its onset, to half a second.

    Sound reaches the microphone a little later than it is played.
    """
    begins = [event for event in events if event["type"] == "begin"]
    onsets = [(each["label"], datetime.fromisoformat(each["onset"]).timestamp() - began) for each in begins]
    return [
        clip.label
        for clip in played
        if any(label == clip.label and clip.start_s - 0.5 <= at <= clip.end_s + 0.5 for label, at in onsets)
    ]


@pytest.mark.slow
def test_most_of_four_hundred_unheard_clips_are_announced_where_they_sound(
    trained: Trained, shared: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """All 400 clips of the held-out fold, from a file; no clip is left out."""
    with (shared / "data" / "esc50" / "meta" / "esc50.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["fold"]) == HELD_OUT]
    folder = shared / "data" / "esc50" / "audio"
    stream, played = stream_of([(row["category"], whole(folder / f"{Path(row['filename']).stem}.ogg")) for row in rows])
    path = write_wav(tmp_path / "fold.wav", stream)
    with subscribed(broker.port) as subscriber:
        done = tagger(
            *("listen", path, "--no-realtime", "--model", trained.folder / f"fold{HELD_OUT}.safetensors"),
            *("--mqtt", broker.url, "--node", "room"),
            timeout=600,
            **ALL_CORES,
        )
        assert done.returncode == 0, done.stderr
        until(lambda: subscriber.payloads("tagger/room/status")[-1:] == ["offline"], "the node said offline")
        events = subscriber.jsons("tagger/room/fold/event")
        first = subscriber.jsons("tagger/room/fold/scores")[0]
    began = datetime.fromisoformat(first["time"]).timestamp() - first["end"]
    right = announced(events, played, began)
    assert len(played) == 400
    assert len(right) >= 0.85 * len(played)  # 90 % if events at any time count: bench/streams.py
    assert sorted(e["id"] for e in events if e["type"] == "begin") == sorted(
        e["id"] for e in events if e["type"] == "end"
    )


@pytest.mark.slow
def test_ten_held_out_clips_through_the_microphone(
    trained: Trained, shared: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    stream, played = stream_of(ten_clips(shared))
    path = write_wav(tmp_path / "ten.wav", stream)
    microphone = VirtualMicrophone(tmp_path)
    try:
        with (
            subscribed(broker.port) as subscriber,
            running(
                *("listen", "--model", trained.folder / f"fold{HELD_OUT}.safetensors"),
                *("--mqtt", broker.url, "--node", "room"),
                **microphone.env,
            ) as daemon,
        ):
            until(lambda: subscriber.payloads("tagger/room/mic/scores"), "the microphone is heard")
            began = time.time()
            microphone.play(path)
            until_heard(subscriber, time.time() + 1)
            code, _, err = stop(daemon)
            assert code == 0, err
            until(lambda: subscriber.payloads("tagger/room/status")[-1:] == ["offline"], "the node said offline")
            events = subscriber.jsons("tagger/room/mic/event")
    finally:
        microphone.close()
    right = announced(events, played, began)
    assert len(right) >= 9, f"only {right} of {[clip.label for clip in played]}; {err}"


@pytest.mark.slow
def test_a_microphone_that_goes_away_is_waited_for(broker: Mosquitto, tmp_path: Path) -> None:
    microphone = VirtualMicrophone(tmp_path)
    status, scores = "tagger/room/mic/status", "tagger/room/mic/scores"
    try:
        listen = ("listen", "--mqtt", broker.url, "--node", "room")
        with subscribed(broker.port) as subscriber, running(*listen, **microphone.env) as daemon:
            until(lambda: subscriber.payloads(scores), "the microphone is heard")
            microphone.close()
            until(lambda: subscriber.payloads(status)[-1] == "offline", "its loss is said")
            assert subscriber.payloads("tagger/room/status")[-1] == "online"
            heard = len(subscriber.payloads(scores))
            microphone = VirtualMicrophone(tmp_path)
            until(lambda: len(subscriber.payloads(scores)) > heard, "it is heard again")
            assert subscriber.payloads(status)[-1] == "online"
            code, _, err = stop(daemon)
    finally:
        microphone.close()
    assert code == 0, err
    assert "trying again in 1 s" in err


@pytest.mark.slow
def test_a_microphone_that_comes_after_the_start_is_heard(broker: Mosquitto, tmp_path: Path) -> None:
    """As after a power cut: the daemon starts first."""
    microphone = VirtualMicrophone(tmp_path)
    microphone.close()
    node = "tagger/room"
    try:
        listen = ("listen", "mic", "demo", "--mqtt", broker.url, "--node", "room")
        with subscribed(broker.port) as subscriber, running(*listen, **microphone.env) as daemon:
            until(lambda: subscriber.payloads(f"{node}/mic/status"), "its absence is said")
            assert subscriber.payloads(f"{node}/mic/status")[-1] == "offline"
            until(lambda: subscriber.payloads(f"{node}/demo/scores"), "the other source is heard")
            assert subscriber.payloads(f"{node}/status")[-1] == "online"
            microphone = VirtualMicrophone(tmp_path)
            until(lambda: subscriber.payloads(f"{node}/mic/scores"), "the microphone is heard")
            assert subscriber.payloads(f"{node}/mic/status")[-1] == "online"
            code, _, err = stop(daemon)
    finally:
        microphone.close()
    assert code == 0, err
    assert "listening to  mic: microphone, not connected yet" in err
    assert err.count("no input device") == 1
    assert "mic: works again" in err


@pytest.mark.slow
def test_two_microphones_survive_the_loss_of_both(broker: Mosquitto, tmp_path: Path) -> None:
    microphone = VirtualMicrophone(tmp_path)
    sources = ("one", "two")

    def reports() -> list[int]:
        return [len(subscriber.payloads(f"tagger/room/{source}/scores")) for source in sources]

    try:
        listen = ("listen", "one=mic:pulse", "two=mic:default", "--mqtt", broker.url, "--node", "room")
        with subscribed(broker.port) as subscriber, running(*listen, **microphone.env) as daemon:
            until(lambda: all(reports()), "both are heard")
            microphone.close()
            offline = [f"tagger/room/{source}/status" for source in sources]
            until(lambda: all(subscriber.payloads(topic)[-1] == "offline" for topic in offline), "the loss is said")
            time.sleep(3)  # both try to open their device while there is none
            before = reports()
            microphone = VirtualMicrophone(tmp_path)
            until(lambda: all(now > then for now, then in zip(reports(), before, strict=True)), "both are back")
            code, _, err = stop(daemon)
    finally:
        microphone.close()
    assert code == 0, err


@pytest.mark.slow
def test_metro_station_by_audioset(trained: Trained, shared: Path) -> None:
    """The peer's own example and its published scores."""
    done = tagger(
        *("tag", "--json", "--model", "mn04_as", "--window", "10"),
        shared / "data" / "streams" / "metro_station_paris.wav",
        TAGGER_HOME=str(trained.home),
    )
    (line,) = done.stdout.splitlines()
    window = json.loads(line)
    scores = {each["label"]: each["score"] for each in window["top"]}
    expected = {
        "Train": 0.73,
        "Rail transport": 0.58,
        "Railroad car, train wagon": 0.56,
        "Subway, metro, underground": 0.49,
    }
    assert (window["start"], window["end"]) == (0.0, 10.0)
    assert {label: scores[label] for label in expected} == pytest.approx(expected, abs=0.02)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds of chirps and bursts at 44.1 kHz."""
    time_s = np.arange(9 * 44_100) / 44_100
    chirps = 0.3 * np.sin(2 * np.pi * (400 + 300 * np.sin(2 * np.pi * 0.5 * time_s)) * time_s)
    bursts = np.random.default_rng(1).standard_normal(len(time_s)) * 0.1 * (np.sin(2 * np.pi * 1.7 * time_s) > 0.8)
    return write_wav(tmp_path_factory.mktemp("sound") / "sound.wav", chirps + bursts, 44_100)


def scores_of(broker: Mosquitto, *args: object, feed: tuple[bytes, int] | None = None) -> list[dict[str, Any]]:
    """The `scores` messages of one run of `tagger listen`; `feed` is written to its standard input in blocks."""
    with subscribed(broker.port, "tagger/parity/#") as subscriber:
        node = ("--top", 50, "--mqtt", broker.url, "--node", "parity")
        with running("listen", *args, *node, stdin=subprocess.PIPE if feed else None) as daemon:
            if feed:
                data, block = feed
                assert daemon.stdin is not None
                for at in range(0, len(data), block):
                    os.write(daemon.stdin.fileno(), data[at : at + block])
            _, err = daemon.communicate(timeout=LONG_S)
            assert daemon.returncode == 0, err.decode()
        until(lambda: subscriber.payloads("tagger/parity/status")[-1:] == ["offline"], "the node said offline")
        return [json.loads(m.payload) for _, m in subscriber.messages if m.topic.endswith("/scores")]


@pytest.mark.slow
@pytest.mark.parametrize("block", [None, 1, 160, 4_801, 50_000])
def test_the_same_scores_however_the_audio_comes(sound: Path, broker: Mosquitto, block: int | None) -> None:
    done = tagger("tag", "--json", "--top", "50", sound)
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(window["start"], window["end"]) for window in expected] == [(s, s + 5.0) for s in range(5)]
    if block is None:
        heard = scores_of(broker, sound, "--no-realtime")
    else:
        samples, rate_hz = soundfile.read(sound, dtype="int16")
        heard = scores_of(broker, "-", "--rate", rate_hz, feed=(samples.tobytes(), 2 * block))
    assert [(window["start"], window["end"]) for window in heard] == [(w["start"], w["end"]) for w in expected]
    for one, other in zip(expected, heard, strict=True):
        by_label = {each["label"]: each["score"] for each in other["top"]}
        assert by_label == pytest.approx({each["label"]: each["score"] for each in one["top"]}, abs=1e-5)


@pytest.mark.slow
def test_readme_first_command_shows_labels_that_came_through_the_broker() -> None:
    """`tagger listen demo --mqtt embedded --watch`, but faster than real time."""
    done = tagger("listen", "demo", "--no-realtime", "--mqtt", "embedded", "--watch", "--node", "room")
    assert done.returncode == 0, done.stderr
    labels = set(re.findall(r"^tagger/room/demo/event +begin +(\w+) ", done.stdout, re.MULTILINE))
    truth = (ROOT / "tagger" / "sources" / "demo" / "demo.txt").read_text().splitlines()
    there = {line.split("\t")[2] for line in truth}
    assert len(labels & there) >= 5, f"announced {labels}, sounding {there}"
    assert re.search(r"^tagger/room/status +offline", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_clear_sounds_are_the_same_events_as_a_file_and_through_the_microphone_at_any_hop(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """Live, and at another hop, windows begin at other times. The events and their times must stay the same."""
    demo = ROOT / "tagger" / "sources" / "demo" / "demo.ogg"
    as_file = [events_of(demo, hop) for hop in (0.5, 1.0)]
    microphone = VirtualMicrophone(tmp_path)
    try:
        listen = ("listen", "--hop", "0.5", "--json", "--mqtt", broker.url, "--node", "room")
        with subscribed(broker.port) as subscriber, running(*listen, **microphone.env) as daemon:
            until(lambda: subscriber.payloads("tagger/room/mic/scores"), "the microphone is heard")
            microphone.play(write_wav(tmp_path / "demo.wav", whole(demo)))
            until_heard(subscriber, time.time() + 4.5)
            code, out, err = stop(daemon)
            assert code == 0, err
    finally:
        microphone.close()
    ends = [event for event in map(json.loads, out.splitlines()) if event["type"] == "end"]
    live = {each["label"]: datetime.fromisoformat(each["onset"]).timestamp() for each in ends if is_clear(each)}
    clear = as_file[0].keys() & as_file[1].keys() & live.keys()
    assert len(clear) >= 5
    for found in (*as_file, live):
        assert len(found.keys() - clear) <= 1, "a sound that is only just clear may be so to one of them alone"
    for found in (as_file[1], live):
        shifts = [found[label] - as_file[0][label] for label in clear]
        assert max(abs(shift - np.median(shifts)) for shift in shifts) <= 0.5


def until_heard(subscriber: Subscriber, end: float) -> None:
    """Waits until the microphone's windows have passed this time, seconds since the epoch."""
    scores = "tagger/room/mic/scores"
    until(lambda: datetime.fromisoformat(subscriber.jsons(scores)[-1]["time"]).timestamp() > end, "all of it is heard")


def is_clear(event: dict[str, Any]) -> bool:
    return bool(event["peak_score"] >= 0.9)


def events_of(path: Path, hop: float) -> dict[str, float]:
    """Onsets of clear events, seconds, by label."""
    done = tagger("tag", "--events", "--json", "--hop", str(hop), path)
    assert done.returncode == 0, done.stderr
    events = [event for event in map(json.loads, done.stdout.splitlines()) if is_clear(event)]
    return {event["label"]: event["onset"] for event in events}
