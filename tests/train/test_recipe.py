import dataclasses
import json
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.errors import UserError
from tagger.features.config import FRONT_ENDS
from train.fit.job import TRAINERS
from train.recipe import RECIPES, Recipe, named

FIELDS = [field.name for field in dataclasses.fields(Recipe)]
WORDS = ["none", "None", "true", "no", "nan", "inf", "-inf", "-0", "1e400", "-1e400", "0", "1", "0,1", "1,0", "nan,1"]
texts = (
    st.sampled_from([*WORDS, *FRONT_ENDS, "head", "softmax"])
    | st.text(max_size=20)
    | st.integers().map(str)
    | st.integers(10**300, 10**320).map(lambda number: str(-number))
    | st.floats().map(str)
    | st.tuples(st.floats(), st.floats()).map(lambda pair: f"{pair[0]},{pair[1]}")
)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_had_by_its_name(name):
    assert named(name, {}) == RECIPES[name]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_goes_into_a_document_and_back(name):
    document = json.loads(json.dumps(RECIPES[name].to_document(), allow_nan=False))
    assert list(document) == FIELDS
    document["background_snr_db"] = tuple(document["background_snr_db"])
    assert Recipe(**document) == RECIPES[name]


def test_recipes_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["finetune"].epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("epochs=3", 3),
        ("learning_rate=1e-3", 1e-3),
        ("weight_decay=1", 1.0),
        ("frozen_norm=false", False),
        ("frozen_norm=No", False),
        ("mixed_precision=0", False),
        ("frozen_norm=TRUE", True),
        ("trainable=gradual", "gradual"),
        ("trainable=upper", "upper"),
        ("surprise=0", 0.0),
        ("surprise=2.5", 2.5),
        ("enter_logit=4", 4.0),
        ("activation=softmax", "softmax"),
        ("front_end=mfcc", "mfcc"),
        ("dropout=0.3", 0.3),
        ("dropout=none", None),
        ("bandwidth_hz=None", None),
        ("bandwidth_hz=8000", 8_000.0),
        ("background_snr_db=-5, 20", (-5.0, 20.0)),
    ],
)
def test_fields_are_set_by_text(text, value):
    field, _, given_text = text.partition("=")
    changed = named("finetune", {field: given_text})
    assert getattr(changed, field) == value
    assert type(getattr(changed, field)) is type(value)
    assert replace(changed, **{field: getattr(RECIPES["finetune"], field)}) == RECIPES["finetune"]


def test_several_fields_are_set_at_once():
    changed = named("crnn", {"epochs": "5", "batch": "8"})
    assert (changed.epochs, changed.batch, changed.activation) == (5, 8, RECIPES["crnn"].activation)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("finetun", {}, "did you mean finetune"),
        ("best", {}, "there are finetune, head, "),
        ("finetune", {"learning-rate": "1"}, "did you mean learning_rate"),
        ("finetune", {"epoch": "1"}, "did you mean epochs"),
        ("finetune", {"front_end": "mfc"}, "did you mean mfcc"),
    ],
)
def test_unknown_names_are_told_the_nearest(name, changes, words):
    with pytest.raises(UserError, match=words):
        named(name, changes)


@pytest.mark.parametrize(
    "text",
    [
        "epochs=0",
        "epochs=-1",
        "epochs=2.5",
        "epochs=many",
        "epochs=",
        "epochs=none",
        "epochs=-" + 400 * "9",
        "epochs=" + 400 * "9",
        "batch=0",
        "batch=1000000",
        "pretrain_batch=1000000",
        "patience=0",
        "learning_rate=0",
        "learning_rate=nan",
        "learning_rate=inf",
        "learning_rate=1,5",
        "weight_decay=-0.1",
        "frozen_norm=perhaps",
        "frozen_norm=",
        "trainable=some",
        "activation=relu",
        "dropout=1",
        "dropout=-0.1",
        "roll=1.5",
        "placed=nan",
        "average=1.01",
        "distill=2",
        "distill_temperature=0",
        "inner_share=0",
        "inner_share=0.6",
        "crop_seconds=0.01",
        "crop_seconds=-1",
        "jitter_low_hz=5000",
        "jitter_high_hz=14000",
        "bandwidth_hz=0",
        "bandwidth_hz=nan",
        "background_snr_db=5",
        "background_snr_db=5,1",
        "background_snr_db=nan,nan",
        "background_snr_db=0,inf",
        "background_snr_db=none",
        "mask_bands=-1",
        "nothing=-0.1",
        "nothing=1e9",
        "surprise=-1",
        "surprise=inf",
        "enter_logit=nan",
        "head=deep",
        "frozen_blocks=-1",
    ],
)
def test_values_that_a_field_cannot_have_are_the_users_mistake(text):
    field, _, value = text.partition("=")
    with pytest.raises(UserError, match=field) as caught:
        named("finetune", {field: value})
    assert "\n" not in str(caught.value)


@settings(max_examples=400)
@given(st.sampled_from(sorted(RECIPES)), st.sampled_from(FIELDS), texts)
def test_any_text_gives_a_recipe_or_an_error_for_the_user(name, field, text):
    try:
        changed = named(name, {field: text})
    except UserError:
        return
    assert type(getattr(changed, field)) in {int, float, bool, str, tuple, type(None)}
    json.dumps(changed.to_document(), allow_nan=False)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_name_gives_a_recipe_or_an_error_for_the_user(name, field):
    with pytest.raises(UserError):
        named("finetune", {f"{field}?": "1"})
    with pytest.raises(UserError):
        named(f"{name}?", {})


def test_the_recipe_for_streams_teaches_the_upper_blocks_and_keeps_what_was_known():
    """The old last layer needs the hidden layer: only a network that keeps it has `backbone.others_of`."""
    stream = RECIPES["stream"]
    assert (stream.trainable, stream.head, stream.activation) == ("upper", "mlp", "sigmoid")
    assert stream.surprise > 0
    assert 0 < stream.frozen_blocks < 17


def test_every_way_of_training_has_a_trainer():
    assert set(TRAINERS) == set(get_args(get_type_hints(Recipe)["trainable"]))
