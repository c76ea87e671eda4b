"""Makes topic levels of names, and checks whether a text can be a topic, a host or an address."""

import ipaddress
import re
import unicodedata
from collections.abc import Iterable

LONGEST_LABEL = 100
"""Letters."""
_NOT_IN_LABELS = re.compile(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")

BACKGROUND_NAMES = ("background", "_background")
"""Folders and labels of sounds in which nothing must be announced."""


def slug(name: str) -> str:
    """A name as one level of an MQTT topic: lower-case letters, digits and `_`.

    >>> slug("Male speech, man speaking")
    'male_speech_man_speaking'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"


def unique_slugs(names: Iterable[str], reserved: Iterable[str] = ()) -> list[str]:
    """One topic level for each name; names that would share one, or take a reserved one, get a number.

    >>> unique_slugs(["Dog bark", "dog-bark", "any"], reserved=["any"])
    ['dog_bark', 'dog_bark_2', 'any_2']
    """
    levels: list[str] = []
    taken = set(reserved)
    for name in names:
        level, number = slug(name), 2
        while level in taken:
            level, number = f"{slug(name)}_{number}", number + 1
        taken.add(level)
        levels.append(level)
    return levels


def label_problem(label: str) -> str | None:
    """Why a text cannot be a label, as the rest of a sentence; None: it can be one.

    >>> label_problem("dog/cat")
    "no MQTT topic may contain '/'"
    """
    if not label.strip():
        return "it is empty"
    if bad := _NOT_IN_LABELS.search(label):
        return f"no MQTT topic may contain {bad[0]!r}"
    for letter in label:  # the two joiners are part of some scripts and of emojis
        if unicodedata.category(letter) in ("Cf", "Zl", "Zp") and letter not in "\u200c\u200d":
            return f"{letter!r} cannot be seen"
    if len(label) > LONGEST_LABEL:
        return f"it has more than {LONGEST_LABEL} letters"
    return None


def is_topic(text: str) -> bool:
    """Whether the text can be part of an MQTT topic: one or more levels, none of them empty."""
    forbidden = re.search(r"[+#\s\x00-\x1f\x7f\ud800-\udfff]|^\$", text)
    return all(text.split("/")) and not forbidden and len(text) <= 200


def is_host(host: str) -> bool:
    """Whether a name can be looked up: no part is empty or too long, and no character ends the host of a URL."""
    if not host or re.search(r"[\s/@]", host):
        return False
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine, so that what is sent to it goes over no network.

    >>> is_this_machine("localhost"), is_this_machine("::1"), is_this_machine("192.168.1.2")
    (True, True, False)
    """
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether the text is a host name or an IP address, without a port."""
    if ":" not in host:
        return is_host(host)
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
