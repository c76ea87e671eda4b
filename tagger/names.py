"""Makes topic levels of names, and checks whether a text can be a topic, a host or an address."""

import hashlib
import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain, count

LONGEST_LABEL = 100
"""Letters."""
DATABASE_URLS = ("postgresql://", "postgres://")
"""How the URL of a PostgreSQL database begins."""
_NOT_IN_LABELS = re.compile(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LONGEST_LEVEL = 100
"""Letters."""
_HASH_DIGITS = 8
"""Hexadecimal digits of a hash in a topic level."""
_UNICODE = unicodedata.ucd_3_2_0
"""A version of Unicode that never changes, so that no update of Python changes a topic."""
_SPELLED_BY_NAME = ("HIRAGANA LETTER ", "KATAKANA LETTER ", "HANGUL SYLLABLE ")
"""Beginnings of the names of characters whose last word is how they sound."""
_SOUNDS = (
    "ßss æae œoe øo đd ðd þth ħh ıi łl ŋn "
    "αa βv γg δd εe ζz ηi θth ιi κk λl μm νn ξx οo πp ρr σs ςs τt υy φf χch ψps ωo "
    "аa бb вv гg ґg дd ђdj еe єie жzh зz иi йi іi кk лl љlj мm нn њnj оo пp рr сs тt ћc уu фf хkh цts чch џdz шsh "
    "щshch ыy эe юiu яia"
)
"""Lower-case letters of Latin, Greek and Cyrillic that do not come apart into ASCII letters and accents; each with the
ASCII letters that stand for it.
"""
_LETTERS = {ord(pair[0]): pair[1:] for pair in _SOUNDS.split()}

BACKGROUND_NAMES = ("background", "_background")
"""Folders and labels of sounds in which nothing must be announced."""


def slug(name: str) -> str:
    """A name as one level of an MQTT topic: lower-case letters, digits and `_`. It depends on the name alone.

    Of an ASCII name, runs of other characters become `_`. Of any other name a hash is a part, since different names
    may have the same letters in ASCII. Letters of Latin, Greek, Cyrillic, kana and Hangul are transliterated; of other
    scripts the hash remains. A table of all scripts would be a dependency whose next version changes topics.

    >>> slug("Male speech, man speaking"), slug("Hundegebell"), slug("Säge"), slug("狗")
    ('male_speech_man_speaking', 'hundegebell', 'sage_13a711b2', 'id_cecd675a')
    """
    level = _words(name)
    return level if name.isascii() and 0 < len(level) <= _LONGEST_LEVEL else _with_hash(name)


def unique_slugs(names: Sequence[str], reserved: Iterable[str] = ()) -> list[str]:
    """One topic level for each name, in their order. Levels do not depend on the order.

    Of several names with the same slug, one keeps it: the name that is its slug already, else the one that differs from
    it in case only, else the first in code points. The others get a hash, as those whose slug is reserved do.

    >>> unique_slugs(["Dog", "dog", "any"], reserved=["any"])
    ['dog_0eb129bf', 'dog', 'any_d6a7cd2a']
    """
    pairs = [(slug(name), name) for name in names]
    ranks = [(level != name, level != name.lower(), name) for level, name in pairs]
    order = sorted(range(len(names)), key=ranks.__getitem__)
    found = dict(zip(order, distinct((pairs[i] for i in order), reserved), strict=True))
    return [found[i] for i in range(len(names))]


def distinct(ranked: Iterable[tuple[str, str]], reserved: Iterable[str] = ()) -> list[str]:
    """Levels, no two of which are equal.

    Args:
        ranked: the level that is wished for, and a text by which it is told from the others with the same wish. The
            first that wishes for a level gets it, whatever the others wished for. These get it with a hash of their
            text, or with a number where they have the same text, too.
    """
    wishes = list(ranked)
    taken = set(reserved)
    given: dict[int, str] = {}
    texts = dict[str, set[str]]()
    """Texts by the level that they wished for."""
    for i, (level, text) in enumerate(wishes):
        if level not in taken:
            taken.add(level)
            texts[level] = {text}
            given[i] = level
    for i, (level, text) in enumerate(wishes):
        if i in given:
            continue
        hashed = (_with_hash(text, level, digits) for digits in range(_HASH_DIGITS, 64))
        numbered = (f"{level}_{number}" for number in count(2))
        same = texts.setdefault(level, set())
        given[i] = next(each for each in (numbered if text in same else chain(hashed, numbered)) if each not in taken)
        same.add(text)
        taken.add(given[i])
    return [given[i] for i in range(len(wishes))]


def _words(text: str) -> str:
    """The ASCII letters and digits of a text in lower case; `_` for each run of others."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _with_hash(text: str, level: str | None = None, digits: int = _HASH_DIGITS) -> str:
    """A level that ends with the text's hash.

    Args:
        level: what it begins with. None: the text's transliteration.
    """
    composed = _UNICODE.normalize("NFC", text)  # as most systems write letters with accents; macOS takes them apart
    found = hashlib.sha256(composed.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
    words = _words("".join(map(_in_ascii, _UNICODE.normalize("NFKC", text)))) if level is None else level
    return f"{words[: _LONGEST_LEVEL - digits - 1].rstrip('_') or 'id'}_{found}"


def _in_ascii(letter: str) -> str:
    """ASCII letters for a letter; empty where there are none. The same in every version of Python."""
    if (name := _UNICODE.name(letter, "")).startswith(_SPELLED_BY_NAME):
        return name.rpartition(" ")[2]
    return _UNICODE.normalize("NFKD", letter).lower().translate(_LETTERS).encode("ascii", "ignore").decode()


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
    """Whether a name can be looked up: no part is empty or too long, and its characters of ASCII are letters, digits,
    `-`, `_` and `.`.

    >>> is_host("broker-1.local"), is_host("sounds.wav,channel=2")
    (True, False)
    """
    if not host or re.search(r"[^\w.\-\u0080-\U0010ffff]|\s", host):
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
