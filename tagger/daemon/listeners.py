"""Makes what listens to one source: the same loop, rules and levels for a daemon, a worker and `tagger bench`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tagger.daemon.model import Model, memory_s
from tagger.engine.scores import WindowClassifier
from tagger.events import AudioTap, Stream
from tagger.latencies import SkipLog
from tagger.levels.measure import Measures, Wanted
from tagger.levels.monitor import SoundMonitor
from tagger.listen import Listener
from tagger.policy import Policy
from tagger.settings import ListenSettings
from tagger.sinks import Sink
from tagger.sources import Source
from tagger.sources.spec import Spec


@dataclass(frozen=True)
class Listeners:
    """What the listeners of one process have in common."""

    classifier: WindowClassifier
    window_s: float
    hop_s: float
    top_k: int
    """Labels in each report."""
    audio_s: float
    """Time between two levels, seconds."""
    has_alarms: bool
    """Whether alarms are found by their pattern."""
    measuring: Callable[[Wanted], Measures]
    """Makes what measures the levels of one stream."""
    skips: SkipLog
    """Warns of windows that are skipped."""
    calibrate_db: float | None = None
    loud_db: float | None = None
    """Those of sources that have none of their own."""

    @classmethod
    def of(cls, settings: ListenSettings, model: Model, measuring: Callable[[Wanted], Measures]) -> "Listeners":
        return cls(
            model.classifier,
            model.window_s,
            settings.hop_seconds,
            settings.top,
            settings.audio_s,
            settings.alarms,
            measuring,
            SkipLog(settings.hop_seconds),
            settings.calibrate_db,
            settings.loud_db,
        )

    def monitor(self, policy: Policy, spec: Spec) -> SoundMonitor:
        """Measures how loud a stream is, and finds loud sounds and alarms."""
        return SoundMonitor(
            self.classifier.info.mel.sample_rate_hz,
            self.audio_s,
            calibrate_db=spec.level_db("calibrate_db", self.calibrate_db),
            loud_db=spec.level_db("loud_db", self.loud_db),
            memory_s=memory_s(self.window_s, self.hop_s, [policy]),
            has_alarms=self.has_alarms,
            measuring=self.measuring,
        )

    def listener(
        self,
        source: Source,
        spec: Spec,
        stream: Stream,
        sink: Sink,
        policy: Policy,
        monitor: SoundMonitor | None = None,
        taps: Sequence[AudioTap] = (),
        paused: bool = False,
    ) -> Listener:
        """
        Args:
            spec: how the source was given.
            policy: what counts as an event of it.
            monitor: None: one is made.
        """
        return Listener(
            source=source,
            stream=stream,
            classifier=self.classifier,
            sink=sink,
            window_s=self.window_s,
            hop_s=self.hop_s,
            policy=policy,
            top_k=self.top_k,
            taps=taps,
            paused=paused,
            skips=self.skips,
            monitor=monitor or self.monitor(policy, spec),
            schedule=spec.schedule,
            gain=spec.gain,
        )
