"""AudioSet's classes in the daemon: each source's own, and what subscribers see of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tagger.checkpoints import checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.opinion import Opinion
from tagger.daemon.model import open_model
from tagger.errors import SettingError
from tagger.events import Event, Stream
from tagger.features.config import MelConfig
from tagger.models.config import EfficientATConfig
from tagger.models.efficientat import EfficientAT
from tagger.policy import EventsConfig
from tagger.settings import ListenSettings
from tests.programs import refused, run, siren, write_wav

CLASSES = ("Dog", "Doorbell", "Smoke detector, smoke alarm", "Water")
SETTINGS = ListenSettings(sources=("door=demo", "attic=demo"), runtime="torch", alarms=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a checkpoint with a second opinion of four classes."""
    torch.manual_seed(0)
    network = EfficientAT(EfficientATConfig(labels=2, width=0.1, moments=True, opinion=4, shared=10)).eval()
    info = CheckpointInfo(
        name="small",
        architecture="efficientat",
        config=network.config,
        mel=MelConfig(),
        window_seconds=1.0,
        labels=("dog", "drops"),
        activation="sigmoid",
        thresholds=(0.9, 0.9),
        opinion=Opinion(CLASSES, (("Dog",), ("Water",)), (0.0,) * 4, (1.0,) * 4),
    )
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    checkpoint.save(path, info, network)
    return str(path)


def test_a_source_has_the_classes_that_it_names(model: str) -> None:
    settings = replace(SETTINGS, model=model, sources=("door=demo,labels=dog+doorbell", "attic=demo"))
    opened = open_model(settings)
    door, attic = opened.policies(settings)
    assert door.labels == attic.labels == ("dog", "drops", "Doorbell")
    assert (door.denied, attic.denied) == ({"drops"}, {"Doorbell"})
    assert opened.deciders(settings) == ("small", "small", "audioset")


def test_who_names_none_gets_the_labels_alone(model: str) -> None:
    opened = open_model(replace(SETTINGS, model=model))
    assert opened.info.labels == ("dog", "drops")
    assert opened.deciders(SETTINGS) == ()


def test_an_event_says_that_audioset_decided() -> None:
    stream = Stream("node", "door", "small+audioset", ("dog", "Doorbell"), ("small", "audioset"))
    event = Event("begin", "id", "Doorbell", 0.7, 0.7, 0.0)
    assert event.to_json(stream, 0.0)["model"] == "audioset"
    assert replace(event, label="dog").to_json(stream, 0.0)["model"] == "small"


def test_a_running_daemon_takes_thresholds_of_its_classes_but_no_further_class(model: str) -> None:
    settings = replace(SETTINGS, model=model, events=EventsConfig(labels={"doorbell": {}}))
    opened = open_model(settings)
    stricter = replace(settings, events=EventsConfig(labels={"Doorbell": {"enter": 0.8}}))
    assert [each.each[2].enter for each in opened.policies(stricter)] == [0.8, 0.8]
    with pytest.raises(SettingError, match="which only a restart chooses"):
        opened.policies(replace(settings, events=EventsConfig(labels={"smoke alarm": {}})))


def test_labels_lists_the_classes_and_what_they_mean(model: str) -> None:
    done = run("labels", "-m", model)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "small:",
        "  dog",
        "  drops",
        "audioset:",
        "  Doorbell",
        "  Smoke detector, smoke alarm",
        "  Water  (means drops)",
    ]
    assert run("labels", "-m", model, "smoke", "door bell").stdout.splitlines()[1:] == [
        "  Doorbell",
        "  Smoke detector, smoke alarm",
    ]
    refused(run("labels", "-m", model, "xylophone"), "no label 'xylophone'")


def test_a_class_is_tagged_where_the_file_names_it(model: str, tmp_path: Path) -> None:
    config = tmp_path / "tagger.toml"
    write_wav(tmp_path / "a.wav", siren(3.0, 32_000), 32_000)
    config.write_text('[events]\nallow = ["smoke_alarm"]\nenter = 0.0001\n')
    given = ("tag", tmp_path / "a.wav", "-m", model, "--config", config, "--runtime", "torch", "--events", "--json")
    done = run(*given)
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["Smoke detector, smoke alarm"]
    config.write_text('[events]\nallow = ["smok"]\n')
    refused(run(*given), "did you mean 'Smoke detector, smoke alarm'?")


def test_check_takes_what_listen_takes(model: str, tmp_path: Path) -> None:
    offline = ("config", "check", "--offline", "-m", model, "demo")
    assert run(*offline, "--allow", "smoke alarm").stdout.splitlines()[-1] == "ok"
    refused(run(*offline, "--allow", "smok"), "--allow: this model has no label 'smok'; did you mean")
    config = tmp_path / "tagger.toml"
    config.write_text('[homeassistant]\nlabels = ["doorbell"]\n')
    refused(run(*offline, "--config", config), "name it in events.allow or [events.labels] first")
    config.write_text('[homeassistant]\nlabels = ["doorbell"]\n[events.labels.Doorbell]\n')
    assert run(*offline, "--config", config).stdout.splitlines()[-1] == "ok"
