"""Scores of the bundled and of AudioSet's network: what they are, on what, and however the audio comes."""

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tagger.audio.decode import decode
from tagger.checkpoints import checkpoint
from tagger.checkpoints.store import BUNDLED
from tagger.engine.runtime_torch import Classifier
from tagger.features.config import MelConfig
from tagger.features.logmel import LogMel
from tagger.models.efficientat import EfficientAT
from tests.programs import LONG_S, ROOT, Mosquitto, run, running, subscribed, tagger, until, write_wav

RATE_HZ = 32_000


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

    def embedded(mel: MelConfig, path: Path) -> torch.Tensor:
        samples = np.concatenate(list(decode(path, RATE_HZ)))
        embedding: torch.Tensor = loaded.model.embed(LogMel(mel)(torch.from_numpy(samples[None])))
        return embedding

    def differing_by(mel: MelConfig) -> float:
        with torch.inference_mode():
            one, other = (torch.cat([embedded(mel, path) for path in paths]) for paths in zip(*pairs, strict=True))
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


@pytest.mark.slow
def test_metro_station_by_audioset(shared: Path) -> None:
    """The peer's own example and its published scores."""
    added = run("models", "add", shared / "weights" / "mn04_as_mAP_432.pt")
    assert added.exit_code == 0, added.stderr
    sound = shared / "data" / "streams" / "metro_station_paris.wav"
    done = run("tag", "--json", "--model", "mn04_as", "--window", "10", sound)
    assert done.exit_code == 0, done.stderr
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


@pytest.fixture(scope="module")
def expected(sound: Path) -> list[dict[str, Any]]:
    """Windows of `tagger tag`."""
    done = run("tag", "--json", "--top", "50", sound)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


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
def test_the_same_scores_however_the_audio_comes(
    expected: list[dict[str, Any]], sound: Path, broker: Mosquitto, block: int | None
) -> None:
    assert [(window["start"], window["end"]) for window in expected] == [(s, s + 5.0) for s in range(5)]
    if block is None:
        heard = scores_of(broker, sound, "--no-realtime")
    else:
        samples, rate_hz = soundfile.read(sound, dtype="int16")
        # Of a recording no window is skipped, however slowly it is written.
        recorded = ("--start-time", "2026-01-31T12:00:00Z")
        heard = scores_of(broker, "-", "--rate", rate_hz, *recorded, feed=(samples.tobytes(), 2 * block))
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
