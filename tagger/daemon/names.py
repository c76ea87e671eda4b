"""What each source is called: its topic level, and its part of the ids in Home Assistant."""

from collections.abc import Sequence
from pathlib import Path

from tagger.daemon.state import StateFolder
from tagger.errors import UserError
from tagger.mqtt.topics import NOT_SOURCES
from tagger.names import distinct
from tagger.sources import is_keyword, split_name
from tagger.sources.network.address import without_user
from tagger.sources.spec import Spec


def source_levels(names: Sequence[str], uris: Sequence[str]) -> list[str]:
    """A topic level for each source, which does not depend on the order of the sources.

    Of several sources with the same level, one keeps it: the one whose name is the level already, else one that the
    user gave its name, else the first by what it listens to. The others get a hash of what they listen to. One source
    several times is numbered.

    >>> source_levels(["clip", "clip", "demo", "demo"], ["b/clip.wav", "a/clip.wav", "demo", "demo"])
    ['clip_8ed302b4', 'clip', 'demo', 'demo_2']
    >>> source_levels(["a_b", "a_b"], ["A B.flac", "a_b.flac"])
    ['a_b_c0b9271d', 'a_b']

    Args:
        names: of the sources, each a topic level.
        uris: as the user gave them.
    """
    specs = [_spec(uri) for uri in uris]
    spelled = [_spelled(spec, level) for spec, level in zip(specs, names, strict=True)]
    ranks = [
        (text != level, spec.name is None, known(spec.uri), text, i)
        for i, (spec, level, text) in enumerate(zip(specs, names, spelled, strict=True))
    ]
    order = sorted(range(len(uris)), key=ranks.__getitem__)
    levels = distinct([(names[i], known(specs[i].uri)) for i in order], NOT_SOURCES)
    found = dict(zip(order, levels, strict=True))
    return [found[i] for i in range(len(uris))]


def _spec(uri: str) -> Spec:
    try:
        return Spec.parse(uri)
    except UserError:  # said where sources are opened
        return Spec(None, uri)


def _spelled(spec: Spec, level: str) -> str:
    """The name whose level a source has, as it is spelled: the user's, the device's or the file's."""
    if spec.name is not None:
        return spec.name
    if is_keyword(spec.uri):
        return spec.uri.replace(":", "_", 1) if spec.uri.startswith("mic:") else level
    return Path(spec.uri).stem


def source_keys(uris: Sequence[str], levels: Sequence[str], state: StateFolder | None) -> dict[str, str]:
    """The part of the ids in Home Assistant of each source, by its level; `StateFolder.keys` if there is a state."""
    if state is None:
        return dict(zip(levels, levels, strict=True))
    plain = [known(split_name(uri)[1]) for uri in uris]
    numbered = [f"{uri} {plain[:i].count(uri) + 1}" if uri in plain[:i] else uri for i, uri in enumerate(plain)]
    return state.keys(dict(zip(levels, numbered, strict=True)))


def known(uri: str) -> str:
    """What a source is known by in the state folder and in hashes: of a URL no user, password and query."""
    return without_user(uri) if "://" in uri else uri
