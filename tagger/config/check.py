"""`tagger config check`: lists settings with their origin, and finds mistakes before `tagger listen` does.

Needs no audio, no network and no torch; what needs the first two is in `tagger.config.reach`.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagger import policy, settings
from tagger.checkpoints import store
from tagger.checkpoints.info import read_info
from tagger.checkpoints.joint import joined, shortest_window_s
from tagger.checkpoints.named import choosable, choose, understood
from tagger.config.given import Values
from tagger.config.places import located
from tagger.config.resolver import Resolved
from tagger.config.sourcelist import plainly_several
from tagger.config.tomlfile import toml
from tagger.errors import SettingError, TaggerError, UserError, near
from tagger.files import unwritable
from tagger.history import log
from tagger.policy import ANY, EventsConfig
from tagger.sources import is_keyword, split_name
from tagger.sources.pipe import is_pipe
from tagger.sources.spec import Spec
from tagger.words import called


@dataclass(frozen=True)
class Shown:
    """One option in force, as it is printed."""

    key: str
    value: Any
    """Text, number, boolean, list of texts, or None; "(hidden)" in place of a secret."""
    origin: str
    is_given: bool = True
    """Whether the user set it; if not, the value is the default."""

    @property
    def json(self) -> dict[str, Any]:
        is_number = not isinstance(self.value, float) or math.isfinite(self.value)  # JSON has no infinity
        return {"value": self.value if is_number else str(self.value), "origin": self.origin}

    def __str__(self) -> str:
        shown = "(none)" if self.value is None else toml(self.value)
        return f"{self.key} = {shown}  # {self.origin}"


def rows(resolved: Resolved) -> Iterator[Shown]:
    """Every option of the table, then the file's settings of events."""
    for key, given in resolved.values.items():
        yield Shown(key, given.shown, given.origin, given.is_given)
    if resolved.document is not None:
        events = resolved.document.events
        for path, value in _leaves(_as_table(events)):
            keys = ("events", *path)
            yield Shown(".".join(keys), value, f"{resolved.document.file.path}:{resolved.document.file.line(keys)}")


def _as_table(events: EventsConfig) -> dict[str, Any]:
    table = {**events.defaults, "labels": events.labels, "groups": {k: list(v) for k, v in events.groups.items()}}
    if events.allow is not None:
        table["allow"] = list(events.allow)
    return table | ({"deny": list(events.deny)} if events.deny else {})


def _leaves(table: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*at, key))
        else:
            yield (*at, key), value


def problems(resolved: Resolved) -> list[str]:
    """All mistakes, one line each: those that `resolve` found, then those of model, sources, files and folders."""
    return [*resolved.problems, *_model(resolved), *_sources(resolved.values), *_places(resolved.values)]


def _model(resolved: Resolved) -> Iterator[str]:
    values = resolved.values
    device = values["listen.device"]
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device.value):
        yield f"{device.place}: unknown; use one of auto, cpu, cuda, mps, or cuda:N"
    try:
        own = joined([read_info(store.find(name)) for name in settings.model_names(values["listen.model"].value)])
    except UserError as error:
        yield f"{values['listen.model'].place}: {error}"
        return
    own_s = shortest_window_s(own)
    events = resolved.document.events if resolved.document is not None else EventsConfig()
    window_s, hop_s = values["listen.window"].value, values["listen.hop"].value
    errors: list[SettingError] = []
    try:
        settings.check_window(window_s, hop_s, own_s)
    except SettingError as error:
        errors.append(error)
        window_s, hop_s = own_s, 0.0  # forbids the fewest times
    rules = events.but(values["--allow"].value, values["--deny"].value)
    threshold = values["--threshold"].value
    of_sources = list(_rules_of_sources(values, rules, threshold))
    info = choose(own, [rules, *(each for _, each, _ in of_sources)])

    def wrong(rules: EventsConfig, threshold: float | None) -> list[SettingError]:
        understood_ = understood(info, rules)
        return policy.errors(info.labels, info.thresholds, window_s or own_s, hop_s, understood_, threshold)

    errors += (of_all := wrong(rules, threshold))
    found = dict.fromkeys(str(located(error, values, resolved.document)) for error in errors)
    yield from (problem for problem in found if problem not in resolved.problems)
    said = set(map(str, of_all))
    for spec, own_rules, own_threshold in of_sources:
        for each in (each for each in wrong(own_rules, own_threshold) if str(each) not in said):
            yield f"{values['listen.sources'].place}: {spec.mistake(each)}"
    known = {*info.labels, *events.groups, ANY}
    for label in values["homeassistant.labels"].value or ():
        if not called(label, known):
            is_class = called(label, choosable(info))
            hint = "; name it in events.allow or [events.labels] first" if is_class else near(label, known)
            yield f"{values['homeassistant.labels'].place}: this model has no label {label!r}{hint}"


def _rules_of_sources(
    values: Values, rules: EventsConfig, threshold: float | None
) -> Iterator[tuple[Spec, EventsConfig, float | None]]:
    """Each source that can be read, with its rules and threshold; `resolve` says what is wrong with the others."""
    for source in values["listen.sources"].value:
        with suppress(UserError):
            spec = Spec.parse(source)
            yield (spec, *spec.rules(rules, threshold))


def _sources(values: Values) -> Iterator[str]:
    given = values["listen.sources"]
    for source in given.value:
        rest = split_name(source)[1]
        if is_keyword(rest) or len(plainly_several(source)) > 1:
            continue
        if "://" in rest:  # said by `resolve`
            continue
        if not is_pipe(rest) and not os.path.isfile(rest):  # noqa: PTH113  # Path.is_file raises for names that are too long
            yield f"{given.place}: {rest}: no such file"


def _places(values: Values) -> Iterator[str]:
    """Problems of the files and folders that the daemon will write."""
    for key in (key for key, given in values.items() if given.option.writes and given.value is not None):
        path: Path = values[key].value
        is_file = values[key].option.writes == "file"
        if is_file and path.is_dir():
            yield f"{values[key].place}: {path}: is a folder"
            continue
        if key == "sinks.log.path" and path.is_file():
            try:
                with log.reading(path):
                    pass
            except TaggerError as error:
                yield f"{values[key].place}: {error}"
        problem = unwritable(path if is_file else path / "file")
        if problem is None and is_file and path.exists() and not os.access(path, os.W_OK):
            problem = f"{path.parent}: cannot be written to"
        if problem is not None:
            yield f"{values[key].place}: {problem}"
