"""All checks, in the order in which one depends on another, and what was found as text."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tagger import files
from tagger.config import check
from tagger.config.resolver import Resolved
from tagger.daemon.status import Answer, ask_here
from tagger.doctor import machine, parts
from tagger.doctor.finding import Check, Finding, findings
from tagger.errors import TaggerError
from tagger.settings import ListenSettings
from tagger.sources import split_name

_WAIT_SECONDS = 60.0
"""Longest wait for everything, seconds. The model may need some on a small machine."""


def running_daemons(folder: Path) -> list[Answer]:
    """Answers of daemons that run with this state folder."""
    try:
        return ask_here(folder)
    except TaggerError:
        return []


def state_folder(resolved: Resolved) -> Path:
    return files.state_folder(resolved.values["listen.state"].value)


def examine(resolved: Resolved, running: Sequence[Answer], wait_s: float = _WAIT_SECONDS) -> Iterator[Finding]:
    """Everything that is found.

    Args:
        running: answers of daemons that run with the same state folder.
    """
    yield from settings_of(resolved)
    settings = resolved.settings or ListenSettings()
    is_mic = any(split_name(each)[1].partition(":")[0] in ("mic", "auto") for each in settings.sources)
    checks: list[Check] = [
        ("system", machine.system),
        ("PortAudio", partial(machine.sound, is_mic)),
        ("daemon", partial(parts.daemon, running, state_folder(resolved))),
        ("model", partial(parts.model, settings)),
        ("disk", partial(machine.disk, _folders(settings, resolved))),
        ("clock", machine.clock),
    ]
    if resolved.settings is not None:  # else which are meant is not certain
        checks += [
            (f"source {split_name(each)[0] or number}", partial(parts.source, each, settings, running))
            for number, each in enumerate(settings.sources, 1)
        ]
        if settings.mqtt is not None:
            checks.append(("broker", partial(parts.broker, settings.mqtt)))
        if settings.webhook is not None:
            checks.append(("webhook", partial(parts.webhook, settings.webhook)))
    yield from findings(checks, wait_s)


def settings_of(resolved: Resolved) -> Iterator[Finding]:
    """Mistakes in the settings, and warnings."""
    file = resolved.document.file.path if resolved.document is not None else None
    problems = list(dict.fromkeys(check.problems(resolved)))
    for line in problems:
        yield Finding("settings", "fail", line, "`tagger config check` lists all", is_mistake=True)
    for line in resolved.warnings:
        yield Finding("settings", "warn", line)
    if not problems:
        yield Finding("settings", "ok", f"of {file}" if file else "no file; flags, environment and defaults")


def _folders(settings: ListenSettings, resolved: Resolved) -> list[Path]:
    """Folders that the daemon writes to."""
    found = [state_folder(resolved)]
    if settings.clips is not None:
        found.append(settings.clips.folder)
    return found + [each.path.parent for each in (settings.jsonl, settings.event_log) if each is not None]


def lines(found: Finding) -> Iterator[str]:
    """A finding for people: one line, and one with what to do."""
    yield f"{found.state:<4}  {found.about:<12}  {found.said}"
    if found.advice and found.state != "ok":
        yield f"{'':<20}-> {found.advice}"
