"""Value of each option, and who gave it. A flag overrides an environment variable, and that overrides the file."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tagger import files
from tagger.config.file import Document
from tagger.config.option import ENV_PREFIX, Option
from tagger.config.options import BY_KEY, OPTIONS
from tagger.config.tomlfile import Keys, TomlFile
from tagger.errors import UserError, near
from tagger.names import DATABASE_URLS, is_address
from tagger.settings import model_names
from tagger.sources.network.address import VARIABLES

HIDDEN = "(hidden)"
_SHORTEST_TOKEN = {2: 16, 3: 6}
"""Letters of what looks random: with two of digits, small and capital letters, or with all three."""
_SECRET_NAME = re.compile("auth|key|pass|secret|sig|token", re.IGNORECASE)
"""Names of parameters whose values are secrets."""


class Rank(IntEnum):
    """Place that gave a value. The highest rank wins."""

    DEFAULT = 0
    FILE = 1
    ENVIRONMENT = 2
    FLAG = 3


@dataclass(frozen=True)
class Given:
    """Value of one option that is in force."""

    option: Option
    value: Any = field(repr=False)
    """May be a secret."""
    rank: Rank = Rank.DEFAULT
    name: str = ""
    """Name of the flag or environment variable; "" for the file and defaults."""
    file: TomlFile | None = None

    @property
    def is_given(self) -> bool:
        return self.rank > Rank.DEFAULT

    @property
    def is_secret(self) -> bool:
        """Whether the value holds something that must not be shown."""
        return self.option.secret and self.value is not None and HIDDEN in self.shown

    @property
    def keys(self) -> Keys:
        """The key in the file: `source` for sources that are tables `[[source]]` there."""
        path = self.option.path
        is_table = self.option.key == "listen.sources" and self.file is not None and self.file.line(path) is None
        return ("source",) if is_table else path

    @property
    def place(self) -> str:
        """Beginning of an error about the value: the flag, the variable, or the file and line."""
        if self.rank is Rank.FILE and self.file is not None:
            return self.file.place(self.keys)
        if self.rank is Rank.FLAG and not self.option.secret and self.option.type in (int, float, str):
            several = self.value if isinstance(self.value, tuple) else (self.value,)
            return " ".join(f"{self.name} {each if isinstance(each, str) else f'{each:g}'}" for each in several)
        return self.name or self.option.key

    @property
    def origin(self) -> str:
        """Origin of the value: `flag --hop`, `TAGGER_LISTEN_HOP`, `FILE:12` or `default`."""
        if self.rank is Rank.FILE and self.file is not None:
            return f"{self.file.path}:{self.file.line(self.keys) or self.file.line(self.keys[:-1])}"
        return f"flag {self.name}" if self.rank is Rank.FLAG else self.name or "default"

    @property
    def shown(self) -> Any:
        """The value as JSON has it, without secrets."""
        value = self.value
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, tuple | list):
            return [_shown_source(each) if self.option.key == "listen.sources" else each for each in value]
        if self.option.key == "mqtt.host" and value is not None and not is_address(value):
            return HIDDEN  # a whole URL, perhaps
        if not self.option.secret or value is None:
            return value
        return without_secret(value) if self.option.name in ("url", "database") else HIDDEN


def has_secret(url: str) -> bool:
    """Whether a URL, which may be malformed, holds something that must not be shown."""
    return HIDDEN in without_secret(url)


def looks_secret(url: str) -> bool:
    """Whether a URL holds a password, or what looks like a token. Many a path that is not shown is none.

    >>> looks_secret("mqtt://me:pw@broker"), looks_secret("https://host/api/webhook/-aB3xY9kLm2pQ7rS")
    (True, True)
    >>> looks_secret("mqtt://me@broker"), looks_secret("http://nodered:1880/sounds"), looks_secret("rtsp://camera/1")
    (False, False, False)

    The name of an environment variable is none:

    >>> looks_secret("door=rtsp://me:pw@camera/1"), looks_secret("door=rtsp://${USER}:${PASSWORD}@camera/1")
    (True, False)
    """
    url = VARIABLES.sub("", url)
    scheme, _, rest = url.rpartition("://")
    place, *parts = re.split("[/?&#;]", rest)
    user, at, _ = place.rpartition("@")
    if at and (":" in user or scheme.startswith("http")):
        return True
    if "@" in rest.removeprefix(place) and (":" in place or "@" in place):  # a password may hold any of these letters
        return True
    pairs = [part.partition("=") for part in parts]
    return any(_looks_random(value or name) or (value and _SECRET_NAME.search(name)) for name, _, value in pairs)


def _looks_random(word: str) -> bool:
    kinds = sum(any(map(test, word)) for test in (str.isdigit, str.islower, str.isupper))
    return kinds > 1 and len(word) >= _SHORTEST_TOKEN[kinds]


def without_secret(text: str) -> str:
    """The parts of a URL that are surely no secret; "(hidden)" in place of the others."""
    if not text or re.fullmatch(r"none|embedded(:\d*)?", text):
        return text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return HIDDEN
    is_database = text.startswith(DATABASE_URLS)
    if not (is_database or parts.scheme in ("mqtt", "mqtts", "http", "https")) or not host:
        return HIDDEN
    if "@" in host or "@" in parts.path or (is_database and "@" in parts.query + parts.fragment):
        return HIDDEN  # a password may hold any letter
    if parts.scheme.startswith("http"):
        user = f"{HIDDEN}@" if parts.username is not None else ""
    else:
        user = "" if parts.username is None else f"{parts.username}{'' if parts.password is None else f':{HIDDEN}'}@"
    if is_database and not parts.query and not parts.fragment:
        rest = parts.path
    else:
        rest = f"/{HIDDEN}" if parts.path.strip("/") or parts.query or parts.fragment else ""
    address = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{user}{address}{'' if port is None else f':{port}'}{rest}"


def _shown_source(text: str) -> str:
    from tagger.sources.spec import shown

    return shown(text)


Values = dict[str, Given]
"""Given values by the option's key; every option is there."""


def gather(
    flags: Mapping[str, Any], env: Mapping[str, str], document: Document | None
) -> tuple[Values, list[str], list[str]]:
    """
    Args:
        flags: the flags that were typed, by the option's key.
        env: the whole environment.

    Returns:
        Every option's value; problems; warnings, of environment variables that mean nothing.
    """
    values = {option.key: Given(option, option.default) for option in OPTIONS}
    problems = list(document.problems) if document is not None else []
    if document is not None:
        for key, value in document.values.items():
            values[key] = Given(BY_KEY[key], absolute(key, value, document), Rank.FILE, file=document.file)
    for option in OPTIONS:
        for name in _variables(option):
            if not (text := env.get(name)):
                continue
            try:
                value = option.parse(text)
                problem = option.problem(value)
            except ValueError as error:
                value, problem = None, str(error)
            if problem:
                problems.append(f"{name}: {problem}")
            else:
                values[option.key] = Given(option, option.type(value) if option.type is Path else value,
                                           Rank.ENVIRONMENT, name)  # fmt: skip
            break
    for key, value in flags.items():
        given = Given(BY_KEY[key], value, Rank.FLAG, _flag(BY_KEY[key], value))
        if problem := given.option.problem(str(value) if isinstance(value, Path) else value):
            problems.append(f"{given.place}: {problem}")
        else:
            values[key] = given
    return values, problems, list(_unknown(env))


def _variables(option: Option) -> Iterator[str]:
    yield option.env
    if option.formerly:
        yield ENV_PREFIX + option.formerly


def _unknown(env: Mapping[str, str]) -> Iterator[str]:
    known = {ENV_PREFIX + "CONFIG", *(name for option in OPTIONS for name in _variables(option))}
    for name in env:
        if name.startswith(ENV_PREFIX) and name not in known:
            hint = near(name, known)
            yield f"{name}: is unknown{hint if 'did you mean' in hint else ''}"


def _flag(option: Option, value: Any) -> str:
    """The flag as it was typed."""
    if not option.flags:
        return "SOURCE"
    return option.flags[1] if option.type is bool and value is False else option.flags[0]


def absolute(key: str, value: Any, document: Document) -> Any:
    """The value, with paths made absolute: those in a file are relative to the file."""
    folder = document.file.path.absolute().parent
    if isinstance(value, Path):
        return _below(folder, value)
    if key == "listen.model":
        return BY_KEY[key].tidied([_model(folder, each) for each in model_names(value)])
    if key == "listen.sources":
        return [_source(folder, each) for each in value]
    return value


def _model(folder: Path, text: str) -> str:
    is_path = "/" in text or Path(text).suffix == ".safetensors"
    return str(_below(folder, Path(text))) if is_path else text


def _source(folder: Path, text: str) -> str:
    from tagger.sources import is_keyword
    from tagger.sources.spec import Spec

    try:
        spec = Spec.parse(text, folder)
    except UserError:  # said where all sources are checked
        return text
    if "tls_ca_certs" in spec.options:
        path = quote(str(_below(folder, Path(unquote(spec.options["tls_ca_certs"])))))
        spec = replace(spec, options={**spec.options, "tls_ca_certs": path})
    if is_keyword(spec.uri) or "://" in spec.uri:
        return str(spec)
    return str(replace(spec, uri=str(_below(folder, Path(spec.uri)))))


def _below(folder: Path, path: Path) -> Path:
    return folder / files.expanded(path)
