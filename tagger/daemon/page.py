"""The live page of a daemon (`tagger.web`), or none: what it is told, what it taps, and its server."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tagger.daemon.control import Control
from tagger.events import AudioTap
from tagger.faults import Faults
from tagger.features.config import MelConfig
from tagger.health import Snapshot
from tagger.listen import Listener
from tagger.settings import MqttSettings, WebSettings
from tagger.sinks import Sink

Examine = Callable[[Mapping[str, Any]], Iterable[Mapping[str, str]]]
"""Looks at everything that listening needs, as `tagger doctor` does; it is given how the daemon does, as JSON."""


class Page:
    """The live page. Without settings all of its methods do nothing, and nothing of it is imported."""

    def __init__(self, settings: WebSettings | None, mel: MelConfig, clips: Path | None = None) -> None:
        """
        Args:
            mel: the model's front end.
            clips: the folder of saved clips. None: there is none.

        Raises:
            ModuleNotFoundError: the extra `web` is not installed, or for a database the extra `collect`.
        """
        self._settings, self._mel, self._clips, self._faults = settings, mel, clips, Faults()
        if settings is not None:
            import tagger.web.server  # missing packages are said before anything is opened
            from tagger.web.live import Live

            if settings.database is not None:
                import tagger.history.postgres  # noqa: F401

            self._live = Live(mel)

    @property
    def sinks(self) -> Sequence[Sink]:
        return [] if self._settings is None else [self._live]

    def taps(self, source: str) -> Sequence[AudioTap]:
        return [] if self._settings is None else [self._live.tap(source)]

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Keeps the faults that are told within the block."""
        if self._settings is None:
            yield
            return
        with self._faults.listening():
            yield

    @contextmanager
    def serving(
        self,
        snapshot: Callable[[], Snapshot],
        control: Control,
        listeners: Mapping[str, Listener],
        event_log: Callable[[], Path | None],
        score_history: Callable[[], Path | None] = lambda: None,
        broker: Callable[[], MqttSettings | None] = lambda: None,
        examine: Examine | None = None,
    ) -> Iterator[None]:
        """Serves the page within the block.

        Args:
            snapshot: how the daemon does.
            control: pauses sources.
            listeners: by the name of their source.
            event_log: the event log that is in force. None: there is none.
            score_history: the same of the history of scores.
            broker: the same of the broker.
            examine: None: nothing can be examined.

        Raises:
            SettingError: the address cannot be opened.
        """
        if self._settings is None:
            yield
            return
        from tagger.mqtt.nodes import Nodes
        from tagger.web.api import Daemon
        from tagger.web.clips import Clips
        from tagger.web.examining import Examining
        from tagger.web.kept import Kept
        from tagger.web.server import serving
        from tagger.web.thresholds import Thresholds

        live = self._live
        live.snapshot = snapshot
        live.policy_of = lambda source: listeners[source].policy if source in listeners else None
        clips = None if self._clips is None else Clips(self._clips, self._mel)
        node = next((each.stream.node for each in listeners.values()), "")
        nodes = Nodes(broker)
        daemon = Daemon(
            live=live,
            snapshot=snapshot,
            describe=lambda: {name: each.source.description for name, each in listeners.items()},
            labels=lambda: control.labels(None),
            pause=control.pause,
            kept=Kept(live.events, event_log, self._settings.database),
            clips=clips,
            thresholds=Thresholds(score_history, live.policy_of, node, control.threshold, clips),
            others=nodes,
            faults=self._faults,
            examining=None if examine is None else Examining(lambda: examine(snapshot().to_json())),
        )
        with serving(self._settings, daemon), closing(nodes):
            nodes.follow()
            yield
