import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tagger import policy
from tagger.checkpoints import checkpoint
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.runtime_torch import Classifier
from tagger.errors import UserError
from tagger.events import Scores
from tagger.features.config import MelConfig
from tagger.models.config import EfficientATConfig
from tagger.models.network import Outputs, build
from tagger.policy import EventsConfig, Policy
from tests.fakes import FakeClassifier
from tests.programs import refused, run, write_wav
from tests.trainings import MEL, FakeWaveforms
from train.data.corpus import Corpus
from train.data.dataset import Clip, Dataset
from train.evaluate import detection, inputs, soundscape, streams, synthesis
from train.evaluate.found import Found
from train.evaluate.inputs import StreamOptions
from train.evaluate.report import circumstances
from train.evaluate.streams import THRESHOLDS, Played, at, decided, play

pytestmark = pytest.mark.train

RATE_HZ = MEL.sample_rate_hz
WINDOW_SECONDS = 2.0
LABELS = ("low", "high")
TONES_HZ = (300.0, 2_000.0)


class Bands(nn.Module):
    """Hears how far a tone's band is above what is around it."""

    step_frames = 8

    def __init__(self) -> None:
        super().__init__()
        self.config = EfficientATConfig(labels=2)

    def outputs(self, log_mel: Tensor) -> Outputs:
        bands = log_mel[:, 0].unfold(2, 8, 8).mean(3)  # [B, rows, steps]
        floor = bands.median(1).values
        peaks = [bands[:, :10].amax(1), bands[:, 16:].amax(1)]
        steps = torch.stack([8 * (peak - floor) - 8 for peak in peaks], 2)
        return Outputs(steps.amax(1), steps)


BANDS = Checkpoint(
    CheckpointInfo(
        name="bands",
        architecture="efficientat",
        config=EfficientATConfig(labels=2),
        mel=MEL,
        window_seconds=WINDOW_SECONDS,
        labels=LABELS,
        activation="sigmoid",
        thresholds=(0.5, 0.5),
    ),
    Bands().eval(),
)


def tone(label: int, number: int, seconds: float = WINDOW_SECONDS) -> np.ndarray:
    window = np.zeros(round(seconds * RATE_HZ), np.float32)
    time = np.arange(RATE_HZ) / RATE_HZ
    window[1000 : 1000 + RATE_HZ] = 0.3 * np.sin(2 * np.pi * (TONES_HZ[label] + number) * time)
    return window


def tones(folds: int = 2, each: int = 3) -> Corpus:
    rows = [(label, number) for label in (0, 1) for number in range(folds * each)]
    clips = tuple(
        Clip(
            Path(f"{LABELS[label]}{number}.wav"), label, 1 + number % folds, f"{label} {number}", f"{label}{number:63}"
        )
        for label, number in rows
    )
    windows = FakeWaveforms(np.stack([tone(*row) for row in rows]))
    return Corpus.of(Dataset("tones", LABELS, clips), windows)  # type: ignore[arg-type]


def rules(hop_s: float = 0.5, config: EventsConfig | None = None) -> Policy:
    return policy.policy(LABELS, (0.5, 0.5), WINDOW_SECONDS, hop_s, config)


def stream(seconds: float = 40.0, seed: int = 0) -> soundscape.Soundscape:
    recordings = [synthesis.Recording(f"{label}", tone(label, 0), LABELS[label]) for label in (0, 1)]
    return synthesis.make("one", seconds, RATE_HZ, seed, recordings, per_minute=10, snr_db=(20, 20))


def pieces(samples: np.ndarray, size: int = 800) -> Iterator[np.ndarray]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def played(seconds: float = 40.0, hop_s: float = 0.5, size: int = 800, seed: int = 0) -> Played:
    return play(pieces(stream(seconds, seed).samples, size), Classifier(BANDS, "cpu"), rules(hop_s), hop_s)


def assert_same(one: list[Found], other: list[Found]) -> None:
    assert [each.label for each in one] == [each.label for each in other]
    for name in ("onset_s", "offset_s", "score", "published_s"):
        mine, theirs = ([getattr(each, name) for each in many] for many in (one, other))
        assert mine == pytest.approx(theirs, abs=1e-6)


# Playing


def test_what_is_heard_is_what_is_in_the_stream():
    truth = stream().annotations
    found = sorted(played().found, key=lambda each: each.onset_s)
    assert len(truth) >= 4
    assert [each.label for each in found] == [each.label for each in truth]
    for event, sound in zip(found, truth, strict=True):
        assert event.onset_s == pytest.approx(sound.onset_s, abs=0.2)
        assert event.offset_s == pytest.approx(sound.offset_s, abs=0.2)


@pytest.mark.parametrize("hop_s", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("seconds", [40.0, 17.3, 2.0, 1.2])
def test_the_loop_and_the_rules_alone_give_the_same_events(seconds, hop_s):
    """The curves are of rules alone, on scores that the loop gave: also at a stream's end, also of short streams."""
    heard = played(seconds, hop_s)
    assert_same(heard.found, decided(heard.scores, rules(hop_s)))


@settings(max_examples=25)
@given(st.lists(st.sampled_from([0.0, 0.3, 0.6, 0.9]), min_size=1, max_size=40), st.sampled_from([0.25, 0.5]))
def test_they_do_so_whatever_is_heard(levels, hop_s):
    """Scores of this stand-in are the peaks of its windows, so that anything can happen."""
    classify = FakeClassifier()
    samples = np.repeat(np.array(levels, np.float32), 8_000)
    given_rules = policy.policy(classify.LABELS, (0.5, 0.5), 1.0, hop_s)
    heard = play(pieces(samples, 3_200), classify, given_rules, hop_s)
    assert_same(heard.found, decided(heard.scores, given_rules))
    assert heard.duration_s == pytest.approx(len(levels) / 4)
    for event in heard.found:
        assert -1e-6 <= event.onset_s <= event.offset_s <= heard.duration_s + 1e-6
        assert event.onset_s < event.published_s <= heard.duration_s + 1e-6


@pytest.mark.parametrize("hop_s", [0.1, 0.25, 0.5])
def test_events_are_published_at_the_end_of_a_window_and_not_before_they_are_confirmed(hop_s):
    heard = played(hop_s=hop_s)
    assert heard.found
    ends = np.array([each.end_time for each in heard.scores])
    for event in heard.found:
        assert np.abs(ends - event.published_s).min() < 1e-6  # time in the stream, not the clock on the wall
        (confirm_s,) = {each.confirm_s for each in rules(hop_s).each}
        assert confirm_s > 0.2
        assert event.onset_s + confirm_s <= event.published_s < event.onset_s + WINDOW_SECONDS


def test_what_is_still_on_at_the_end_ends_there():
    samples = np.concatenate([np.zeros(4 * RATE_HZ, np.float32), tone(1, 0)[1000 : 1000 + RATE_HZ]])
    samples += 1e-3 * np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    heard = play(pieces(samples), Classifier(BANDS, "cpu"), rules(0.1), 0.1)
    (event,) = heard.found
    assert event.label == "high"
    assert event.published_s <= heard.duration_s == pytest.approx(5.0)
    assert event.offset_s == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("hop_s", [0.1, 0.5, 0.8])
def test_windows_are_a_hop_apart(hop_s):
    heard = played(20.0, hop_s)
    ends = [each.end_time for each in heard.scores]
    assert ends[0] == pytest.approx(WINDOW_SECONDS)
    assert np.diff(ends)[:-1] == pytest.approx(hop_s, abs=1e-6)
    assert ends[-1] == pytest.approx(20.0)
    assert heard.duration_s == pytest.approx(20.0)


def test_the_size_of_blocks_does_not_matter():
    one, other = played(size=800), played(size=4_321)
    assert_same(one.found, other.found)
    assert len(one.scores) == len(other.scores)


def test_an_error_in_the_stream_is_not_silence():
    def broken() -> Iterator[np.ndarray]:
        yield np.zeros(RATE_HZ, np.float32)
        raise UserError("not audio")

    with pytest.raises(UserError, match="not audio"):
        play(broken(), Classifier(BANDS, "cpu"), rules(), 0.5)


def test_nothing_is_decided_of_no_windows():
    assert decided([], rules()) == []


# Rules at other thresholds


def test_at_a_threshold_all_else_stays():
    config = EventsConfig(labels={"high": {"enter": 0.9, "confirm_s": 0.25, "max_s": 3.0}})
    before = rules(config=config)
    after = at(0.8, before)
    assert [(each.enter, each.exit) for each in after.each] == [(0.8, 0.4)] * 2
    for one, other in zip(before.each, after.each, strict=True):
        assert replace(one, enter=0.5, exit=0.25) == replace(other, enter=0.5, exit=0.25)
    assert [each.enter for each in before.each] == [0.5, 0.9]


def test_a_higher_threshold_finds_no_more():
    scores = played().scores
    counts = [len(decided(scores, at(threshold, rules()))) for threshold in (*THRESHOLDS, 1.0)]
    assert counts[0] > counts[-1] == 0


# Truth of windows


def test_a_label_is_true_of_a_window_that_holds_half_a_second_of_it():
    sounds = (
        soundscape.Annotation("low", 3.0, 6.0, 10, "1"),
        soundscape.Annotation("high", 4.0, 4.2, 10, "2"),
    )
    scape = soundscape.Soundscape("one", np.zeros(10 * RATE_HZ, np.float32), RATE_HZ, sounds, "noise")
    windows = [
        Scores(np.array([0.1, 0.2], np.float32), start, start + 2, start, np.zeros((2, 1), np.float32), 1.0)
        for start in (0.0, 1.4, 1.5, 2.05, 2.11, 4.09, 4.11, 5.5, 5.6)
    ]
    scores, truth = streams.windows_of(scape, windows, LABELS)
    assert scores.shape == truth.shape == (9, 2)
    assert truth[:, 0].tolist() == [False, False, True, True, True, True, True, True, False]
    assert truth[:, 1].tolist() == [False, False, False, False, True, True, False, False, False]


# The report


@pytest.fixture(autouse=True)
def short_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter noise and shorter soundscapes."""
    monkeypatch.setattr(inputs, "QUIET_SECONDS", 12.0)
    monkeypatch.setattr(inputs, "SCAPE_SECONDS", 40.0)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of nothing, and one that is mistaken for a low tone; two of the same name."""
    folder = tmp_path_factory.mktemp("rooms")
    quiet = 0.01 * np.random.default_rng(0).standard_normal(6 * RATE_HZ)
    for number, samples in enumerate([quiet, quiet + np.pad(tone(0, 0), (2 * RATE_HZ, 2 * RATE_HZ)), quiet]):
        (folder / f"{number // 2}").mkdir(exist_ok=True)
        write_wav(folder / f"{number // 2}" / f"{number % 2}.wav", samples, RATE_HZ)
    return folder


def evaluated(folder: Path, options: StreamOptions, pairs: tuple[int, ...] = (1, 2)) -> tuple[dict, list[str]]:
    said: list[str] = []
    corpus = tones()
    streams.evaluate(
        [(BANDS, fold) for fold in pairs],
        lambda loaded: corpus,
        options,
        folder,
        "cpu",
        ["a mark"],
        circumstances(),
        said.append,
    )
    return json.loads((folder / "streamed.json").read_text("utf-8")), said


@pytest.fixture(scope="module")
def report(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, list[str]]:
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "QUIET_SECONDS", 12.0)
        patch.setattr(inputs, "SCAPE_SECONDS", 40.0)
        return folder, *evaluated(folder, StreamOptions(minutes=1.0, nontarget=[rooms], snr_db=(30, 35)))


def test_a_report_is_text_numbers_pictures_and_the_streams(report):
    folder, _, said = report
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names = [f"streams/fold{fold}-{number}" for fold in (1, 2) for number in (1, 2)]
    assert files == {
        *("streamed.json", "streamed.md", "timeline.png", "curves.png"),
        *(f"{name}.{kind}" for name in names for kind in ("flac", "tsv", "json")),
    }
    assert said[-1] == f"report: {folder / 'streamed.md'}"
    for picture in ("timeline.png", "curves.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        assert f"({picture})" in (folder / "streamed.md").read_text("utf-8")


def test_streams_are_what_was_heard(report):
    folder, document, _ = report
    seconds, sounds = 0.0, 0
    for path in sorted((folder / "streams").glob("*.flac")):
        scape = soundscape.read(path.with_suffix(".json"))
        assert soundfile.info(path).samplerate == RATE_HZ
        fold = int(path.stem[4])
        assert {int(each.clip.removesuffix(".wav")[-1]) % 2 + 1 for each in scape.annotations} == {fold}
        seconds, sounds = seconds + scape.duration_s, sounds + len(scape.annotations)
    assert seconds == pytest.approx(120.0)
    assert document["soundscapes"]["hours"] == pytest.approx(seconds / 3600)
    assert document["soundscapes"]["sounds"] == sounds


def test_the_events_of_the_report_are_those_of_the_streams(report):
    """Heard once more."""
    folder, document, _ = report
    found = {}
    for path in sorted((folder / "streams").glob("*.json")):
        scape = soundscape.read(path)
        events = play(pieces(scape.samples), Classifier(BANDS, "cpu"), rules(), 0.5).found
        found[path.stem] = (scape.annotations, events, scape.duration_s)
    again = detection.evaluate(found, WINDOW_SECONDS).to_document()
    ours = document["soundscapes"]
    for name in ("sounds", "events", "false_alarms_per_hour"):
        assert ours[name] == pytest.approx(again[name])
    assert ours["announced"]["by_label"] == again["announced"]["by_label"]
    assert ours["announced"]["recall"] > 0.9
    assert [each["micro"] for each in ours["event_based"]] == [each["micro"] for each in again["event_based"]]


def test_numbers_of_what_holds_nothing_agree_with_the_lists(report, rooms):
    _, document, said = report
    nothing = document["nontarget"]
    streams = nothing["by_stream"]
    assert len(streams) == 2 + 3  # noise for each fold, and each recording once, even with equal names
    assert {name.split()[0] for name in streams} == {"white", "pink", "0.wav", "1.wav"}
    assert nothing["hours"] == pytest.approx(sum(each["hours"] for each in streams.values()))
    assert 3600 * nothing["hours"] == pytest.approx(2 * 12 + 3 * 6)
    events = [event for each in streams.values() for event in each["events"]]
    assert nothing["false_alarms"] == len(events) == 1
    assert nothing["false_alarms_per_hour"] == pytest.approx(len(events) / nothing["hours"])
    (alarm,) = events
    assert alarm["label"] == "low"
    assert alarm["onset_s"] == pytest.approx(2.1, abs=0.2)
    (name,) = [name for name, each in streams.items() if each["events"]]
    assert name.startswith("1.wav")
    assert any(name in line and "low at 2." in line for line in said)
    assert any("1 event in 0.0 hours" in line for line in said)


def test_curves_begin_with_most_alarms_and_have_a_point_for_each_threshold(report):
    _, document, _ = report
    by_threshold = {float(threshold): rate for threshold, rate in document["nontarget"]["by_threshold"].items()}
    assert tuple(by_threshold) == THRESHOLDS
    assert by_threshold[0.5] == pytest.approx(document["nontarget"]["false_alarms_per_hour"])
    points = document["soundscapes"]["curve"]
    assert [point["threshold"] for point in points] == list(THRESHOLDS)
    (usual,) = [point for point in points if point["threshold"] == 0.5]
    assert usual["missed"] == pytest.approx(1 - document["soundscapes"]["announced"]["recall"])
    assert usual["false_alarms_per_hour"] == pytest.approx(document["soundscapes"]["false_alarms_per_hour"])


def test_the_text_has_the_numbers_of_the_document(report):
    folder, document, _ = report
    text = (folder / "streamed.md").read_text("utf-8")
    assert "**a mark**" in text
    assert document["marks"] == ["a mark"]
    assert f"`{document['command']}`" in text
    assert f"{document['soundscapes']['sounds']} sounds in" in text
    assert f"| sounds announced by their label | {100 * document['soundscapes']['announced']['recall']:.1f} % |" in text
    assert f"**{document['nontarget']['false_alarms_per_hour']:.2f} an hour** (1)" in text
    for label, counts in document["soundscapes"]["announced"]["by_label"].items():
        assert f"| {label} | {counts['truth']} | {counts['announced']} |" in text


def test_a_report_repeats_and_another_seed_makes_others(report, rooms, tmp_path):
    folder, document, _ = report
    options = StreamOptions(minutes=1.0, nontarget=[rooms], snr_db=(30, 35))
    again, _ = evaluated(tmp_path / "again", options)
    other, _ = evaluated(tmp_path / "other", replace(options, seed=1), (1,))
    assert again["soundscapes"] == document["soundscapes"]
    assert again["nontarget"] == document["nontarget"]
    assert (document["seed"], other["seed"]) == (0, 1)
    mine, theirs = (each / "streams" / "fold1-1.flac" for each in (folder, tmp_path / "other"))
    assert mine.read_bytes() == (tmp_path / "again" / "streams" / "fold1-1.flac").read_bytes()
    assert mine.read_bytes() != theirs.read_bytes()


def test_the_hop_is_that_of_the_windows(tmp_path, monkeypatch):
    hops: list[float] = []
    usual = streams.play

    def noted(pieces, classify, given_rules, hop_s):
        heard = usual(pieces, classify, given_rules, hop_s)
        hops.append(float(np.median(np.diff([each.end_time for each in heard.scores]))))
        return heard

    monkeypatch.setattr(streams, "play", noted)
    document, _ = evaluated(tmp_path, StreamOptions(minutes=0.5, hop_s=0.8), (1,))
    assert document["hop_s"] == 0.8
    assert hops == pytest.approx([0.8, 0.8])


def test_groups_are_no_sounds_of_their_own(tmp_path):
    config = EventsConfig(groups={"tone": LABELS})
    plain, _ = evaluated(tmp_path / "plain", StreamOptions(minutes=0.5), (1,))
    grouped, _ = evaluated(tmp_path / "grouped", StreamOptions(minutes=0.5, config=config), (1,))
    assert grouped["soundscapes"] == plain["soundscapes"]


def test_the_users_rules_are_kept(tmp_path):
    config = EventsConfig(deny=("low",))
    document, _ = evaluated(tmp_path, StreamOptions(minutes=0.5, config=config), (1,))
    by_label = document["soundscapes"]["announced"]["by_label"]
    assert by_label["low"]["announced"] == 0
    assert by_label["high"]["announced"] > 0


def test_recordings_go_on_under_the_sounds(rooms, tmp_path):
    evaluated(tmp_path, StreamOptions(minutes=0.5, backgrounds=[rooms / "1" / "0.wav"]), (1,))
    assert soundscape.read(tmp_path / "streams" / "fold1-1.json").background == "0.wav"


def test_folders_and_recordings_of_no_use_are_the_users_mistake(tmp_path):
    (tmp_path / "empty").mkdir()
    write_wav(tmp_path / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    with pytest.raises(UserError, match="empty: no recordings here"):
        evaluated(tmp_path / "report", StreamOptions(minutes=0.5, nontarget=[tmp_path / "empty"]), (1,))
    with pytest.raises(UserError, match="empty: no recordings here"):
        evaluated(tmp_path / "report", StreamOptions(minutes=0.5, backgrounds=[tmp_path / "empty"]), (1,))
    with pytest.raises(UserError, match=r"silent\.wav: silent"):
        evaluated(tmp_path / "report", StreamOptions(minutes=0.5, backgrounds=[tmp_path / "silent.wav"]), (1,))


# The command


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each label, and which of their clips are in fold 1."""
    root = tmp_path_factory.mktemp("own")
    lines = ["filename,label,fold"]
    for label, name in enumerate(LABELS):
        (root / name).mkdir()
        for number in range(4):
            write_wav(root / name / f"{number}.wav", tone(label, number), RATE_HZ)
            lines.append(f"{name}/{number}.wav,{name},{1 + number % 2}")
    (root / "clips.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learnt nothing, in less than no time; not from fold 1."""
    mel: MelConfig = MEL
    info = CheckpointInfo(
        name="small",
        architecture="efficientat",
        config=EfficientATConfig(labels=2, width=0.1, head="linear", moments=True, others=3),
        mel=mel,
        window_seconds=WINDOW_SECONDS,
        labels=LABELS,
        activation="sigmoid",
        thresholds=(0.5, 0.5),
        others=("Speech", "Music", "Silence"),
        surprise=1.0,
        training={"held_out_fold": 1, "trained_on": []},
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    checkpoint.save(path, info, build("efficientat", info.config))
    return path


def test_the_command_from_end_to_end(own: Path, small: Path, rooms: Path, tmp_path: Path) -> None:
    flags = ("--streamed", "--minutes", "1", "--hop", "1", "--seed", "3", "--nontarget", rooms, "--background", rooms)
    done = run("eval", own / "clips.csv", "-m", small, *flags, "-o", tmp_path / "report", "--device", "cpu")
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    document = json.loads((tmp_path / "report" / "streamed.json").read_text("utf-8"))
    assert (document["hop_s"], document["seed"]) == (1.0, 3)
    assert document["checkpoints"] == {"1": "small"}
    assert document["soundscapes"]["hours"] == pytest.approx(1 / 60)
    assert document["nontarget"]["hours"] == pytest.approx((12 + 3 * 6) / 3600)
    assert "non-target audio" in done.stdout
    assert f"report: {tmp_path / 'report' / 'streamed.md'}" in done.stdout


def test_two_models_are_compared_in_the_same_streams(own: Path, small: Path, tmp_path: Path) -> None:
    eager = tmp_path / "eager.safetensors"
    loaded = checkpoint.load(small)
    checkpoint.save(eager, replace(loaded.info, name="eager", thresholds=(1e-6, 1e-6)), loaded.model)
    flags = ("--streamed", "--minutes", "1", "--hop", "1", "-o", tmp_path / "report", "--device", "cpu")
    done = run("eval", own / "clips.csv", "-m", small, "-m", eager, *flags)
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    folders = [tmp_path / "report" / number for number in ("1", "2")]
    one, other = (json.loads((folder / "streamed.json").read_text("utf-8")) for folder in folders)
    assert [each["soundscapes"]["announced"]["recall"] for each in (one, other)] == [0.0, 1.0]
    sounds = one["soundscapes"]["sounds"]
    assert other["soundscapes"]["sounds"] == sounds > 0
    text = (tmp_path / "report" / "comparison.md").read_text("utf-8")
    first, second = (line for line in text.splitlines() if line.startswith("| /"))
    assert "gained" not in first
    assert f"+100.0 points announced: {sounds} gained, 0 lost, p 0.008" in second
    assert f"report: {tmp_path / 'report' / 'comparison.md'}" in done.stdout


@pytest.mark.parametrize(
    "flags",
    [
        ("--minutes", "2"),
        ("--hop", "1"),
        ("--seed", "0"),
        ("--background", "."),
        ("--nontarget", "."),
        ("--config", "x"),
    ],
)
def test_flags_of_streams_are_for_streams(flags: tuple[str, str], own: Path, small: Path, tmp_path: Path) -> None:
    refused(run("eval", own, "-m", small, *flags, "-o", tmp_path / "report"), f"{flags[0]} is for --streamed")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--minutes", "0"), "--minutes"),
        (("--hop", "0"), "--hop"),
        (("--seed", "-1"), "--seed"),
        (("--background", "nowhere"), "nowhere"),
        (("--nontarget", "nowhere"), "nowhere"),
        (("--config", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_flags_that_cannot_be(flags: tuple[str, str], words: str, own: Path, small: Path, tmp_path: Path) -> None:
    refused(run("eval", own / "clips.csv", "-m", small, "--streamed", *flags, "-o", tmp_path / "report"), words)
    assert not (tmp_path / "report").exists()


def test_rules_of_the_users_file_are_taken(own: Path, small: Path, tmp_path: Path) -> None:
    flags = (
        "eval",
        own / "clips.csv",
        "-m",
        small,
        "--streamed",
        "--minutes",
        "1",
        "--config",
        tmp_path / "events.toml",
    )
    (tmp_path / "events.toml").write_text('[events]\ndeny = ["middle"]\n')
    refused(run(*flags, "-o", tmp_path / "report"), "middle")
    (tmp_path / "events.toml").write_text("[events]\nenter = 0.000001\nexit = 0.0000005\n")
    done = run(*flags, "--hop", "1", "-o", tmp_path / "report")
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    document = json.loads((tmp_path / "report" / "streamed.json").read_text("utf-8"))
    assert document["soundscapes"]["events"] == 4  # both labels, on from beginning to end of each stream
