"""`[[source]]`: each table is a source with its own channel, gain, labels, thresholds and hours."""

from pathlib import Path

import jsonschema
import pytest

from tagger.config.build import Configuration, resolve
from tagger.config.schema import schema
from tagger.errors import UserError
from tagger.policy import EventsConfig
from tagger.settings import ListenSettings
from tagger.sources.spec import Spec
from tests.programs import run

FILE = """
[listen]
sources = ["mic"]

[[source]]
name = "garden"
url = "rtsp://me:${CAMERA_PASSWORD}@camera/live"
channel = 1
gain_db = 6
labels = ["dog", "car_horn"]
threshold = 0.6
thresholds = {siren = 0.7, dog = 0.8}
active = "22:00-06:00"

[[source]]
url = "tcp://127.0.0.1:5000"
rate = 16000
format = "s16le"
"""


def made(path: Path, text: str) -> ListenSettings:
    path.write_text(text)
    path.chmod(0o600)
    return Configuration({"mqtt.url": "none"}, {}, path).settings


def test_each_table_is_a_source_beside_those_of_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "x")
    sources = made(tmp_path / "tagger.toml", FILE).sources
    assert sources[0] == "mic"
    assert sources[2] == "tcp://127.0.0.1:5000,rate=16000,format=s16le"
    garden = Spec.parse(sources[1])
    assert (garden.name, garden.uri) == ("garden", "rtsp://me:${CAMERA_PASSWORD}@camera/live")
    assert garden.channel(()) == (1,)
    assert garden.gain == pytest.approx(1.995, abs=0.001)
    assert str(garden.schedule) == "22:00-06:00"
    rules, threshold = garden.rules(EventsConfig(labels={"dog": {"exit": 0.1}}), None)
    assert rules.allow == ("dog", "car_horn")
    assert rules.labels == {"dog": {"exit": 0.1, "enter": 0.8}, "siren": {"enter": 0.7}}
    assert threshold == 0.6


def test_the_same_can_be_written_on_the_command_line() -> None:
    spec = Spec.parse(
        "garden=rtsp://camera/a?b=c,gain_db=-3,labels=dog+siren,thresholds=siren:0.7,active=6:00-8:00+17:00-22:00"
    )
    assert spec.uri == "rtsp://camera/a?b=c"
    assert str(spec.schedule) == "06:00-08:00+17:00-22:00"
    assert spec.rules(EventsConfig(), None)[0].labels == {"siren": {"enter": 0.7}}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('name = "a"', "url: is missing"),
        ('url = "mic"\ngain = 3', "gain: is unknown; did you mean gain_db?"),
        ('url = "mic"\ngain_db = 90', "gain_db: must be from -60 to 60"),
        ('url = "mic"\nthresholds = {dog = 2}', "thresholds: must be labels with scores above 0 to 1"),
        ('url = "mic"\nactive = "22-6"', "active: must be hours of the day such as 22:00-06:00"),
        ('url = "rtsp://me:secret@:1/x"\nname = "a"', "names no host"),
        ('url = "rtsp://me:secret@h/x"\nname = "a/b"', "name: must have letters"),
    ],
)
def test_a_mistake_is_said_with_its_place_and_without_secrets(tmp_path: Path, table: str, words: str) -> None:
    file = tmp_path / "tagger.toml"
    with pytest.raises(UserError) as caught:
        made(file, f"[[source]]\n{table}\n")
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_schema_has_the_tables() -> None:
    jsonschema.validate({"source": [{"url": "mic", "gain_db": 3, "thresholds": {"dog": 0.5}}]}, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"source": [{"name": "a"}]}, schema())


def test_what_check_prints_has_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "tagger.toml"
    file.write_text('[[source]]\nname = "door"\nurl = "rtsp://me:s3cret@camera/hidden?token=abc"\nchannel = 1\n')
    done = run("config", "check", "--offline", "--config", file, "--mqtt", "none")
    assert done.exit_code == 0, done.output
    assert 'listen.sources = ["door=rtsp://camera,channel=1"]' in done.stdout
    assert "everybody on this machine can read it" in done.stderr
    for word in ("s3cret", "hidden", "abc"):
        assert word not in done.output


def test_a_problem_of_all_tables_names_the_line_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "tagger.toml"
    file.write_text('\n[[source]]\nname = "a"\nurl = "mic"\n\n[[source]]\nname = "a"\nurl = "demo"\n')
    resolved = resolve({}, {}, file)
    assert resolved.problems == [f"{file}, line 2: source: a is the name of several sources; give each its own"]
    assert resolved.values["listen.sources"].origin == f"{file}:2"
