"""`tagger config init`: five answers to a file that says all there is to say, and is right."""

import json
import os
import pty
import re
import signal
import stat
import subprocess
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.checkpoints import checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.config.build import resolve
from tagger.config.options import LABEL_FIELDS, OPTIONS
from tagger.config.template import commented
from tagger.errors import UserError
from tagger.features.config import MelConfig
from tagger.models.config import EfficientATConfig
from tests.programs import TAGGER, refused, run, tagger

SECRET = "Xy7pass"
ANSWERS = "dog, siren\ndemo\nmqtt://broker:1884\nme\n{password}\ny\n"


def init(*args: object, answers: str = ANSWERS.format(password=SECRET)):
    return run("config", "init", *args, stdin=answers.encode())


def test_the_file_that_init_writes_passes_check_and_is_what_was_answered(home):
    done = init()
    assert done.exit_code == 0, done.output
    path = home / "tagger.toml"
    settings = resolve({}, {}, None).right()
    assert settings.config == path
    assert settings.sources == ("demo",)
    assert (settings.mqtt.url, settings.mqtt.password) == ("mqtt://me@broker:1884", SECRET)
    assert settings.homeassistant is not None
    assert settings.events.allow == ("dog", "siren")
    checked = run("config", "check", "--offline")
    assert (checked.exit_code, checked.stdout.splitlines()[-1]) == (0, "ok")
    assert checked.stderr.startswith("Warning: mqtt: the password goes to broker in plain text")
    assert checked.stderr.count("\n") == 1
    assert done.stdout.splitlines()[-2:] == ["next:    tagger config check", "then:    tagger listen"]


@pytest.mark.slow
def test_the_password_is_in_a_file_of_its_own_which_nobody_else_can_read(tmp_path):
    path = tmp_path / "new" / "mine.toml"
    done = tagger("config", "init", "-o", path, stdin=ANSWERS.format(password=SECRET).encode())
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    secret = path.with_name("mine.password")
    assert secret.read_text() == f"{SECRET}\n"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert SECRET not in path.read_text()
    assert sorted(each.name for each in path.parent.iterdir()) == ["mine.password", "mine.toml", "tagger.schema.json"]
    assert json.loads((path.parent / "tagger.schema.json").read_text())["title"] == "tagger.toml"
    assert path.read_text().startswith("#:schema tagger.schema.json\n")
    assert f"tagger listen --config {path}" in done.stdout
    assert run("config", "check", "--offline", "--config", path).exit_code == 0


def test_a_password_in_the_url_is_not_asked_for_and_not_written(tmp_path):
    path = tmp_path / "t.toml"
    done = init("-o", path, answers=f"\nmic\nmqtts://me:{SECRET}@broker\nn\n")
    assert done.exit_code == 0, done.output
    table = tomllib.loads(path.read_text())
    assert table["mqtt"] == {"url": "mqtts://broker:8883", "user": "me", "password_file": "t.password"}
    assert table["homeassistant"] == {"enabled": False}
    assert table["events"] == {}


def test_enter_is_an_answer_to_everything(home):
    done = init(answers="\n\n\n\n\n")
    assert done.exit_code == 0, done.output
    settings = resolve({}, {}, None).right()
    assert (settings.sources, settings.mqtt.url, settings.mqtt.user) == (("mic",), "mqtt://localhost:1883", None)
    assert settings.homeassistant is not None
    assert settings.events.allow is None
    assert not (home / "tagger.password").exists()


def test_a_microphone_can_be_chosen_by_its_number(home, monkeypatch):
    monkeypatch.setattr("tagger.sources.portaudio.input_devices", lambda: [{"name": "USB: one"}, {"name": "HDA"}])
    done = init(answers="\n3\n2\nnone\n")
    assert done.exit_code == 0, done.output
    assert re.search(r"^ +2 +mic:HDA$", done.stdout, re.MULTILINE)
    assert resolve({}, {}, None).right().sources == ("mic:HDA",)


def test_without_portaudio_it_says_so_and_goes_on(home, monkeypatch):
    def inputs():
        raise UserError("no PortAudio")

    monkeypatch.setattr("tagger.sources.portaudio.input_devices", inputs)
    done = init(answers="\n\nnone\n")
    assert done.exit_code == 0, done.output
    assert "no PortAudio" in done.stdout


@pytest.mark.parametrize("broker", ["none", "embedded"])
def test_without_a_broker_of_ones_own_there_is_less_to_ask(broker, home):
    done = init(answers=f"\ndemo\n{broker}\n" + ("\n" if broker == "embedded" else ""))
    assert done.exit_code == 0, done.output
    assert "User" not in done.stdout
    assert run("config", "check", "--offline").exit_code == 0
    assert (resolve({}, {}, None).right().homeassistant is None) == (broker == "none")


def test_an_answer_that_cannot_be_is_asked_for_again(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "room.wav").write_text("")
    answers = "dgo\nclok_alarm\ndog,,dog\nmoc, cim\nroom=room.wav, room=demo\nroom=room.wav\nhttp://broker\nbroker.local\n\nn\n"
    done = init(answers=answers)
    assert done.exit_code == 0, done.output
    assert "'dgo': did you mean dog?" in done.stdout
    assert "did you mean clock_alarm" in done.stdout
    assert "moc: is no such file" in done.stdout
    assert "cim: is no such file" in done.stdout
    assert "room is the name of several sources" in done.stdout
    assert "http:// is unknown" in done.stdout
    settings = resolve({}, {}, None).right()
    assert settings.sources == (f"room={tmp_path}/room.wav",)
    assert settings.mqtt.url == "mqtt://broker.local:1883"
    assert settings.events.allow == ("dog",)


@pytest.mark.slow
def test_a_password_that_is_no_text_is_asked_for_again_and_spaces_belong_to_it(home):
    answers = b"\ndemo\nmqtt://broker\nme\n\xff\xfe\n a b \nn\n"
    done = tagger("config", "init", stdin=answers, PYTHONIOENCODING="utf-8:surrogateescape")
    assert done.returncode == 0, done.stderr
    assert "this answer is not UTF-8 text" in done.stdout
    assert (home / "tagger.password").read_text() == " a b \n"


@pytest.mark.slow
def test_a_strict_terminal_makes_no_traceback_of_it(home):
    done = tagger("config", "init", stdin=b"\xff\xfe\n", PYTHONIOENCODING="utf-8:strict")
    assert done.returncode == 1
    assert "this answer is not UTF-8 text" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_target_that_cannot_be_written_is_refused_before_the_first_question(home, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "sub" / "mine.toml"
    done = init("-o", below, answers="")
    refused(done, f"{below} cannot be written: {tmp_path / 'file'}: is no folder", "-o")
    assert done.stdout == ""
    monkeypatch.setenv("TAGGER_HOME", str(tmp_path / "file"))
    done = init(answers="")
    refused(done, "cannot be written", "TAGGER_HOME")
    assert done.stdout == ""


@pytest.mark.parametrize("wrong", ["x.flac,channel=9", "a;b", "my broker", "broker!", "a%20b", "mqtts://a=b", "(host)"])
def test_a_broker_that_is_no_host_is_asked_for_again(wrong, home):
    done = init(answers=f"\n\n{wrong}\nbroker\n\nn\n")
    assert done.exit_code == 0, done.output
    assert "the URL's host is no name or address" in done.stdout
    assert tomllib.loads((home / "tagger.toml").read_text())["mqtt"] == {"url": "mqtt://broker:1883"}


def test_nothing_is_overwritten_unless_that_is_asked(home):
    home.mkdir()
    (home / "tagger.toml").write_text("# mine")
    refused(init(), str(home / "tagger.toml"), "--force")
    (home / "tagger.toml").unlink()
    (home / "tagger.password").write_text("mine")
    refused(init(), str(home / "tagger.password"), "--force")
    assert [each.name for each in home.iterdir()] == ["tagger.password"]
    assert init("--force").exit_code == 0
    assert (home / "tagger.password").read_text() == f"{SECRET}\n"
    refused(init("-o", home), "a folder")


@pytest.mark.parametrize("answers", ["", "dog\n", "\ndemo\nmqtt://broker\nme\n", ANSWERS.format(password="x")[:-2]])
def test_answers_that_end_too_early_write_nothing(answers, home):
    done = init(answers=answers)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert not home.exists()


@pytest.mark.slow
def test_ctrl_c_writes_nothing_and_the_password_is_not_echoed(home):
    """At a terminal."""
    parent, child = pty.openpty()
    process = subprocess.Popen([*TAGGER, "config", "init"], stdin=child, stdout=child, stderr=child, close_fds=True,
                               start_new_session=True, env=os.environ)  # fmt: skip
    os.close(child)
    said = b""

    def answer(question: bytes, text: bytes) -> None:
        nonlocal said
        deadline = time.monotonic() + 90
        while question not in said.rpartition(b"\n")[2]:
            assert time.monotonic() < deadline, said
            said += os.read(parent, 1000)
        os.write(parent, text)
        said += b"\n"

    try:
        answer(b"Sounds", b"\n")
        answer(b"Sources", b"demo\n")
        answer(b"Broker", b"mqtt://broker\n")
        answer(b"User", b"me\n")
        answer(b"Password", SECRET.encode() + b"\n")
        answer(b"Home Assistant", b"")
        code = None
        for _ in range(90):  # one that comes just before the question is read is noticed with the next
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(1)
                break
        assert code == 1
    finally:
        process.kill()
        process.wait()
        os.close(parent)
    assert SECRET.encode() not in said
    assert b"Traceback" not in said
    assert not home.exists()


# --- which sounds ---


def save_model(path: Path, *labels: str) -> None:
    info = CheckpointInfo(
        name=path.stem,
        architecture="efficientat",
        config=EfficientATConfig(labels=len(labels), width=0.1, head="linear"),
        mel=MelConfig(),
        window_seconds=5.0,
        labels=labels,
        activation="sigmoid",
        thresholds=(0.5,) * len(labels),
    )
    checkpoint.save(path, info, checkpoint.build(info))


def events(home: Path) -> tuple[str, tuple[str, ...] | None]:
    """Model and allowed labels of the file that was written."""
    settings = resolve({}, {}, None).right()
    assert settings.events is not None
    return settings.model, settings.events.allow


def test_sounds_that_only_audioset_has_are_asked_for_first_and_its_model_is_proposed(home):
    done = init(answers="Dogs, bark, meow\n\ndemo\nnone\n")
    assert done.exit_code == 0, done.output
    assert events(home) == ("mn04_as", ("Dog", "Bark", "Meow"))
    assert "esc50 knows 1 of 3: dog" in done.stdout
    assert "mn04_as (to download) knows all: Dog, Bark, Meow" in done.stdout
    assert "first:   tagger models download mn04\n" in done.stdout
    refused(run("config", "check", "--offline"), "mn04_as is not here: `tagger models download mn04` fetches it")


def test_the_default_model_is_taken_without_a_question_if_it_knows_all(home):
    done = init(answers="Glass breaking; CATS, washing machines\ndemo\nnone\n")
    assert done.exit_code == 0, done.output
    assert events(home) == ("esc50", ("glass_breaking", "cat", "washing_machine"))
    assert "Model [" not in done.stdout


def test_classes_of_the_default_models_second_opinion_are_its_own_sounds(home):
    done = init(answers="Dogs, doorbell, smoke alarm\ndemo\nnone\n")
    assert done.exit_code == 0, done.output
    assert events(home) == ("esc50", ("dog", "Doorbell", "Smoke detector, smoke alarm"))
    assert "Model [" not in done.stdout


def test_all_that_is_wrong_is_named_at_once_and_enter_takes_what_is_right(home):
    done = init(answers="dgo, xyzzyx, cat, sirn\n\ndemo\nnone\n")
    assert done.exit_code == 0, done.output
    for words in (
        "'dgo': did you mean dog",
        "'sirn': did you mean siren",
        "'xyzzyx': no label is called so; ? lists all, and `tagger train`",
    ):
        assert done.stdout.count(words) == 1
    assert done.stdout.count("Sounds") == 2
    assert "Sounds [dog, cat, siren]" in done.stdout
    assert events(home) == ("esc50", ("dog", "cat", "siren"))


def test_what_the_chosen_model_lacks_is_said_and_left_out(home):
    done = init(answers="washing machine, bark, dog\nmn10_as\ndemo\nnone\n")
    assert done.exit_code == 0, done.output
    assert "Left out, as mn10_as does not know them: washing machine. esc50 and esc50-crnn would know it" in done.stdout
    assert events(home) == ("mn10_as", ("Bark", "Dog"))


def test_a_model_that_knows_none_of_the_sounds_cannot_be_chosen(home):
    done = init(answers="bark\nesc50\nmn10_as\ndemo\nnone\n")
    assert done.exit_code == 0, done.output
    assert "no model 'esc50' that knows any of these; there is mn04_as, mn10_as" in done.stdout
    assert events(home) == ("mn10_as", ("Bark",))


@pytest.mark.parametrize(
    ("which", "labels"),
    [("2", ("door_wood_creaks",)), ("", ("door_wood_knock", "door_wood_creaks")), ("3\n1", ("door_wood_knock",))],
)
def test_a_word_that_is_part_of_several_labels_is_asked_about(which, labels, home):
    done = init(answers=f"door wood\n{which}\ndemo\nnone\n")
    assert done.exit_code == 0, done.output
    assert events(home) == ("esc50", labels)


def test_an_own_model_is_proposed_where_it_alone_knows_the_sound(home):
    save_model(home / "models" / "mine.safetensors", "our bell, front door", "Türklingel")
    done = init(answers="our bell, front door,türklingel\n\ndemo\nnone\n")
    assert done.exit_code == 0, done.output
    assert events(home) == ("mine", ("our bell, front door", "Türklingel"))
    assert "first:" not in done.stdout


def test_a_question_mark_lists_every_label(home):
    done = init(answers="?\nall\ndemo\nnone\n")
    assert done.exit_code == 0, done.output
    listed = " ".join(done.stdout.split())
    assert "Smoke detector, smoke alarm; Fire alarm" in listed
    assert "Field recording" in listed
    assert events(home) == ("esc50", None)


def test_several_sources_are_a_list(home, monkeypatch):
    monkeypatch.setattr("tagger.sources.portaudio.input_devices", lambda: [{"name": "HDA Intel: ALC257 (hw:0,0)"}])
    done = init(answers="\nkitchen=mic:USB Audio, 1, hall=demo\nnone\n")
    assert done.exit_code == 0, done.output
    sources = ("kitchen=mic:USB Audio", "mic:HDA Intel: ALC257 (hw:0,0)", "hall=demo")
    assert resolve({}, {}, None).right().sources == sources
    assert f"3 sources: {'; '.join(sources)}" in done.stdout


# --- the commented file ---


def test_every_option_is_in_the_file_with_its_help_commented_out():
    text = commented({})
    assert {name: table for name, table in tomllib.loads(text).items() if name != "sinks"} == {
        "listen": {}, "mqtt": {}, "homeassistant": {}, "http": {}, "web": {}, "clips": {}, "events": {},
    }  # fmt: skip
    for option in (*(o for o in OPTIONS if o.is_in_file), *LABEL_FIELDS):
        assert re.search(rf"^# {re.escape(option.help)}\n#{option.name} = ", text, re.MULTILINE), option.key


@pytest.mark.parametrize("number", range(len(re.findall(r"^#[a-z_]+ = .*$", commented({}), re.MULTILINE))))
def test_any_line_can_be_uncommented_and_means_something(number, tmp_path):
    matches = list(re.finditer(r"^#([a-z_]+ = .*)$", commented({}), re.MULTILINE))
    match = matches[number]
    text = commented({})[: match.start()] + match[1] + commented({})[match.end() :]
    path = tmp_path / "tagger.toml"
    if "[events.labels.dog]\n" + match[0] in text or match[1].startswith("alarm"):
        return  # below a table that is commented out itself
    path.write_text(text)
    tomllib.loads(text)
    resolved = resolve({}, {}, path)
    assert not any("is unknown" in problem or "must be" in problem for problem in resolved.problems)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.lists(st.text(min_size=1)))
def test_whatever_is_chosen_the_file_says_it(user, labels):
    chosen = {"mqtt.user": user, "events.allow": labels, "listen.realtime": False}
    table = tomllib.loads(commented(chosen))
    assert table["mqtt"]["user"] == user
    assert table["events"].get("allow", []) == labels
    assert table["listen"] == {"realtime": False}
