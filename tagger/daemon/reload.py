"""SIGHUP: the settings are read again. Thresholds, labels and sinks change; the audio goes on."""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from tagger.config.build import Configuration
from tagger.config.restart import keep_fixed
from tagger.daemon.fanout import Fanout
from tagger.daemon.outputs import Daemon, Wanted, wanted
from tagger.errors import SettingError, TaggerError
from tagger.events import Stream
from tagger.listen import Listener
from tagger.policy import Policy
from tagger.settings import ListenSettings
from tagger.sinks import Sink

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 2.0
"""So long may a sink that goes take for what it still has."""


class Running:
    """A daemon whose settings can be read again."""

    def __init__(
        self,
        daemon: Daemon,
        fanout: Fanout,
        want: Wanted,
        open_: dict[tuple[str, Hashable], Sink],
        listeners: Sequence[Listener],
        build: Configuration,
        rules: Callable[[ListenSettings], tuple[Policy, Sequence[str]]],
    ) -> None:
        """
        Args:
            want, open_: how the sinks were made, and the sinks, by what they are made of.
            build: reads the settings.
            rules: what counts as an event by these settings, and the labels that they name.
        """
        # A broker that refuses what was changed is no reason to stop listening: it may be the next to change.
        self._daemon = replace(daemon, on_refused=None)
        self._fanout, self._want, self._open, self._listeners = fanout, want, open_, listeners
        self._build, self._rules = build, rules

    def reload(self) -> None:
        """Says what came of it; after an error everything is as it was."""
        try:
            # With the port that an embedded broker got.
            settings, fixed = keep_fixed(replace(self._daemon.settings, mqtt=self._daemon.mqtt), self._build())
            rules, asked = self._rules(settings)
        except TaggerError as error:
            said = self._build.located(error) if isinstance(error, SettingError) else error
            log.warning("reload: %s; nothing was changed", said)
            return
        streams = tuple(replace(stream, labels=rules.names) for stream in self._daemon.streams)
        self._daemon = replace(self._daemon, settings=settings, mqtt=settings.mqtt, streams=streams, asked=tuple(asked))
        changed = self._change_sinks(streams)
        for listener, stream in zip(self._listeners, streams, strict=True):
            listener.set_policy(rules, stream)
        log.info("reload: done%s", f"; sinks: {', '.join(changed)}" if changed else "")
        if fixed:
            log.warning("reload: %s: changed only by a restart", ", ".join(fixed))

    def _change_sinks(self, streams: Sequence[Stream]) -> list[str]:
        want, before = wanted(self._daemon), self._want
        gone, new = [key for key in self._open if key not in want], [key for key in want if key not in self._open]
        went: list[str] = []
        came: list[str] = []
        if not (gone or new):
            return []
        with self._fanout.changing() as sinks:
            for key in gone:
                sink = self._open.pop(key)
                sinks.remove(sink)
                went.append(key[0])
                try:
                    sink.close(_CLOSE_SECONDS)
                except TaggerError as error:
                    log.warning("reload: %s", error)
            for key in new:
                # What cannot be opened leaves the one of its kind that there was.
                choices = [(key, want[key]), *((old, before[old]) for old in gone if old[0] == key[0])]
                for choice, make in choices:
                    try:
                        sink = make()
                        sink.open(streams)
                    except TaggerError as error:
                        log.warning("reload: %s", error)
                        continue
                    self._open[choice] = sink
                    sinks.append(sink)
                    came.append(key[0])
                    break
        self._want = {**want, **{key: before[key] for key in self._open if key not in want}}
        return [
            *(f"with {kind}{' anew' if kind in went else ''}" for kind in came),
            *(f"without {kind}" for kind in went if kind not in came),
        ]
