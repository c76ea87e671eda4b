import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger import files
from tagger.errors import SettingError, UserError
from tagger.names import slug, unique_slugs
from tagger.settings import ListenSettings, MqttSettings, PcmFormat, check_window

SECRET = "Xy7pass"
"""A password, which no message may contain."""


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "tls"),
    [
        ("mqtt://broker", "broker", 1883, None, None, False),
        ("mqtts://broker", "broker", 8883, None, None, True),
        ("mqtt://broker:1884", "broker", 1884, None, None, False),
        ("mqtt://broker/", "broker", 1883, None, None, False),
        ("MQTT://Broker.Local", "broker.local", 1883, None, None, False),
        ("mqtt://10.0.0.2:1", "10.0.0.2", 1, None, None, False),
        ("mqtt://[::1]", "::1", 1883, None, None, False),
        ("mqtts://[fe80::1]:65535", "fe80::1", 65535, None, None, True),
        ("mqtt://me@broker", "broker", 1883, "me", None, False),
        (f"mqtt://me:{SECRET}@broker", "broker", 1883, "me", SECRET, False),
        ("mqtt://a%40b:p%3Aw%2F%25%20@broker", "broker", 1883, "a@b", "p:w/% ", False),
        ("mqtt://me:p@ss@broker", "broker", 1883, "me", "p@ss", False),
        ("mqtt://me:%C3%A4@[::1]:2000", "::1", 2000, "me", "ä", False),
    ],
)
def test_urls(url, host, port, user, password, tls):
    parsed = MqttSettings.from_url(url)
    assert (parsed.host, parsed.port, parsed.user, parsed.password, parsed.tls) == (host, port, user, password, tls)
    assert not parsed.embedded


readable = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)


@given(readable, readable)
def test_any_user_and_password_can_be_percent_encoded(user, password):
    encoded = ["".join(f"%{byte:02X}" for byte in each.encode()) for each in (user, password)]
    parsed = MqttSettings.from_url(f"mqtt://{encoded[0]}:{encoded[1]}@broker")
    assert (parsed.user, parsed.password) == (user, password)


@pytest.mark.parametrize(
    ("url", "port"), [("embedded", 1883), ("embedded:", 1883), ("embedded:1", 1), ("embedded:65535", 65535)]
)
def test_embedded(url, port):
    parsed = MqttSettings.from_url(url)
    assert (parsed.host, parsed.port, parsed.embedded) == ("127.0.0.1", port, True)


MALFORMED = [
    "",
    "broker",
    "broker:1883",
    "//broker",
    "http://broker",
    "ws://broker",
    "mqtt:broker",
    "mqtt:/broker",
    "mqtt://",
    "mqtt://:1883",
    "mqtt:///topic",
    "mqtt://bro ker",
    "mqtt://broker:0",
    "mqtt://broker:65536",
    "mqtt://broker:-1",
    "mqtt://broker:port",
    "mqtt://broker:1883:1884",
    "mqtt://broker:" + "9" * 5000,
    "mqtt://broker/topic",
    "mqtt://broker?retain=1",
    "mqtt://broker#here",
    "mqtt://[::1",
    "mqtt://::1]",
    "mqtt://[nonsense]",
    "embedded:0",
    "embedded:65536",
    "embedded:-1",
    "embedded:x",
    "embedded:1883/",
    "embedded:²",
    "embedded:" + "9" * 5000,
    f"me:{SECRET}@broker",
    f"http://me:{SECRET}@broker",
    f"mqtt:me:{SECRET}@broker",
    f"mqtt://me:{SECRET}@",
    f"mqtt://me:{SECRET}@:1883",
    f"mqtt://me:{SECRET}",
    f"mqtt://me:{SECRET}/@broker",
    f"mqtt://me:12/{SECRET}@broker",
    f"mqtt://me:12?{SECRET}@broker",
    f"mqtt://me:12#{SECRET}@broker",
    f"mqtt://me:{SECRET}[@broker",
    f"mqtt://me:{SECRET}@broker:port",
    f"mqtt://me:{SECRET}@broker:99999",
    f"mqtt://me:{SECRET}@broker/topic",
    f"mqtt://me:{SECRET}@bro ker",
    f"mqtt://me:{SECRET}\u2100@broker",  # normalises to a/c, which urlsplit refuses, quoting all of it
]


@pytest.mark.parametrize("url", MALFORMED)
def test_malformed_urls_are_refused_without_telling_the_password(url):
    with pytest.raises(UserError) as caught:
        MqttSettings.from_url(url)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("mqtt.url: ")
    assert SECRET not in str(caught.value)
    # A traceback would not show it either.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(st.sampled_from(["mqtt://", "mqtts://", "", "//"]), st.text(st.sampled_from(":@/?#[]%.12ab "), max_size=10))
def test_whatever_is_written_the_password_is_not_told(scheme, rest):
    url = f"{scheme}me:{SECRET}@{rest}"
    try:
        parsed = MqttSettings.from_url(url)
    except UserError as error:
        assert SECRET not in str(error)  # noqa: PT017
    else:
        assert SECRET not in repr(parsed)
        assert SECRET not in parsed.url


def test_the_password_is_shown_nowhere():
    parsed = MqttSettings.from_url(f"mqtt://me:{SECRET}@broker")
    listening = ListenSettings(mqtt=parsed)
    for shown in (repr(parsed), str(parsed), parsed.url, repr(listening)):
        assert SECRET not in shown
    with pytest.raises(UserError) as caught:
        MqttSettings.from_url(f"mqtt://me:{SECRET}@broker", prefix="a b")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["mqtt://broker:1883", "mqtts://broker:8883", "mqtt://me@broker:1884", "mqtt://[::1]:1883"]
)
def test_the_shown_url_leads_to_the_same_broker(url):
    assert MqttSettings.from_url(url).url == url


@pytest.mark.parametrize("field", ["prefix", "node"])
@pytest.mark.parametrize("level", ["", "a b", "a+", "#", "/a", "a/", "a\0b", "a\n"])
def test_prefix_and_node_must_be_topic_levels(field, level):
    with pytest.raises(SettingError, match=f"^mqtt.{field} = "):
        MqttSettings(**{field: level})


def test_a_prefix_may_have_levels_and_a_node_may_not():
    assert MqttSettings(prefix="home/sound").prefix == "home/sound"
    with pytest.raises(UserError, match="one topic level"):
        MqttSettings(node="a/b")


def test_the_default_node_is_a_topic_level():
    assert re.fullmatch("[a-z0-9_]+", MqttSettings().node)


@given(st.text(max_size=30))
def test_a_slug_is_a_topic_level(name):
    assert re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", slug(name))
    assert slug(slug(name)) == slug(name)


@given(
    st.lists(st.one_of(st.text(max_size=4), st.sampled_from(["a", "A", "a 2", "a_2", "a_2_2", "any", ""])), max_size=9)
)
def test_unique_slugs_are_unique_topic_levels(names):
    levels = unique_slugs(names, reserved=["any"])
    assert len(levels) == len(names)
    assert len({*levels, "any"}) == len(levels) + 1
    for name, level in zip(names, levels, strict=True):
        assert re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", level)
        assert level.startswith(slug(name))


@pytest.mark.parametrize(
    ("window", "hop", "default"), [(5, 1, None), (0.5, 0.01, None), (60, 60, None), (None, 5, 5), (None, 10, None)]
)
def test_windows_that_fit(window, hop, default):
    check_window(window, hop, default)


@pytest.mark.parametrize(
    ("window", "hop", "default", "field"),
    [
        (0.49, 0.1, None, "window_seconds"),
        (60.1, 1, None, "window_seconds"),
        (-1, 1, None, "window_seconds"),
        (float("nan"), 1, None, "window_seconds"),
        (float("inf"), 1, None, "window_seconds"),
        (5, 0, None, "hop_seconds"),
        (5, -1, None, "hop_seconds"),
        (5, 0.009, None, "hop_seconds"),
        (5, float("nan"), None, "hop_seconds"),
        (5, 5.1, None, "hop_seconds"),
        (None, 6, 5, "hop_seconds"),
        (None, float("inf"), 5, "hop_seconds"),
    ],
)
def test_windows_that_do_not_fit(window, hop, default, field):
    with pytest.raises(SettingError, match=f"^{field} = ") as caught:
        check_window(window, hop, default)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1.1}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"top": 0}, "top"),
        ({"sources": ()}, "sources"),
        ({"window_seconds": 5, "hop_seconds": 6}, "hop_seconds"),
    ],
)
def test_listen_settings_are_checked(wrong, field):
    with pytest.raises(SettingError) as caught:
        ListenSettings(**wrong)
    assert caught.value.field == (field,)


@pytest.mark.parametrize("wrong", [{"rate_hz": 999}, {"rate_hz": 768_001}, {"channels": 0}, {"channels": 65}])
def test_pcm_formats_are_checked(wrong):
    with pytest.raises(UserError, match=r"^pcm\.(rate_hz|channels) = "):
        PcmFormat(**wrong)


@pytest.mark.parametrize("made", [MqttSettings(), PcmFormat(), ListenSettings()])
def test_settings_are_frozen(made):
    name = dataclasses.fields(made)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, name, getattr(made, name))


def test_home_follows_the_environment(monkeypatch):
    monkeypatch.setenv("TAGGER_HOME", "~/sounds")
    assert files.home() == Path.home() / "sounds"
    monkeypatch.delenv("TAGGER_HOME")
    assert files.home().name == "tagger"
