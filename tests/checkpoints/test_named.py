"""Classes of a second opinion that rules name become labels of the model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.checkpoints.classes import ClassesInfo, read_thresholds, thresholds_of
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.joint import JointInfo, models_of
from tagger.checkpoints.named import choosable, choose, understood
from tagger.checkpoints.opinion import Opinion
from tagger.checkpoints.release import audioset_labels
from tagger.errors import CheckpointError, SettingError
from tagger.features.config import MelConfig
from tagger.models.config import EfficientATConfig
from tagger.policy import EventsConfig, Policy, policy

CLASSES = ("Dog", "Bark", "Doorbell", "Smoke detector, smoke alarm", "Water tap, faucet", "Water", "Dog collar")
DOORBELL, SMOKE, TAP = CLASSES[2:5]


def model(network: str = "", labels: tuple[str, ...] = ("dog", "siren")) -> CheckpointInfo:
    opinion = Opinion(CLASSES, (("Dog", "Bark"), ("Water",)), (0.0,) * 7, (1.0,) * 7, network=network)
    return CheckpointInfo(
        name="small",
        architecture="efficientat",
        config=EfficientATConfig(labels=2, opinion=7, shared=10),
        mel=MelConfig(),
        window_seconds=5.0,
        labels=labels,
        activation="sigmoid",
        thresholds=(0.5, 0.6),
        opinion=opinion,
    )


MODEL = model()
PLAIN = replace(MODEL, opinion=None, config=replace(MODEL.config, opinion=0, shared=0))


def made(info: CheckpointInfo | JointInfo, rules: EventsConfig) -> Policy:
    return policy(info.labels, info.thresholds, 5.0, 1.0, understood(info, rules))


def refusal(rules: EventsConfig, info: CheckpointInfo = MODEL) -> str:
    with pytest.raises(SettingError) as raised:
        made(choose(info, [rules]), rules)
    return raised.value.problem


@pytest.mark.parametrize("rules", [EventsConfig(), EventsConfig(allow=("dog",)), EventsConfig(deny=("Doorbell",))])
def test_nothing_changes_for_who_names_no_class(rules: EventsConfig):
    assert choose(MODEL, [rules]) is MODEL
    assert made(MODEL, rules).labels == ("dog", "siren")


@pytest.mark.parametrize(
    "name",
    ["Smoke detector, smoke alarm", "smoke alarm", "SMOKE_DETECTOR", "smoke alarms", "smoke detector smoke alarm"],
)
def test_a_class_is_found_by_any_of_its_names(name: str):
    rules = EventsConfig(allow=("dog", name))
    info = choose(MODEL, [rules])
    assert info.labels == ("dog", "siren", SMOKE)
    assert made(info, rules).denied == {"siren"}


@pytest.mark.parametrize(
    "rules",
    [
        EventsConfig(allow=("dog", "doorbell")),
        EventsConfig(labels={"doorbell": {"enter": 0.7}}),
        EventsConfig(groups={"visit": ("dog", "doorbell")}),
    ],
)
def test_a_class_can_be_named_wherever_a_label_can(rules: EventsConfig):
    info = choose(MODEL, [rules])
    found = made(info, rules)
    assert found.labels == ("dog", "siren", DOORBELL)
    assert DOORBELL not in found.denied
    assert found.each[2].enter == (0.7 if rules.labels else 0.5)
    assert found.groups == ({"visit": ("dog", DOORBELL)} if rules.groups else {})
    assert (info.name, models_of(info)) == ("small+audioset", ("small", "small", "audioset"))


def test_a_class_that_only_one_source_names_is_silent_at_the_others():
    door, plain, only_dogs = EventsConfig(labels={"Doorbell": {}}), EventsConfig(), EventsConfig(allow=("dog",))
    info = choose(MODEL, [door, plain, only_dogs])
    assert [made(info, rules).denied for rules in (door, plain, only_dogs)] == [
        set(),
        {DOORBELL},
        {"siren", DOORBELL},
    ]


def test_classes_come_in_the_networks_order_and_once():
    rules = EventsConfig(allow=("faucet", "doorbell", "Doorbell"))
    assert choose(MODEL, [rules, rules]).labels[2:] == (DOORBELL, TAP)


def test_a_class_that_means_an_announced_label_is_refused():
    assert refusal(EventsConfig(labels={"bark": {}})) == (
        "this model has no label 'bark'; AudioSet's 'Bark' means dog, announced already: name that instead, or deny it"
    )
    rules = EventsConfig(labels={"bark": {}}, deny=("dog",))
    assert made(choose(MODEL, [rules]), rules).denied == {"dog"}
    rules = EventsConfig(allow=("bark",))
    assert choose(MODEL, [rules]).labels[2:] == ("Bark",)


def test_a_label_in_other_letters_is_no_class():
    assert refusal(EventsConfig(allow=("Dog",))) == "this model has no label 'Dog'; did you mean dog?"
    assert "Dog" not in choosable(MODEL)


def test_a_part_of_a_name_is_no_name_but_proposes_some():
    assert refusal(EventsConfig(allow=("smoke",))) == f"this model has no label 'smoke'; did you mean {SMOKE!r}?"
    assert refusal(EventsConfig(allow=("dorbell",))) == "this model has no label 'dorbell'; did you mean Doorbell?"
    assert "`tagger labels`" in refusal(EventsConfig(allow=("xylophone",)))


def test_without_a_second_opinion_it_says_how_to_get_one():
    for name in ("Doorbell", "smoke alarm", "Water tap, faucet"):
        assert refusal(EventsConfig(allow=(name,)), PLAIN) == (
            f"this model has no label {name!r}; AudioSet has it, and a model with a second opinion hears it: "
            "`tagger models opinion small` makes one (docs/trust.md)"
        )
    assert refusal(EventsConfig(allow=("dgo",)), PLAIN) == "this model has no label 'dgo'; did you mean dog?"


def test_a_reload_cannot_choose_another_class():
    info = choose(MODEL, [EventsConfig(labels={"doorbell": {}})])
    with pytest.raises(SettingError, match="only a restart"):
        made(info, EventsConfig(labels={"faucet": {}}))
    assert made(info, EventsConfig()).denied == {DOORBELL}


def test_the_first_model_with_a_second_opinion_gives_the_classes():
    both = JointInfo((replace(PLAIN, name="other", labels=("cat", "dog")), MODEL))
    info = choose(both, [EventsConfig(labels={"doorbell": {}})])
    assert info.labels == ("cat", "dog", "siren", DOORBELL)
    assert models_of(info) == ("other", "other", "small", "audioset")
    assert isinstance(info, JointInfo)
    assert info.classes is not None
    assert info.classes.of is MODEL


def test_a_score_of_one_half_is_at_the_measured_logit():
    info = ClassesInfo(model("mn04_as"), (DOORBELL, "Water"))
    known = thresholds_of(info.of)
    logits = np.full((2, 7), -50.0, np.float32)
    logits[0, 2], logits[1, 5] = known[DOORBELL].logit, known["Water"].logit + 1
    np.testing.assert_allclose(info.scores(logits), [[0.5, 0], [0, 1 / (1 + np.exp(-1))]], atol=1e-6)
    unknown = ClassesInfo(model("mn99_as"), (DOORBELL,))
    assert unknown.scores(np.zeros((1, 7), np.float32)) == 0.5, "AudioSet's own probability"


def test_the_table_has_every_class():
    known = thresholds_of(model("mn04_as"))
    assert tuple(known) == audioset_labels()
    assert all(-10 < each.logit < 10 and (each.recall is None) == (not each.recordings) for each in known.values())


def test_a_damaged_table_is_named(tmp_path: Path):
    path = tmp_path / "classes-x.csv"
    path.write_text("class,logit\nDog,1\n")
    with pytest.raises(CheckpointError, match=r"classes-x\.csv"):
        read_thresholds(path)


def test_the_network_of_an_opinion_survives_in_its_document():
    assert CheckpointInfo.from_document(model("mn04_as").to_document()).opinion == model("mn04_as").opinion
    assert "network" not in MODEL.to_document()["opinion"]
