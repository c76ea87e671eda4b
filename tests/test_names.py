"""Topic levels of labels and sources: they depend on the name alone, and today's never change."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.daemon.names import source_levels
from tagger.events import Stream
from tagger.mqtt.homeassistant import device_message
from tagger.mqtt.topics import NOT_SOURCES, Topics, label_levels
from tagger.names import LONGEST_LABEL, slug, unique_slugs
from tagger.settings import HomeAssistantSettings
from tagger.sources import open_source, split_name

LEVELS = {
    "dog": "dog",
    "Dog": "dog",
    "Male speech, man speaking": "male_speech_man_speaking",
    "glass_breaking": "glass_breaking",
    "7-8": "7_8",
    "狗": "id_cecd675a",
    "猫": "id_a810bf84",
    "كلب": "id_ebddba52",
    "Собака лает": "sobaka_laet_41b7d803",
    "Σκύλος": "skylos_d9988621",
    "ドア": "doa_baab7051",
    "개": "gae_a57ab057",
    "🐶": "id_895eb9a2",
    "Säge": "sage_13a711b2",
    "Sa\u0308ge": "sage_13a711b2",
    "Straße": "strasse_58a3778c",
    "!!!": "id_e84c538e",
}
"""A contract: automations and Home Assistant's entities depend on them."""
LABELS = (
    "Dog",
    "dog",
    "dog!",
    "狗",
    "猫",
    "犬",
    "كلب",
    "Собака",
    "🐶",
    "🐱",
    "Säge",
    "Tür",
    "Tur",
    "щ" * 100,
    "щ" * 99,
)


@pytest.mark.parametrize(("name", "level"), LEVELS.items())
def test_levels_are_these_for_ever(name: str, level: str) -> None:
    assert slug(name) == level


def test_an_order_of_labels_changes_no_level() -> None:
    levels = label_levels(LABELS)
    assert len(set(levels.values())) == len(LABELS)
    assert levels["dog"] == "dog"
    for seed in range(20):
        shuffled = random.Random(seed).sample(LABELS, len(LABELS))
        assert label_levels(tuple(shuffled)) == levels


@pytest.mark.parametrize("label", LABELS)
def test_a_label_more_or_less_changes_no_other_level(label: str) -> None:
    levels = label_levels(LABELS)
    without = label_levels(tuple(each for each in LABELS if each != label))
    # Of labels with the same letters one has these letters alone: that is the exception.
    kept = {each: level for each, level in without.items() if slug(each) != slug(label) or label != "dog"}
    assert kept == {each: levels[each] for each in kept}


@given(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=8), st.text(min_size=1, max_size=8))
def test_any_new_label_leaves_the_levels_of_labels_with_other_letters(labels: list[str], new: str) -> None:
    before, after = label_levels(tuple(labels)), label_levels((new, *labels))
    others = [label for label in labels if slug(label) != slug(new)]
    assert [before[label] for label in others] == [after[label] for label in others]


def test_of_labels_with_the_same_letters_one_has_them_alone() -> None:
    assert unique_slugs(["dog!", "Dog", "dog"])[2] == "dog"
    assert unique_slugs(["dog!", "Dog"])[1] == "dog"
    assert unique_slugs(["(dog)", "dog!"])[0] == "dog"
    assert all(re.fullmatch("dog_[0-9a-f]{8}", level) for level in unique_slugs(["dog!", "Dog", "dog"])[:2])
    assert unique_slugs(["Tür", "Tur", "Tu\u0308r"])[1] == "tur"
    assert len(set(unique_slugs(["Tür", "Tur", "Tu\u0308r"]))) == 3, "one letter, written in two ways"


@given(st.text())
def test_a_level_is_short_enough_for_topics_and_file_names(name: str) -> None:
    assert len(slug(name)) <= 100


@pytest.mark.parametrize("letter", ["x", "щ", "狗", "ß", "ﷺ"])
def test_levels_of_long_labels_differ(letter: str) -> None:
    long = [letter * length for length in (LONGEST_LABEL, LONGEST_LABEL - 1, 500)]
    assert len({slug(each) for each in long}) == 3
    assert max(len(slug(each)) for each in long) <= 100


def test_home_assistants_ids_depend_on_the_label_alone() -> None:
    def ids(*labels: str) -> dict[str, str]:
        stream = Stream("attic", "mic", "own", labels)
        message = device_message(
            *("tagger_1", HomeAssistantSettings(), Topics("tagger", "attic"), [stream], {"mic": "mic"}),
            *((), False, {}, 10.0, 60.0),
        )
        return {each["name"]: each["uniq_id"] for each in message["cmps"].values()}

    before, after = ids("狗", "雨"), ids("门铃", "雨", "dog", "狗")
    assert before["mic 狗"] == "tagger_1-mic-sound-id_cecd675a"
    assert before.items() <= after.items()


def test_names_of_sources_depend_on_the_source_alone(tmp_path) -> None:
    uris = ["狗.wav", "猫.wav", "a/clip.wav", "b/clip.wav", "status.wav", "Küche=mic", "demo"]
    names = [slug("狗"), slug("猫"), "clip", "clip", "status", slug("Küche"), "demo"]
    levels = dict(zip(uris, source_levels(names, uris), strict=True))
    assert len({*levels.values(), *NOT_SOURCES}) == len(uris) + len(NOT_SOURCES)
    assert (levels["狗.wav"], levels["a/clip.wav"]) == ("id_cecd675a", "clip")
    for without in uris:
        kept = [i for i in reversed(range(len(uris))) if uris[i] != without]
        again = source_levels([names[i] for i in kept], [uris[i] for i in kept])
        if without != "a/clip.wav":
            assert again == [levels[uris[i]] for i in kept]


def test_a_given_name_goes_before_one_that_a_file_has() -> None:
    assert source_levels(["clip", "clip"], ["a/clip.wav", "clip=mic"])[1] == "clip"
    assert source_levels(["demo", "demo", "demo"], ["demo"] * 3) == ["demo", "demo_2", "demo_3"]


def _levels(*uris: str) -> dict[str, str]:
    """The level of each source that is a microphone or a file, by what the user gave."""
    names = [split_name(uri)[0] or slug(re.sub("^mic:", "mic_", Path(uri).stem)) for uri in uris]
    return dict(zip(uris, source_levels(names, uris), strict=True))


@pytest.mark.parametrize(
    ("first", "added"),
    [
        ("e/a_b.flac", ["e/A B.flac", "e/A_B.flac", "d/a b.wav", "A B=mic"]),
        ("hall=x.flac", ["Hall=x.aiff", "HALL=a.flac", "hall!.wav", "a/hall.wav", "Hall=x.flac"]),
        ("hall.wav", ["Hall=x.aiff", "HALL.wav", "a/Hall.wav"]),
        ("mic:usb", ["mic:USB", "Mic usb=demo", "a/Mic_USB.wav"]),
        ("mic", ["a/MIC.wav", "Mic=demo"]),
        ("demo", ["Demo=mic", "DEMO.wav"]),
        ("demo_2.wav", ["demo", "demo"]),
        ("clip_8ed302b4.wav", ["a/clip.wav", "b/clip.wav"]),
        ("hall_2=mic", ["hall=x.flac", "HALL=x.flac", "Hall=x.flac"]),
    ],
)
def test_a_source_whose_name_is_its_level_keeps_it_whatever_is_added(first: str, added: list[str]) -> None:
    alone = _levels(first)[first]
    assert alone == slug(alone)
    for uris in ([first, *added], [*added, first], [first, added[0]], [added[-1], first]):
        names = [split_name(uri)[0] or slug(re.sub("^mic:", "mic_", Path(uri).stem)) for uri in uris]
        levels = source_levels(names, uris)
        assert levels[uris.index(first)] == alone
        assert len(set(levels)) == len(uris)


def test_the_other_sources_with_its_letters_get_a_hash_in_any_order() -> None:
    uris = ["hall=x.flac", "Hall=x.aiff", "HALL.wav"]
    levels = _levels(*uris)
    assert all(re.fullmatch("hall_[0-9a-f]{8}", levels[uri]) for uri in uris[1:])
    assert _levels(*reversed(uris)) == levels
    assert _levels("Hall=x.aiff", "HALL.wav")["Hall=x.aiff"] == "hall", "without it, a given name goes first"


@given(st.lists(st.from_regex(r"[aAbB_!]{1,3}", fullmatch=True), unique=True, max_size=6))
def test_a_label_that_is_its_level_keeps_it_whatever_is_added(labels: list[str]) -> None:
    levels = label_levels((*labels,))
    assert all(levels[label] == label for label in labels if label == slug(label))


def test_a_hash_or_a_number_takes_no_level_that_a_later_label_has_alone() -> None:
    hashed = unique_slugs(["dog", "Dog"])[1]
    labels = ["Dog", "DOG", hashed.upper(), "dog"]
    assert label_levels((*labels,))[hashed.upper()] == hashed


@pytest.mark.parametrize(
    ("uri", "name", "rest"),
    [
        ("Küche=demo", "kuche_a9ec872e", "demo"),
        ("厨房=demo", slug("厨房"), "demo"),
        ("ห้องน้ำ=demo", slug("ห้องน้ำ"), "demo"),
        ("Ku\u0308che=demo", "kuche_a9ec872e", "demo"),
        ("Living room=mic:USB", "living_room", "mic:USB"),
        ("a/b=c.wav", None, "a/b=c.wav"),
        ("rtsp://camera/1?token=abc", None, "rtsp://camera/1?token=abc"),
        ("=demo", None, "=demo"),
    ],
)
def test_a_source_may_be_named_in_any_script(uri: str, name: str | None, rest: str) -> None:
    assert split_name(uri) == (name, rest)


def test_a_source_has_its_given_name() -> None:
    source = open_source("Küche=demo", 32_000)
    source.close()
    assert source.name == "kuche_a9ec872e"
