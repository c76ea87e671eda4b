"""A stand-in for a connection to a broker."""

from collections.abc import Callable, Sequence

from tagger.settings import MqttSettings


class Unconnected:
    """Stands for a connection to a broker that is up."""

    is_connected, trouble = True, ""

    def __init__(self, settings: MqttSettings) -> None:
        self.settings = settings
        self.topics: list[str] = []
        self.on_connected: Callable[[], None] = lambda: None
        self.on_message: Callable[[str, bytes, bool], None] = lambda topic, payload, retained: None
        self.is_stopped = False

    def start(self) -> None:
        self.on_connected()

    def subscribe(self, topics: Sequence[str]) -> None:
        self.topics += topics

    def stop(self) -> None:
        self.is_stopped = True
