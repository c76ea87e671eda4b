"""Several sources that were written as one text, with commas or spaces between. Needs no PortAudio."""

import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tagger.errors import UserError
from tagger.sources import is_keyword, split_name
from tagger.sources.spec import OPTIONS, Spec

_AFTER_COMMA = re.compile(r"\s*[,;]\s*(?=(?:[\w-]+=)?(?:mic|demo|auto|-)(?:[,;:\s]|$))")
_AFTER_SPACE = re.compile(r"\s+(?=(?:[\w-]+=)?mic:|[\w-]+=(?:mic|demo|auto|-)(?:[,;\s]|$))")


def plainly_several(uri: str) -> list[str]:
    """The sources in a text that can only be several: one, if it may be one. Looks for no device.

    >>> plainly_several("mic:USB, demo"), plainly_several("kitchen=mic:USB garden=mic:HDA")
    (['mic:USB', 'demo'], ['kitchen=mic:USB', 'garden=mic:HDA'])
    >>> plainly_several("mic:HDA Intel: ALC257 (hw:0,0)"), plainly_several("mic:Webcam mic")
    (['mic:HDA Intel: ALC257 (hw:0,0)'], ['mic:Webcam mic'])
    """
    if _is_file(uri):
        return [uri]
    parts = [part for each in _AFTER_COMMA.split(uri) for part in _AFTER_SPACE.split(each) if part.strip(" ,;")]
    if len(parts) == 1 and not is_keyword(split_name(uri)[1]):
        parts = [each for each in re.split(r"\s*[,;]\s*", uri) if each]
        parts = parts if all(map(_is_file, parts)) else [uri]
    return parts or [uri]


def split(text: str, devices: Sequence[str]) -> list[str]:
    """Sources as a user types them: with commas or spaces between, quoted, or as a list of the file.

    Names of microphones and files may have commas and spaces themselves, so the longest stretch that is a source wins.

    Args:
        devices: names of microphones. A number is one of these, from 1.

    Raises:
        UserError: it begins as a list and is none.

    >>> split("kitchen=mic:USB Audio, demo", ["USB Audio"]), split("1 2", ["USB", "HDA (hw:0,0)"])
    (['kitchen=mic:USB Audio', 'demo'], ['mic:USB', 'mic:HDA (hw:0,0)'])
    """
    if text.startswith("["):
        return _listed(text)
    if '"' in text or "'" in text:
        try:
            words = shlex.shlex(text, posix=True, punctuation_chars=False)
            words.whitespace, words.whitespace_split, words.commenters = " \t,;", True, ""
            return [_numbered(word, devices) for word in _with_options(words)]
        except ValueError:
            pass  # an apostrophe
    words_at = [(match.start(), match.end()) for match in re.finditer(r"[^\s,;]+", text)]
    found: list[str] = []
    at, is_open = 0, False
    while at < len(words_at):
        begin, end = words_at[at]
        between = text[words_at[at - 1][1] : begin] if at else ""
        ends = (
            last for last in range(len(words_at), at, -1) if _is_source(text[begin : words_at[last - 1][1]], devices)
        )
        last = next(ends, at)
        is_option = bool(found) and _is_option(text[begin:end])
        may_be_name = text[begin:end].isdecimal() or text[begin:end] == "mic"  # `mic:Webcam 2`
        if last > at and not is_option and not (is_open and may_be_name and not between.strip()):
            found.append(_numbered(text[begin : words_at[last - 1][1]], devices))
            at, is_open = last, False
        elif is_option or (
            is_open and not _is_microphone(text[begin:end])
        ):  # the name of a microphone that is not connected
            found[-1] += between + text[begin:end]
            at += 1
        else:
            found.append(text[begin:end])
            at, is_open = at + 1, _is_microphone(text[begin:end])
    return found


def _with_options(words: Iterable[str]) -> list[str]:
    """The words, options of a source behind it again: `mic:USB` and `channel=2`."""
    found: list[str] = []
    for word in words:
        if found and _is_option(word):
            found[-1] += f",{word}"
        else:
            found.append(word)
    return found


def _is_option(word: str) -> bool:
    return word.partition("=")[0] in OPTIONS


def _listed(text: str) -> list[str]:
    try:
        listed = tomllib.loads(f"x = {text}")["x"]
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or not all(isinstance(each, str) and each.strip() for each in listed):
        raise UserError(f'{text}: is no list of sources, such as ["mic:USB", "demo"]')
    return [each.strip() for each in listed]


def _is_source(text: str, devices: Sequence[str]) -> bool:
    """Whether the text is a source that is here now."""
    rest = split_name(text)[1]
    if _is_microphone(rest):
        device = rest.removeprefix("mic:").lower()
        return any(device in each.lower() for each in devices)
    return is_keyword(rest) or _is_file(rest) or _numbered(text, devices) != text


def _is_microphone(text: str) -> bool:
    return split_name(text)[1].startswith("mic:")


def _numbered(text: str, devices: Sequence[str]) -> str:
    """The microphone of this number; else the text as it is."""
    rest = split_name(text)[1]
    if not re.fullmatch("[0-9]{1,4}", rest) or not 1 <= int(rest) <= len(devices):
        return text
    return str(replace(Spec.parse(text), uri=f"mic:{devices[int(rest) - 1]}"))


def _is_file(text: str) -> bool:
    return os.path.isfile(split_name(text)[1])  # noqa: PTH113  # Path.is_file raises for names that are too long
