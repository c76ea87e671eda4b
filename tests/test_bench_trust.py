"""`bench/trust.py`: the lines that a command prints, and the whole of it with a command that the test writes."""

import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from bench import trust as bench
from bench.others import command, network, results, table, yamnet
from bench.others.command import Answer, Command, Line, read_lines
from tagger.errors import UserError
from train.evaluate.trust import Recording

GIVEN = '{"file": "a.wav", "onset": 1, "offset": 2, "label": "Bark", "score": 0.5}\n'


def test_lines_are_events_by_file():
    lines = read_lines(GIVEN + GIVEN.replace("Bark", "Meow").replace('"score"', '"peak_score"'), {"a.wav"}, {})
    assert [(each.labels, each.score, each.announced, each.onset_s) for each in lines["a.wav"]] == [
        (("Bark",), 0.5, True, 1.0),
        (("Meow",), 0.5, True, 1.0),
    ]


def test_a_command_may_name_candidates_and_other_labels():
    given = GIVEN.replace('"score"', '"announced": false, "score"') + GIVEN.replace("Bark", "Meow")
    lines = read_lines(given, {"a.wav"}, {"Bark": ("dog",)})
    assert [(each.labels, each.announced) for each in lines["a.wav"]] == [(("dog",), False)]


@pytest.mark.parametrize(
    "line",
    [
        "dog 0.5",
        "[]",
        GIVEN.replace("a.wav", "b.wav"),
        GIVEN.replace("0.5", "1.5"),
        '{"file": "a.wav"}',
        GIVEN.replace('"offset": 2', '"offset": 0.5'),
        GIVEN.replace('"offset": 2', '"offset": Infinity'),
        GIVEN.replace('"onset": 1', '"onset": "soon"'),
    ],
)
def test_any_other_line_is_a_mistake(line: str):
    with pytest.raises(UserError, match="line 1 is no event"):
        read_lines(line, {"a.wav"}, {})


DOG = Recording(Path("a.wav"), "dog")


def test_lines_of_one_label_whose_times_touch_are_one_event():
    window = [("dog", Line(("dog",), 0.9, True, start, start + 1.0)) for start in (3.0, 0.0, 0.5, 1.5)]
    assert command.joined([*window, ("cat", Line(("cat",), 0.9, True, 0.0, 5.0))]) == ("dog", "cat", "dog")
    assert command.joined([("dog", Line(("dog",), 0.9)), ("dog", Line(("dog",), 0.9))]) == ("dog", "dog")


def test_a_name_that_means_several_labels_is_taken_for_the_right_one():
    line = Line(("hen", "rooster"), 0.9)
    assert line.label(Recording(Path("a.wav"), "rooster")) == "rooster"
    assert line.label(DOG) == "hen"
    assert line.label(Recording(Path("a.wav"), "other_home", frozenset({"rooster"}))) is None


def test_names_are_of_a_table_or_of_audioset(tmp_path: Path):
    (tmp_path / "names.csv").write_text("theirs,ours\nChicken,hen\nChicken,rooster\nBark,dog\n")
    assert command.read_names(tmp_path / "names.csv") == {"Chicken": ("hen", "rooster"), "Bark": ("dog",)}
    known = command.read_names(Path("audioset"))
    assert known["Bark"] == ("dog",)
    assert known["Chicken, rooster"] == ("hen", "rooster")
    (tmp_path / "names.csv").write_text("name\nBark\n")
    with pytest.raises(UserError, match="needs the columns theirs and ours"):
        command.read_names(tmp_path / "names.csv")


def test_with_a_threshold_the_scores_say_what_an_event_is():
    lines = [Line(("dog",), 0.4, True, 0.0, 1.0), Line(("cat",), 0.6, False, 0.0, 1.0)]
    answer = Answer(DOG, 1.0, lines)
    assert answer.heard(None).events == ("dog",)
    assert answer.heard(0.5).events == ("cat",)
    assert (answer.heard(0.3).score, answer.heard(0.3).label, answer.right) == (0.6, "cat", 0.4)


def test_a_threshold_is_chosen_by_the_share_that_is_to_be_announced():
    answers = [Answer(DOG, 1.0, [Line(("dog",), score)]) for score in (0.9, 0.5)]
    answers += [Answer(Recording(Path("b.wav"), "cat"), 1.0, [Line(("cat",), 0.7), Line(("dog",), 0.99)])]
    answers += [Answer(Recording(Path("c.wav"), "other_home"), 1.0, [Line(("dog",), 0.95)])]
    assert [command.threshold_for(answers, share) for share in (0.25, 0.75, 1.0)] == [0.9, 0.7, 0.5]
    with pytest.raises(UserError, match="at any threshold"):
        command.threshold_for([*answers, Answer(DOG, 1.0, [])], 1.0)


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
    system = Command(f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}", {})
    (_, dog), (_, other) = system.hear(recordings)
    assert (dog.label, dog.events, dog.seconds) == ("dog", ("dog",), 1.0)
    assert dog.points[0.5] == ("dog",)
    assert (other.score, other.label, other.events) == (0.0, "", ())


@pytest.mark.parametrize(
    ("command", "why"), [("no-such-program", "No such file"), ("false", "exit code 1"), ("", "names no")]
)
def test_a_command_that_fails_says_why(command: str, why: str, tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1600), 16_000)
    with pytest.raises(UserError, match=why):
        list(Command(command, {}).hear([Recording(path, "dog")]))


def test_what_fewer_false_alarms_cost_is_a_row_for_each_threshold(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    program = tmp_path / "always.py"
    program.write_text(
        "import json, sys\n"
        "for path in sys.argv[1:]:\n"
        "    print(json.dumps({'file': path, 'onset': 0, 'offset': 1, 'label': 'dog', 'score': 0.6}))\n"
    )
    for name in ("home/dog/a.wav", "home/other_home/b.wav", "quiet/music/p__c.wav", "quiet/music/p__d.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(16_000 * 36), 16_000)
    command = Command(f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}", {})
    bench.report(command, tmp_path / "home", [tmp_path / "quiet"], None, None)
    lines = capsys.readouterr().out.split("wrong an hour: everyday, non-target\n")[1].splitlines()
    rows = [(float(row[0]), *map(float, (row[1], *row[3:]))) for row in map(str.split, lines)]
    assert len(rows) > 9
    assert {tuple(numbers) for threshold, *numbers in rows if threshold < 0.6} == {(100.0, 100.0, 100.0)}
    assert {tuple(numbers) for threshold, *numbers in rows if threshold > 0.6} == {(0.0, 0.0, 0.0)}


def test_a_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("home/dog/a.wav", "home/other_home/b.wav", "quiet/music/p__c.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.zeros(160_000), 16_000)
    bench.report(Command("true", {}), tmp_path / "home", [tmp_path / "quiet"], None, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "non-target audio: 0 events in 0.00 h = 0.00 an hour" in printed
    assert "announced  0.000" in printed
    assert "wrong an hour: everyday, non-target" in printed
    document = json.loads((tmp_path / "out" / "trust.json").read_text())
    assert document["measures"]["auroc"]["value"] == 0.5
    assert set(document["curves"]) == {"home", "nontarget music"}
    assert (tmp_path / "out" / "det-home.png").is_file()


HALVES = {"choose": "a", "report": "github:marc-moreaux/kitchen20"}


def test_systems_are_held_beside_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    manifest = ["path,source"]
    for half, source in HALVES.items():
        for folder, level in (("dog", 0.5), ("other_home", 0.1)):
            path = tmp_path / "home" / folder / f"{half}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.full(160_000, level), 16_000)
            manifest.append(f"{folder}/{half}.wav,{source}")
    (tmp_path / "home" / "manifest.csv").write_text("\n".join(manifest))
    program = tmp_path / "loud.py"
    program.write_text(
        "import json, sys, wave\n"
        "for path in sys.argv[2:]:\n"
        "    score = float(sys.argv[1]) * max(wave.open(path).readframes(10**5)[65537:99999:2]) / 127\n"
        "    print(json.dumps({'file': path, 'onset': 0, 'offset': 1, 'label': 'Bark', 'score': score}))\n"
    )
    names = command.read_names(Path("audioset"))
    one, other = (
        Command(shlex.join([sys.executable, str(program), factor]), names, threshold)
        for factor, threshold in (("1", 0.3), ("0.1", None))
    )
    bench.report(one, tmp_path / "home", [], None, tmp_path / "one")
    bench.as_often(other, tmp_path / "home", tmp_path / "one")
    assert other.threshold == pytest.approx(0.05, abs=0.001)
    bench.report(other, tmp_path / "home", [], None, tmp_path / "other")
    capsys.readouterr()
    home, _, curves = results.read(tmp_path / "other")
    assert [(recording.half, heard.events) for recording, heard in home] == [
        ("choose", ("dog",)),
        ("report", ("dog",)),
        ("choose", ()),
        ("report", ()),
    ]
    assert set(curves) == {"home"}
    picture = tmp_path / "others.png"
    assert table.main(["One=" + str(tmp_path / "one"), f"Other={tmp_path / 'other'}", f"--picture={picture}"]) == 0
    printed = capsys.readouterr().out
    assert "| Other | 1.000 (1.000 to 1.000) |" in printed
    assert "| home | 0.01 | 0.0, 0 % | 0.0, 0 % |" in printed
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_folder_without_results_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "trust.json").write_text("{}")
    assert table.main([f"a={tmp_path}"]) == 2
    assert "is no result of bench/trust.py --out" in capsys.readouterr().err


def printed_by(program: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[Line]:
    program.main(arguments)
    return read_lines(capsys.readouterr().out, {arguments[-1]}, {})[arguments[-1]]


def test_a_network_of_ours_prints_such_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 200_000), 32_000)
    every = printed_by(network, ["esc50", "--hop", "1", path], capsys)
    assert len({each.labels for each in every}) == 50
    assert {each.onset_s for each in every} <= {0.0, 1.0, 2.0}
    highest = printed_by(network, ["esc50", "--highest", "--hop", "1", path], capsys)
    assert [each.onset_s for each in highest] == [0.0, 1.0, 2.0]
    assert max(each.score for each in highest) == max(each.score for each in every)


def test_yamnet_prints_such_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    class Interpreter:
        """Three classes: the level, its half, and nothing."""

        def __init__(self, path: str, num_threads: int) -> None:
            self._given = np.zeros(0)

        def allocate_tensors(self) -> None:
            pass

        def get_input_details(self) -> list[dict[str, Any]]:
            return [{"index": 0, "shape": [1, yamnet.WINDOW]}]

        def get_output_details(self) -> list[dict[str, Any]]:
            return [{"index": 1, "shape": [96, 64]}, {"index": 2, "shape": [1, 3]}]

        def set_tensor(self, index: int, value: Any) -> None:
            assert value.shape == (1, yamnet.WINDOW)
            self._given = value[0]

        def invoke(self) -> None:
            pass

        def get_tensor(self, index: int) -> Any:
            assert index == 2
            level = np.abs(self._given).max()
            return np.array([[level, level / 2, 0.0]], np.float32)

    module = ModuleType("interpreter")
    module.Interpreter = Interpreter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_edge_litert", ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    path, classes = str(tmp_path / "a.wav"), tmp_path / "classes.csv"
    soundfile.write(path, np.full(48_000, 0.5), 32_000)
    classes.write_text("index,mid,display_name\n0,/m/0,Dog\n1,/m/1,Bark\n2,/m/2,Silence\n")
    lines = printed_by(yamnet, ["model.tflite", "--classes", str(classes), path], capsys)
    assert [each.labels for each in lines if each.onset_s == 0.0] == [("Dog",), ("Bark",), ("Silence",)]
    assert max(each.offset_s or 0 for each in lines) == pytest.approx(0.975 + 2 * 0.4875)
    assert lines[1].score == pytest.approx(0.25, abs=0.05)


def test_means_are_of_successive_windows():
    scores = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 4.0]], np.float32)
    assert yamnet.means(scores, 1).tolist() == scores.tolist()
    assert yamnet.means(scores, 2).tolist() == [[0.5, 1.0], [1.5, 2.5]]
    assert yamnet.means(scores, 9).tolist() == [[1.0, 2.0]]


def test_a_model_is_asked_as_tag_asks_it(tmp_path: Path):
    path = tmp_path / "quiet.wav"
    soundfile.write(path, np.zeros(160_000), 32_000)
    system = bench.Model([], 1.0, None)
    ((_, heard),) = system.hear([Recording(path, "other_home", frozenset({"dog"}))])
    assert (heard.seconds, heard.events) == (5.0, ())
    assert heard.label in set(system.classifier.info.labels) - {"dog"}
    assert 0 < heard.score < 0.5
