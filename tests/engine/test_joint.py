"""Several models as one: the scores of each are what it gives alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tagger.checkpoints.header import METADATA_KEY, read_header
from tagger.checkpoints.joint import JointInfo, joined, models_of
from tagger.checkpoints.store import BUNDLED
from tagger.engine.joint import JointClassifier
from tagger.engine.runtime import describe, doubles, open_model, open_models
from tagger.errors import CheckpointError
from tagger.events import Event, Samples, Scores, Stream, Window
from tests.fakes import FakeClassifier
from tests.programs import refused, run, siren, write_wav

ESC50 = BUNDLED / "esc50.safetensors"
RATE_HZ = 32_000


def copied(path: Path, name: str, labels: dict[str, str] | None = None, **changes: Any) -> Path:
    """The bundled model under another name, with labels that begin with "my ", or with these changes of them."""
    document = read_header(ESC50)
    document["name"] = name
    document["labels"] = [(labels or {}).get(each, each if labels else f"my {each}") for each in document["labels"]]
    document["features"] |= changes
    save_file(load_file(ESC50), path, {METADATA_KEY: json.dumps(document)})
    return path


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("models") / "mine.safetensors", "mine")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("models") / "short.safetensors", "short", window_seconds=2.5)


def sound(seconds: float = 5.0) -> Samples:
    return (siren(seconds, RATE_HZ) + 0.01 * np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ))).astype(
        np.float32
    )


def window(samples: Samples, valid: int | None = None) -> Window:
    return Window(samples, 0, len(samples) if valid is None else valid, 0.0)


def scores(classifier: Any, given: Window) -> Scores:
    (found,) = classifier.classify([given])
    return found


def test_each_model_scores_as_if_it_were_alone(mine: Path) -> None:
    both, first, second = (
        open_models([str(ESC50), str(mine)], "torch"),
        *(scores(open_model(str(path), "torch"), window(sound())) for path in (ESC50, mine)),
    )
    found = scores(both, window(sound()))
    assert both.info.labels[:2] == ("dog", "rooster")
    assert both.info.labels[50:52] == ("my dog", "my rooster")
    assert (found.values[:50] == first.values).all()
    assert (found.values[50:] == second.values).all()
    assert (found.activity[:50] == first.activity).all()
    assert (found.plain[50:] == second.plain).all()
    assert found.step_s == first.step_s
    assert (found.other_of(0), found.other_of(99)) == (first.other_of(0), second.other_of(49))


def test_features_are_made_once_where_front_ends_are_equal(mine: Path, tmp_path: Path) -> None:
    wolf = copied(tmp_path / "wolf.safetensors", "wolf", {"dog": "wolf"})
    both = open_models([str(ESC50), str(mine), str(wolf)], "torch")
    assert isinstance(both, JointClassifier)
    made = []
    for part in both.parts:
        usual = part.features
        part.features = lambda waves, usual=usual: made.append(len(waves)) or usual(waves)  # type: ignore[method-assign]
    both.classify([window(sound()), window(sound())])
    assert made == [1, 1], "one window at a time"


def test_a_shorter_window_is_the_end_of_the_longer_one(short: Path) -> None:
    samples = sound()
    both = open_models([str(ESC50), str(short)], "torch")
    assert both.info.window_seconds == 5.0
    found = scores(both, window(samples))
    alone = scores(open_model(str(short), "torch"), window(samples[-len(samples) // 2 :]))
    np.testing.assert_allclose(found.values[50:], alone.values, atol=1e-6)
    assert found.activity.shape[1] == scores(open_model(str(ESC50), "torch"), window(samples)).activity.shape[1]
    loudest = int(alone.values.argmax())
    at = found.step_times[found.activity[50 + loudest] > 0]
    assert at.min() >= 2.5
    assert found.activity[50 + loudest].max() == pytest.approx(alone.activity[loudest].max(), abs=0.2)


def test_of_a_window_that_is_not_full_the_shorter_model_hears_what_is_real(short: Path) -> None:
    samples = sound()
    samples[3 * RATE_HZ :] = 0
    both = open_models([str(ESC50), str(short)], "torch")
    found = scores(both, window(samples, 3 * RATE_HZ))
    alone = scores(open_model(str(short), "torch"), window(samples[RATE_HZ // 2 : 3 * RATE_HZ]))
    np.testing.assert_allclose(found.values[50:], alone.values, atol=1e-6)


def test_a_label_that_two_have_is_the_first_ones(tmp_path: Path) -> None:
    other = copied(tmp_path / "other.safetensors", "other", {"dog": "wolf"})
    both = open_models([str(ESC50), str(other)], "torch")
    assert both.info.labels == (*read_header(ESC50)["labels"], "wolf")
    assert models_of(both.info) == ("esc50",) * 50 + ("other",)
    (line,) = doubles(both)
    assert line.startswith("other is not asked for rooster, pig, ")
    assert line.endswith(" and 44 more: a model that was named before it has these labels, and the first decides")
    turned = open_models([str(other), str(ESC50)], "torch")
    assert models_of(turned.info) == ("other",) * 50 + ("esc50",)
    assert turned.info.labels[-1] == "dog"
    assert [each.partition(",")[0] for each in describe(turned)] == ["other", "esc50"]


def test_one_model_is_itself(mine: Path) -> None:
    alone = open_models([str(mine)], "torch")
    assert not isinstance(alone, JointClassifier)
    assert joined([alone.info]) is alone.info
    assert (models_of(alone.info), list(doubles(alone))) == ((), [])


def test_models_that_cannot_be_heard_together() -> None:
    info = FakeClassifier().info
    slow = replace(info, name="slow", mel=replace(info.mel, sample_rate_hz=16_000, f_max_hz=7_000))
    with pytest.raises(CheckpointError, match="slow hears 16000 Hz and fake 32000 Hz; models that"):
        JointInfo((info, slow))
    with pytest.raises(CheckpointError, match="fake has no label that fake lacks"):
        JointInfo((info, info))


def test_models_without_shared_features_are_asked_themselves() -> None:
    first, second = FakeClassifier(), FakeClassifier(lambda samples: 0.25)
    second.info = replace(second.info, name="second", labels=("quiet", "loud"))
    both = JointClassifier([first, second], JointInfo((first.info, second.info)))  # type: ignore[arg-type]
    found = scores(both, window(np.full(RATE_HZ, 0.5, np.float32)))
    assert both.info.labels == ("loud", "never", "quiet")
    assert found.values.tolist() == [0.5, 0.0, 0.25]
    assert (found.plain, found.other) == (None, "")


# --- as a user meets it ---


def test_tag_has_the_labels_of_both(mine: Path, tmp_path: Path) -> None:
    clip = write_wav(tmp_path / "clip.wav", sound())
    both = run("tag", "--json", "--top", "100", "--model", "esc50", "--model", mine, clip)
    assert both.exit_code == 0, both.output
    top = {each["label"]: each["score"] for each in json.loads(both.stdout)["top"]}
    assert len(top) == 100
    for name in ("siren", "dog", "cat"):
        assert top[name] == pytest.approx(top[f"my {name}"], abs=1e-4)


def test_events_say_which_model_they_are_from(mine: Path, tmp_path: Path) -> None:
    clip = write_wav(tmp_path / "clip.wav", np.concatenate([np.zeros(3 * RATE_HZ), sound(6), np.zeros(8 * RATE_HZ)]))
    config = tmp_path / "tagger.toml"
    config.write_text(
        f'[listen]\nmodel = ["esc50", "{mine}"]\n[events]\nallow = ["siren", "my siren"]\n'
        '[events.labels."my siren"]\nenter = 0.5\n'
    )
    done = run("listen", clip, "--no-realtime", "--mqtt", "none", "--json", "--config", config)
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(event["label"], event["model"]) for event in events} == {("siren", "esc50"), ("my siren", "mine")}
    assert "model         esc50, 50 labels" in done.stderr
    assert "model         mine, 50 labels" in done.stderr


def test_config_knows_the_labels_of_both(mine: Path, tmp_path: Path) -> None:
    config = tmp_path / "tagger.toml"
    config.write_text(f'[listen]\nmodel = ["esc50", "{mine}"]\n[events.labels."my dog"]\nenter = 0.9\n')
    done = run("config", "check", "--offline", "--config", config)
    assert done.exit_code == 0, done.output
    assert f'listen.model = ["esc50", "{mine}"]' in done.stdout
    config.write_text(config.read_text().replace("my dog", "my dgo"))
    refused(run("listen", "demo", "--mqtt", "none", "--config", config), "this model has no label 'my dgo'")


def test_calibrate_finds_thresholds_for_both(mine: Path, tmp_path: Path) -> None:
    room = write_wav(tmp_path / "room.wav", 0.01 * np.random.default_rng(0).standard_normal(70 * RATE_HZ))
    config = tmp_path / "tagger.toml"
    config.write_text(f'[listen]\nmodel = ["esc50", "{mine}"]\nhop = 5.0\n')
    done = run("calibrate", room, "--config", config)
    assert done.exit_code == 0, done.output
    assert "model esc50+mine" in done.stdout
    assert run("config", "check", "--offline", "--config", config).exit_code == 0


@pytest.mark.parametrize("command", [("tag", "x.wav"), ("calibrate", "x.wav"), ("listen", "demo", "--mqtt", "none")])
def test_a_model_is_named_once(command: tuple[str, ...]) -> None:
    refused(run(*command, "--model", "esc50", "--model", "esc50"), "--model", "names esc50 twice")


def test_a_group_over_both_is_of_both_and_one_model_stays_itself() -> None:
    stream = Stream("room", "mic", "esc50+mine", ("dog", "bell", "pets"), ("esc50", "mine"))
    models = {label: Event("begin", "1", label, 0.9, 0.9, 0.0).to_json(stream, 0.0)["model"] for label in stream.labels}
    assert models == {"dog": "esc50", "bell": "mine", "pets": "esc50+mine"}
    assert Stream("room", "mic", "esc50", ("dog",)).model_of("dog") == "esc50"
