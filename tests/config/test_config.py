"""Flags over environment over file: what holds, where it is from, what is refused, and in which words."""

import json
import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tagger.config.build import Configuration, resolve
from tagger.config.edit import changed
from tagger.config.given import Rank
from tagger.config.option import ENV_PREFIX, Option
from tagger.config.options import BY_KEY, LABEL_FIELDS, OPTIONS
from tagger.config.resolver import Resolved
from tagger.config.tomlfile import TomlFile
from tagger.daemon import start
from tagger.errors import UserError
from tagger.policy import LabelPolicy
from tagger.settings import ListenSettings, MqttSettings
from tests.programs import refused, run, tagger


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tagger.toml"


def of(file: Path, text: str = "", flags: dict[str, Any] | None = None, **env: str) -> Resolved:
    file.write_text(text, "utf-8")
    return resolve(flags or {}, {ENV_PREFIX + name: value for name, value in env.items()}, file)


def made(*args: Any, **env: str) -> ListenSettings:
    resolved = of(*args, **env)
    assert resolved.problems == []
    return resolved.right()


def broker(*args: Any, **env: str) -> MqttSettings:
    mqtt = made(*args, **env).mqtt
    assert mqtt is not None
    return mqtt


# --- the table ---


def test_every_option_has_a_key_a_variable_and_words_of_its_own():
    for names in ([o.key for o in OPTIONS], [o.env for o in OPTIONS], [o.help for o in OPTIONS]):
        assert len(set(names)) == len(names)
    flags = [flag for option in OPTIONS for flag in option.flags]
    assert len(set(flags)) == len(flags)


def test_label_fields_are_those_of_the_policy():
    assert {option.name for option in LABEL_FIELDS} == {*LabelPolicy.__dataclass_fields__, "kind"}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_defaults_and_examples_can_be(option: Option):
    if option.default is not None:
        assert option.problem(option.default) is None
    elif option.is_in_file:
        assert option.problem(option.example) is None


def test_nothing_given_is_what_settings_have_by_default(tmp_path):
    assert resolve({}, {}, None).right() == ListenSettings()


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.is_in_file], ids=lambda option: option.key)
def test_every_key_can_be_set_in_the_file_and_by_a_variable(option: Option, file: Path):
    value = option.example if option.default is None else option.default
    value = not value if option.type is bool else value
    table = f"[{option.table}]\n{option.name} = {json.dumps(value)}\n"
    from_file = of(file, table).values[option.key]
    text = " ".join(value) if isinstance(value, list) else str(value)
    from_env = of(file, "", **{option.env.removeprefix(ENV_PREFIX): text}).values[option.key]
    if from_file.is_given:  # an option that needs another one is refused without it
        assert (from_file.rank, from_file.origin) == (Rank.FILE, f"{file}:2")
        assert str(value) in str(from_file.value)
        assert (from_env.rank, from_env.origin) == (Rank.ENVIRONMENT, option.env)
        assert from_env.value == (Path(value) if option.type is Path else value)


@pytest.mark.parametrize(
    ("variable", "key"), [("CLIPS", "clips.folder"), ("AS_JSON", "--json"), ("ENCODING", "--format")]
)
def test_variables_of_before_still_hold(variable, key, file):
    text = {"clips.folder": "clips", "--json": "1", "--format": "u8"}[key]
    assert of(file, "", **{variable: text}).values[key].origin == ENV_PREFIX + variable


# --- precedence ---

hops = st.one_of(st.none(), st.sampled_from([0.25, 0.5, 2.0, 3.0]))


@given(hops, hops, hops)
def test_a_flag_comes_before_the_environment_before_the_file_before_the_default(tmp_path, flag, env, in_file):
    resolved = of(
        tmp_path / "tagger.toml",
        "" if in_file is None else f"[listen]\n\nhop = {in_file}",
        {} if flag is None else {"listen.hop": flag},
        **({} if env is None else {"HOP": str(env)}),
    )
    wanted = next((value for value in (flag, env, in_file) if value is not None), 1.0)
    assert resolved.right().hop_seconds == wanted
    origins = ("flag --hop", "TAGGER_LISTEN_HOP", f"{tmp_path}/tagger.toml:3")
    origin = next((o for o, v in zip(origins, (flag, env, in_file), strict=True) if v is not None), "default")
    assert resolved.values["listen.hop"].origin == origin


def test_the_command_itself_does_so(file, monkeypatch):
    file.write_text('[listen]\nhop = 0.5\ntop = 3\nrealtime = false\n[events]\ndeny = ["dog"]\n')
    monkeypatch.setenv("TAGGER_LISTEN_CONFIG", str(file))
    monkeypatch.setenv("TAGGER_LISTEN_TOP", "4")
    monkeypatch.setenv("TAGGER_LISTEN_ALLOW", "dog siren")
    monkeypatch.setenv("TAGGER_LISTEN_WATCH", "")
    built = []
    monkeypatch.setattr(start, "listen", lambda settings, stop, build, examine: built.extend([settings, build]))
    done = run("listen", "demo", "--hop", 0.25, "--save-clips", "clips", "--no-homeassistant")
    assert done.exit_code == 0, done.output
    settings, build = built
    assert (settings.hop_seconds, settings.top, settings.realtime, settings.watch) == (0.25, 4, False, False)
    assert (settings.sources, settings.allow, settings.config) == (("demo",), ("dog", "siren"), file)
    assert settings.events.deny == ("dog",)
    assert settings.clips.folder == Path("clips")
    assert build() == settings
    # The same flags and environment, and the file as it now is.
    file.write_text('# Now with a comment.\n[listen]\nhop = 2\ntop = 3\nrealtime = false\n[events]\ndeny = ["dog"]\n')
    assert build() == settings
    file.write_text("[listen]\naudio_s = 5\n[events]\nmin_s = 1\n[mqtt]\nnode = 'attic'")
    assert (build().hop_seconds, build().audio_s, build().mqtt.node) == (0.25, 5, "attic")
    assert build().events.defaults == {"min_s": 1}
    assert build() != settings
    file.write_text("[listen]\naudi_s = 5\n")
    with pytest.raises(UserError, match=r"line 2: listen\.audi_s: is unknown; did you mean audio_s"):
        build()
    file.unlink()
    with pytest.raises(UserError, match="no such file"):
        build()


def test_the_file_at_home_holds_without_being_named(home):
    home.mkdir()
    (home / "tagger.toml").write_text("[listen]\ntop = 9")
    assert resolve({}, {}, None).right().top == 9
    (home / "other.toml").write_text("[listen]\nhop = 3")
    other = resolve({}, {}, home / "other.toml").right()
    assert (other.top, other.hop_seconds) == (5, 3)


def test_a_source_on_the_command_line_replaces_those_of_the_file(file):
    text = 'listen.sources = ["kitchen=mic:USB", "demo", "-", "auto", "rtsp://camera/1"]'
    assert made(file, text).sources == ("kitchen=mic:USB", "demo", "-", "auto", "rtsp://camera/1")
    assert made(file, text, {"listen.sources": ("mic",)}).sources == ("mic",)


def test_paths_in_the_file_are_relative_to_it_and_others_to_where_one_is(file, monkeypatch):
    monkeypatch.chdir("/")
    text = """
        [listen]
        sources = ["a.wav", "b=sub/b.wav", "/c.wav"]
        model = "mine/own.safetensors"
        state = "~/state"
        [sinks.jsonl]
        path = "events.jsonl"
        """
    settings, folder = made(file, text, SAVE_CLIPS="clips"), file.parent
    assert settings.sources == (f"{folder}/a.wav", f"b={folder}/sub/b.wav", "/c.wav")
    assert settings.model == f"{folder}/mine/own.safetensors"
    assert settings.state == Path.home() / "state"
    assert settings.jsonl.path == folder / "events.jsonl"
    assert settings.clips.folder == Path("clips")
    assert made(file, 'listen.model = "esc50"').model == "esc50"


def test_one_model_or_several(file):
    assert made(file, 'listen.model = ["esc50"]').model == "esc50"
    several = made(file, 'listen.model = ["esc50", "mine/own.safetensors"]').model
    assert several == ("esc50", f"{file.parent}/mine/own.safetensors")
    assert made(file, 'listen.model = "esc50"', MODEL="esc50, mine").model == ("esc50", "mine")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[]", "must name at least one"),
        ('["esc50", "esc50"]', "names esc50 twice"),
        ('["esc50", ""]', "must not be empty"),
        ('["esc50", 3]', "must be text"),
    ],
)
def test_several_models_that_cannot_be(value, words, file):
    (problem,) = of(file, f"listen.model = {value}").problems
    assert f"line 1: listen.model: {words}" in problem


def test_labels_with_spaces_in_a_variable(file):
    assert made(file, ALLOW='["Dog bark", "Male speech, man speaking"]').allow == (
        "Dog bark",
        "Male speech, man speaking",
    )


# --- the broker ---


def test_a_broker_by_url_or_by_host_and_port(file):
    assert broker(file, 'mqtt.url = "mqtts://me@broker"').url == "mqtts://me@broker:8883"
    assert broker(file, 'mqtt.host = "broker"').url == "mqtt://broker:1883"
    assert broker(file, 'mqtt.host = "broker"\nmqtt.tls = true\nmqtt.user = "me"').url == "mqtts://me@broker:8883"
    assert broker(file, 'mqtt.host = "::1"\nmqtt.port = 1884').url == "mqtt://[::1]:1884"
    # Whichever of the two is of the higher rank.
    assert broker(file, 'mqtt.host = "broker"', {"mqtt.url": "mqtt://other"}).url == "mqtt://other:1883"
    assert broker(file, 'mqtt.url = "mqtts://broker"', HOST="other", PORT="1").url == "mqtt://other:1"
    assert made(file, 'mqtt.host = "broker"', {"mqtt.url": "none"}).mqtt is None
    assert broker(file, 'mqtt.url = "none"', {"mqtt.url": "embedded"}).embedded


def test_user_and_password_are_each_of_the_highest_rank(file):
    (file.parent / "secret").write_text("from file\nsecond line\n")
    (file.parent / "secret").chmod(0o600)
    text = 'mqtt.user = "me"\nmqtt.password_file = "secret"'
    assert (broker(file, text).user, broker(file, text).password) == ("me", "from file")
    assert broker(file, text, PASSWORD="from env").password == "from env"
    assert broker(file, text, {"mqtt.url": "mqtt://you:typed@broker"}, PASSWORD="env").password == "typed"
    assert broker(file, text, {"mqtt.url": "mqtt://you@broker"}, PASSWORD="env").user == "you"
    assert broker(file, 'mqtt.url = "mqtt://me:old@broker"', PASSWORD="new").password == "new"
    assert broker(file, 'mqtt.url = "mqtt://me:none@broker"').password == "none"


def test_what_a_higher_rank_makes_useless_is_dropped(file):
    for name in ("ca.pem", "client.pem"):
        (file.parent / name).write_text("")
    text = """
        [mqtt]
        url = "mqtts://broker"
        version = "5"
        expiry_s = 60
        commands = true
        tls_ca_certs = "ca.pem"
        tls_client_cert = "client.pem"
        [homeassistant]
        """
    whole = made(file, text)
    assert whole.homeassistant is not None
    assert (whole.mqtt.version, whole.mqtt.expiry_s, whole.mqtt.commands) == ("5", 60, True)
    assert whole.mqtt.tls_ca_certs == file.parent / "ca.pem"
    nothing = made(file, text, {"mqtt.url": "none"})
    assert (nothing.mqtt, nothing.homeassistant) == (None, None)
    embedded = broker(file, text, {"mqtt.url": "embedded"})
    assert (embedded.version, embedded.tls_ca_certs, embedded.commands) == ("3.1.1", None, True)
    insecure = broker(file, text, {"mqtt.tls_insecure": True})
    assert (insecure.tls_insecure, insecure.tls_ca_certs) == (True, None)


def test_home_assistant_is_there_if_its_table_is(file):
    assert made(file, "").homeassistant is None
    assert made(file, "[homeassistant]").homeassistant.prefix == "homeassistant"
    assert made(file, '[homeassistant]\nlabels = ["dog"]').homeassistant.labels == ("dog",)
    assert made(file, "[homeassistant]\nenabled = false\nprefix = 'ha'").homeassistant is None
    assert made(file, "[homeassistant]", {"homeassistant.enabled": False}).homeassistant is None
    assert made(file, "", {"homeassistant.enabled": True}).homeassistant is not None
    assert made(file, "", HOMEASSISTANT_DEVICE_NAME="Attic").homeassistant.device_name == "Attic"
    assert of(file, "\n[homeassistant]").values["homeassistant.enabled"].origin == f"{file}:2"


def test_sinks(file):
    text = """
        [sinks.jsonl]
        path = "e.jsonl"
        keep = 2
        [sinks.webhook]
        url = "https://example.org/x?y=1"
        token_file = "token"
        give_up_s = 60
        [sinks.log]
        path = "e.db"
        keep_days = 3
        """
    (file.parent / "token").write_text("abc\r\n")
    settings = made(file, text)
    assert (settings.jsonl.keep, settings.jsonl.max_mb) == (2, 10)
    assert (settings.webhook.url, settings.webhook.token) == ("https://example.org/x?y=1", "abc")
    assert settings.event_log.keep_days == 3


# --- what is refused ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mqtt]\n\n# the broker\nprot = 1883", "line 4: mqtt.prot: is unknown; did you mean port"),
        ("[mqt]\nport = 1883", "line 1: mqt: is unknown; did you mean mqtt?"),
        ("top = 3", "line 1: top: is unknown"),
        ('[listen]\n"mqtt.port" = 3', "line 2: listen.mqtt.port: is unknown"),
        ("[sinks.webhok]\nurl = 'http://x'", "line 1: sinks.webhok: is unknown; did you mean webhook?"),
        ("mqtt = 'mqtt://broker'", "line 1: mqtt: must be a table"),
        ("[[mqtt]]\nport = 3", "line 1: mqtt: must be a table"),
        ("[mqtt]\nport = 'high'", "line 2: mqtt.port: must be a whole number, not text"),
        ("[mqtt]\nport = 1.5", "line 2: mqtt.port: must be a whole number, not 1.5"),
        ("[mqtt]\nport = true", "line 2: mqtt.port: must be a whole number, not true"),
        ("[mqtt]\nport = 0", "line 2: mqtt.port: must be from 1 to 65535"),
        ("[mqtt]\nhost = 'a b'", "line 2: mqtt.host: is no host's name or address"),
        ("[mqtt]\nhost = 'broker:1883'", "line 2: mqtt.host: is no host's name or address"),
        ("[mqtt]\nurl = 'http://broker'", "line 2: mqtt.url: http:// is unknown; write mqtt://"),
        ("[mqtt]\nurl = 'embedded:0'", "line 2: mqtt.url: the port must be a number from 1 to 65535"),
        ("[mqtt]\nurl = ''", "line 2: mqtt.url: must not be empty"),
        ("[mqtt]\nversion = '4'", "line 2: mqtt.version: must be one of 3.1.1, 5"),
        ("[mqtt]\nversion = 5", "line 2: mqtt.version: must be text, not 5"),
        ("[mqtt]\ntopic_prefix = 'a b'", "line 2: mqtt.topic_prefix: must be a topic level"),
        ("[mqtt]\nnode = 'a/b'", "line 2: mqtt.node: must be one topic level"),
        ("[mqtt]\nurl = 'mqtt://a'\nport = 3", "line 3: mqtt.port: says again what mqtt.url says"),
        ("[mqtt]\nurl = 'mqtt://a'\ntls = true", "line 3: mqtt.tls: says again what mqtt.url says"),
        ("[mqtt]\ntls_insecure = true", "line 2: mqtt.tls_insecure: is for TLS"),
        ("[mqtt]\nurl = 'mqtt://a'\ntls_ca_certs = 'a'", "line 3: mqtt.tls_ca_certs: is for TLS: write mqtts://"),
        ("[mqtt]\nhost = 'a'\ntls = false\ntls_host_name = 'a'", "line 4: mqtt.tls_host_name: is for TLS"),
        ("[mqtt]\nurl = 'mqtts://a'\ntls_client_key = 'tagger.toml'", "tls_client_key: is for mqtt.tls_client_cert"),
        ("[mqtt]\nurl = 'mqtts://a'\ntls_insecure = true\ntls_host_name = 'b'", "line 4: mqtt.tls_host_name: has no"),
        (
            "[mqtt]\nurl = 'mqtts://a'\ntls_ca_certs = 'tagger.toml'\ntls_insecure = true",
            "line 3: mqtt.tls_ca_certs: has no effect with tls_insecure",
        ),
        ("[mqtt]\nurl = 'mqtts://a'\ntls_client_cert = 'no.pem'", "no.pem: No such file"),
        ("[mqtt]\nurl = 'embedded'\nversion = '5'", "line 3: mqtt.version: the embedded broker speaks 3.1.1 only"),
        ("[mqtt]\nexpiry_s = 5", "line 2: mqtt.expiry_s: is for mqtt.version"),
        ("[mqtt]\npassword_file = 'tagger.toml'", "line 2: mqtt.password_file: a password needs a user too"),
        ("[mqtt]\nuser = 'me'\npassword_file = 'none'", "line 3: mqtt.password_file: "),
        ("[mqtt]\nuser = 'me'\npassword_file = '.'", "line 3: mqtt.password_file: "),
        ("[mqtt]\nurl = 'mqtt://me@a'\nuser = 'me'", "line 3: mqtt.user: mqtt.url names a user already"),
        ("[mqtt]\nurl = 'none'\ncommands = true", "line 3: mqtt.commands: needs MQTT"),
        ("[mqtt]\nurl = 'none'\n[homeassistant]", "line 3: homeassistant.enabled: needs MQTT"),
        ("[homeassistant]\nprefix = 'a b'", "line 2: homeassistant.prefix: must be topic levels"),
        ("[listen]\nsources = 'mic'", "line 2: listen.sources: must be a list of texts, not text"),
        ("[listen]\nsources = [1]", "line 2: listen.sources: must be a list of texts"),
        ("[listen]\nsources = []", "line 2: listen.sources: no source: name one"),
        ("[listen]\nsources = ['mic', '']", "line 2: listen.sources: must not hold an empty text"),
        ("[listen]\nsources = ['-', 'pipe=-']", "line 2: listen.sources: standard input can be listened to only once"),
        ("[mqtt]\nurl = 'none'\nuser = 'me'", "line 3: mqtt.user: needs MQTT, and mqtt.url is none"),
        ("[mqtt]\nurl = 'embedded'\nuser = 'me'", "line 3: mqtt.user: the embedded broker asks for none"),
        (
            "[sinks]\njsonl.path = 'e'\nlog.path = 'e'",
            "line 3: sinks.log.path: is the file of sinks.log and of sinks.jsonl",
        ),
        ("[events.dog]\nenter = 0.5", "line 1: events.dog: is unknown; there is allow, "),
        ("[events.dog]\nenter = 0.5", "; what is for one label goes into [events.labels.LABEL]"),
        ("[mqtt]\n'a\\nb' = 1", "line 2: mqtt.a\\nb: is unknown"),
        ('[mqtt]\n"a\\nb" = 1', r"line 2: mqtt.'a\nb': is unknown"),
        ("[listen]\ntop = " + "9" * 5000, "a number that is too long"),
        ("a = " + "[" * 2000 + "]" * 2000, "too many brackets"),
        ("[listen]\nhop = 2020-01-01", "line 2: listen.hop: must be a number, not 2020-01-01"),
        ("[listen]\nhop = 0", "line 2: listen.hop: must be at least 0.01"),
        ("[listen]\nhop = nan", "line 2: listen.hop: must be finite"),
        ("[listen]\nhop = 6\nwindow = 5", "line 2: listen.hop: longer than the window of 5 s"),
        ("[listen]\nwindow = 0.1", "line 2: listen.window: must be from 0.5 to 60"),
        ("[listen]\nstats_s = 0", "line 2: listen.stats_s: must be from 0.1 to 604800"),
        ("[listen]\naudio_s = 1e-9", "line 2: listen.audio_s: must be from 0.1 to 604800"),
        ("[clips]\nkeep_days = 3", "line 2: clips.keep_days: is for clips.folder (--save-clips DIR)"),
        ("[sinks.jsonl]\nkeep = 3", "line 2: sinks.jsonl.keep: is for sinks.jsonl.path (--jsonl FILE)"),
        ("[sinks.webhook]\ntoken = 'x'", "line 2: sinks.webhook.token: is for sinks.webhook.url (--webhook URL)"),
        ("[sinks.webhook]\nurl = 'example.org/x'", "line 2: sinks.webhook.url: the URL must begin with http://"),
        (
            "[sinks.webhook]\nurl = 'http://a'\ntoken = 'a b'",
            "line 3: sinks.webhook.token: the token must be of letters",
        ),
        (
            "[sinks.webhook]\nurl = 'http://a'\ntoken = 'a'\ntoken_file = 'tagger.toml'",
            "line 3: sinks.webhook.token: one token",
        ),
        ("[events]\nenter = 'x'", "line 2: events.enter: must be a number, not 'x'"),
        ("[mqtt\nport = 3", "line 1: is not TOML: "),
        ("a = 1\na = 2", "line 2: is not TOML: "),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_file_line_and_key(text, said, file):
    try:
        problems = of(file, text).problems
    except UserError as error:
        problems = [str(error)]
    (problem,) = problems
    assert said in problem
    assert "\n" not in problem
    if "line" in said:
        assert problem.startswith(f"{file}, line ")


@pytest.mark.parametrize(
    "opened", ["labels = [", "labels = { a = 1,", 'labels = """', "labels = '''", 'x = ["""\na', "x = [[1], [2,"]
)
def test_what_is_not_closed_is_named_where_it_begins(opened, file):
    with pytest.raises(UserError, match=r"(line 3|lines 3 to [78]): is not TOML"):
        of(file, f"a = [\n]\n{opened}\n\n# a comment\n\nb = 3\n")


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"HOP": "often"}, "TAGGER_LISTEN_HOP: must be a number"),
        ({"REALTIME": "perhaps"}, "TAGGER_LISTEN_REALTIME: must be true or false"),
        ({"TOP": "1.5"}, "TAGGER_LISTEN_TOP: must be a whole number"),
        ({"ALLOW": "[dog]"}, "TAGGER_LISTEN_ALLOW: must be a list of texts"),
        ({"TOP": "0"}, "TAGGER_LISTEN_TOP: must be at least 1"),
        ({"MQTT": "ftp://x"}, "TAGGER_LISTEN_MQTT: ftp:// is unknown"),
        ({"FORMAT": "s16l"}, "TAGGER_LISTEN_FORMAT: unknown; did you mean s16le"),
        ({"THRESHOLD": "2"}, "TAGGER_LISTEN_THRESHOLD: must be at most 1"),
        ({"MQTT": "mqtt://a", "PORT": "3"}, "TAGGER_LISTEN_PORT: says again what mqtt.url says"),
        ({"WATCH": "1", "JSON": "1"}, "--watch prints text for people"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(env, said, file):
    (problem,) = of(file, "", **env).problems
    assert problem.startswith(said)


def test_a_variable_that_is_none_is_pointed_out(file):
    (warning,) = of(file, "", PASWORD="x").warnings
    assert warning.startswith("TAGGER_LISTEN_PASWORD: is unknown; did you mean TAGGER_LISTEN_PASSWORD")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--homeassistant",), ("--homeassistant", "needs MQTT")),
        (("--commands",), ("--commands", "needs MQTT")),
        (("--node", "attic/window"), ("--node", "one topic level")),
        (("--webhook", "ftp://x"), ("--webhook", "http://")),
        (("--mqtt-version", "4"), ("--mqtt-version 4", "3.1.1, 5")),
        (("--keep-mb", "5"), ("--keep-mb 5", "--save-clips DIR")),
    ],
)
def test_flags_that_do_not_go_together(flags, words):
    refused(run("listen", "demo", "--mqtt", "none", *flags), *words)


def test_more_flags_that_do_not_go_together(tmp_path):
    listen = ("listen", "demo")
    refused(run(*listen, "--tls-ca-certs", "x"), "--tls-ca-certs", "mqtts://")
    refused(run(*listen, "--mqtt", "mqtts://a", "--tls-ca-certs", tmp_path / "no.pem"), "--tls-ca-certs", "no.pem")
    refused(run(*listen, "--mqtt", "mqtts://a", "--tls-client-key", "x"), "--tls-client-key", "tls_client_cert")
    refused(run(*listen, "--mqtt", "embedded", "--mqtt-version", "5"), "--mqtt-version 5", "3.1.1 only")
    refused(run(*listen, "--password-file", tmp_path / "no"), "--password-file", "user")
    refused(run(*listen, "--mqtt", "mqtt://me@a", "--password-file", tmp_path / "no"), str(tmp_path / "no"))


@pytest.mark.parametrize("command", [("listen", "--mqtt", "none"), ("tag",), ("calibrate",)])
def test_what_else_a_file_says_must_be_right_also_for_those_that_do_not_use_it(command, file):
    file.write_text("[events]\nmin_s = 1\n[mqtt]\nprot = 1\n")
    extra = ("-o", file.with_name("new.toml")) if command[0] == "calibrate" else ()
    refused(run(*command, "demo", "--config", file, *extra), f"{file}, line 4: mqtt.prot: is unknown")


# --- lines ---

names = st.sampled_from(["a", "b", "c", '"d e"', "'f.g'"])
values = st.one_of(
    st.integers(0, 9).map(str),
    st.sampled_from(['"x"', '"""\n# no\n[a]\n"""', "[\n 1,\n\n # 2\n 3]", "'''\nb = 1'''", "{ x = 1, y = 2 }"]),
)
statements = st.lists(st.tuples(st.sampled_from(["", "\n", "# comment\n", "  # x = 1\n\n"]), names, values), max_size=8)


@given(statements, st.integers(0, 8))
def test_the_line_of_every_statement(parts, table_at):
    text, wanted, table, seen = "", {}, (), set()
    for number, (before, name, value) in enumerate(parts):
        if number == table_at:
            text += "[t]\n"
            table = ("t",)
        assume((table, name) not in seen)
        seen.add((table, name))
        text += before
        wanted[(*table, name.strip("\"'"))] = text.count("\n") + 1
        text += f"{name} = {value}\n"
    tomllib.loads(text)
    file = TomlFile(Path("x"), text)
    assert {keys: file.line(keys) for keys in wanted} == wanted


# --- changing a file ---

documents = st.dictionaries(
    st.sampled_from(["events", "mqtt", "a b"]),
    st.dictionaries(
        st.sampled_from(["labels", "enter", "x"]),
        st.one_of(st.integers(), st.text("ab\n\"'#", max_size=4), st.booleans(), st.lists(st.integers(), max_size=2)),
    ),
)
changes = st.dictionaries(
    st.tuples(st.just("events"), st.just("labels"), st.sampled_from(["dog", "a, b", "é"]), st.just("enter")),
    st.tuples(st.floats(0, 1), st.sampled_from(["", "was 0.5"])),
    max_size=3,
)


@given(documents, changes)
def test_a_changed_file_means_what_it_meant_but_for_the_changes(document, wanted):
    import tomlkit

    document.get("events", {}).pop("labels", None)
    text = "# mine\n" + tomlkit.dumps(document)
    again = tomllib.loads(changed(text, wanted))
    for keys, (value, _) in wanted.items():
        place = document
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    assert again == document
    assert changed(text, wanted).startswith("# mine\n")


# --- tagger config check ---


def check(*args: object, **env: str) -> dict[str, Any]:
    done = run("config", "check", "--offline", "--json", *args, **env)
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (0 if document["ok"] else 2)
    assert document["ok"] == (not document["problems"])
    return document


def test_check_lists_every_option_and_where_it_is_from(file):
    file.write_text('[listen]\ntop = 3\n[events]\ndeny = ["frog"]\n[events.labels.dog]\nenter = 0.9\n')
    done = run(
        "config",
        "check",
        "--offline",
        "--all",
        "--config",
        file,
        "--hop",
        0.5,
        "--no-realtime",
        TAGGER_LISTEN_NODE="attic",
    )
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[-1] == "ok"
    assert {"listen.hop = 0.5  # flag --hop", "listen.realtime = false  # flag --no-realtime"} <= set(lines)
    assert f"listen.top = 3  # {file}:2" in lines
    assert 'mqtt.node = "attic"  # TAGGER_LISTEN_NODE' in lines
    assert "listen.audio_s = 10  # default" in lines
    assert f'events.deny = ["frog"]  # {file}:4' in lines
    assert f"events.labels.dog.enter = 0.9  # {file}:6" in lines
    assert {line.partition(" ")[0] for line in lines} >= set(BY_KEY)
    assert set(check("--config", file)["options"]) >= set(BY_KEY)
    file.write_text("[events]\nmax_s = inf\n")
    assert check("--config", file)["options"]["events.max_s"] == {"value": "inf", "origin": f"{file}:2"}
    assert (
        f"events.max_s = inf  # {file}:2" in run("config", "check", "--offline", "--config", file).stdout.splitlines()
    )


def test_check_says_all_that_is_wrong_and_not_only_the_first(file):
    (file.parent / "file").write_text("")
    file.write_text(
        """
        [listen]
        hop = 9
        sources = ["none.wav", "mic"]
        [mqtt]
        prot = 1
        tls_insecure = true
        [sinks.jsonl]
        path = "file/x/events.jsonl"
        [sinks.log]
        path = "."
        [homeassistant]
        labels = ["dgo", "siren", "any"]
        """
    )
    done = run("config", "check", "--offline", "--config", file, "--model", "esc50")
    assert done.exit_code == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    for words in (
        "line 3: listen.hop: longer than the window of 5 s",
        "line 4: listen.sources: ",
        "line 6: mqtt.prot: is unknown",
        "line 7: mqtt.tls_insecure: is for TLS",
        "line 9: sinks.jsonl.path: ",
        "line 11: sinks.log.path: ",
        "line 13: homeassistant.labels: this model has no label 'dgo'; did you mean dog?",
    ):
        assert sum(words in line for line in errors) == 1, words
    assert len(errors) == 7
    assert "ok" not in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[events.labels.dgo]\nenter = 1", "line 1: events.labels.dgo: this model has no label 'dgo'"),
        ("[events]\nconfirm_s = 4.5", "line 2: dog: confirm_s = 4.5 can never be met"),
        ("[listen]\nmodel = 'esc5O'", "line 2: listen.model: no model 'esc5O'; did you mean esc50"),
        ("[listen]\nmodel = 'mine/x.safetensors'", "mine/x.safetensors: no such checkpoint file"),
    ],
)
def test_check_knows_the_model(text, words, file):
    file.write_text(text)
    (problem,) = check("--config", file)["problems"]
    assert problem.startswith(f"{file}, ")
    assert words in problem


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ('labels = ["dgo", "siren"]', "labels: this model has no label 'dgo'; did you mean dog?"),
        ("thresholds = {sirn = 0.5}", "thresholds.sirn: this model has no label 'sirn'; did you mean siren?"),
    ],
)
def test_check_and_listen_refuse_what_a_source_alone_names_wrongly(own, words, file):
    file.write_text(f'[events]\nconfirm_s = 0.5\n[[source]]\nname = "x"\nurl = "demo"\n{own}\n')
    (problem,) = check("--config", file, "--model", "esc50")["problems"]
    assert problem.startswith(f"{file}, line 3: ")
    assert problem.endswith(words)
    refused(run("listen", "--mqtt", "none", "--config", file), words)


def test_check_says_once_what_is_wrong_with_the_rules_of_all(file):
    file.write_text('[events.labels.dgo]\nenter = 0.5\n[[source]]\nname = "x"\nurl = "demo"\nlabels = ["dog"]\n')
    (problem,) = check("--config", file, "--model", "esc50")["problems"]
    assert "line 1: events.labels.dgo: this model has no label" in problem


def test_check_lists_all_mistakes_of_the_events_at_once(file):
    file.write_text(
        """
        [events]
        enter = 3
        exit = 0.7
        merge_s = "long"
        allow = ["doge", "Sirene", "dog"]
        [events.labels.siren]
        entre = 3
        [events.labels.Dogg]
        enter = 0.5
        [events.labels.cat]
        enter = -1
        min_s = 5
        max_s = 4
        merge_s = 0.1
        [events.labels.rain]
        exit = "low"
        kind = "rainy"
        [events.groups]
        alarm = ["sirn", "dog", "clock_alrm"]
        pet = []
        home = "dog"
        """
    )
    words = [
        "line 3: dog: enter = 3 must be above 0 and at most 1",
        "line 5: events.merge_s: must be a number",
        "line 6: events.allow: this model has no label 'doge'; did you mean dog",
        "line 6: events.allow: this model has no label 'Sirene'; did you mean siren",
        "line 8: events.labels.siren.entre: is unknown; did you mean enter",
        "line 9: events.labels.Dogg: this model has no label 'Dogg'; did you mean dog",
        "line 12: cat: enter = -1 must be a number, 0 or more",
        "line 14: cat: max_s = 4 must be longer than min_s = 5",
        "line 15: cat: merge_s = 0.1 must be at least 0.5",
        "line 17: events.labels.rain.exit: must be a number",
        "line 18: events.labels.rain.kind: 'rainy' is not one of",
        "line 20: events.groups.alarm: this model has no label 'sirn'; did you mean siren",
        "line 20: events.groups.alarm: this model has no label 'clock_alrm'; did you mean clock_alarm",
        "line 21: events.groups.pet: has no labels",
        "line 22: events.groups.home: must be a list of labels",
    ]
    problems = check("--config", file, "--model", "esc50")["problems"]
    for each in words:
        assert sum(each in problem for problem in problems) == 1, (each, problems)
    assert len(problems) == len(words), problems


def test_check_lists_mistakes_of_the_events_beside_a_wrong_window(file):
    file.write_text("[listen]\nhop = 9\n[events]\nmerge_s = 0.1\n[events.labels.Dogg]\nenter = 0.5\n")
    problems = check("--config", file, "--model", "esc50")["problems"]
    assert [problem.partition(", line ")[2].split(":")[0] for problem in problems] == ["2", "5", "4"]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("Siren,dog", "no label 'Siren,dog'; each label is a text of its own: --allow siren --allow dog"),
        ("dgo, glass_braking", "--allow dog --allow glass_breaking"),
        ("dog,", "each label is a text of its own: --allow dog"),
        ("DOG", "no label 'DOG'; did you mean dog?"),
    ],
)
def test_check_says_how_several_labels_are_given(flag, said, file):
    (problem,) = check("--allow", flag, "--model", "esc50")["problems"]
    assert problem.startswith("--allow: this model has")
    assert problem.endswith(said)


def test_check_says_how_a_file_lists_several_labels(file):
    file.write_text('[events]\ndeny = ["Siren,dog"]')
    (problem,) = check("--config", file, "--model", "esc50")["problems"]
    assert "line 2: events.deny: this model has no label 'Siren,dog'" in problem
    assert problem.endswith('; each label is a text of its own: ["siren", "dog"]')


def test_check_takes_a_label_on_the_command_line_too():
    assert check("--deny", "dgo")["problems"] == ["--deny: this model has no label 'dgo'; did you mean dog?"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[listen]\ndevice = "gpu"', "line 2: listen.device: unknown; use one of auto, cpu"),
        (
            '[listen]\nsources = ["ftp://me:secret@camera/1"]',
            "line 2: listen.sources: ftp: this kind of URL",
        ),
        ('[sinks.log]\npath = "tagger.toml"', "tagger.toml: is damaged, or no event log"),
    ],
)
def test_check_refuses_what_listen_would_refuse(text, words, file):
    file.write_text(text)
    done = run("config", "check", "--offline", "--config", file)
    refused(done, words)
    assert "secret" not in done.output
    refused(run("listen", *(["demo"] if "sources" not in text else []), "--mqtt", "none", "--config", file))
    assert "secret" not in done.output


def test_a_byte_order_mark_is_no_mistake(file):
    file.write_bytes(b"\xef\xbb\xbf[listen]\nhop = 0.5\n")
    assert resolve({}, {}, file).right().hop_seconds == 0.5


def test_a_variable_that_is_no_text_is_one_line():
    for value in (b"\xff", b"[" * 3000):
        for name in ("PASSWORD", "USER", "TOP", "SOURCES"):
            env = {ENV_PREFIX + name: os.fsdecode(value)}
            problems = resolve({}, env, None).problems
            if value == b"\xff" and name != "SOURCES":
                assert problems[0].startswith(f"{ENV_PREFIX}{name}: must be "), name
            assert all("\n" not in problem for problem in problems)


def test_check_needs_no_torch_and_offline_opens_no_device(file):
    code = "import sys; from tagger.cli.main import main\n"
    code += "try: main(['config', 'check', '--offline'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'sounddevice', 'paho'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_finds_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    (problem,) = check("--state", tmp_path / "locked" / "state")["problems"]
    assert "cannot be written to" in problem


@pytest.mark.slow
def test_a_file_that_is_missing_is_one_line():
    refused(run("config", "check", "--offline", "--config", "nowhere.toml"), "nowhere.toml", "tagger config init")
    done = tagger("listen", "demo", TAGGER_LISTEN_CONFIG="nowhere.toml")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nowhere.toml" in done.stderr


# --- anything at all ---

anything = st.recursive(
    st.one_of(st.integers(), st.floats(), st.booleans(), st.text("a:@/ ", max_size=5), st.just("none")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["url", "x"]), inner)),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([o.key for o in OPTIONS if o.is_in_file]), anything, max_size=5))
def test_whatever_a_file_says_it_is_settings_or_problems_of_one_line(tmp_path, document):
    import tomlkit

    nested: dict[str, Any] = {}
    for key, value in document.items():
        place = nested
        *tables, name = key.split(".")
        for table in tables:
            place = place.setdefault(table, {})
        place[name] = value
    assume(not any(isinstance(v, float) and math.isnan(v) for v in document.values()))
    path = tmp_path / "tagger.toml"
    path.write_text(tomlkit.dumps(nested), "utf-8")
    resolved = resolve({}, {}, path)
    assert (resolved.settings is None) == bool(resolved.problems)
    assert all("\n" not in problem for problem in resolved.problems)
    if resolved.settings is not None:
        configuration = Configuration({}, {}, path)
        assert configuration.settings == configuration() == resolved.settings


@pytest.mark.parametrize("path", ["large.toml", "/dev/zero"])
def test_a_file_that_is_too_large_for_settings_is_refused_at_once(path, tmp_path):
    if path == "large.toml":
        (tmp_path / path).write_text(f'x = "{"a" * 2_000_000}"')
    refused(run("config", "check", "--config", tmp_path / path), "is larger than 1 MB, which no file of settings is")
