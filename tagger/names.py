"""Names: topic levels made of names, and which texts can be topics, hosts and addresses."""

import ipaddress
import re
from collections.abc import Iterable


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


def is_topic(text: str) -> bool:
    """Whether it can be a part of an MQTT topic: levels, none of them empty."""
    forbidden = re.search(r"[+#\s\x00-\x1f\x7f\ud800-\udfff]|^\$", text)
    return all(text.split("/")) and not forbidden and len(text) <= 200


def is_host(host: str) -> bool:
    """Whether the network can look it up: no empty or overlong part, and nothing that ends a URL's host."""
    if not host or re.search(r"[\s/@]", host):
        return False
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def is_address(host: str) -> bool:
    """Whether it is a host's name or an IP address, and nothing more: no port."""
    if ":" not in host:
        return is_host(host)
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
