"""Whatever others put into labels, file names and messages, the terminal gets lines of visible text."""

import io
import json
import logging
import os
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from hypothesis import example, given
from hypothesis import strategies as st

from tagger.checkpoints import checkpoint
from tagger.checkpoints.header import METADATA_KEY, read_header
from tagger.checkpoints.store import BUNDLED
from tagger.clips.folder import EVENTS
from tagger.events import Event, LabelScore, Report, Scores, Stream
from tagger.history.log import EventLog, EventRow
from tagger.mqtt.watch import Watcher
from tagger.names import label_problem
from tagger.printable import LogFormatter, LogHandler, StatusLine, echo_lines, is_terminal, printable, write_line
from tagger.settings import MqttSettings
from tagger.sinks.console import ConsoleSink
from tests.programs import run, siren, write_wav

EVIL = "dog\x1b[2J\x1b]0;owned\x07\nError: forged\r\x9b31m\u202etxt\u2066\u200b\u2028end"
"""Clears the screen, sets the title, forges a line, returns to the line's begin, colours, turns the direction."""
LONE = "half \udc80 and \ud83d"
EPOCH = 1_800_000_000.0


def check(*texts: str) -> None:
    """No text has anything but visible characters and ends of lines."""
    for text in texts:
        bad = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}
        assert not bad, ascii(text)
        assert not any(line.startswith("Error: forged") for line in text.split("\n")), text


def checked(result: Result) -> Result:
    check(result.stdout, result.stderr)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@given(st.text())
@example(EVIL)
@example(LONE)
def test_a_line_is_one_line_of_visible_text(text: str) -> None:
    shown = printable(text)
    check(shown)
    assert "\n" not in shown
    shown.encode()
    printable(text, "ascii").encode("ascii")
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["Säge, elektrisch", "犬の鳴き声　室内", "צפירה", "50 % №5", 'C:\\sounds "x"'])
def test_ordinary_text_stays(text: str) -> None:
    assert printable(text) == text
    assert printable(json.dumps({"label": EVIL + LONE})) == json.dumps({"label": EVIL + LONE})


def test_lines_are_one_write_and_letters_that_a_terminal_lacks_are_escapes() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    write_line("Säge 犬", file)
    assert file.buffer.getvalue() == "Säge \\u72ac\n".encode("latin-1")  # type: ignore[attr-defined]


def test_nothing_is_printed_for_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    echo_lines([])
    echo_lines(["a", EVIL], err=True)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 2)
    check(err)


def test_log_lines_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(asctime)s %(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    log.warning("%s: %s", EVIL, LONE)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    check(err)
    try:
        raise ValueError(EVIL)
    except ValueError:
        log.exception("of %s", EVIL)
    check(capsys.readouterr().err.replace("\nError: forged", "\n"))  # a traceback has lines


def test_the_daemons_log_is_so_configured() -> None:
    code = (
        "import logging; from tagger.logs import configure; configure();"
        f"logging.getLogger('tagger.x').warning({EVIL!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 1
    check(done.stderr)


def evil_report() -> Report:
    scores = Scores(np.ones(1, np.float32), 0, 5, EPOCH, np.ones((1, 1), np.float32), 0.5)
    return Report(scores, (LabelScore(EVIL, 0.9, EVIL),), EVIL, 0.1)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_console(as_json: bool) -> None:
    file = io.StringIO()
    sink = ConsoleSink(as_json, explain=True, file=file)
    stream = Stream("node", "mic", EVIL, (EVIL,))
    begin = Event("begin", "1", EVIL, 0.9, 0.9, EPOCH)
    sink.event(stream, begin)
    sink.event(stream, replace(begin, type="end", offset=EPOCH + 1))
    sink.report(stream, evil_report())
    assert file.getvalue().count("\n") == 3
    check(file.getvalue())
    if as_json:
        assert json.loads(file.getvalue().split("\n")[0])["label"] == EVIL


@pytest.mark.parametrize("payload", [EVIL, json.dumps({"type": EVIL, "label": EVIL, "score": 1.0}), LONE])
@pytest.mark.parametrize("name", ["node/mic/event", EVIL])
def test_the_watcher(payload: str, name: str) -> None:
    file = io.StringIO()
    Watcher(MqttSettings(), file).print_message(name, payload.encode(errors="surrogatepass"), False)
    assert file.getvalue().count("\n") == 1
    check(file.getvalue())


@pytest.fixture
def evil_sound(tmp_path: Path) -> Path:
    return write_wav(tmp_path / f"{EVIL}.wav", siren(6))


@pytest.fixture
def evil_model(home: Path) -> Path:
    """A checkpoint with a name and metrics that nobody means well with."""
    loaded = checkpoint.load(BUNDLED / "esc50.safetensors")
    path = home / "models" / "evil\x1b[31m\n.safetensors"
    checkpoint.save(path, replace(loaded.info, metrics={EVIL: EVIL, "accuracy": 0.5}), loaded.model)
    return path


def test_tag(evil_sound: Path, tmp_path: Path) -> None:
    assert checked(run("tag", evil_sound)).exit_code == 0
    shown = checked(run("tag", evil_sound, "--json"))
    assert {json.loads(line)["file"] for line in shown.stdout.splitlines()} == {str(evil_sound)}
    assert checked(run("tag", evil_sound, "--events", "--audacity")).exit_code == 0
    assert checked(run("tag", tmp_path / EVIL)).exit_code == 2
    broken = tmp_path / f"broken{EVIL}.wav"
    broken.write_bytes(b"no sound")
    assert checked(run("tag", broken)).exit_code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are Unicode")
def test_a_file_name_that_is_not_unicode(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\xff\x1b.wav")
    write_wav(tmp_path / "x.wav", siren(6)).rename(path)
    assert checked(run("tag", path)).exit_code == 0
    assert checked(run("tag", path, "--json")).exit_code == 0


@pytest.mark.parametrize("mode", [(), ("--json",), ("--count",), ("--day", "2027-01-15", "--chart"), ("--label", EVIL)])
def test_events(tmp_path: Path, mode: tuple[str, ...]) -> None:
    log = EventLog(tmp_path / "events.sqlite")
    log.write([EventRow("1", EVIL, EVIL, EVIL, EPOCH, EPOCH + 1, 0.9, 0.9, EVIL, None)])
    log.close()
    assert checked(run("events", tmp_path / "events.sqlite", *mode)).exit_code == 0
    checked(run("events", tmp_path / "events.sqlite", "--source", f"no {EVIL}"))
    checked(run("events", tmp_path / EVIL))


def test_review(tmp_path: Path) -> None:
    times = {"onset": "2027-01-15T08:00:00Z", "offset": "2027-01-15T08:00:01Z"}
    event = {"id": EVIL, "file": f"{EVIL}.flac", "label": EVIL, "peak_score": 0.9, "node": EVIL, "source": EVIL}
    (tmp_path / EVENTS).write_text(json.dumps(event | times) + "\n")
    (tmp_path / f"{EVIL}.flac").write_bytes(b"no sound")
    for mode in ("--list",), ("--list", "--json"), ("--mark", f"{EVIL}=right"), ("--mark", f"no {EVIL}=right"):
        checked(run("review", tmp_path, *mode))
    checked(run("review", tmp_path, "--mark", f"{EVIL}.flac=undo"))
    shown = checked(run("review", tmp_path, stdin=b"r\n")).stdout
    assert "\\x1b[2J" in shown


def test_models(evil_model: Path, tmp_path: Path, home: Path) -> None:
    (home / "models" / "broken\x1b[5m.safetensors").write_bytes(b"nothing")
    shown = checked(run("models")).stdout
    assert "evil\\x1b[31m\\n" in shown
    assert "unusable" in shown
    checked(run("models", "add", tmp_path / f"{EVIL}.pt"))
    checked(run("models", "add", evil_model))
    checked(run("models", "download", EVIL))
    checked(run("tag", "-m", evil_model.stem, tmp_path / "x.wav"))
    checked(run("tag", "-m", f"no{EVIL}", tmp_path / "x.wav"))


def test_config(tmp_path: Path) -> None:
    config = tmp_path / "tagger.toml"
    escaped = json.dumps(EVIL)
    for text in (
        f"[listen]\nsources = [{escaped}]\n",
        f"[mqtt]\nprefix = {escaped}\n",
        f"[events]\nallow = [{escaped}]\n",
        f"[events.labels.{escaped}]\nenter = 0.5\n",
        f"[{escaped}]\nx = 1\n",
        f"[listen]\nmodel = {escaped}\n",
    ):
        config.write_text(text)
        checked(run("config", "check", "--offline", "--config", config))
        document = json.loads(checked(run("config", "check", "--offline", "--config", config, "--json")).stdout)
        assert not document["ok"]
    checked(run("config", "schema"))


def test_what_was_typed_is_repeated_safely() -> None:
    for arguments in ([EVIL], [f"--{EVIL}"], ["tag", f"--{EVIL}"], ["tag", "--hop", EVIL, "x"], ["recipes", EVIL]):
        assert checked(run(*arguments)).exit_code == 2


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    from tagger.sources import portaudio

    evil = {"index": 0, "name": EVIL, "max_input_channels": 1, "default_samplerate": 48_000.0, "hostapi": 0}
    evil |= {"max_output_channels": 0, "is_default": True}
    names = [name for name in vars(portaudio) if "devices" in name.lower() and not name.startswith("_")]
    for name in names:
        monkeypatch.setattr(portaudio, name, lambda *_, **__: [evil])
    checked(run("devices"))
    checked(run("devices", "--json"))


@pytest.mark.parametrize("command", [("train", "--freeze"), ("eval", "-m", "esc50")])
def test_own_sounds_with_evil_names(tmp_path: Path, command: tuple[str, ...]) -> None:
    root = tmp_path / "own"
    for label in ("dog", "cat"):
        for number in range(2):
            (root / label).mkdir(parents=True, exist_ok=True)
            (root / label / f"{number}{EVIL}.wav").write_bytes(b"no sound" + bytes([number]) + label.encode())
    (root / f"{EVIL}.txt").write_text("x")
    assert checked(run(*command, root)).exit_code == 2
    (root / EVIL).mkdir()
    assert checked(run(*command, root)).exit_code == 2
    (tmp_path / "own.csv").write_text(f'filename,label\n"{EVIL}",dog\n')
    assert checked(run(*command, tmp_path / "own.csv")).exit_code == 2


def test_features(evil_sound: Path, tmp_path: Path) -> None:
    assert checked(run("features", evil_sound, "-o", tmp_path / "out", "--no-picture")).exit_code == 0
    assert checked(run("features", evil_sound, "-o", tmp_path / "out", "--front-end", EVIL)).exit_code == 2


LABELS: list[tuple[str, bool]] = [
    *((label, True) for label in ("dog", "Säge, elektrisch", "犬", "سگ\u200cها", "👩\u200d🚒", "a" * 100)),
    *((label, False) for label in ("", " ", "a/b", "a+b", "#", "a\x1b", "a\n", "\x9b", "\u202ea", "\u200b", "\ud800")),
    ("a" * 101, False),
]


@pytest.mark.parametrize(("label", "is_right"), LABELS)
def test_what_can_be_a_label_when_a_checkpoint_is_made_and_read(tmp_path: Path, label: str, is_right: bool) -> None:
    from safetensors.numpy import load_file, save_file

    assert (label_problem(label) is None) == is_right
    bundled = BUNDLED / "esc50.safetensors"
    document = read_header(bundled)
    document["labels"][0] = label
    path = tmp_path / "model.safetensors"
    save_file(load_file(bundled), path, {METADATA_KEY: json.dumps(document)})
    if is_right:
        assert checkpoint.load(path).info.labels[0] == label
        return
    result = checked(run("tag", "-m", path, tmp_path / "x.wav"))
    assert result.exit_code == 2
    assert ("half a character" if label == "\ud800" else "cannot be a label") in result.stderr


# --- the status line ---


class Terminal(io.StringIO):
    """What a terminal shows, line by line: it obeys a return to the begin of the line and the removal of its rest."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        assert "\r" not in self.getvalue().replace("\r\x1b[K", "")
        return [line.rpartition("\r\x1b[K")[2] for line in self.getvalue().split("\n")]


def test_other_lines_appear_above_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = LogHandler()
    handler.setFormatter(LogFormatter("%(message)s"))
    status = StatusLine(terminal)
    echo_lines(["before"])
    status.show("level 1")
    echo_lines(["out"])
    echo_lines(["error"], err=True)
    write_line("written", terminal)
    handler.emit(logging.makeLogRecord({"msg": "logged"}))
    assert terminal.lines == ["before", "out", "error", "written", "logged", "level 1"]
    status.show("level 2")
    assert terminal.lines[-1] == "level 2"
    status.clear()
    assert terminal.lines[-1] == ""
    echo_lines(["after"])
    assert terminal.lines == ["before", "out", "error", "written", "logged", "after", ""]


def test_a_status_is_one_visible_line_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    for text, shown in ((EVIL, printable(EVIL)[:19]), ("\u72ac" * 20, "\u72ac" * 9)):
        terminal = Terminal()
        status = StatusLine(terminal)
        status.show(text)
        status.clear()
        assert terminal.getvalue() == f"\r\x1b[K{shown}\r\x1b[K"


def test_a_terminal_that_goes_ends_nothing() -> None:
    terminal = Terminal()
    status = StatusLine(terminal)
    status.show("level")
    terminal.close()
    status.show("level")
    status.clear()


@pytest.mark.parametrize(("term", "is_one"), [("xterm", True), ("dumb", False), ("", False)])
def test_what_cannot_redraw_a_line_is_no_terminal(term: str, is_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    assert is_terminal(Terminal()) == is_one
    assert not is_terminal(io.StringIO())
