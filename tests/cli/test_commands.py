"""The command as a person types it: every mistake is one line and exit code 2, and loses nothing."""

import json
import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from tagger.checkpoints.header import METADATA_KEY, read_header
from tagger.checkpoints.store import BUNDLED
from tests.programs import ROOT, refused, run, running, stop, tagger, until_it_catches, write_wav
from train.recipe import RECIPES

RATE_HZ = 32_000
ESC50 = BUNDLED / "esc50.safetensors"


def tone(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "tone.wav", tone(7))


# --- audio files ---


def cut_in_half(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("I am not a sound. " * 100), "not audio"),
    "folder": (lambda path: path.mkdir(), "folder"),
    "no_samples": (lambda path: write_wav(path, np.zeros(0)), "holds no samples"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("command", [("tag",), ("listen", "--mqtt", "none", "--no-realtime")])
def test_a_file_that_is_no_audio(kind: str, command: tuple[str, ...], tmp_path: Path) -> None:
    make, words = UNUSABLE[kind]
    path = tmp_path / "bad.wav"
    make(path)
    refused(run(*command, path), str(path), words)


@pytest.mark.parametrize("command", [("tag", "--json"), ("listen", "--mqtt", "none", "--no-realtime", "--json")])
def test_a_truncation_is_said_and_what_came_before_is_kept(command: tuple[str, ...], tmp_path: Path) -> None:
    path = cut_in_half(write_wav(tmp_path / "bad.wav", tone(14)))
    result = run(*command, path)
    refused(result, str(path), "7.00 s")
    if command[0] == "tag":
        ends = [json.loads(line)["end"] for line in result.stdout.splitlines()]
        assert ends == pytest.approx([5.0, 6.0, 7.0], abs=0.001)


@pytest.mark.parametrize("command", [("tag", "--json"), ("listen", "--mqtt", "none", "--no-realtime", "--json")])
def test_one_nan_is_said_and_both_sides_of_it_are_heard(
    command: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = tone(14)
    samples[7 * RATE_HZ] = np.nan
    path = write_wav(tmp_path / "bad.wav", samples, subtype="FLOAT")
    result = run(*command, path)
    assert result.exit_code == 0
    assert caplog.text.count("NaN, infinity or an absurd value at 7.000 s") == 1
    if command[0] == "tag":
        ends = [json.loads(line)["end"] for line in result.stdout.splitlines()]
        assert ends == pytest.approx([5.0, 6.0, 7.0, 12.0, 13.0, 14.0], abs=0.001)


@pytest.mark.parametrize(
    ("rate_hz", "channels", "seconds"), [(8_000, 1, 6), (192_000, 1, 6), (44_100, 6, 6), (32_000, 2, 0.3)]
)
def test_unusual_audio_is_tagged(rate_hz: int, channels: int, seconds: float, tmp_path: Path) -> None:
    samples = np.stack([tone(seconds, rate_hz)] * channels, axis=1)
    result = run("tag", "--json", write_wav(tmp_path / "odd.wav", samples, rate_hz))
    assert result.exit_code == 0, result.stderr
    windows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(w["start"], w["end"]) for w in windows] == ([(0, 5), (1, 6)] if seconds == 6 else [(0, 0.3)])


def test_silence_is_tagged_as_nothing(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "silent.wav", np.zeros(8 * RATE_HZ))
    result = run("listen", path, "--no-realtime", "--mqtt", "none")
    assert (result.exit_code, result.stdout) == (0, "")


def test_absurdly_loud_samples_are_no_sound(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "absurd.wav", tone(7) * 1e30, subtype="FLOAT")
    refused(run("tag", "--json", path), "absurd values")


@pytest.mark.slow
def test_a_file_name_that_is_not_unicode(tmp_path: Path, wav: Path) -> None:
    odd = tmp_path / os.fsdecode(b"bad\xff.wav")
    shutil.copy(wav, odd)
    done = tagger("tag", odd)
    assert done.returncode == 0, done.stderr


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(run("tag", tmp_path / "pipe"), "not a regular file")


def test_one_bad_file_does_not_cost_the_others(wav: Path, tmp_path: Path) -> None:
    result = run("tag", "--json", tmp_path / "missing.wav", wav)
    refused(result, "missing.wav")
    assert {json.loads(line)["file"] for line in result.stdout.splitlines()} == {str(wav)}


def test_table_and_json_say_the_same(wav: Path) -> None:
    table = run("tag", wav, "--top", "2").stdout.splitlines()
    lines = [json.loads(line) for line in run("tag", wav, "--top", "2", "--json").stdout.splitlines()]
    assert table[0] == str(wav)
    assert len(table) - 1 == len(lines) == 3
    for row, line in zip(table[1:], lines, strict=True):
        assert set(line) == {"file", "start", "end", "top"}
        best = line["top"][0]
        assert f"{best['score']:.2f} {best['label']}" in row


# --- events of files ---


DEMO = ROOT / "tagger" / "sources" / "demo" / "demo.ogg"


def events_of(path: Path, *flags: object) -> list[dict[str, Any]]:
    result = run("tag", "--events", "--json", path, *flags)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_an_event_is_a_row_a_line_of_json_and_a_label_in_audacity(tmp_path: Path) -> None:
    path = shutil.copy(DEMO, tmp_path / "demo.ogg")
    found = events_of(path, "--audacity")
    assert len(found) >= 5
    for each in found:
        assert list(each) == ["file", "onset", "offset", "label", "peak_score"]
        assert each["file"] == str(path)
        assert 0 <= each["onset"] < each["offset"] <= 70
    track = [line.split("\t") for line in (tmp_path / "demo.ogg.labels.txt").read_text("utf-8").splitlines()]
    in_order = sorted(found, key=lambda each: each["onset"])
    assert [(round(float(one), 3), round(float(other), 3), label) for one, other, label in track] == [
        (each["onset"], each["offset"], each["label"]) for each in in_order
    ]
    rows = run("tag", "--events", path).stdout.splitlines()
    assert rows[0] == str(path)
    for row, each in zip(rows[1:], found, strict=True):
        assert re.fullmatch(r" +\d+\.\d\d - +\d+\.\d\d s   [01]\.\d\d \w+", row)
        assert row.endswith(f"{each['peak_score']:.2f} {each['label']}")


def test_damage_leaves_the_events_before_it_and_no_track_beside_what_is_no_audio(tmp_path: Path) -> None:
    samples, rate_hz = soundfile.read(DEMO, dtype="int16")
    path = cut_in_half(write_wav(tmp_path / "cut.wav", samples, rate_hz))
    result = run("tag", "--events", "--audacity", path, tmp_path / "missing.wav")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    track = (tmp_path / "cut.wav.labels.txt").read_text("utf-8").splitlines()
    assert 0 < len(track) == len(result.stdout.splitlines()) - 2
    assert not (tmp_path / "missing.wav.labels.txt").exists()


def test_a_clip_as_long_as_a_window_has_events(tmp_path: Path) -> None:
    """ESC-50's own clips are."""
    (begin, label), *_ = [(each["onset"], each["label"]) for each in events_of(DEMO) if each["peak_score"] > 0.95]
    samples, rate_hz = soundfile.read(DEMO, dtype="int16")
    start = round(max(0.0, begin - 0.2) * rate_hz)
    path = write_wav(tmp_path / "clip.wav", samples[start : start + 5 * rate_hz], rate_hz)
    assert label in {each["label"] for each in events_of(path)}


def test_rules_of_events_come_from_a_file(tmp_path: Path) -> None:
    config = tmp_path / "events.toml"
    usual = {each["label"] for each in events_of(DEMO)}
    kept, *denied = sorted(usual)
    config.write_text(f"events.deny = {json.dumps(denied)}\nevents.groups.house = {json.dumps([kept])}\n")
    assert {each["label"] for each in events_of(DEMO, "--config", config)} - {"house"} <= {kept}
    assert [each["label"] for each in events_of(DEMO, "--config", config)].count("house") > 0
    listened = run("listen", DEMO, "--no-realtime", "--mqtt", "none", "--json", "--config", config, "--deny", kept)
    said = {json.loads(line)["label"] for line in listened.stdout.splitlines()}
    assert said <= usual - {kept}


def test_explain_says_of_every_window_what_is_heard_and_why_it_is_not_announced() -> None:
    listen = ("listen", DEMO, "--no-realtime", "--mqtt", "none", "--top", 2)
    result = run(*listen, "--explain", "--deny", "siren")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    why = r"below enter \d\.\d\d|confirming \d\.\d of \d\.\d s|refractory \d+\.\d s left|denied|announced|at no .*?"
    why += r"|still in the window, but its event has ended|rather .*?, which is none of the labels"
    answer = rf"[01]\.\d\d \w+ \((?:{why})\)"
    windows = [line for line in lines if re.fullmatch(rf"\d\d:\d\d:\d\d\.\d  demo +{answer}  {answer}", line)]
    events = [line for line in lines if re.search(r" (begins|ends after) ", line) or "begins, score" in line]
    assert len(windows) + len(events) == len(lines)
    assert len(windows) == len(run("tag", DEMO).stdout.splitlines()) - 1
    assert any("(announced)" in line for line in windows)
    assert any("(confirming " in line for line in windows)
    assert not any("siren" in line for line in events)
    quiet = run(*listen, "--deny", "siren").stdout.splitlines()
    times = re.compile(r"\d\d:\d\d:\d\d\.\d")  # differ from run to run
    assert [times.sub("", line) for line in quiet] == [times.sub("", line) for line in events]
    assert all(re.search(r", (onset|offset) \d\d:\d\d:\d\d\.\d$", line) for line in events)
    assert [line[:10] for line in quiet] == sorted(line[:10] for line in quiet), "no time runs backwards"


def test_clips_are_saved_where_that_is_asked_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listen = ("listen", DEMO, "--no-realtime", "--mqtt", "none", "--json")
    plain = run(*listen)
    assert list(tmp_path.rglob("*")) == []
    saved = run(*listen, "--save-clips", "clips")
    assert saved.exit_code == 0, saved.stderr
    ends = [json.loads(line)["label"] for line in plain.stdout.splitlines() if json.loads(line)["type"] == "end"]
    listed = [json.loads(line) for line in run("review", "clips", "--json").stdout.splitlines()]
    assert len(listed) == len(list((tmp_path / "clips").rglob("*.flac"))) == len(ends)
    assert sorted(each["label"] for each in listed) == sorted(ends)


@pytest.mark.parametrize(("least", "saves"), [(0.5, True), (0.0, False)])
def test_clips_in_which_somebody_may_be_speaking_are_left_out(
    least: float, saves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("tagger.clips.speech.LEAST_SPEECH", least)  # nobody speaks in the demo
    flags = ("--save-clips", tmp_path / "clips", "--without-speech")
    done = run("listen", DEMO, "--no-realtime", "--mqtt", "none", "--json", *flags)
    assert done.exit_code == 0, done.stderr
    ends = [line for line in done.stdout.splitlines() if json.loads(line)["type"] == "end"]
    assert len(list((tmp_path / "clips").rglob("*.flac"))) == (len(ends) if saves else 0)
    assert ends
    assert ("somebody may be speaking; it is not saved" in caplog.text) != saves


def test_a_model_that_does_not_know_speech_cannot_leave_it_out(tmp_path: Path) -> None:
    flags = ("--save-clips", tmp_path / "clips", "--without-speech", "--mqtt", "none")
    done = run("listen", DEMO, *flags, "--model", "esc50-crnn")
    refused(done, "--without-speech", "cannot tell whether somebody speaks")
    assert not (tmp_path / "clips").exists()
    refused(run("listen", DEMO, "--without-speech", "--mqtt", "none"), "--without-speech", "--save-clips DIR")


# --- windows ---


@pytest.mark.parametrize("command", ["tag", "listen"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--hop", "6"), ("--hop 6", "longer than the window of 5 s")),
        (("--window", "2", "--hop", "3"), ("longer than the window of 2 s",)),
        (("--hop", "0"), ("--hop 0",)),
        (("--hop", "nan"), ("--hop",)),
        (("--window", "0.1"), ("--window 0.1",)),
        (("--window", "inf"), ("--window",)),
    ],
)
def test_a_hop_and_window_that_do_not_go_together(
    command: str, flags: tuple[str, ...], words: tuple[str, ...], wav: Path
) -> None:
    extra = ("--mqtt", "none") if command == "listen" else ()
    refused(run(command, wav, *flags, *extra), *words)


# --- checkpoints ---


def edited(change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    """A copy of the bundled checkpoint with another document."""

    def write(path: Path) -> None:
        document = read_header(ESC50)
        change(document)
        save_file(load_file(ESC50), path, {METADATA_KEY: json.dumps(document)})

    return write


def without_a_weight(path: Path) -> None:
    weights = load_file(ESC50)
    del weights["classifier.2.bias"]
    save_file(weights, path, {METADATA_KEY: json.dumps(read_header(ESC50))})


BAD_CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such checkpoint file"),
    "truncated": (lambda path: path.write_bytes(ESC50.read_bytes()[:500_000]), "not a whole .safetensors file"),
    "empty": (lambda path: path.write_bytes(b""), "not a whole .safetensors file"),
    "unknown format": (edited(lambda document: document.update(format=99)), "format 99 is unknown"),
    "missing key": (edited(lambda document: document.pop("labels")), "lacks labels"),
    "missing weight": (without_a_weight, "lacks weights: classifier.2.bias"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"weights": 1})), "pickled"),
}


@pytest.mark.parametrize("kind", BAD_CHECKPOINTS)
@pytest.mark.parametrize("command", [("tag",), ("listen", "--mqtt", "none", "--no-realtime")])
def test_a_checkpoint_that_cannot_be_used(kind: str, command: tuple[str, ...], wav: Path, tmp_path: Path) -> None:
    make, words = BAD_CHECKPOINTS[kind]
    path = tmp_path / "bad.safetensors"
    make(path)
    refused(run(*command, wav, "--model", path), str(path), words)


def test_an_unknown_model_names_the_near_ones(wav: Path) -> None:
    refused(run("tag", wav, "--model", "esc5O"), "no model 'esc5O'", "did you mean esc50")


def test_the_bundled_model_is_listed_with_its_accuracy() -> None:
    result = run("models")
    assert result.exit_code == 0
    assert any(
        line.startswith("esc50 ") and "bundled" in line and "five-fold accuracy 9" in line
        for line in result.stdout.splitlines()
    )


def test_the_bundled_model_is_ours_and_carries_its_notices() -> None:
    document = read_header(ESC50)
    assert document["training"]["recipe"] in RECIPES
    assert document["training"]["trained_on"]
    assert document["training"]["data"]["name"] == "ESC-50 + background"
    assert len(document["labels"]) == 50
    notices = " ".join(document["licences"])
    assert "EfficientAT" in notices
    assert "CC BY-NC" in notices
    assert ESC50.stat().st_size < 5_000_000


def test_models_that_cannot_be_added_or_downloaded(tmp_path: Path) -> None:
    refused(run("models", "add", tmp_path / "none.pt"), "no such file")
    refused(run("models", "download", "mn99"), "no model 'mn99' to download", "mn10")
    failed = run("models", "download", "mn04", "--url", "http://127.0.0.1:9")
    assert failed.exit_code == 1
    assert "refused" in failed.stderr


def test_a_lack_of_memory_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object) -> None:
        raise MemoryError("Unable to allocate 596. GiB")

    monkeypatch.setattr("train.cli.recipes", too_much)
    result = run("recipes")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: this machine has not the memory for it (Unable to allocate 596. GiB)\n",
    )


# --- MQTT and sources ---


@pytest.mark.parametrize(
    "url",
    [
        "localhost",
        "localhost:1883",
        "http://localhost",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://host:port",
        "mqtt://host:99999",
        "mqtt://me:hunter2@host:1883/topic",
        "mqtt://me:hunter2@ho st",
        "mqtt://a..b",
        "",
        "embedded:0",
        "embedded:x",
    ],
)
def test_a_malformed_broker_url(url: str, wav: Path) -> None:
    result = run("listen", wav, "--mqtt", url)
    refused(result, "--mqtt")
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("--node", "a/b"), ("--node", "a+b"), ("--node", "a\x01"), ("--node", "x" * 300), ("--node", "\udcff")),
        *(("--prefix", "x/#"), ("--prefix", ""), ("--prefix", "$SYS"), ("--prefix", "a//b")),
    ],
)
def test_topic_levels_that_mqtt_forbids(flag: str, value: str, wav: Path) -> None:
    refused(run("listen", wav, flag, value, "--mqtt", "mqtt://127.0.0.1"), flag)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--threshold", "1.5"), "--threshold"),
        (("--top", "0"), "--top"),
        (("--rate", "0"), "--rate"),
        (("--channels", "0"), "--channels"),
        (("--format", "s16l"), "did you mean s16le"),
        (("--device", "quantum"), "--device"),
        (("--watch",), "--watch"),
        (("--watch", "--json"), "--watch"),
        (("--explain", "--json"), "--explain"),
        (("--keep-days", "3"), "--save-clips"),
        (("--save-clips", "clips", "--keep-mb", "0"), "--keep-mb 0"),
        (("--save-clips", "clips", "--keep-days", "nan"), "--keep-days"),
    ],
)
def test_settings_out_of_bounds(flags: tuple[str, ...], words: str, wav: Path) -> None:
    refused(run("listen", wav, *flags, "--mqtt", "none"), words)


@pytest.mark.slow
def test_standard_input_that_ends_at_once_or_inside_a_frame() -> None:
    listen = ("listen", "-", "--mqtt", "none", "--json")
    nothing = tagger(*listen, stdin=b"")
    assert nothing.returncode == 2
    assert "ended before any sound came" in nothing.stderr
    odd = tagger(*listen, stdin=(tone(6) * 32767).astype("<i2").tobytes() + b"\x01")
    assert odd.returncode == 2
    assert "ended inside a frame, 1 of 2 bytes" in odd.stderr


# --- speed and manners ---


def test_help_needs_nothing_heavy_and_lists_every_command() -> None:
    loaded = "import sys, tagger.cli.main; print(sorted({'torch', 'numpy', 'paho', 'sounddevice'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "[]\n"
    result = run("--help")
    commands = ("listen", "tag", "review", "train", "eval", "recipes", "devices", "models")
    assert all(command in result.stdout for command in commands)


@pytest.mark.parametrize("group", [(), ("config",), ("models",)])
def test_no_summary_of_a_command_is_cut(group: tuple[str, ...]) -> None:
    said = run(*group, "--help").stdout
    assert "..." not in said.partition("Commands:")[2]
    assert all(line[0] == " " for line in said.partition("Commands:\n")[2].splitlines())


@pytest.mark.parametrize("group", [(), ("config",), ("fleet",)])
def test_a_group_without_a_command_prints_its_help_in_lines(group: tuple[str, ...]) -> None:
    said = run(*group)
    assert said.exit_code == 2
    assert "\nCommands:\n" in said.stderr
    assert "\\n" not in said.stderr


def test_help_says_the_default_model_by_its_name() -> None:
    assert "[default: esc50]" in " ".join(run("tag", "--help").stdout.split())


def test_help_of_eval_says_what_is_for_streams_alone() -> None:
    said = " ".join(run("eval", "--help").stdout.split())
    for flag in ("--minutes", "--hop", "--seed", "--background", "--nontarget", "--config"):
        assert re.search(rf"{flag} [^-]*Streamed: ", said), flag
    assert re.search("--streamed +Score long streams", said)


def test_a_reader_that_has_seen_enough_is_no_error(wav: Path) -> None:
    long = wav.with_name("long.wav")
    soundfile.write(long, tone(120), RATE_HZ)
    command = f'"{sys.executable}" -m tagger tag --json "{long}" | head -n 1'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=300)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_reader_of_standard_output_that_leaves_does_not_stop_the_daemon(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m tagger listen demo --no-realtime --mqtt none | head -n 1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "nothing more is printed" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.5, 4.0])
def test_a_signal_at_any_moment_of_the_start_ends_it_well(after_s: float) -> None:
    with running("listen", "-", "--mqtt", "none", stdin=subprocess.PIPE) as daemon:
        until_it_catches(daemon, signal.SIGTERM)
        time.sleep(after_s)
        code, _, err = stop(daemon, signal.SIGINT)
    assert (code, "Traceback" in err) == (0, False), err


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAGGER_HOME", str(tmp_path / "file"))
    refused(run("models", "add", ESC50), str(tmp_path / "file"))
    monkeypatch.setenv("TAGGER_HOME", "~nosuchuser/x")
    refused(run("models"), "TAGGER_HOME")


def test_flags_can_come_from_the_environment(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_LISTEN_MQTT", "ftp://nowhere")
    refused(run("listen", wav), "ftp:// is unknown")


def test_a_taken_port_moves_the_embedded_broker(wav: Path) -> None:
    pytest.importorskip("amqtt")
    from tagger.mqtt.embedded import EmbeddedBroker

    first = EmbeddedBroker("127.0.0.1", 28_830)
    try:
        second = EmbeddedBroker("127.0.0.1", 28_830)
        second.stop()
    finally:
        first.stop()
    assert second.port > first.port


def test_a_name_in_another_script_is_said_beside_its_level(tmp_path: Path) -> None:
    for name in ("ระฆัง", "hall"):
        path = write_wav(tmp_path / "quiet.wav", np.zeros(8_000, np.float32), 8_000)
        said = run("listen", f"{name}={path}", "--no-realtime", "--mqtt", "none").stderr
        assert ("listening to  hall: " if name == "hall" else "listening to  id_63391e25 (ระฆัง): ") in said


def test_one_line_an_event(tmp_path: Path) -> None:
    """People and programs read standard output; all else goes to standard error."""
    began = time.time()
    result = run("listen", "demo", "--no-realtime", "--mqtt", "none", "--json")
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert {event["type"] for event in events} == {"begin", "end"}
    assert time.time() - began < 120
    assert "listening to" in result.stderr
    assert "model" in result.stderr


@pytest.mark.parametrize(("command", "threads"), [("listen", "1"), ("tag", "1"), ("train", None)])
def test_a_device_multiplies_small_matrices_on_one_thread(command, threads, monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        assert run(command, "--help").exit_code == 0
        assert os.environ.get("OPENBLAS_NUM_THREADS") == threads


def test_a_number_of_threads_that_the_user_has_set_is_kept(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    assert run("tag", "--help").exit_code == 0
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
