"""Python's face: `tagger.load`."""

import doctest
import multiprocessing
import pickle
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tagger
from tagger.api import AudioStream, InputError, SoundEvent, Tagger, mono
from tagger.checkpoints import store
from tagger.checkpoints.graph import EMBEDDING, graph_of
from tagger.errors import AudioError, CheckpointError, UserError
from tagger.sources.file import DEMO
from tests.engine.test_joint import copied
from tests.programs import ROOT, run, siren, write_wav

RATE_HZ = 32_000


@pytest.fixture(scope="module")
def esc50() -> Tagger:
    return tagger.load("esc50")


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    quiet = np.zeros(3 * RATE_HZ)
    return np.concatenate([quiet, siren(9.3), quiet]).astype(np.float32)


# --- the page ---


def test_the_examples_of_the_page_are_right() -> None:
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    assert code.count(">>>") > 20
    flags = doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=flags)
    runner.run(doctest.DocTestParser().get_doctest(code, {}, "docs/python.md", "docs/python.md", 0))
    assert runner.summarize(verbose=False).failed == 0


# --- what it says ---


def test_a_file_is_tagged_as_the_command_does(esc50: Tagger) -> None:
    windows = list(esc50.tag(DEMO))
    shown = run("tag", DEMO, "--top", 3).stdout.splitlines()[1:]
    assert [[f"{score:.2f} {label}" for label, score in each.top(3)] for each in windows] == [
        re.findall(r"[01]\.\d\d \w+", line) for line in shown
    ]
    events = list(esc50.events(str(DEMO)))
    assert [f"{each.onset:8.2f} - {each.offset:7.2f} s   {each.peak_score:4.2f} {each.label}" for each in events] == (
        run("tag", "--events", DEMO).stdout.splitlines()[1:]
    )


def test_an_array_is_tagged_as_its_file(esc50: Tagger, sound: np.ndarray, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "sound.wav", sound, subtype="FLOAT")
    for one, other in zip(esc50.tag(path), esc50.tag(sound, RATE_HZ), strict=True):
        assert (one.start, one.end) == (other.start, other.end)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert [(each.label, each.onset) for each in esc50.events(path)] == [
        (each.label, each.onset) for each in esc50.events(sound, RATE_HZ)
    ]


def test_a_sound_is_classified_by_its_highest_windows(esc50: Tagger, sound: np.ndarray) -> None:
    found = esc50.classify(sound, RATE_HZ)
    windows = [each.scores for each in esc50.tag(sound, RATE_HZ)]
    assert np.array_equal(found.scores, np.max(windows, axis=0))
    assert (found.start, round(found.end, 3)) == (0.0, 15.3)
    assert found["siren"] == pytest.approx(found.top(1)[0][1])
    with pytest.raises(KeyError, match="wolf"):
        found["wolf"]


def test_types_rates_and_channels_make_no_difference(esc50: Tagger, sound: np.ndarray) -> None:
    expected = esc50.classify(sound, RATE_HZ).scores
    others: list[Any] = [
        sound.astype(np.float64),
        (sound * 2**15).astype(np.int16),
        (sound.astype(np.float64) * 2**31).astype(np.int32),
        np.stack([sound, sound]),
        np.stack([2 * sound, 0 * sound]),
        sound.tolist(),
    ]
    for each in others:
        np.testing.assert_allclose(esc50.classify(each, float(RATE_HZ)).scores, expected, atol=5e-3)


def test_the_array_stays_as_it_is(esc50: Tagger, sound: np.ndarray) -> None:
    before = (sound * 2**15).astype(np.int16)
    given = before.copy()
    given.flags.writeable = False
    esc50.classify(given, np.int64(RATE_HZ))
    assert np.array_equal(given, before)


def test_rules_of_events_come_from_a_file(sound: np.ndarray, tmp_path: Path) -> None:
    config = tmp_path / "events.toml"
    config.write_text('events.deny = ["siren"]\n')
    assert "siren" not in [each.label for each in tagger.load(config=config).events(sound, RATE_HZ)]


def test_several_models_listen_together(sound: np.ndarray, tmp_path: Path) -> None:
    both = tagger.load("esc50", copied(tmp_path / "mine.safetensors", "mine"), runtime="torch", device="cpu")
    assert len(both.labels) == 100
    found = both.classify(sound, RATE_HZ)
    assert found["siren"] == pytest.approx(found["my siren"], abs=1e-5)
    with pytest.raises(InputError, match="load one alone"):
        both.embed(sound, RATE_HZ)


# --- embeddings ---


@pytest.mark.parametrize(("model", "size"), [("esc50", 384), ("esc50-crnn", 320)])
def test_sounds_of_one_kind_have_alike_embeddings(model: str, size: int, sound: np.ndarray) -> None:
    t = tagger.load(model)
    noise = np.random.default_rng(0).standard_normal(5 * RATE_HZ) / 10
    pieces = [t.embed(each, RATE_HZ) for each in (sound[100_000:260_000], sound[120_000:280_000], noise)]
    one, other, else_ = (each / np.linalg.norm(each) for each in pieces)
    assert one.shape == (size,)
    assert one.dtype == np.float32
    assert one @ other > one @ else_
    long = t.embed(sound, RATE_HZ)
    assert long.shape == (size,)
    assert np.isfinite(long).all()


def test_a_graph_without_features_says_to_export_it_again(tmp_path: Path, sound: np.ndarray) -> None:
    onnx = pytest.importorskip("onnx")
    path = Path(shutil.copy(store.find("esc50"), tmp_path / "old.safetensors"))
    graph = onnx.load(str(graph_of(store.find("esc50"))))
    (output,) = [each for each in graph.graph.output if each.name == EMBEDDING]
    graph.graph.output.remove(output)
    onnx.save(graph, str(graph_of(path)))
    old = tagger.load(path, runtime="onnx")
    assert old.classify(sound, RATE_HZ)["siren"] > 0.9
    with pytest.raises(CheckpointError, match=r"old\.safetensors: .*`tagger export .*` writes it again"):
        old.embed(sound, RATE_HZ)


# --- streams ---


@pytest.mark.parametrize("size", [1_000, 44_100, 200_000])
def test_a_stream_says_what_the_whole_says_however_it_is_cut(size: int, esc50: Tagger, sound: np.ndarray) -> None:
    windows, events = [], []
    with esc50.stream(RATE_HZ) as stream:
        for start in range(0, len(sound), size):
            for heard in stream.feed(sound[start : start + size]):
                windows.append(heard)
                events += heard.events
        events += stream.finish()
    whole = list(esc50.tag(sound, RATE_HZ))[: len(windows)]
    assert len(windows) == 11
    for one, other in zip(windows, whole, strict=True):
        assert (one.start, one.end) == (other.start, other.end)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    ended = [each for each in events if each.offset is not None]
    assert sorted((e.label, e.onset, e.offset) for e in ended) == sorted(
        (e.label, e.onset, e.offset) for e in esc50.events(sound, RATE_HZ)
    )
    assert sorted(e.id for e in ended) == sorted(e.id for e in events if e.offset is None)


def test_a_stream_of_another_rate_keeps_time(esc50: Tagger) -> None:
    with esc50.stream(8_000) as stream:
        heard = [window for _ in range(31) for window in stream.feed(np.zeros(2_000, np.int16))]
    assert [(each.start, each.end) for each in heard] == [(0.0, 5.0), (1.0, 6.0), (2.0, 7.0)]
    assert stream.finish() == ()


def test_no_window_spans_lost_samples(esc50: Tagger) -> None:
    with esc50.stream(16_000) as stream:
        first = stream.feed(np.zeros(88_000, np.int16))
        second = stream.feed(np.zeros(16_000 * 4, np.int16), lost=2.5)
        third = stream.feed(np.zeros(16_000 * 2, np.int16))
    assert [(each.start, each.end) for each in first] == [(0.0, 5.0)]
    assert second == []
    assert [(each.start, each.end) for each in third] == [(8.0, 13.0)]


def test_a_finished_stream_takes_nothing_more(esc50: Tagger) -> None:
    with esc50.stream(16_000) as stream:
        assert stream.feed([]) == []
    with pytest.raises(InputError, match="finished"):
        stream.feed(np.zeros(1))
    with pytest.raises(TypeError, match="pickle the Tagger"):
        pickle.dumps(stream)
    assert isinstance(stream, AudioStream)


def test_a_refused_piece_changes_nothing(esc50: Tagger) -> None:
    with esc50.stream(16_000) as stream:
        stream.feed(np.zeros(16_000 * 3, np.int16))
        with pytest.raises(InputError):
            stream.feed(np.zeros((2, 2, 2)))
        assert [each.end for each in stream.feed(np.zeros(16_000 * 3, np.int16))] == [5.0]


# --- what is refused ---


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\): must be"),
        (np.float32(1.0), r"shape \(\): must be"),
        (np.zeros((160_000, 2)), "give its transpose"),
        (np.zeros(0), "no samples"),
        (np.zeros(10, np.uint8), "array of uint8"),
        (np.zeros(10, np.int64), "array of int64"),
        (np.zeros(10, bool), "array of bool"),
        (np.zeros(10, complex), "array of complex128"),
        (np.array(["a"]), "array of <U1"),
        (np.array([None]), "array of object"),
        ([[0.0], [0.0, 1.0]], "rows are not of one length"),
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.array([0.0, -np.inf]), "NaN or infinite"),
        (np.array([0.0, 1e300]), "NaN or infinite"),
        (np.array([0.0, 20_000.0]), "samples of up to 20000; floats have full scale"),
    ],
)
def test_what_is_no_sound_is_refused_in_one_line(array: Any, words: str, esc50: Tagger) -> None:
    with pytest.raises(InputError, match=words) as raised:
        esc50.classify(array, RATE_HZ)
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, UserError)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "rate", [0, -1, 44_100.5, 999, 10**9, float("nan"), float("inf"), "44100", None, True, 1j, 10**400]
)
def test_a_rate_that_no_audio_has_is_refused(rate: Any, esc50: Tagger) -> None:
    for call in (esc50.classify, esc50.embed):
        with pytest.raises(InputError, match="rate"):
            call(np.zeros(100), rate)
    with pytest.raises(InputError, match="rate"):
        esc50.stream(rate)


def test_files_and_arrays_are_not_confused(esc50: Tagger) -> None:
    for args, words in (
        ((str(DEMO), 44_100), "a file has its own"),
        ((np.zeros(100),), "an array needs"),
        ((np.zeros(100), 44_100, 1), "give the row"),
        ((str(DEMO), None, 0), "the first channel is 1"),
    ):
        with pytest.raises(InputError, match=words):
            esc50.tag(*args)
        with pytest.raises(InputError, match=words):
            esc50.events(*args)
    with pytest.raises(AudioError, match="no such file"):
        list(esc50.tag("missing.wav"))


def test_a_wrong_model_is_refused_at_once() -> None:
    with pytest.raises(CheckpointError, match="did you mean esc50"):
        tagger.load("esc5O")
    with pytest.raises(InputError, match="names esc50 twice"):
        tagger.load("esc50", "esc50")
    with pytest.raises(UserError, match="hop"):
        tagger.load("esc50", hop=-1)
    for wrong in (None, 3, ["esc50"]):
        with pytest.raises(InputError, match="must be a name or a path"):
            tagger.load(wrong)
    with pytest.raises(AttributeError, match="laod"):
        tagger.laod  # noqa: B018


@pytest.mark.parametrize(
    "options",
    [
        *({name: value} for name in ("window", "hop") for value in (0, 0.0, "5", True, [])),
        *({name: value} for name in ("window", "hop") for value in (float("nan"), float("inf"), 10**400)),
        {"hop": None},
        {"runtime": "gpu"},
        {"device": None},
        {"device": 0},
        {"config": 5},
    ],
)
def test_a_wrong_option_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"load: {next(iter(options))}"):
        tagger.load("esc50", **options)


@pytest.mark.parametrize("lost", [-1, "1", None, True, [1], float("nan"), float("inf"), 1e300, 10**400])
def test_a_time_that_cannot_be_lost_is_refused(esc50: Tagger, lost: Any) -> None:
    with esc50.stream(RATE_HZ) as stream, pytest.raises(InputError, match=r"lost .*seconds"):
        stream.feed(np.zeros(RATE_HZ), lost=lost)


@pytest.mark.parametrize("channel", [0, "1", 1.5, True, [1], float("nan")])
def test_what_is_no_channel_is_refused_at_once(esc50: Tagger, channel: Any) -> None:
    for call in (esc50.tag, esc50.events):
        with pytest.raises(InputError, match="first channel is 1"):
            call(DEMO, channel=channel)


def test_a_name_that_no_file_can_have_is_an_audio_error(esc50: Tagger) -> None:
    with pytest.raises(AudioError, match="too long"):
        list(esc50.tag("x" * 5000))


@pytest.mark.parametrize("name", ["models", "labels", "rate", "window", "hop"])
def test_what_was_loaded_cannot_be_changed(esc50: Tagger, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(esc50, name, -1)


def test_scores_have_labels_as_a_dictionary_has_keys(esc50: Tagger) -> None:
    found = esc50.classify(np.zeros(100), RATE_HZ)
    assert "dog" in found
    assert "wolf" not in found
    assert (tuple(found), len(found)) == (esc50.labels, 50)
    assert dict(zip(found, found.scores, strict=True))["dog"] == found["dog"]


@pytest.mark.parametrize("k", [-1, 1.5, "a", None, True])
def test_a_wrong_number_of_labels_is_refused(esc50: Tagger, k: Any) -> None:
    with pytest.raises(InputError, match="whole number from 0 on"):
        esc50.classify(np.zeros(100), RATE_HZ).top(k)


def test_a_path_is_no_array(esc50: Tagger, tmp_path: Path) -> None:
    for path in ("demo.wav", tmp_path):
        with pytest.raises(InputError, match="`tag` and `events` take recordings"):
            esc50.classify(path, RATE_HZ)  # type: ignore[arg-type]


def test_integers_fill_the_scale() -> None:
    np.testing.assert_allclose(mono(np.array([-(2**15), 2**14], np.int16)), [-1, 0.5])
    np.testing.assert_allclose(mono(np.array([[-(2**31), 0], [0, 2**30]], np.int32)), [-0.5, 0.25])


# --- threads and processes ---


def test_threads_share_a_tagger(sound: np.ndarray) -> None:
    t = tagger.load("esc50")
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(t.classify(sound, RATE_HZ)["siren"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == pytest.approx([found[0]] * 4, abs=1e-6)
    assert len(found) == 4


def _siren_of(t: Tagger, samples: np.ndarray) -> float:
    return t.classify(samples, RATE_HZ)["siren"]


@pytest.mark.slow
def test_a_pickled_tagger_opens_its_model_in_the_other_process(sound: np.ndarray, tmp_path: Path) -> None:
    config = tmp_path / "events.toml"
    config.write_text('events.deny = ["siren"]\n')
    t = tagger.load("esc50", hop=2.0, config=config)
    expected = _siren_of(t, sound)
    again = pickle.loads(pickle.dumps(t))
    assert (again.hop, again.models, repr(again)) == (2.0, ("esc50",), "tagger.load('esc50')")
    assert [each.label for each in again.events(sound, RATE_HZ)] == [each.label for each in t.events(sound, RATE_HZ)]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        assert processes.submit(_siren_of, t, sound).result(90) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_it_needs_no_torch_and_opens_nothing_before_it_is_used() -> None:
    code = (
        "import sys; sys.modules.update(torch=None, torchaudio=None)\n"
        "import tagger, numpy\n"
        "t = tagger.load('esc50')\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "assert t.embed(numpy.zeros(32000), 32000).shape == (384,)\n"
        "assert len(t.classify(numpy.zeros(32000), 32000).scores) == 50\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_there() -> None:
    assert {"load", "Tagger", "LabelScores", "SoundEvent", "Heard", "AudioStream", "InputError"} <= set(dir(tagger))
    assert tagger.SoundEvent is SoundEvent
