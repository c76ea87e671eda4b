"""What one setting is: its names in the file, the environment and the flags, its type, and which values it may have.

`tagger/config/options.py` has the table of all of them.
"""

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ENV_PREFIX = "TAGGER_LISTEN_"
_BOOLEANS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True) | dict.fromkeys(
    ("0", "false", "f", "no", "n", "off"), False
)
_NAMES: Mapping[type, str] = {
    str: "text",
    Path: "text, the name of a file or folder",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of texts",
}


@dataclass(frozen=True)
class Option:
    """One setting."""

    key: str
    """Table and name in the file, `mqtt.port`; or the flag, `--watch`, if the option has no place in the file."""
    type: type
    """str, Path, int, float, bool, or list (of str)."""
    help: str
    default: Any = None
    """None: no default, or `help` names it."""
    flag: str | None = None
    """Flag as click takes it: `--hop`, `--model -m`, `--realtime/--no-realtime`. None: file and environment only."""
    metavar: str | None = None
    """Name of the flag's value in `--help`."""
    bare: Any = None
    """Value of the flag where none follows it. None: one must."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    """Lowest value."""
    above: float | None = None
    """The value must be more than this."""
    most: float | None = None
    """Highest value."""
    secret: bool = False
    """The value is never shown; of a URL, scheme and host may be."""
    takes_several: bool = False
    """A text for which there may be several: a list in the file, the flag repeated, commas in the variable."""
    takes_number: bool = False
    """A text for which the file may have a whole number."""
    example: Any = None
    """Value in the commented file, where there is no default."""
    formerly: str | None = None
    """A second environment variable that sets it."""
    field: str | None = None
    """Dotted path of the field in ListenSettings that the option sets, `mqtt.host`. None: `config.build` uses it."""
    writes: Literal["file", "folder"] | None = None
    """Whether the path is a file or a folder that the daemon writes. None: it writes nothing there. Two options cannot
    name the same file."""
    reload: bool = False
    """Whether a running daemon can change it (SIGHUP). If not, a change needs a restart."""

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(self.key.split("."))

    @property
    def is_in_file(self) -> bool:
        return not self.key.startswith("--")

    @property
    def table(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """Name in the file, without the table."""
        return self.key.rpartition(".")[2]

    @property
    def group(self) -> str:
        """Field of ListenSettings that holds the settings of this group: `mqtt`. "": ListenSettings itself."""
        return (self.field or "").rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """Last part of `field`: `host`."""
        return (self.field or "").rpartition(".")[2]

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags one by one, the long one first: `--model`, `-m`."""
        return tuple(self.flag.replace("/", " ").split()) if self.flag else ()

    @property
    def env(self) -> str:
        """Environment variable: `TAGGER_LISTEN_` and the name of the flag; without a flag the key, less a leading
        `listen`, `mqtt` or `sinks`.

        >>> Option("mqtt.url", str, "", flag="--mqtt").env, Option("sinks.webhook.token", str, "").env
        ('TAGGER_LISTEN_MQTT', 'TAGGER_LISTEN_WEBHOOK_TOKEN')
        """
        parts = list(self.path)
        if self.flags:
            parts = [self.flags[0].removeprefix("--")]
        elif parts[0] in ("listen", "mqtt", "sinks"):
            parts = parts[1:]
        return ENV_PREFIX + "_".join(parts).replace("-", "_").upper()

    def problem(self, value: Any) -> str | None:
        """Problem of a value, given as TOML has it. None: it is valid. Never shows text, which may be a secret."""
        if not self._has_type(value):
            return self._wrong_type(value)
        if self.takes_several and isinstance(value, list | tuple):
            return self._problem_of_several(value)
        return self._problem_of_one(value)

    def _problem_of_one(self, value: Any) -> str | None:
        if value == "" or (isinstance(value, str) and "\0" in value):
            return "must not be empty" if value == "" else "must not hold a zero character"
        if isinstance(value, str) and self.type is str and not _is_text(value):
            return "must be UTF-8 text"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        if isinstance(value, int | float) and not isinstance(value, bool) and not self.takes_number:
            return self._bounds(value)
        return None

    def _problem_of_several(self, values: Sequence[str]) -> str | None:
        if not values:
            return "must name at least one"
        if twice := [value for value in values if values.count(value) > 1]:
            return f"names {twice[0]} twice"
        return next(filter(None, map(self.problem, values)), None)

    def tidied(self, value: Any) -> Any:
        """The value as settings have it: one of several texts alone is a text."""
        if not self.takes_several or isinstance(value, str):
            return value
        return value[0] if len(value) == 1 else tuple(value)

    def _wrong_type(self, value: Any) -> str:
        if self.type is list and isinstance(value, list | tuple) and "" in value:
            return "must not hold an empty text"
        if self.type is list and isinstance(value, str):
            return 'must be a list of texts, not text: write it as ["..."], with a text for each'
        seen = "text" if isinstance(value, str) else "a table" if isinstance(value, dict) else str(value).lower()
        return f"must be {_NAMES[self.type]}" + ("" if self.secret or isinstance(value, list) else f", not {seen}")

    def _has_type(self, value: Any) -> bool:
        if self.type is bool:
            return isinstance(value, bool)
        if self.type is int:
            return (isinstance(value, int) and not isinstance(value, bool)) or (
                isinstance(value, float) and value.is_integer()  # as JSON Schema has it
            )
        if self.type is float:
            return isinstance(value, int | float) and not isinstance(value, bool)
        if self.type is list:
            return isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)
        if self.takes_several and isinstance(value, list | tuple):
            return all(isinstance(each, str) for each in value)
        is_number = self.takes_number and isinstance(value, int) and not isinstance(value, bool)
        return isinstance(value, str) or is_number

    def _bounds(self, value: float) -> str | None:
        if not abs(value) <= sys.float_info.max:  # a whole number may be larger
            return "must be finite"
        if self.above is not None and not value > self.above:
            most = f" and at most {self.most:g}" if self.most is not None else ""
            return f"must be above {self.above:g}{most}" if self.above or most else "must be more than 0"
        if self.least is not None and self.most is not None and not self.least <= value <= self.most:
            return f"must be from {self.least:.10g} to {self.most:.10g}"
        if self.least is not None and not value >= self.least:
            return f"must be at least {self.least:g}"
        if self.most is not None and not value <= self.most:
            return f"must be at most {self.most:g}"
        return None

    def parse(self, text: str) -> Any:
        """Value of an environment variable's text.

        Raises:
            ValueError: the text is of another type; the message says which type is wanted.
        """
        try:
            if self.type is bool:
                return _BOOLEANS[text.strip().lower()]
            if self.type in (int, float):
                return self.type(text)
            if self.type is list:
                return tomllib.loads(f"x = {text}")["x"] if text.lstrip().startswith("[") else text.split()
        except (KeyError, ValueError, RecursionError):
            raise ValueError(f"must be {_NAMES[self.type]}") from None
        return self.tidied([part.strip() for part in text.split(",")]) if self.takes_several else text


def _is_text(value: str) -> bool:
    """Whether the text can be encoded. Bytes of the command line that are not UTF-8 can neither be saved nor sent."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
