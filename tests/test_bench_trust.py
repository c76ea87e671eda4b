"""`bench/trust.py`: the lines that a command prints, and the whole of it with a command that the test writes."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench import trust as bench
from tagger.errors import UserError
from train.evaluate.trust import Recording

GIVEN = '{"file": "a.wav", "onset": 1, "offset": 2, "label": "Bark", "score": 0.5}\n'


def test_lines_are_events_by_file():
    lines = bench.read_lines(GIVEN + GIVEN.replace("Bark", "Meow").replace('"score"', '"peak_score"'), {"a.wav"}, {})
    assert [(each.label, each.score, each.announced) for each in lines["a.wav"]] == [
        ("Bark", 0.5, True),
        ("Meow", 0.5, True),
    ]


def test_a_command_may_name_candidates_and_other_labels():
    given = GIVEN.replace('"score"', '"announced": false, "score"') + GIVEN.replace("Bark", "Meow")
    lines = bench.read_lines(given, {"a.wav"}, {"Bark": "dog"})
    assert [(each.label, each.announced) for each in lines["a.wav"]] == [("dog", False)]


@pytest.mark.parametrize(
    "line", ["dog 0.5", "[]", GIVEN.replace("a.wav", "b.wav"), GIVEN.replace("0.5", "1.5"), '{"file": "a.wav"}']
)
def test_any_other_line_is_a_mistake(line: str):
    with pytest.raises(UserError, match="line 1 is no event"):
        bench.read_lines(line, {"a.wav"}, {})


def test_a_command_is_asked_with_wav_files(tmp_path: Path):
    program = tmp_path / "loud.py"
    program.write_text(
        "import json, sys, wave\n"
        "for path in sys.argv[1:]:\n"
        "    data = wave.open(path).readframes(10**6)\n"
        "    score = max(data) / 255\n"
        "    if any(data):\n"
        "        print(json.dumps({'file': path, 'onset': 0, 'offset': 1, 'label': 'dog', 'score': score}))\n"
    )
    recordings = []
    for folder, level in (("dog", 0.5), ("other_home", 0.0)):
        path = tmp_path / f"{folder}.flac"
        soundfile.write(path, np.full(16_000, level), 16_000)
        recordings.append(Recording(path, folder))
    system = bench.Command(f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}", {})
    (_, dog), (_, other) = system.hear(recordings)
    assert (dog.label, dog.events, dog.seconds) == ("dog", ("dog",), 1.0)
    assert dog.points[0.1] == ("dog",)
    assert (other.score, other.label, other.events) == (0.0, "", ())


@pytest.mark.parametrize(
    ("command", "why"), [("no-such-program", "No such file"), ("false", "exit code 1"), ("", "names no")]
)
def test_a_command_that_fails_says_why(command: str, why: str, tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1600), 16_000)
    with pytest.raises(UserError, match=why):
        list(bench.Command(command, {}).hear([Recording(path, "dog")]))


def test_a_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("home/dog/a.wav", "home/other_home/b.wav", "quiet/music/p__c.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.zeros(160_000), 16_000)
    bench.report(bench.Command("true", {}), tmp_path / "home", [tmp_path / "quiet"], None, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "non-target audio: 0 events in 0.00 h = 0.00 an hour" in printed
    assert "announced  0.000" in printed
    document = json.loads((tmp_path / "out" / "trust.json").read_text())
    assert document["measures"]["auroc"]["value"] == 0.5
    assert set(document["curves"]) == {"home", "nontarget music"}
    assert (tmp_path / "out" / "det-home.png").is_file()


def test_a_model_is_asked_as_tag_asks_it(tmp_path: Path):
    path = tmp_path / "quiet.wav"
    soundfile.write(path, np.zeros(160_000), 32_000)
    system = bench.Model([], 1.0, None)
    ((_, heard),) = system.hear([Recording(path, "other_home", frozenset({"dog"}))])
    assert (heard.seconds, heard.events) == (5.0, ())
    assert heard.label in set(system.classifier.info.labels) - {"dog"}
    assert 0 < heard.score < 0.5
