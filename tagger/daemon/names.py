"""What each source is called: its topic level, and its part of the ids in Home Assistant."""

from collections.abc import Sequence

from tagger.daemon.state import StateFolder
from tagger.mqtt.topics import NOT_SOURCES
from tagger.names import distinct
from tagger.sources import split_name


def source_levels(names: Sequence[str], uris: Sequence[str]) -> list[str]:
    """A topic level for each source, which does not depend on the order of the sources.

    Of several sources with the same name, one keeps it: one that the user gave that name, else the first by what it
    listens to. The others get a hash of what they listen to. One source several times is numbered.

    >>> source_levels(["clip", "clip", "demo", "demo"], ["b/clip.wav", "a/clip.wav", "demo", "demo"])
    ['clip_8ed302b4', 'clip', 'demo', 'demo_2']

    Args:
        names: of the sources, each a topic level.
        uris: as the user gave them.
    """
    split = list(map(split_name, uris))
    order = sorted(range(len(uris)), key=lambda i: (split[i][0] is None, split[i][1], i))
    levels = distinct([(names[i], split[i][1]) for i in order], NOT_SOURCES)
    found = dict(zip(order, levels, strict=True))
    return [found[i] for i in range(len(uris))]


def source_keys(uris: Sequence[str], levels: Sequence[str], state: StateFolder | None) -> dict[str, str]:
    """The part of the ids in Home Assistant of each source, by its level; `StateFolder.keys` if there is a state."""
    if state is None:
        return dict(zip(levels, levels, strict=True))
    plain = [split_name(uri)[1] for uri in uris]
    known = [f"{uri} {plain[:i].count(uri) + 1}" if uri in plain[:i] else uri for i, uri in enumerate(plain)]
    return state.keys(dict(zip(levels, known, strict=True)))
