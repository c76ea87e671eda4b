"""Names of all topics of a node. They are a contract, on which other people's automations depend: see the README."""

from tagger.names import unique_slugs

ANY_LEVEL = "any"
"""Topic level of the state that is `ON` while any label's state is."""
NOT_SOURCES = ("status", "stats", "request", "response")
"""Topic levels below the node that are taken: no source may have such a name."""


class Topics:
    """All topics of one node.

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
        """
        Args:
            level: topic level of a label (`label_levels`), or ANY_LEVEL.
        """
        return f"{self.base}/{source}/{level}/state"

    def event(self, source: str) -> str:
        return f"{self.base}/{source}/event"

    def open(self, source: str) -> str:
        """Topic at which a worker of a fleet says what is open; retained."""
        return f"{self.base}/{source}/open"

    def scores(self, source: str) -> str:
        return f"{self.base}/{source}/scores"

    def audio(self, source: str) -> str:
        return f"{self.base}/{source}/audio"

    def enabled(self, source: str) -> str:
        """Topic of `ON`, or of `OFF` while the source is paused; retained."""
        return f"{self.base}/{source}/enabled"

    def enabled_set(self, source: str) -> str:
        """Topic at which `ON` and `OFF` resume and pause the source."""
        return f"{self.base}/{source}/enabled/set"

    def request(self, kind: str) -> str:
        return f"{self.base}/request/{kind}"

    def response(self, kind: str) -> str:
        return f"{self.base}/response/{kind}"


def label_levels(labels: tuple[str, ...]) -> dict[str, str]:
    """Topic level of each label, whatever their order. No two labels have the same.

    >>> label_levels(("dog-bark", "Dog bark", "Tür"))
    {'dog-bark': 'dog_bark_db94faa1', 'Dog bark': 'dog_bark', 'Tür': 'tur_1cff8a95'}
    """
    return dict(zip(labels, unique_slugs(labels, [ANY_LEVEL]), strict=True))
