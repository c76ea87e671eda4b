"""The tables `[[source]]` of `tagger.toml`: a source each, with its own channel, gain, labels, thresholds and hours.

Each becomes the text that stands for it in `listen.sources` and on the command line.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tagger.config.option import Option
from tagger.config.tomlfile import Keys, TomlFile
from tagger.errors import UserError, near
from tagger.names import slug
from tagger.settings import LEVELS_DB
from tagger.sources.spec import MOST_GAIN_DB, Spec, is_name, option_text

AT: Keys = ("source",)

SOURCE_FIELDS: tuple[Option, ...] = (
    Option("url", str, "A URL, mic, mic:NAME, demo, - or a file; ${NAME} in a URL is an environment variable.", example="rtsp://${CAMERA_USER}:${CAMERA_PASSWORD}@camera.local/live"),
    Option("name", str, "Name, for its topics.", example="garden"),
    Option("channel", str, "Channels that are heard: mix, a number, or several such as 1+3.", takes_number=True,
           example="1"),
    Option("gain_db", float, "Gain, decibels.", least=-MOST_GAIN_DB, most=MOST_GAIN_DB, example=6),
    Option("labels", list, "Labels that it announces; without it those of all sources.", example=["dog", "siren"]),
    Option("threshold", float, "Score that begins an event of this source.", above=0, most=1, example=0.7),
    Option("active", str, "Hours of the day in which it is opened, local time; several with + between.",
           example="22:00-06:00"),
    Option("rate", int, "Sample rate of raw samples, Hz.", example=16000),
    Option("format", str, "Format of raw samples.", example="s16le"),
    Option("channels", int, "Number of channels of raw samples.", example=1),
    Option("start_time", str, "When a recording began, ISO 8601.", example="2026-11-26T14:30:00Z"),
    Option("tls_verify", bool, "Check the certificate of an encrypted stream's server.", default=True),
    Option("tls_ca_certs", Path, "PEM file of the authorities that may have signed it, or of the certificate itself, "
           "instead of the system's.", example="camera.pem"),
    *(Option(name, float, f"`listen.{name}` of this source.") for name in LEVELS_DB),
)  # fmt: skip
"""Fields of a table, besides the table `thresholds`."""
_THRESHOLDS = "thresholds"
_BY_NAME = {option.key: option for option in SOURCE_FIELDS}


def parse(value: Any, file: TomlFile) -> tuple[list[str], list[str]]:
    """
    Args:
        value: of the key `source`.
        file: where it stands, for errors.

    Returns:
        Sources as texts, and problems, one line each. Neither shows a secret of a URL that is in a problem.
    """
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return [], [f"{file.place(AT)}: must be tables: write [[source]] before each"]
    texts: list[str] = []
    problems: list[str] = []
    for number, table in enumerate(value, 1):
        found = list(_problems(table))
        if not found:
            text = _text(table)
            try:
                spec = Spec.parse(text)
                if set(spec.options) != {key for key in table if key not in ("url", "name")}:
                    found.append("url: is written as an option, or holds one, or there is no such file")
            except UserError as error:
                found.append(str(error))
            texts.append(text)
        name = table.get("name")
        which = f" ({name})" if isinstance(name, str) and name.isprintable() else f" {number}" if len(value) > 1 else ""
        problems += [f"{file.place(AT)}{which}: {problem}" for problem in found]
    return texts, problems


def _problems(table: dict[str, Any]) -> list[str]:
    found = []
    for key, value in table.items():
        if key == _THRESHOLDS:
            if not isinstance(value, dict) or not value or any(map(_BY_NAME["threshold"].problem, value.values())):
                found.append(f"{key}: must be labels with scores above 0 to 1, such as {{siren = 0.7}}")
            continue
        option = _BY_NAME.get(key)
        if option is None:
            found.append(f"{key}: is unknown{near(key, [*_BY_NAME, _THRESHOLDS])}")
        elif problem := option.problem(value):
            found.append(f"{key}: {problem}")
        elif key not in ("url", "name", "channel", "tls_ca_certs") and re.search(r"[=,\s]", option_text(value)):
            found.append(f"{key}: cannot be")
    if "url" not in table:
        found.append("url: is missing; it says what is listened to")
    elif "name" in table and not found and not (is_name(table["name"]) and slug(table["name"])):
        found.append("name: must have letters, digits, spaces, _ and - only")
    return found


def _text(table: dict[str, Any]) -> str:
    name = f"{table['name']}=" if "name" in table else ""
    options = {key: option_text(value) for key, value in table.items() if key not in ("url", "name")}
    if "tls_ca_certs" in options:
        options["tls_ca_certs"] = quote(options["tls_ca_certs"], safe="/~")
    if "channel" in options:
        options["channel"] = options["channel"].replace(",", "+")
    return name + str(table["url"]) + "".join(f",{key}={text}" for key, text in options.items())
