"""A source as the user writes it: `[NAME=]SOURCE[,OPTION=VALUE]...`."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tagger import files
from tagger.errors import SettingError, UserError, near
from tagger.names import slug
from tagger.policy import EventsConfig
from tagger.settings import (
    LEVELS_DB,
    Channel,
    PcmFormat,
    channel_numbers,
    check_level,
    pcm_encoding,
    start_seconds,
)
from tagger.sources.network.address import Address, Trust
from tagger.sources.network.address import shown as shown_url
from tagger.sources.schedule import ALWAYS, Schedule

_RAW: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "rate": ("rate_hz", int),
    "format": ("encoding", pcm_encoding),
    "channels": ("channels", int),
}
"""Options that say the format of raw samples: the field of PcmFormat, and what makes its value."""
DAEMON_OPTIONS = ("gain_db", "active", "labels", "threshold", "thresholds")
"""Options that the daemon acts upon, whatever the kind of source."""
TLS_OPTIONS = ("tls_verify", "tls_ca_certs")
"""Options of encrypted streams."""
OPTIONS = ("channel", "start_time", *LEVELS_DB, *_RAW, *DAEMON_OPTIONS, *TLS_OPTIONS)
"""Options that a source can have."""
MOST_GAIN_DB = 60
"""Largest gain of a source, either sign, decibels."""
_SEVERAL = re.compile(r",channel=([0-9]+(?:,[0-9]+)+)$")
"""Several channels with commas between, which separate options."""
_ONE_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""How a URL begins that lacks a slash; one letter is a drive."""
_OPTION = re.compile(r",([a-z_]+)=([^=,\s]*)$")


@dataclass(frozen=True)
class Spec:
    """A source, taken apart."""

    name: str | None
    """Name as the user gave it."""
    uri: str
    """`mic`, `mic:DEVICE`, `demo`, `auto`, `-`, a path or a URL, which may hold a password."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Values by the names in OPTIONS."""

    @property
    def level(self) -> str | None:
        """The given name as a topic level."""
        return None if self.name is None else slug(self.name)

    @classmethod
    def parse(cls, text: str, folder: Path = Path()) -> "Spec":
        """Takes a text apart. The path of an existing file is never taken apart; `folder` is what it is relative to.

        Raises:
            UserError: an option is unknown or is there twice, or several channels have commas between.

        >>> Spec.parse("kitchen=mic:USB,channel=2")
        Spec(name='kitchen', uri='mic:USB', options={'channel': '2'})
        """
        options: dict[str, str] = {}
        rest = text
        while True:
            name, uri = _named(rest, folder)
            found = _OPTION.search(rest)
            is_url = "://" in uri
            if _exists(uri, folder):
                return cls(name, uri, options)
            if several := _SEVERAL.search(rest):
                raise UserError(f"{shown(text)}: write channel={several[1].replace(',', '+')}")
            if found is None or (is_url and found[1] not in OPTIONS):  # what else a URL ends with is a part of it
                return cls(name, uri, options)
            key, value = found.groups()
            if key not in OPTIONS:
                raise UserError(f"{text}: a source has no option {key!r}{near(key, OPTIONS)}")
            if key in options:
                raise UserError(f"{shown(text)}: has {key} twice")
            options, rest = {key: value, **options}, rest[: found.start()]

    def __str__(self) -> str:
        """The text that gives this again."""
        name = "" if self.name is None else f"{self.name}="
        return name + self.uri + "".join(f",{key}={value}" for key, value in self.options.items())

    @property
    def shown(self) -> str:
        """The text without secrets: of a URL only scheme, host and port."""
        return str(replace(self, uri=shown_url(self.uri))) if "://" in self.uri else str(self)

    def check(self) -> None:
        """
        Raises:
            UserError: a value of an option cannot be, or the URL cannot, or it lacks a slash.
        """
        self.channel(())
        self.start_time(None)
        self.pcm(PcmFormat())
        for name in LEVELS_DB:
            self.level_db(name, None)
        self.rules(EventsConfig(), None)
        _ = self.gain, self.schedule
        if "://" in self.uri:
            Address.parse(self.uri, self.trust)
        elif (scheme := _ONE_SLASH.match(self.uri)) and not _exists(self.uri, Path()):
            raise UserError(
                f"{scheme[1]}:/...: a URL has two slashes behind its scheme, such as {scheme[1]}://host/path"
            )

    @property
    def gain(self) -> float:
        """What samples are multiplied by.

        Raises:
            UserError: the value cannot be.
        """
        return self._made("gain_db", _gain) if "gain_db" in self.options else 1.0

    @property
    def schedule(self) -> Schedule:
        """When the source is wanted.

        Raises:
            UserError: the value cannot be.
        """
        return self._made("active", Schedule.parse) if "active" in self.options else ALWAYS

    def rules(self, rules: EventsConfig, threshold: float | None) -> tuple[EventsConfig, float | None]:
        """The rules for this source: the daemon's, with the labels and thresholds of its own.

        Args:
            threshold: score that begins an event, of labels that have none of their own. None: the model's.

        Raises:
            UserError: a value cannot be.
        """
        if "labels" in self.options:
            rules = rules.but(tuple(map(unquote, self.options["labels"].split("+"))), ())
        if "threshold" in self.options:
            threshold = self._made("threshold", _threshold)
        own = self._made("thresholds", _thresholds) if "thresholds" in self.options else {}
        labels = {label: {**rules.labels.get(label, {}), "enter": enter} for label, enter in own.items()}
        return replace(rules, labels={**rules.labels, **labels}), threshold

    def mistake(self, error: SettingError) -> str:
        """Words for what is wrong with the labels or thresholds of this source, by its own options' names.

        Args:
            error: of its `rules`, whose field is one of the table `[events]`.
        """
        first, *rest = error.field[1:] or ("threshold",)
        name = {"allow": "labels", "labels": "thresholds"}.get(first, first)
        return f"{self.shown}: {'.'.join((name, *rest))}: {error.problem}"

    def check_name(self) -> None:
        """
        Raises:
            UserError: what is before `=` cannot be a name, and there is no file of the whole text.
        """
        name, separator, rest = self.uri.partition("=")
        if not self.uri.strip() or (separator and not rest.strip() and is_name(name) and not _exists(self.uri, Path())):
            name = self.name or name.strip()
            example = f"write what is called {name!r} behind it, such as {name}=mic" if name else "write mic or a file"
            raise UserError(f"{self.shown}: names no source; {example}")
        if self.name is None and separator and not is_name(name) and not _exists(self.uri, Path()):
            problem = f"no such file, and {name!r} is no name: a name has letters, digits, spaces, _ and - only"
            raise UserError(f"{self.shown}: {problem}")

    def channel(self, default: Channel) -> Channel:
        """The channels that are heard: the source's own, or the default.

        Raises:
            UserError: the value cannot be.
        """
        return self._made("channel", channel_numbers) if "channel" in self.options else default

    def start_time(self, default: float | None) -> float | None:
        """When the recording began, seconds since the epoch: by the source itself, or the default.

        Raises:
            UserError: the value cannot be.
        """
        return self._made("start_time", start_seconds) if "start_time" in self.options else default

    def level_db(self, name: str, default: float | None) -> float | None:
        """`calibrate_db` or `loud_db`, decibels: the source's own, or the default.

        Raises:
            UserError: the value cannot be.
        """
        if name not in self.options:
            return default
        return float(self._made(name, lambda text: check_level(name, _number(text))))

    @property
    def trust(self) -> Trust:
        """Which servers of encrypted streams are believed.

        Raises:
            UserError: the value cannot be.
        """
        path = self.options.get("tls_ca_certs")
        verify = self._made("tls_verify", _yes_or_no) if "tls_verify" in self.options else True
        return Trust(verify, None if path is None else files.expanded(Path(unquote(path))))

    @property
    def raw_options(self) -> tuple[str, ...]:
        """Options that say the format of raw samples."""
        return tuple(key for key in self.options if key in _RAW)

    def pcm(self, default: PcmFormat) -> PcmFormat:
        """The format of raw samples: the default, and what the source's own options change in it.

        Raises:
            UserError: a value cannot be.
        """
        for key, (name, make) in _RAW.items():
            if key in self.options:
                default = self._made(key, partial(_changed, default, name, make))
        return default

    def _made(self, key: str, make: Callable[[str], Any]) -> Any:
        try:
            return make(self.options[key])
        except SettingError as error:
            raise UserError(f"{self.shown}: {key}: {error.problem}") from None
        except ValueError:
            raise UserError(f"{self.shown}: {key}: must be a whole number") from None


def option_text(value: Any) -> str:
    """The text of an option's value that a TOML file gives: lists and tables as `parse` takes them.

    >>> option_text(["dog", "car horn"]), option_text({"siren": 0.7}), option_text(6.0)
    ('dog+car%20horn', 'siren:0.7', '6')
    """
    if isinstance(value, dict):
        return "+".join(f"{quote(label, safe='')}:{number:g}" for label, number in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "+".join(quote(each, safe=":-") if isinstance(each, str) else str(each) for each in value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def shown(text: str) -> str:
    """A source as the user wrote it, without secrets: of a URL only scheme, host and port.

    >>> shown("door=rtsp://me:pw@camera/live?token=1,channel=1"), shown("kitchen=mic:USB,channel=2")
    ('door=rtsp://camera,channel=1', 'kitchen=mic:USB,channel=2')
    """
    name, uri = _named(text, Path())
    if "://" not in uri:
        return text
    options = ""
    while (found := _OPTION.search(uri)) is not None and found[1] in OPTIONS:
        options, uri = found[0] + options, uri[: found.start()]
    return f"{'' if name is None else f'{name}='}{shown_url(uri)}{options}"


def _gain(text: str) -> float:
    gain_db = _number(text)
    if not abs(gain_db) <= MOST_GAIN_DB:
        raise SettingError("gain_db", f"must be from -{MOST_GAIN_DB:g} to {MOST_GAIN_DB:g}", gain_db)
    return float(10 ** (gain_db / 20))


def _yes_or_no(text: str) -> bool:
    answers = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in answers:
        raise SettingError("tls_verify", "must be yes or no", text)
    return answers[text.lower()]


def _threshold(text: str) -> float:
    threshold = _number(text)
    if not 0 < threshold <= 1:
        raise SettingError("threshold", "must be above 0 and at most 1", threshold)
    return threshold


def _thresholds(text: str) -> dict[str, float]:
    pairs = [part.rpartition(":") for part in text.split("+")]
    if not all(label and separator for label, separator, _ in pairs):
        raise SettingError("thresholds", "must be labels with numbers, such as siren:0.7+dog:0.6")
    return {unquote(label): _threshold(number) for label, _, number in pairs}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SettingError("number", "must be a number", text) from None


def repeated_name(specs: Iterable[Spec]) -> str | None:
    """A name that the user gave to several sources. None: there is none. Names that differ in case are different."""
    names: set[str] = set()
    for name in (each.name for each in specs if each.name is not None):
        if (composed := unicodedata.normalize("NFC", name)) in names:
            return name
        names.add(composed)
    return None


def _changed(pcm: PcmFormat, name: str, make: Callable[[str], Any], text: str) -> PcmFormat:
    return replace(pcm, **{name: make(text)})


def _named(text: str, folder: Path) -> tuple[str | None, str]:
    name, separator, rest = text.partition("=")
    if separator and rest and is_name(name) and not _exists(text, folder):
        return name, rest
    return None, text


def is_name(text: str) -> bool:
    """Whether a source can have this name. Letters of some scripts have marks, which are characters of their own."""
    is_word = (each.isalnum() or each in "_- " or unicodedata.category(each).startswith("M") for each in text)
    return bool(text.strip()) and all(is_word)


def _exists(path: str, folder: Path) -> bool:
    try:
        return os.path.lexists(folder / path)
    except ValueError:  # a zero character
        return False
