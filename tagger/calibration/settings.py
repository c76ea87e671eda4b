"""All options of `tagger calibrate`: what was typed, then what the user's file says, then the defaults."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagger import files
from tagger.calibration.recordings import LEAST_S
from tagger.calibration.targets import Wishes
from tagger.config.edit import Changes
from tagger.config.file import NAME, Document, load_right, usual
from tagger.config.given import absolute
from tagger.config.options import BY_KEY
from tagger.errors import UserError
from tagger.settings import Channel, channel_numbers, check_window

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_OF_MODEL = ("listen.model", "listen.window", "listen.hop")
"""Options for which thresholds are right. The file that gets the thresholds must say the same."""


def seconds(flag: str, text: str) -> float:
    """The duration that a flag gives, seconds.

    Raises:
        UserError: `text` is no duration, or shorter than LEAST_S.

    >>> seconds("--listen", "10m")
    600.0
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if match is None:
        raise UserError(f"{flag} {text}: must be a duration, such as 90s, 10m or 8h")
    duration = float(match[1]) * _SECONDS[match[2] or "s"]
    if duration < LEAST_S:
        raise UserError(f"{flag} {text}: must be at least {LEAST_S:g} s; ten minutes and more tell something")
    return duration


@dataclass(frozen=True)
class CalibrationSettings:
    """All options of `tagger calibrate`."""

    recordings: tuple[Path, ...]
    listen_s: float | None
    """How long to listen to `sources`, seconds. None: only the recordings are used."""
    sources: tuple[str, ...]
    model: str | Sequence[str]
    """One model, or several that listen together."""
    device: str
    runtime: str
    window_s: float | None
    hop_s: float
    channel: Channel
    """Channels that are heard of recordings, and of sources that do not say their own."""
    wishes: Wishes
    lower: bool
    examples: Path | None
    excepted: tuple[str, ...]
    old: Document | None
    """The user's file: the thresholds in force, and all else that the written file keeps. None: there is none."""
    output: Path
    changes: Changes
    """What the written file must say of the model, since it was typed and the user's file says otherwise."""
    force: bool

    @property
    def is_in_place(self) -> bool:
        """Whether the thresholds go into the user's own file."""
        return self.old is not None and self.old.file.path.resolve() == self.output.resolve()

    def __post_init__(self) -> None:
        if not self.recordings and self.listen_s is None:
            raise UserError("nothing to calibrate on: name a recording of the room, or --listen 10m")
        if self.output.is_dir():
            raise UserError(f"{self.output}: a folder; -o names the file to write")
        if self.output.exists() and not self.is_in_place and not self.force:
            raise UserError(f"{self.output}: is there already; --force replaces it, --config changes thresholds in it")
        if self.is_in_place:
            for (*_, name), (value, _) in self.changes.items():
                shown = ", ".join(value) if isinstance(value, list) else value
                raise UserError(
                    f"--{name} {shown}: {self.output} has another one, for which its thresholds are; "
                    "set it there first, or name another file with -o"
                )
        check_window(self.window_s, self.hop_s)


def settings(
    *,
    config: Path | None,
    output: Path | None,
    sources: tuple[str, ...],
    model: str | Sequence[str] | None,
    device: str | None,
    runtime: str | None = None,
    window_s: float | None,
    hop_s: float | None,
    channel: str | None,
    **others: Any,
) -> CalibrationSettings:
    """Settings from what was typed; None, or no source, was not typed.

    Args:
        config: None: `$TAGGER_HOME/tagger.toml`, if it is there.
        output: None: that file.
        others: further fields of CalibrationSettings.

    Raises:
        UserError: the file cannot be read; or something does not go together.
    """
    path = config or usual()
    old = load_right(path) if path is not None else None
    typed: dict[str, Any] = {
        "listen.model": BY_KEY["listen.model"].tidied(model) if model else None,
        "listen.window": window_s,
        "listen.hop": hop_s,
        "listen.device": device,
        "listen.runtime": runtime,
        "listen.channel": channel,
    }
    value = {key: given if given is not None else _in_file(old, key) for key, given in typed.items()}
    return CalibrationSettings(
        sources=sources or tuple(_in_file(old, "listen.sources")),
        model=value["listen.model"],
        device=value["listen.device"],
        runtime=value["listen.runtime"],
        window_s=value["listen.window"],
        hop_s=value["listen.hop"],
        channel=channel_numbers(value["listen.channel"]),
        old=old,
        output=output or path or files.home() / NAME,
        changes={
            tuple(key.split(".")): (_as_toml(value[key]), "") for key in _OF_MODEL if value[key] != _in_file(old, key)
        },
        **others,
    )


def _as_toml(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _in_file(document: Document | None, key: str) -> Any:
    """The value of an option in the file, with whole paths; else its default."""
    if document is None or key not in document.values:
        return BY_KEY[key].default
    return absolute(key, document.values[key], document)
