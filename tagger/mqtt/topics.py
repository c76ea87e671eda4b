"""Names of all topics of a node. They are a contract that other people's automations hang on: see README."""

from tagger.names import unique_slugs

ANY = "any"
"""The label whose state is `ON` while any label's is."""
NOT_SOURCES = ("status", "stats", "request", "response")
"""Levels below the node that no source may have as its name."""


class Topics:
    """Of one node.

    >>> Topics("tagger", "attic").event("mic")
    'tagger/attic/mic/event'
    """

    def __init__(self, prefix: str, node: str) -> None:
        self.base = f"{prefix}/{node}"
        self.node_status = f"{self.base}/status"
        self.stats = f"{self.base}/stats"

    def source_status(self, source: str) -> str:
        return f"{self.base}/{source}/status"

    def source_detail(self, source: str) -> str:
        return f"{self.base}/{source}/status/detail"

    def state(self, source: str, level: str) -> str:
        """`level`: the slug of a label, or ANY."""
        return f"{self.base}/{source}/{level}/state"

    def event(self, source: str) -> str:
        return f"{self.base}/{source}/event"

    def scores(self, source: str) -> str:
        return f"{self.base}/{source}/scores"

    def audio(self, source: str) -> str:
        return f"{self.base}/{source}/audio"

    def enabled(self, source: str) -> str:
        """`ON`, or `OFF` while the source is paused; retained."""
        return f"{self.base}/{source}/enabled"

    def enabled_set(self, source: str) -> str:
        return f"{self.base}/{source}/enabled/set"

    def request(self, what: str) -> str:
        return f"{self.base}/request/{what}"

    def response(self, what: str) -> str:
        return f"{self.base}/response/{what}"


def label_levels(labels: tuple[str, ...]) -> dict[str, str]:
    """Topic level of each label.

    >>> label_levels(("Dog bark", "dog-bark", "any"))
    {'Dog bark': 'dog_bark', 'dog-bark': 'dog_bark_2', 'any': 'any_2'}
    """
    return dict(zip(labels, unique_slugs(labels, [ANY]), strict=True))
