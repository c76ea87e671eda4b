"""Rules for events: the user's file, the order of precedence, and refused values."""

import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagger import policy as policies
from tagger.checkpoints.release import audioset_labels
from tagger.checkpoints.store import BUNDLED, read_header
from tagger.config.file import load_right
from tagger.config.places import placed
from tagger.errors import UserError
from tagger.policy import CONTINUOUS, KINDS, EventsConfig, LabelPolicy, Policy, policy
from tests.programs import refused, run

LABELS = ("dog", "rain", "siren", "glass_breaking")
OWN = (0.4, 0.5, 0.6, 0.7)
"""The checkpoint's thresholds."""


def made(
    config: EventsConfig | None = None, window_s: float = 5.0, hop_s: float = 1.0, threshold: float | None = None
) -> Policy:
    return policy(LABELS, OWN, window_s, hop_s, config, threshold)


def of(label: str, rules: Policy) -> LabelPolicy:
    return rules.each[rules.labels.index(label)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.toml"


def written(file: Path, text: str) -> EventsConfig:
    file.write_text(text, "utf-8")
    return load_right(file).events


def read_and_make(file: Path, **options: float) -> Policy:
    document = load_right(file)
    with placed(document):
        return made(document.events, **options)


def error_of(file: Path, text: str, **options: float) -> str:
    """The error for a file: one line that begins with the file's name and the line's number."""
    file.write_text(text, "utf-8")
    with pytest.raises(UserError) as raised:
        read_and_make(file, **options)
    said = str(raised.value)
    assert said.startswith(f"{file}, line ")
    assert "\n" not in said
    return said.removeprefix(f"{file}, ")


# --- without a file ---


def test_each_label_has_the_models_threshold_and_its_kinds_times():
    rules = made()
    dog = LabelPolicy(enter=0.4, exit=0.2, confirm_s=0.5, merge_s=2.0, sure=of("dog", rules).sure)
    assert of("dog", rules) == dog
    assert math.log(dog.sure / (1 - dog.sure)) - math.log(0.4 / 0.6) == pytest.approx(0.2)
    assert of("rain", rules) == LabelPolicy(enter=0.5, exit=0.25, confirm_s=0.5, merge_s=3.0)
    assert [each.enter for each in rules.each] == list(OWN)
    assert (rules.denied, rules.groups, rules.names) == (frozenset(), {}, LABELS)


def test_who_asks_for_a_time_to_confirm_gets_it_for_sure_sounds_too(file):
    def sure(text):
        return of("dog", made(written(file, text))).sure

    assert sure("events.labels.dog.confirm_s = 0.5") == sure('events.labels.dog.kind = "continuous"') == 1
    assert sure("[events.labels.dog]\nconfirm_s = 0.5\nsure = 0.9") == 0.9
    assert sure("events.sure = 0.1") == 0.1  # below `enter`, which counts
    assert sure("events.enter = 1.0") == 1
    assert "sure = 1.5 must be at most 1" in error_of(file, "events.labels.dog.sure = 1.5")


def test_kinds_are_of_labels_that_the_bundled_model_has():
    assert set(read_header(BUNDLED / "esc50.safetensors")["labels"]) > CONTINUOUS


@pytest.mark.parametrize(("window_s", "hop_s"), [(5, 5), (5, 4.8), (1, 0.5), (0.5, 0.5), (60, 0.01)])
def test_windows_that_are_far_apart_or_short_are_not_refused_by_default(window_s, hop_s):
    rules = made(window_s=window_s, hop_s=hop_s)
    assert of("dog", rules).confirm_s == pytest.approx(min(0.5, max(0, window_s - hop_s - 0.5)))
    assert of("rain", rules).confirm_s == 0.5


def test_official_labels_have_policies():
    labels = audioset_labels()
    assert len(policy(labels, [0.3] * len(labels), 10.0, 1.0).each) == 527


# --- order of precedence: label, flag, [events], kind, default ---


def test_a_label_comes_before_events_before_its_kind_before_the_default(file):
    config = written(
        file,
        """
        [events]
        confirm_s = 1.5
        min_s = 0.25
        [events.labels.dog]
        confirm_s = 2
        merge_s = 4.0
        """,
    )
    dog, rain = of("dog", made(config)), of("rain", made(config))
    assert (dog.confirm_s, rain.confirm_s) == (2, 1.5)
    assert (dog.merge_s, rain.merge_s) == (4.0, KINDS["continuous"]["merge_s"])
    assert (dog.min_s, rain.min_s) == (0.25, 0.25)
    assert (dog.max_s, rain.max_s) == (math.inf, math.inf)


def test_kinds_can_be_changed(file):
    config = written(file, 'events.labels.dog.kind = "continuous"\nevents.labels.rain.kind = "one-shot"')
    assert of("dog", made(config)).merge_s == KINDS["continuous"]["merge_s"]
    assert of("rain", made(config)).merge_s == KINDS["one-shot"]["merge_s"]
    config = written(file, 'events.kind = "continuous"\nevents.labels.dog.kind = "one-shot"')
    assert of("dog", made(config)).merge_s == KINDS["one-shot"]["merge_s"]
    assert of("glass_breaking", made(config)).merge_s == KINDS["continuous"]["merge_s"]


def test_the_flag_comes_before_the_model_and_the_file_but_not_before_a_labels_own(file):
    config = written(file, "[events]\nenter = 0.55\n[events.labels.dog]\nenter = 0.35")
    assert [each.enter for each in made(config).each] == [0.35, 0.55, 0.55, 0.55]
    assert [each.enter for each in made(config, threshold=0.9).each] == [0.35, 0.9, 0.9, 0.9]
    assert [each.enter for each in made(threshold=0.9).each] == [0.9] * 4


def test_exit_is_half_of_enter_unless_it_is_given(file):
    assert of("dog", made(threshold=0.9)).exit == 0.45
    assert of("dog", made(written(file, "events.exit = 0.1"), threshold=0.9)).exit == 0.1


@given(st.floats(0, 1, exclude_min=True))
@example(5e-324)
@example(1e-320)
@example(1 - 2**-53)
def test_any_threshold_is_a_rule(enter):
    for rules in (made(threshold=enter), policies.with_threshold(made(), "dog", enter)):
        dog = of("dog", rules)
        assert 0 < dog.exit <= dog.enter == enter <= dog.sure <= 1


def test_allow_and_deny(file):
    config = written(file, 'events.allow = ["dog", "rain"]\nevents.deny = ["rain"]')
    assert made(config).denied == {"rain", "siren", "glass_breaking"}
    assert made(written(file, 'events.deny = ["rain"]')).denied == {"rain"}


def test_lists_on_the_command_line_replace_those_of_the_file(file):
    config = written(file, 'events.allow = ["dog", "rain"]\nevents.deny = ["rain"]')
    assert made(config.but(["siren", "rain"], [])).denied == {"dog", "rain", "glass_breaking"}
    assert made(config.but([], ["dog"])).denied == {"dog", "siren", "glass_breaking"}
    assert config.but([], []) == config


def test_groups(file):
    rules = made(written(file, '[events.groups]\nalarm = ["siren", "glass_breaking"]'))
    assert rules.groups == {"alarm": ("siren", "glass_breaking")}
    assert rules.names == (*LABELS, "alarm")


def test_an_empty_file_changes_nothing(file):
    for text in ("", "[events]", "# nothing", "[events.labels]\n[events.groups]"):
        assert made(written(file, text)) == made()


# --- errors: one line that names the file and the key ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[events", "is not TOML"),
        ("[event]", "event: is unknown; did you mean events?"),
        ("events = 3", "events: must be a table, not 3"),
        ("events.confirms_s = 1", "events.confirms_s: is unknown; did you mean confirm_s"),
        ("events.labels = 3", "events.labels: must be a table"),
        ("events.labels.dog = 0.5", "events.labels.dog: must be a table"),
        ("events.labels.dog.entre = 0.5", "events.labels.dog.entre: is unknown; did you mean enter"),
        ('events.labels.dog.enter = "high"', "events.labels.dog.enter: must be a number, not 'high'"),
        ("events.labels.dog.enter = true", "events.labels.dog.enter: must be a number, not True"),
        ("events.labels.dog.deny = true", "events.labels.dog.deny: is unknown"),
        ("events.labels.dgo.enter = 0.5", "events.labels.dgo: this model has no label 'dgo'; did you mean dog?"),
        ('events.kind = "long"', "events.kind: 'long' is not one of one-shot, continuous"),
        ('events.kind = ["one-shot"]', "events.kind: ['one-shot'] is not one of one-shot, continuous"),
        ('events.allow = "dog"', "events.allow: must be a list of labels, not 'dog'"),
        ("events.deny = [1]", "events.deny: must be a list of labels"),
        ('events.allow = ["Dog"]', "events.allow: this model has no label 'Dog'; did you mean dog?"),
        ('events.deny = ["sirens"]', "events.deny: this model has no label 'sirens'; did you mean siren?"),
        ("events.allow = []", "events.allow: leaves no label"),
        (f"events.deny = {list(LABELS)}", "events.deny: leaves no label"),
        ('events.groups = ["dog"]', "events.groups: must be a table"),
        ('events.groups.pet = "dog"', "events.groups.pet: must be a list of labels"),
        ('events.groups.pet = ["cat", "dog"]', "events.groups.pet: this model has no label 'cat'"),
        ("events.groups.pet = []", "events.groups.pet: has no labels"),
        ('events.groups.any = ["dog"]', "events.groups.any: is the name of all labels; choose another"),
        ('events.groups."\\u001b[31m" = ["dog"]', "cannot be the name of a group: no MQTT topic may contain '\\x1b'"),
        ('events.groups."a\\u202eb" = ["dog"]', "cannot be the name of a group: '\\u202e' cannot be seen"),
        ('events.groups.Any = ["dog"]', "events.groups.Any: is the name of all labels; choose another"),
        ('events.groups.dog = ["dog"]', "events.groups.dog: is the name of the label 'dog'; choose another"),
        ('events.groups."Glass breaking" = ["dog"]', "is the name of the label 'glass_breaking'"),
        ('events.groups."a b" = ["dog"]\nevents.groups.a_b = ["dog"]', "a_b: is the name of the group 'a b'"),
        ("events.labels.dog.enter = 0", "dog: enter = 0 must be above 0 and at most 1"),
        ("events.labels.dog.enter = 1.01", "dog: enter = 1.01 must be"),
        ("events.labels.dog.enter = -1", "dog: enter = -1 must be a number, 0 or more"),
        ("events.labels.dog.enter = nan", "dog: enter = nan must be a number"),
        ("events.labels.dog.confirm_s = inf", "dog: confirm_s = inf must be finite"),
        ("events.labels.dog.exit = 0.41", "dog: exit = 0.41 must not be above enter = 0.4"),
        ("events.labels.dog = { min_s = 3, max_s = 3 }", "dog: max_s = 3 must be longer than min_s = 3"),
        ("events.labels.dog.merge_s = 0.1", "dog: merge_s = 0.1 must be at least 0.5"),
        ("events.labels.dog.confirm_s = 3.6", "dog: confirm_s = 3.6 can never be met: a short sound stays in windows"),
    ],
)
def test_a_mistake_in_the_file(file, text, words):
    assert words in error_of(file, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[events]\n\n# Mine.\nconfirm_s = 9", "line 4: dog: confirm_s = 9 can never be met"),
        ("[events]\nconfirm_s = 9\n[events.labels.dog]\nconfirm_s = 8", "line 4: dog: confirm_s = 8 can never be met"),
        (
            "[events]\ndeny = [\n  'rain',\n  'dgo',\n]\nallow = []",
            "line 2: events.deny: this model has no label 'dgo'",
        ),
        ("[events.groups]\npet = ['dog']\nany = ['dog']", "line 3: events.groups.any: is the name of all labels"),
        ("[events]\nmin_s = 1\n\n[events.labels.dgo]\nenter = 1", "line 4: events.labels.dgo: this model has no"),
        (
            "[events.labels]\ndog = { enter = 0.5,\\\n entre = 1 }".replace("\\\n", ""),
            "line 2: events.labels.dog.entre:",
        ),
    ],
)
def test_the_line_is_named(file, text, said):
    assert error_of(file, text).startswith(said)


def test_what_can_never_be_met_depends_on_the_windows(file):
    text = "events.labels.dog.confirm_s = 3.5"
    made(written(file, text))
    assert "for no more than 3 s" in error_of(file, text, hop_s=1.5)
    made(written(file, text), hop_s=1.5, window_s=6)
    made(written(file, "events.labels.rain.confirm_s = 30"))  # the sound goes on as long as that


def test_a_file_that_is_missing_or_no_text(file):
    with pytest.raises(UserError, match=r"events\.toml: no such file; `tagger config init` and `tagger calibrate`"):
        load_right(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"events\.toml: is not UTF-8 text"):
        load_right(file)


def test_a_label_on_the_command_line_is_not_looked_for_in_the_file(file):
    config = written(file, 'events.deny = ["rain"]')
    for changed, flag in ((config.but(["dgo"], []), "--allow"), (config.but([], ["dgo"]), "--deny")):
        with pytest.raises(UserError) as raised, placed():
            made(changed)
        assert str(raised.value) == f"{flag}: this model has no label 'dgo'; did you mean dog?"
    with pytest.raises(UserError, match="--deny: leaves no label"), placed():
        made(EventsConfig().but([], LABELS))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--deny", "dgo"), ("--deny", "did you mean dog")),
        (("--allow", "dgo"), ("--allow", "did you mean dog")),
        (("--config", "missing.toml"), ("missing.toml", "no such file")),
        (("--config", "."), (".",)),
    ],
)
def test_the_command_refuses_in_one_line(flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run("listen", "demo", "--mqtt", "none", *flags), *words)


@pytest.mark.parametrize("command", [("listen", "--mqtt", "none"), ("tag",)])
def test_both_commands_read_the_file(command, file):
    file.write_text("events.labels.dog.confirm_s = 4\n")
    refused(run(*command, "demo", "--config", file), str(file), "dog: confirm_s = 4 can never be met")


# --- any rules ---

values = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-2, 12), st.booleans())


@given(st.dictionaries(st.sampled_from(policies.FIELDS), values), st.sampled_from([0.5, 2.0, 5.0]))
def test_any_rules_are_refused_in_one_line_or_hold_together(changes, hop_s):
    refusal = None
    try:
        dog = of("dog", made(EventsConfig(labels={"dog": changes}), hop_s=hop_s))
    except UserError as error:
        refusal = str(error)
    if refusal is not None:
        assert refusal.startswith("events.labels.dog.")
        assert "\n" not in refusal
        return
    assert 0 <= dog.exit <= dog.enter <= 1
    assert dog.enter > 0
    assert 0 <= dog.confirm_s <= max(0, 5 - hop_s - 0.5)
    assert 0 <= dog.min_s < dog.max_s
    assert dog.merge_s >= 0.5
    assert math.isfinite(dog.refractory_s)


def test_policies_must_match_labels():
    with pytest.raises(ValueError, match="1 policies for 2 labels"):
        Policy(("dog", "cat"), (LabelPolicy(),))
