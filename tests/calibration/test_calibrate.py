"""Thresholds for a room: events are counted as Decider finds them, rarer ones estimated; file and report tell both."""

import math
import os
import signal
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger import policy
from tagger.calibration.output import write
from tagger.calibration.rates import HIGHEST, Evidence, Tail, choose, logit, most, weigh
from tagger.calibration.recordings import RecordingClassifier, each_once
from tagger.calibration.report import About, Result, document, report
from tagger.calibration.settings import CalibrationSettings, seconds, settings
from tagger.calibration.targets import Wish, Wishes
from tagger.calibration.tracks import Recorder, ThresholdedPolicy, begins, confirmed
from tagger.checkpoints import store
from tagger.checkpoints.info import read_info
from tagger.config.file import load_right
from tagger.decide import Decider
from tagger.errors import TaggerError, UserError
from tagger.events import Block, Samples, Scores
from tagger.policy import EventsConfig
from tests.fakes import FakeClassifier, FakeSource
from tests.programs import LONG_S, refused, run, running, write_wav

RATE_HZ = 32_000
WINDOW_S, HOP_S, STEPS = 5.0, 1.0, 10
LABELS = ("dog", "rain")

values = st.one_of(st.just(0.0), st.floats(0, 1, width=32), st.sampled_from([0.04, 0.3, 0.75, 0.9]))
one = st.tuples(values, values, st.integers(0, STEPS - 1), st.integers(0, STEPS - 1))
silence = st.builds(lambda count: [(0.0, 0.0, 0, 9)] * count, st.integers(0, 25))
windows = st.lists(st.one_of(st.lists(one, max_size=40), silence), min_size=1, max_size=6).map(
    lambda parts: [window for part in parts for window in part] or [(0.0, 0.0, 0, 9)]
)
configs = st.builds(
    EventsConfig,
    defaults=st.fixed_dictionaries(
        {},
        optional={
            "confirm_s": st.sampled_from([0.0, 1.0, 2.0]),
            "merge_s": st.sampled_from([0.5, 1.0, 4.0]),
            "refractory_s": st.sampled_from([0.0, 3.0]),
            "min_s": st.sampled_from([0.0, 2.0]),
            "max_s": st.sampled_from([3.0, 8.0]),
            "exit": st.sampled_from([0.03, 0.3]),
        },
    ),
)


def heard(sequence: list[tuple[float, float, int, int]]) -> list[Scores]:
    """Scores of two labels, each active between two steps of its window."""
    made = []
    for number, (dog, rain, first, last) in enumerate(sequence):
        activity = np.full((2, STEPS), 0.01, np.float32)
        activity[:, min(first, last) : max(first, last) + 1] = 0.9
        both = np.array([dog, rain], np.float32)
        start = number * HOP_S
        made.append(Scores(both, start, start + WINDOW_S, start, activity, WINDOW_S / STEPS, both))
    return made


def rules(config: EventsConfig) -> list[ThresholdedPolicy]:
    return [ThresholdedPolicy(label, 0.5, WINDOW_S, HOP_S, config) for label in LABELS]


def recorded(sequence: list[tuple[float, float, int, int]]) -> Recorder:
    recorder = Recorder()
    for scores in heard(sequence):
        recorder.add(scores)
    return recorder


def announced(sequence: list[tuple[float, float, int, int]], config: EventsConfig, enters: list[float]) -> list[int]:
    """How often the daemon itself would announce each label."""
    each = {label: {"enter": enter} for label, enter in zip(LABELS, enters, strict=True)}
    chosen = EventsConfig(defaults=config.defaults, labels=each)
    decider = Decider(policy.policy(LABELS, [0.5, 0.5], WINDOW_S, HOP_S, chosen))
    events = [event for scores in heard(sequence) for event in decider.update(scores)]
    return [sum(event.type == "begin" and event.label == label for event in events) for label in LABELS]


def weighed(sequence: list[tuple[float, float, int, int]], config: EventsConfig, lower: bool = False) -> list[Evidence]:
    tracks = recorded(sequence).tracks(len(LABELS))
    return weigh([tracks] if tracks else [], rules(config), max(len(sequence), 1) * HOP_S / 3600, lower)


# --- counts ---


@given(windows, configs)
def test_confirmed_is_the_highest_threshold_of_all_that_announces(sequence, config):
    for column, (track, each) in enumerate(zip(recorded(sequence).tracks(2), rules(config), strict=True)):
        all_of_it = track.windows(0, len(sequence))
        assert [float(scores.values[0]) for scores in all_of_it] == [
            float(v) if v >= np.float32(0.02) else 0.0 for v in np.float32([each[column] for each in sequence])
        ]
        scored = {float(scores.values[0]) for scores in all_of_it} - {0.0}
        thresholds = scored | {policy.enter_of_sure(value) for value in scored}
        announcing = [t for t in thresholds if t >= each.least and list(begins(all_of_it, each.at(t)))]
        assert confirmed(all_of_it, each) == max(announcing, default=0.0)


@given(windows, configs)
def test_the_highest_stretch_is_the_highest_threshold_of_the_whole_recording(sequence, config):
    for track, each in zip(recorded(sequence).tracks(2), rules(config), strict=True):
        levels = [confirmed(stretch, each) for stretch in track.stretches(each.lead_s)]
        assert max(levels, default=0.0) == confirmed(track.windows(0, len(sequence)), each)


@pytest.mark.slow
@given(windows, configs, st.booleans())
def test_counts_are_those_of_the_daemon(sequence, config, lower):
    for column, label in enumerate(weighed(sequence, config, lower)):
        counts = [announced(sequence, config, [enter, enter])[column] for enter in label.enters]
        assert list(label.counts) == [max(counts[i:]) for i in range(len(counts))]


def test_only_what_can_matter_is_kept():
    recorder = recorded([(0.01, 0.5, 0, 9), (0.0, 0.0, 0, 9), (0.019, 0.6, 0, 9)])
    dog, rain = recorder.tracks(2)
    assert (len(dog.values), len(rain.values), recorder.windows) == (0, 2, 3)


# --- choice of thresholds ---

wishes = st.floats(0.001, 3600)


@given(windows, configs, wishes, st.floats(0.001, 1e6), st.booleans())
def test_no_more_than_wished_is_announced_in_the_recording_itself(sequence, config, each, together, sure):
    evidence = weighed(sequence, config)
    enters = choose(evidence, each, together, sure)
    hours = max(len(sequence), 1) * HOP_S / 3600
    for label, enter, count in zip(evidence, enters, announced(sequence, config, enters), strict=True):
        assert label.now <= enter <= HIGHEST
        if label.lowest(each, sure) is not None:
            assert count <= each * hours or enter == label.enters[-1]


@pytest.mark.slow
@given(windows, configs, wishes, wishes, st.floats(1, 100), st.booleans(), st.booleans())
def test_a_higher_wish_raises_no_threshold(sequence, config, each, together, times, sure, lower):
    evidence = weighed(sequence, config, lower)
    strict = choose(evidence, each, together, sure)
    for more in ((each * times, together), (each, together * times)):
        assert all(b <= a for a, b in zip(strict, choose(evidence, *more, sure), strict=True))


@pytest.mark.slow
@given(windows, configs)
def test_rates_fall_with_the_threshold_and_limits_are_above(sequence, config):
    for label in weighed(sequence, config, lower=True):
        assert list(label.rates) == sorted(label.rates, reverse=True)
        assert list(label.limits) == sorted(label.limits, reverse=True)
        assert all(limit >= rate for rate, limit in zip(label.rates, label.limits, strict=True))


def test_what_was_never_heard_stays_as_it_is():
    evidence = weighed([(0.03, 0.0, 0, 9)] * 120, EventsConfig(), lower=True)
    assert [label.tail for label in evidence] == [None, None]
    assert choose(evidence, 1e-6, 1e-6, True) == [0.5, 0.5]


@pytest.mark.slow
def test_a_hopeless_label_costs_the_others_no_more_than_its_share():
    faint = 1 / (1 + np.exp(3 - 0.7 * np.random.default_rng(0).exponential(size=3600 // 30)))
    sequence = [(0.999 if i % 9 < 4 else 0.0, faint[i // 30] if i % 30 < 3 else 0.0, 0, 9) for i in range(3600)]
    dog, rain = choose(weighed(sequence, EventsConfig()), math.inf, 0.2, False)
    assert dog == HIGHEST
    assert 0.5 < rain < 0.9


# --- estimates ---


def test_without_an_event_the_limit_is_the_rule_of_three():
    assert most(0) == pytest.approx(3.0, abs=0.05)
    assert most(3) == pytest.approx(7.75, abs=0.1)  # Garwood's table
    assert weighed([(0.0, 0.0, 0, 9)] * 3600, EventsConfig())[0].limits[0] == pytest.approx(3.0, abs=0.05)


@pytest.mark.slow
def test_the_tail_finds_the_rates_that_exponential_excesses_have():
    """Over many recordings, the mean estimate is the true rate, and the limit holds as often as it claims."""
    rng = np.random.default_rng(0)
    truth = 20 * math.exp(-(logit(0.95) - logit(0.5)) / 0.7)
    rates, below = [], 0
    for _ in range(400):
        count = max(rng.poisson(20), 1)
        tail = Tail(logit(0.5), count, count, float(rng.exponential(0.7, count).sum()), 1.0)
        rates.append(tail.rate(0.95))
        below += truth <= tail.limit(0.95)
    assert truth < np.median(rates) < 2 * truth  # an uncertain tail is a heavier one
    assert 0.92 <= below / 400 <= 0.99


# --- file and report ---


def results(enter: float) -> list[Result]:
    sequence = [(0.8 if i % 60 < 5 else 0.0, 0.0, 0, 9) for i in range(600)]
    dog, rain = weighed(sequence, EventsConfig())
    return [Result(dog, enter, (0.95, 0.7, 0.6, 0.6, 0.2)), Result(rain, 0.5, ())]


ABOUT = About(Wishes(Wish(1, "day"), None, False), 1 / 6, "esc50", WINDOW_S, HOP_S)


OLD = """\
#:schema tagger.schema.json
# By `tagger calibrate` 0.0.1. Of before.
# 3 min heard

# My broker.
[mqtt]
url = "mqtt://broker"  # in the cellar

[events]
confirm_s = 1.0
max_s = inf
deny = ["rain"]
allow = ["dog"]

[events.labels.rain]
kind = "continuous"
enter = 0.3  # mine

[events.labels.dog]
enter = 0.5  # the neighbour's; was 0.4
merge_s = 4

[events.groups]
'any "animal"' = ["dog"]
"""


def test_the_document_keeps_what_the_configuration_said(tmp_path):
    path = tmp_path / "tagger.toml"
    path.write_text(OLD)
    config = load_right(path).events
    path.write_text(document(ABOUT, results(0.9), OLD), "utf-8")
    again = load_right(path).events
    assert again.defaults == config.defaults
    assert again.labels == {"rain": config.labels["rain"], "dog": {"enter": 0.9, "merge_s": 4}}
    assert (again.deny, again.allow, again.groups) == (config.deny, config.allow, config.groups)
    assert policy.policy(LABELS, [0.5, 0.5], WINDOW_S, HOP_S, again).each[0].enter == 0.9
    old, new = OLD.splitlines(), path.read_text().splitlines()
    assert new[0] == old[0]
    assert new[1].startswith("# By `tagger calibrate` ")
    assert "esc50" in new[2]
    differ = [(a, b) for a, b in zip(old[3:], new[3:], strict=True) if a != b]
    (changed,) = differ
    assert changed[0] == "enter = 0.5  # the neighbour's; was 0.4"
    assert changed[1].split() == ["enter", "=", "0.9", "#", "the", "neighbour's;", "was", "0.5"]


@pytest.mark.parametrize(
    "old",
    [
        "",
        "events.labels.dog.enter = 0.5",
        "events.labels = { dog = { enter = 0.5 }, rain = { enter = 0.2 } } # one line",
        "[events.labels]\ndog.enter = 0.5\nrain.enter = 0.25",
        "[events.labels.dog]\nenter = 0.5\n[mqtt]\nport = 1\n[events.labels.rain]\nexit = 0.1\n[events]\nmin_s = 1",
        "[mqtt]\nport = 1884  # mine",
        "[events]\nlabels.dog = { min_s = 1 }",
    ],
)
def test_however_the_old_file_is_written_all_else_is_kept(old):
    text = document(ABOUT, results(0.9), old)
    wanted = tomllib.loads(old)
    wanted.setdefault("events", {}).setdefault("labels", {}).setdefault("dog", {})["enter"] = 0.9
    assert tomllib.loads(text) == wanted
    assert ("mine" in old) == ("mine" in text)
    assert document(ABOUT, results(0.9), text).count("By `tagger calibrate`") == 1


def test_names_that_are_no_bare_keys():
    name = 'Male speech, "man" \\ speaking'
    label = ThresholdedPolicy(name, 0.5, WINDOW_S, HOP_S, EventsConfig())
    text = document(ABOUT, [Result(Evidence(label, 1.0, (0.5, 0.9), (1, 0), None), 0.9, ())], "")
    assert tomllib.loads(text)["events"]["labels"] == {name: {"enter": 0.9}}


def test_the_report_says_what_it_costs_and_what_can_be_shown():
    text = "\n".join(report(ABOUT, results(0.9), ["siren"]))
    assert "0.50 -> 0.90" in text
    assert "10 -> 0" in text
    assert "4 -> 1 of 5" in text
    assert "fewer than 80 %" in text
    assert "80 % would need enter = 0.6" in text
    assert "left alone: siren" in text
    assert "rule of three" in text
    assert "3.0 days" in text


@pytest.mark.parametrize("text", ["", "1", "0/day", "-1/day", "1/year", "nan/day", "1/"])
def test_a_wish_that_is_none(text):
    with pytest.raises(UserError, match="such as 1/day"):
        Wish.parse("--wish", text)


def test_wishes():
    assert Wish.parse("--wish", "2/hour").per_hour == 2
    assert Wish.parse("--wish", "1.5 / day").per_hour == pytest.approx(1.5 / 24)
    assert Wishes.parse(None, None, False).per_hour == (pytest.approx(1 / 24), math.inf)
    assert Wishes.parse(None, "1/week", False).per_hour == (math.inf, pytest.approx(1 / 168))


def test_durations():
    assert (seconds("--listen", "90"), seconds("--listen", "1.5h")) == (90, 5400)
    for text in ("10x", "", "59s"):
        with pytest.raises(UserError, match="--listen"):
            seconds("--listen", text)


# --- the command ---


def sweeps(duration_s: float) -> Samples:
    """Sounds of a room: noises and tones that come and go."""
    time_s = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * (500 + 400 * np.sin(time_s / 3)) * time_s) * (np.sin(time_s) > 0.7)
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(time_s)) * (np.sin(time_s / 2) > 0.8)
    return np.asarray(tone + noise, np.float32)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_wav(tmp_path_factory.mktemp("room") / "room.wav", sweeps(75))


@pytest.mark.slow
def test_from_a_recording_to_a_file_that_listen_takes(room, tmp_path):
    output = tmp_path / "new" / "tagger.toml"
    examples = tmp_path / "mine" / "dog"
    examples.mkdir(parents=True)
    write_wav(examples / "bark.wav", sweeps(2))
    (examples / "notes.txt").write_text("no sound")
    done = run("calibrate", room, "-o", output, "--wish", "1/week", "--examples", tmp_path / "mine", "--except", "rain")
    assert done.exit_code == 0, done.output
    assert "left alone: rain" in done.stdout
    assert "of 1" in done.stdout
    changed = load_right(output).events.labels
    assert changed
    assert "rain" not in changed
    assert all(0.75 < each["enter"] <= HIGHEST for each in changed.values())
    before = run("tag", "--events", "--json", room).stdout.splitlines()
    after = run("tag", "--events", "--json", "--config", output, room).stdout.splitlines()
    assert len(after) <= len(before)


def test_a_file_that_is_there_is_kept(room, tmp_path):
    output = tmp_path / "tagger.toml"
    output.write_text("[events]\nconfirm_s = 2.0\n")
    refused(run("calibrate", room, "-o", output), str(output), "--force")
    assert output.read_text() == "[events]\nconfirm_s = 2.0\n"
    output.chmod(0o600)
    done = run("calibrate", room, "-o", output, "--config", output)
    assert done.exit_code == 0, done.output
    assert load_right(output).events.defaults == {"confirm_s": 2.0}
    assert output.stat().st_mode & 0o777 == 0o600


def test_paths_in_the_old_file_still_lead_where_they_did(room, tmp_path):
    (tmp_path / "old").mkdir()
    old = tmp_path / "old" / "tagger.toml"
    old.write_text('listen.sources = ["mic", "kitchen=a.wav"]\n[mqtt]\nuser = "me"\npassword_file = "secret"  # mine\n')
    done = run("calibrate", room, "--config", old, "-o", tmp_path / "new" / "tagger.toml")
    assert done.exit_code == 0, done.output
    new = tomllib.loads((tmp_path / "new" / "tagger.toml").read_text())
    assert new["listen"]["sources"] == ["mic", f"kitchen={tmp_path}/old/a.wav"]
    assert new["mqtt"] == {"user": "me", "password_file": f"{tmp_path}/old/secret"}


FILE = """\
#:schema tagger.schema.json

[listen]  # my rooms
sources = ["hall=demo"]
hop = 0.5

[mqtt]
url = "mqtt://me@broker"  # in the cellar
password_file = "secret"

[events.labels.dog]
enter = 0.5  # the neighbour's
"""


@pytest.mark.slow
def test_the_file_that_listen_reads_gets_the_thresholds_and_keeps_all_else(room, home):
    home.mkdir()
    file = home / "tagger.toml"
    file.write_text(FILE)
    file.chmod(0o600)
    done = run("calibrate", room, "--wish", "1/week")
    assert done.exit_code == 0, done.output
    old, new = tomllib.loads(FILE), tomllib.loads(file.read_text())
    assert set(FILE.splitlines()) - set(file.read_text().splitlines()) <= {"enter = 0.5  # the neighbour's"}
    raised = {label: each["enter"] for label, each in new["events"]["labels"].items()}
    assert {**new, "events": None} == {**old, "events": None}
    assert raised
    model = read_info(store.find("esc50"))
    before = dict(zip(model.labels, model.thresholds, strict=True))
    for label, enter in raised.items():
        assert label == "dog" or f"changed: {label}: enter {before[label]:g} -> {enter:g}" in done.stdout
    assert f"written: {file}, where all else is as it was\nnext:    tagger listen; or kill -HUP" in done.stdout
    assert "a window of 5 s every 0.5 s" in done.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in home.iterdir()] == ["tagger.toml"]


@pytest.mark.slow
def test_without_a_file_one_is_made_where_listen_finds_it(room, home):
    done = run("calibrate", room, "--wish", "1/week", "--model", "esc50-crnn")
    assert done.exit_code == 0, done.output
    made = tomllib.loads((home / "tagger.toml").read_text())
    assert made["listen"] == {"model": "esc50-crnn"}
    assert made["events"]["labels"]


@pytest.mark.slow
def test_another_file_has_all_of_the_first_and_says_what_was_typed(room, home):
    home.mkdir()
    (home / "tagger.toml").write_text(FILE)
    output = home / "new.toml"
    done = run("calibrate", room, "--wish", "1/week", "-o", output, "--model", "esc50-crnn", "--hop", "1")
    assert done.exit_code == 0, done.output
    made = tomllib.loads(output.read_text())
    assert made["listen"] == {"sources": ["hall=demo"], "hop": 1.0, "model": "esc50-crnn"}
    assert made["mqtt"] == tomllib.loads(FILE)["mqtt"]
    assert (home / "tagger.toml").read_text() == FILE


def test_thresholds_of_another_model_do_not_go_into_the_file(room, home):
    home.mkdir()
    (home / "tagger.toml").write_text(FILE)
    refused(run("calibrate", room, "--model", "esc50-crnn"), "--model esc50-crnn", "tagger.toml", "-o")
    refused(run("calibrate", room, "--hop", "1"), "--hop 1", "tagger.toml", "-o")
    assert (home / "tagger.toml").read_text() == FILE


def test_a_file_with_a_mistake_is_refused_before_anything_is_heard(room, home):
    home.mkdir()
    (home / "tagger.toml").write_text("[listen]\nhopp = 1\n")
    done = run("calibrate", room)
    refused(done, "tagger.toml, line 2: listen.hopp: is unknown")
    assert "listening" not in done.stderr


LABEL = ThresholdedPolicy("dog", 0.5, WINDOW_S, HOP_S, EventsConfig())
RAISED = [Result(Evidence(LABEL, 1.0, (0.5, 0.9), (1, 0), None), 0.9, ())]


def chosen(**typed: object) -> CalibrationSettings:
    """Settings of a calibration with nothing typed but these."""
    none = dict.fromkeys(
        ("config", "output", "model", "device", "window_s", "hop_s", "channel", "examples", "listen_s")
    )
    given = {"sources": (), "recordings": (Path("x"),), "lower": False, "excepted": (), "force": False, **none, **typed}
    return settings(wishes=ABOUT.wishes, **given)


def test_the_file_decides_what_was_not_typed(home):
    home.mkdir()
    (home / "tagger.toml").write_text(
        '[listen]\nsources = ["a=mic:x", "b.wav"]\nmodel = "m.safetensors"\nwindow = 4.0\n'
    )
    found = chosen()
    assert found.sources == ("a=mic:x", f"{home}/b.wav")
    assert (found.model, found.window_s, found.hop_s) == (f"{home}/m.safetensors", 4.0, 1.0)
    assert (found.output, found.is_in_place) == (home / "tagger.toml", True)
    assert chosen(sources=("demo",)).sources == ("demo",)
    (home / "tagger.toml").unlink()
    found = chosen()
    assert (found.sources, found.model, found.hop_s, found.is_in_place) == (("mic",), "esc50", 1.0, False)


@pytest.mark.parametrize("raw", [b"# a\r\n[mqtt]\r\nport = 1\r\n", b"\xef\xbb\xbf# a\n[mqtt]\nport = 1\n"])
def test_line_ends_and_the_byte_order_mark_stay(raw, home):
    home.mkdir()
    (home / "tagger.toml").write_bytes(raw)
    write(chosen(), ABOUT, RAISED)
    made = (home / "tagger.toml").read_bytes()
    assert made.count(b"\r") in (0, made.count(b"\n"))
    assert made.startswith(raw[:3]) == raw.startswith(b"\xef")
    assert (b"\r" in made) == (b"\r" in raw)
    assert load_right(home / "tagger.toml").events.labels == {"dog": {"enter": 0.9}}


def test_what_was_changed_in_the_file_meanwhile_stays(home):
    home.mkdir()
    (home / "tagger.toml").write_text("[mqtt]\nport = 1\n")
    found = chosen()
    (home / "tagger.toml").write_text("[mqtt]\nport = 2  # new\n")
    write(found, ABOUT, RAISED)
    assert "port = 2  # new" in (home / "tagger.toml").read_text()


def test_thresholds_that_cannot_be_written_are_printed(home, capsys):
    home.mkdir()
    (home / "tagger.toml").write_text("[mqtt]\nport = 1\n")
    found = chosen()
    (home / "tagger.toml").write_text("[mqtt\n")
    with pytest.raises(UserError, match="is not TOML"):
        write(found, ABOUT, RAISED)
    assert tomllib.loads(capsys.readouterr().out)["events"]["labels"] == {"dog": {"enter": 0.9}}
    assert (home / "tagger.toml").read_text() == "[mqtt\n"


def test_a_link_stays_a_link(home, tmp_path):
    home.mkdir()
    (tmp_path / "real.toml").write_text("[mqtt]\nport = 1\n")
    (home / "tagger.toml").symlink_to(tmp_path / "real.toml")
    write(chosen(), ABOUT, RAISED)
    assert (home / "tagger.toml").is_symlink()
    assert load_right(tmp_path / "real.toml").events.labels == {"dog": {"enter": 0.9}}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_file_stays_its_owners(home):
    home.mkdir()
    (home / "tagger.toml").write_text("[mqtt]\nport = 1\n")
    os.chown(home / "tagger.toml", 1234, 1235)
    write(chosen(), ABOUT, RAISED)
    status = (home / "tagger.toml").stat()
    assert (status.st_uid, status.st_gid) == (1234, 1235)


def test_tables_in_an_order_that_cannot_be_edited_keep_their_comments(home):
    home.mkdir()
    text = "[events.labels.rain]\nexit = 0.1  # mine\n[mqtt]\nport = 1\n[events.labels.siren]\nexit = 0.1\n"
    text += "[events]\nmin_s = 1\n"
    (home / "tagger.toml").write_text(text)
    write(chosen(), ABOUT, RAISED)
    made = (home / "tagger.toml").read_text()
    assert "exit = 0.1  # mine" in made
    assert load_right(home / "tagger.toml").events.labels["dog"] == {"enter": 0.9}


def test_nothing_to_change_leaves_the_file_alone(home, capsys):
    home.mkdir()
    (home / "tagger.toml").write_text("[mqtt]\nport = 1\n")
    before = (home / "tagger.toml").stat()
    write(chosen(), ABOUT, [Result(RAISED[0].evidence, 0.5, ())])
    assert (home / "tagger.toml").stat() == before
    assert "nothing to change" in capsys.readouterr().out


def test_a_damaged_file_does_not_lose_the_others(room, tmp_path):
    folder = tmp_path / "recordings"
    (folder / "deeper").mkdir(parents=True)
    (folder / "bad.wav").write_text("I am not a sound")
    (folder / "deeper" / "room.wav").write_bytes(room.read_bytes())
    done = run("calibrate", folder, "-o", tmp_path / "out.toml")
    refused(done, "bad.wav")
    load_right(tmp_path / "out.toml")


def test_what_was_heard_once_counts_once_however_it_is_named(tmp_path, capsys):
    one, other, alike = tmp_path / "one.wav", tmp_path / "other.wav", tmp_path / "alike.wav"
    one.write_bytes(b"a" * 100)
    other.write_bytes(b"b" * 100)
    alike.write_bytes(b"a" * 100)
    (tmp_path / "link.wav").symlink_to(one)
    os.link(other, tmp_path / "hard.wav")
    (tmp_path / "broken.wav").symlink_to(tmp_path / "nothing.wav")
    missing = [tmp_path / "broken.wav", tmp_path / "missing.wav"]  # said where they are read
    found = each_once([one, one, tmp_path / "link.wav", other, alike, tmp_path / "hard.wav", *missing])
    assert found == [one, other, *missing]
    link = tmp_path / "link.wav"
    said = f"left out: 3 files, as links or copies of others count once: {link} is {one}\n"
    assert capsys.readouterr().err == said


def test_mistakes(room, tmp_path):
    out = ("-o", tmp_path / "out.toml")
    short = write_wav(tmp_path / "short.wav", sweeps(20))
    (tmp_path / "mine" / "dgo").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    refused(run("calibrate", *out), "--listen")
    refused(run("calibrate", short, *out), "60 s")
    refused(run("calibrate", tmp_path / "none.wav", *out), "none.wav", "no such file")
    refused(run("calibrate", tmp_path / "empty", *out), "empty", "no audio")
    refused(run("calibrate", room, *out, "--except", "dgo"), "--except dgo", "dog")
    refused(run("calibrate", room, *out, "--examples", tmp_path / "mine"), "dgo", "dog")
    refused(run("calibrate", room, *out, "--examples", tmp_path / "nowhere"), "nowhere")
    refused(run("calibrate", room, *out, "--wish", "never"), "--wish never")
    refused(run("calibrate", room, *out, "--listen", "soon"), "--listen soon")
    refused(run("calibrate", room, *out, "--source", "mic"), "--listen")
    refused(run("calibrate", room, "-o", tmp_path), "folder")
    refused(run("calibrate", room, *out, "--hop", "9"), "--hop 9")
    assert not (tmp_path / "out.toml").exists()


def minute(end: TaggerError | None = None) -> FakeSource:
    """A source of 61 s, or of 10 s if it breaks."""
    second = [Block(np.full(RATE_HZ, 0.1, np.float32), float(time_s)) for time_s in range(61)]
    return FakeSource([*second[:10], end] if end is not None else second, live=True)


@pytest.mark.parametrize("breaks", [False, True])
def test_all_sources_are_listened_to_at_once(breaks, monkeypatch, capsys):
    sources = {"a": minute(), "b": minute(TaggerError("b is gone") if breaks else None)}
    sources["a"].name, sources["b"].name = "a", "b"
    monkeypatch.setattr("tagger.calibration.recordings.open_source", lambda uri, *_, **__: sources[uri])
    recorders = RecordingClassifier(FakeClassifier(), 1.0, 0.5, 0.02).sources(["a", "b"], 60)
    assert [each.windows for each in recorders] == [119] * (1 if breaks else 2)
    said = capsys.readouterr().err
    assert "listening to  a: a fake, for 1.0 min" in said
    assert ("Warning: b: b is gone" in said) == ("b: left out, since only 10 s were heard" in said) == breaks
    assert all(source.closed.is_set() for source in sources.values())


def test_no_source_is_heard_for_long_enough(monkeypatch):
    monkeypatch.setattr("tagger.calibration.recordings.open_source", lambda *_, **__: minute(TaggerError("gone")))
    with pytest.raises(TaggerError, match="gone"):
        RecordingClassifier(FakeClassifier(), 1.0, 0.5, 0.02).sources(["a", "b"], 60)


@pytest.mark.slow
def test_listening_ends_where_the_source_does_and_says_so(room, tmp_path):
    done = run("calibrate", "--listen", "10m", "--source", room, "-o", tmp_path / "out.toml")
    assert done.exit_code == 0, done.output
    assert "1.2 min that were heard" in done.stderr
    load_right(tmp_path / "out.toml")


@pytest.mark.slow
@pytest.mark.parametrize("enough", [True, False])
def test_ctrl_c_goes_on_with_what_was_heard(enough, tmp_path):
    quiet = b"\0\0" * RATE_HZ * (90 if enough else 10)
    out = tmp_path / "out.toml"
    with running(*("calibrate", "--listen", "10m", "--source", "-", "-o", out), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(quiet)  # returns when the command has read all but the end of it
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LONG_S)
    if enough:
        assert process.returncode == 0, errors
        assert b"ended early" in errors
        load_right(out)
    else:
        assert process.returncode == 2, errors
        assert b"at least 60 s" in errors
        assert not out.exists()


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ctrl_c_over_recordings_goes_on_with_what_was_heard(tmp_path, capsys, handlers):
    paths = [write_wav(tmp_path / f"{number}.wav", np.full(90 * RATE_HZ, number / 10)) for number in range(3)]
    pressed = []

    def score(samples: Samples) -> float:
        if samples.max() > 0.05 and not pressed:  # in the second recording
            pressed.append(os.kill(os.getpid(), signal.SIGINT))
        return 0.0

    classifier = RecordingClassifier(FakeClassifier(score), 1.0, 0.5, 0.02)
    recorders = classifier.files(paths)
    assert classifier.is_interrupted
    assert len(recorders) == 2
    assert recorders[0].windows == 179
    assert 0 < recorders[1].windows < 179
    said = capsys.readouterr().err
    assert "Ctrl-C ends it early" in said
    assert f"ended early in {paths[1]}, number 2 of 3: going on with the 1." in said


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([10.0], "only 10 s could be heard; at least 60 s are needed"),
        ([5.0] * 13, "65 s were heard, but in pieces hardly longer than a window of 5 s"),
    ],
)
def test_it_says_how_much_was_heard(tmp_path: Path, pieces: list[float], said: str) -> None:
    for number, seconds_long in enumerate(pieces):
        sound = np.full(round(seconds_long * RATE_HZ), number / 100, np.float32)  # copies would count once
        write_wav(tmp_path / f"{number}.wav", sound)
    refused(run("calibrate", tmp_path, "-o", tmp_path / "out.toml"), said)
