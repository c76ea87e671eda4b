"""Flags, environment and file to settings, where the table of options alone does not suffice.

Here are secrets, defaults that depend on each other, and checks across options.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints
from urllib.parse import urlsplit

from tagger.config import secret
from tagger.config.broker import BrokerResolver
from tagger.config.file import Document, load, usual
from tagger.config.given import Given, Rank, gather, looks_secret
from tagger.config.options import OPTIONS
from tagger.config.places import located
from tagger.config.resolver import Resolved
from tagger.config.sourcelist import plainly_several
from tagger.config.tomlfile import toml
from tagger.errors import SettingError, UserError
from tagger.names import is_this_machine
from tagger.settings import (
    HomeAssistantSettings,
    ListenSettings,
    MqttSettings,
    PcmFormat,
    WebhookSettings,
    WebSettings,
    pcm_encoding,
)
from tagger.sources import is_keyword, split_name
from tagger.sources.pipe import is_pipe, is_stdin
from tagger.sources.spec import Spec, repeated_name, shown

_Made = TypeVar("_Made")


def _groups() -> dict[str, type[Any]]:
    """Groups of settings that are there or None, such as a sink's: the field of ListenSettings, and the class."""
    kinds = get_type_hints(ListenSettings)
    names = dict.fromkeys(option.group for option in OPTIONS if option.group)
    return {
        name: made for name in names for made in get_args(kinds[name]) if isinstance(made, type) and is_dataclass(made)
    }


_GROUPS = _groups()


class Configuration:
    """The settings of one run of `tagger listen`: read once at the start, and again at each reload."""

    def __init__(self, flags: Mapping[str, Any], env: Mapping[str, str], config: Path | None) -> None:
        """
        Args: as `resolve`.

        Raises:
            UserError: something cannot be.
        """
        self._flags, self._env = flags, env
        self._resolved = resolve(flags, env, config)
        self.settings = self._resolved.right()
        self.warnings = tuple(self._resolved.warnings)

    def __call__(self) -> ListenSettings:
        """The settings, from the file as it now is. A file that is gone is an error, and no wish for defaults.

        Raises:
            UserError: something cannot be.
        """
        try:
            self._resolved = resolve(self._flags, self._env, self.settings.config)
            return self._resolved.right()
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None

    def located(self, error: SettingError) -> UserError:
        """An error about these settings that was found later, with the place where the user wrote what is wrong."""
        return located(error, self._resolved.values, self._resolved.document)


def resolve(flags: Mapping[str, Any], env: Mapping[str, str], config: Path | None) -> Resolved:
    """
    Args:
        flags: by the option's key, those that were typed.
        config: the file. None: `$TAGGER_HOME/tagger.toml`, if it is there.

    Raises:
        UserError: the file cannot be read. All else is among the problems.
    """
    path = config or usual()
    return resolve_document(flags, env, load(path) if path is not None else None)


def resolve_document(flags: Mapping[str, Any], env: Mapping[str, str], document: Document | None) -> Resolved:
    """As `resolve`, of a file that was read already."""
    values, problems, warnings = gather(flags, env, document)
    resolved = Resolved(values, document, problems, warnings)
    made = _ListenResolver(resolved).listen()
    if not resolved.problems:
        resolved.settings = made
    return resolved


class _ListenResolver(BrokerResolver):
    """Makes the settings of `tagger listen`."""

    def listen(self) -> ListenSettings | None:
        self._warn_of_open_secrets()
        self._check_sources()
        mqtt = self._mqtt()
        special: dict[str, Callable[[], Any]] = {
            "mqtt": lambda: mqtt,
            "homeassistant": lambda: self._homeassistant(mqtt),
            "webhook": self._webhook,
            "web": self._web,
        }
        groups: dict[str, Any] = {
            name: special[name]() if name in special else self._group(name, made) for name, made in _GROUPS.items()
        }
        self._warn_of_plain_text(mqtt, groups["webhook"])
        if (web := groups["web"]) is not None and web.password is not None and not is_this_machine(web.host):
            self._warnings.append(
                f"web: whoever listens on the way to {web.host}:{web.port} can read the password and what is heard; "
                "a proxy with TLS before 127.0.0.1 encrypts it"
            )
        self._check_files()
        self._check_output(mqtt)
        return self._make(
            lambda: ListenSettings(
                **self._fields(""),
                **groups,
                **self._node(mqtt),
                pcm=self._pcm() or PcmFormat(),
                config=self._document.file.path if self._document is not None else None,
                events=self._document.events if self._document is not None else None,
            )
        )

    def _node(self, mqtt: MqttSettings | None) -> dict[str, Any]:
        """The name of this machine, where events have one although MQTT gets none."""
        node = self._value("mqtt.node")
        return {} if mqtt is not None or node is None or self._value("mqtt.url") != "none" else {"node": node}

    def _check_sources(self) -> None:
        given = self._given["listen.sources"]
        if not given.value:
            self._problem(given, "no source: name one, such as mic, demo or a file")
            self._drop(given)
        pipes: list[str] = []
        specs: list[Spec] = []
        for each in given.value:
            if len(parts := plainly_several(each)) > 1:
                named = toml([shown(part) for part in parts])
                self._problem(given, f"one text names several sources, which are {named}")
                continue
            if each.endswith(",") and is_keyword(split_name(each)[1]):
                how = "each is a text of its own" if given.rank is Rank.FILE else "spaces separate them"
                self._problem(given, f"a source ends with a comma; {how}")
                continue
            try:
                spec = Spec.parse(each)
                spec.check()
            except UserError as error:
                self._problem(given, str(error))
                continue
            specs.append(spec)
            if is_stdin(spec.uri) or is_pipe(spec.uri):
                pipes.append("standard input" if is_stdin(spec.uri) else spec.uri)
        if several := [each for each in pipes if pipes.count(each) > 1]:
            self._problem(given, f"{several[0]} can be listened to only once")
        if (name := repeated_name(specs)) is not None:
            self._problem(given, f"{name} is the name of several sources; give each its own")

    def _check_files(self) -> None:
        """Two sinks in one file would destroy it."""
        files = [given for given in self._given.values() if given.option.writes == "file" and given.value is not None]
        for one, other in itertools.combinations(reversed(files), 2):
            if one.value.absolute() == other.value.absolute():
                tables = f"{one.option.table} and of {other.option.table}"
                self._problem(max(one, other, key=lambda given: given.rank), f"is the file of {tables}")

    def _check_output(self, mqtt: MqttSettings | None) -> None:
        """Standard output is for one of these."""
        watch, json, explain = (bool(self._value(key)) for key in ("--watch", "--json", "--explain"))
        if watch and json:
            self._problems.append("--watch prints text for people, --json what programs read: choose one")
        elif explain and (watch or json):
            self._problems.append("--explain, --watch and --json print different things: choose one")
        elif watch and mqtt is None and self._value("mqtt.url") == "none":
            self._problems.append("--watch shows what arrives over MQTT; --mqtt none publishes nothing there")

    def _homeassistant(self, mqtt: MqttSettings | None) -> HomeAssistantSettings | None:
        enabled = self._given["homeassistant.enabled"]
        if not enabled.is_given:  # its table, or any of its other options, says so
            if self._document is not None and "homeassistant" in self._document.tables:
                enabled = replace(enabled, value=True, rank=Rank.FILE, file=self._document.file)
            for other in self._present("homeassistant.prefix", "homeassistant.labels", "homeassistant.device_name"):
                if other.rank > enabled.rank:
                    enabled = replace(other, option=enabled.option, value=True)
            self._given["homeassistant.enabled"] = enabled
        if not enabled.value:
            return None
        if mqtt is None and self._value("mqtt.url") == "none":
            self._no_effect(self._given["mqtt.url"], "needs MQTT, and mqtt.url is none", "homeassistant.enabled")
        made = self._make(lambda: HomeAssistantSettings(**self._fields("homeassistant")))
        return made if mqtt is not None else None

    def _webhook(self) -> WebhookSettings | None:
        return self._with_secrets("webhook", WebhookSettings, "sinks.webhook.url", "sinks.webhook.token")

    def _web(self) -> WebSettings | None:
        return self._with_secrets("web", WebSettings, "web.address", "web.password", "web.guest_password")

    def _with_secrets(self, group: str, made: Callable[..., _Made], first: str, *keys: str) -> _Made | None:
        """As `_group`, of a group with secrets, which may be in files.

        Args:
            first: the option without which there is no such group.
            keys: the options of the secrets; that of a secret's file is its key and `_file`.
        """
        found, at = dict[str, str | None](), dict[str, Given]()
        for key in keys if self._value(first) is not None else ():
            secrets = sorted(self._present(key, f"{key}_file"), key=lambda given: given.rank)
            if not secrets:
                continue
            name = key.rpartition(".")[2]
            if len(secrets) == 2 and secrets[0].rank == secrets[1].rank:
                self._problem(secrets[0], f"one {name} is enough: {key} and {key}_file both say one")
            best = at[name] = secrets[-1]
            found[name] = self._secret(best) if best.option.name.endswith("_file") else best.value
        return self._group(group, lambda **fields: made(**fields | found), at=at)

    def _pcm(self) -> PcmFormat | None:
        fields = self._fields("pcm")
        return self._make(lambda: PcmFormat(**fields | {"encoding": pcm_encoding(fields["encoding"])}))

    def _warn_of_plain_text(self, mqtt: MqttSettings | None, webhook: WebhookSettings | None) -> None:
        """Warns of credentials that travel so that everybody on the way can read them."""
        if mqtt is not None and mqtt.password and not mqtt.tls and not is_this_machine(mqtt.host):
            self._warnings.append(
                f"mqtt: the password goes to {mqtt.host} in plain text, for everybody on the way to read; "
                "mqtts:// encrypts it, if the broker can"
            )
        parts = urlsplit(webhook.url) if webhook is not None else None
        if webhook is None or parts is None or parts.scheme != "http" or is_this_machine(parts.hostname or ""):
            return
        if webhook.token or parts.username:
            kind = "token" if webhook.token else "password"
            self._warnings.append(
                f"sinks.webhook: the {kind} goes to {parts.hostname} in plain text, for everybody on the way to read; "
                "https:// encrypts it, if the server can"
            )

    def _warn_of_open_secrets(self) -> None:
        """Warns of secrets that anybody on this machine can read."""
        in_file = [given for given in self._given.values() if given.rank is Rank.FILE and given.is_secret]
        sources = self._given["listen.sources"]
        if sources.rank is Rank.FILE and any("://" in each and looks_secret(each) for each in sources.value):
            in_file.append(sources)
        paths = {given.file.path: given.option.key for given in in_file if given.file is not None}
        paths |= {
            given.value: given.option.key
            for given in self._present(
                "mqtt.password_file", "sinks.webhook.token_file", "web.password_file", "web.guest_password_file"
            )
        }
        for path, key in paths.items():
            if secret.is_open_to_all(path):
                self._warnings.append(
                    f"{path}: everybody on this machine can read it, and {key} in it: chmod 600 {path}"
                )
