"""A user's words find the labels that they mean, in whatever model has them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.checkpoints.release import audioset_labels
from tagger.config.sounds import Model, models, near, related, split
from tagger.words import fits

ESC50, AUDIOSET = replace(models()[0], classes=()), Model("mn10_as", audioset_labels())
BOTH = [ESC50, AUDIOSET]


@pytest.mark.parametrize(
    ("sound", "esc50", "audioset"),
    [
        ("dog", ["dog"], ["Dog"]),
        ("DOGS", ["dog"], ["Dog"]),
        ("doorbell", [], ["Doorbell"]),
        ("door bells", [], ["Doorbell"]),
        ("smoke alarm", [], ["Smoke detector, smoke alarm"]),
        ("Smoke detector, smoke alarm", [], ["Smoke detector, smoke alarm"]),
        ("breaking glass", ["glass_breaking"], []),
        ("Glass-Breaking", ["glass_breaking"], []),
        ("crying baby", ["crying_baby"], ["Baby cry, infant cry"]),
        ("baby", ["crying_baby"], ["Baby laughter", "Baby cry, infant cry"]),
        ("clock", ["clock_alarm", "clock_tick"], ["Clock"]),
        ("sneezes", ["sneezing"], ["Sneeze"]),
        ("gun shot", [], ["Gunshot, gunfire"]),
        ("micro wave", [], ["Microwave oven"]),
        ("sirn", [], []),
        ("purring lawn robot", [], []),
        ("...", [], []),
    ],
)
def test_case_plural_order_and_part_do_not_matter(sound, esc50, audioset):
    assert sorted(ESC50.fits(sound)) == sorted(esc50)
    assert AUDIOSET.fits(sound) == audioset


@pytest.mark.parametrize("model", BOTH, ids=lambda model: model.name)
def test_every_label_means_itself_alone(model):
    for label in model.labels:
        assert model.fits(label) == [label]
        assert split(label, BOTH) == [label]
        assert label in model.fits(label.upper().replace("_", " "))


@pytest.mark.parametrize(
    ("text", "sounds"),
    [
        ("dog,siren", ["dog", "siren"]),
        ("dog; dog ,, siren", ["dog", "siren"]),
        ("Smoke detector,smoke alarm, dog", ["Smoke detector, smoke alarm", "dog"]),
        ("dog, Smoke detector, smoke alarm", ["dog", "Smoke detector, smoke alarm"]),
        ("\"Smoke detector, smoke alarm\", 'dog'", ["Smoke detector, smoke alarm", "dog"]),
        ("dog cat siren", ["dog", "cat", "siren"]),
        ("glass breaking, dog cat", ["glass breaking", "dog", "cat"]),
        ("purring robot", ["purring robot"]),
        ("", []),
    ],
)
def test_commas_separate_sounds_but_belong_to_labels_that_have_some(text, sounds):
    assert split(text, BOTH) == sounds


@pytest.mark.parametrize(
    ("sound", "meant"),
    [
        ("dgo", "dog"),
        ("sirn", "siren"),
        ("clok alarm", "clock_alarm"),
        ("xylofone", "Marimba, xylophone"),
        ("Dorbell", "Doorbell"),
    ],
)
def test_what_is_spelled_nearly_so_is_suggested(sound, meant):
    assert near(sound, BOTH)[0] == meant


def test_what_has_a_part_of_it_is_a_hint_and_no_suggestion():
    for sound, there in (("dog barking", "dog"), ("purring lawn robot", "Purr"), ("phone", "Marimba, xylophone")):
        assert near(sound, BOTH) == []
        assert there in related(sound, BOTH)


@pytest.mark.parametrize("sound", ["people talking", "human voices", "somebody speaking"])
def test_everyday_words_are_hints(sound):
    assert "Speech" in related(sound, [ESC50, AUDIOSET])


def test_what_no_label_resembles_has_neither():
    assert near("qqqqqqqq", BOTH) == related("qqqqqqqq", BOTH) == []


def test_an_answer_of_any_length_takes_little_time():
    """A quadratic search would take minutes."""
    assert split("xy," * 50_000, BOTH) == ["xy"]
    assert near("x" * 100_000, BOTH) == []


@pytest.mark.parametrize("label", ["дверной звонок", "दरवाज़े की घंटी", "玄関チャイム", "🐕", "Ça, là"])
def test_labels_in_any_script(label):
    model = Model("mine", (label, "dog"))
    assert split(f"dog, {label}", [model]) == ["dog", label]
    assert model.fits(label) == [label]


@given(st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_any_text_is_some_sounds(text, labels):
    known = [Model("mine", tuple(labels))]
    for sound in split(text, known):
        assert set(fits(sound, labels)) <= set(labels)
        assert {*near(sound, known), *related(sound, known)} <= set(labels)


def test_a_model_with_a_second_opinion_knows_its_classes_too() -> None:
    known = [replace(ESC50, classes=("Doorbell", "Smoke detector, smoke alarm", "Water"))]
    found = {each: known[0].fits(each) for each in ("dog", "door bell", "smoke alarm", "water", "alarm")}
    assert found == {
        "dog": ["dog"],
        "door bell": ["Doorbell"],
        "smoke alarm": ["Smoke detector, smoke alarm"],
        "water": ["Water"],
        "alarm": ["clock_alarm"],
    }
    assert split("dog, Smoke detector, smoke alarm", known) == ["dog", "Smoke detector, smoke alarm"]
    assert near("dorbell", known) == ["Doorbell"]
