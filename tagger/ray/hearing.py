"""One recording, as it came over HTTP, to one document: what `tagger tag --json` prints of it, by the same path."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tagger import policy, settings
from tagger.audio.decode import open_audio
from tagger.audio.downmix import check_channel
from tagger.audio.window import SlidingWindows
from tagger.checkpoints.joint import shortest_window_s
from tagger.checkpoints.named import understood
from tagger.engine.runtime import AUTO, open_models
from tagger.errors import AudioError, TaggerError, UserError, near
from tagger.events import Block, Scores, top
from tagger.listen import follow
from tagger.policy import EventsConfig, Policy
from tagger.printable import printable
from tagger.settings import Channel
from tagger.tag.asked import ask
from tagger.tag.formats import JsonLines, TaggedWindow
from tagger.tag.recording import events, tag

NAME = "tagger"
"""Name of the deployment, in Ray Serve."""
PARTS = ("labels", "windows", "events")
"""What an answer may have."""
_MOST_NOTES = 5
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


class TooLongError(UserError):
    """A recording has more sound, or takes longer, than is allowed."""


class NoAudioError(UserError):
    """What was sent is no audio."""


class StoppedError(TaggerError):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Options:
    """What every replica is told: how recordings are heard, and what is refused."""

    models: tuple[str, ...] = (settings.DEFAULT_MODEL,)
    runtime: str = AUTO
    device: str = AUTO
    window: float | None = None
    """Length of a window, seconds. None: the models' own."""
    hop: float = 1.0
    config: str | None = None
    """TOML file of what counts as an event, on every node."""
    most_mb: float = 100.0
    """Largest recording, MB."""
    most_minutes: float = 60.0
    """Longest recording."""
    body_s: float = 300.0
    """Longest time in which a recording must have come, seconds."""
    idle_s: float = 20.0
    """Longest wait for more of it, seconds."""
    work_s: float = 600.0
    """Longest time that one may take to be heard, seconds."""
    threads: int = 2
    """Recordings that a replica hears at once. Their windows share batches."""
    most_waiting: int = 16
    """Recordings at a replica, those that come in and wait included; more are refused."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """From names and values, as a YAML file or a command line have them.

        Raises:
            UserError: a name is unknown, or a value cannot be.
        """
        known = {each.name: each for each in fields(cls)}
        found: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise UserError(f"{name}: is unknown{near(name, known)}")
            default = known[name].default
            try:
                if name == "models":
                    found[name] = tuple(value.split(",") if isinstance(value, str) else value)
                elif isinstance(default, int | float) or name == "window":
                    found[name] = int(value) if isinstance(default, int) else float(value)
                    if not found[name] > 0:
                        raise ValueError
                else:
                    found[name] = str(value)
            except (ValueError, TypeError):
                raise UserError(f"{name} {value!r}: must be a number above 0, or names for models") from None
        return cls(**found)


@dataclass(frozen=True)
class Wish:
    """What one request asks for."""

    file: str = "recording"
    """Name of the recording in the answer."""
    top: int = 5
    """Labels of a window, and of the whole."""
    channel: Channel = ()
    allow: tuple[str, ...] = ()
    """Labels of events. None given: those of the replica's settings."""
    deny: tuple[str, ...] = ()
    thresholds: tuple[tuple[str, float], ...] = ()
    """`enter` of labels."""
    parts: tuple[str, ...] = PARTS
    """What is in the answer."""


class Hearing:
    """Models that are open. Any number of threads may use it at once; their windows share batches."""

    def __init__(self, options: Options) -> None:
        """
        Raises:
            TaggerError: the models cannot be opened, or an option cannot be used.
        """
        self.options = options
        config = None if options.config is None else Path(options.config)
        asked = ask(options.models, options.window, options.hop, config)
        self._asked, self._window_s = asked.events, asked.window_s
        self._classifier = open_models(options.models, options.runtime, options.device, options.window, [asked.events])
        self._own_rules, self._rate_hz = asked.rules, asked.info.mel.sample_rate_hz
        sliding = SlidingWindows.of_seconds(self._window_s, options.hop, self._rate_hz)
        silence = Block(np.zeros(sliding.window_samples, np.float32), 0.0)
        list(follow([silence], self._classifier.lane(sliding), sliding, 1))  # a first time, which is slower

    @property
    def labels(self) -> dict[str, float]:
        """All labels, with the score that begins an event."""
        rules = self._own_rules
        return {label: round(each.enter, 4) for label, each in zip(rules.labels, rules.each, strict=True)}

    def rules(self, wish: Wish) -> Policy:
        """What counts as an event for a request.

        Raises:
            UserError: it names a label that there is not, or a threshold that cannot be.
        """
        if not (wish.allow or wish.deny or wish.thresholds):
            return self._own_rules
        labels = {label: dict(changes) for label, changes in self._asked.labels.items()}
        for label, enter in wish.thresholds:
            labels.setdefault(label, {})["enter"] = enter
        asked: EventsConfig = replace(
            self._asked,
            labels=labels,
            allow=wish.allow or self._asked.allow,
            deny=(*self._asked.deny, *wish.deny),
        )
        info, options = self._classifier.info, self.options
        shortest_s = options.window or shortest_window_s(info)
        return policy.policy(info.labels, info.thresholds, shortest_s, options.hop, understood(info, asked))

    def hear(self, path: Path, wish: Wish, is_stopped: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """The answer.

        Args:
            path: the recording.
            is_stopped: whether nobody waits for it any more; asked at each window.

        Returns:
            `file`, `seconds` that were heard, and what was asked for: `labels`, the highest scores of any window;
            `windows` and `events`, as `tagger tag --json` prints them. `notes`: what was odd. `error`: where the
            recording breaks off, or None; what is before is there.

        Raises:
            UserError: a label, threshold or channel is none.
            NoAudioError, TooLongError, StoppedError: as they say.
        """
        rules, shown = self.rules(wish), printable(wish.file)

        def said(text: object) -> str:
            return printable(str(text)).removeprefix(f"{path}: ").replace(str(path), shown)

        try:
            decoder = open_audio(path)
        except AudioError as error:
            raise NoAudioError(said(error)) from None
        decoder.close()
        try:
            check_channel(shown, wish.channel, decoder.channels)
        except AudioError as error:
            raise UserError(str(error)) from None
        work = _Work(self, wish, is_stopped)
        notes: list[str] = []
        hop_s, window_s = self.options.hop, self._window_s
        scores = tag(path, self._classifier, window_s, hop_s, wish.channel, lambda line: notes.append(said(line)))
        lines, found, error_text = JsonLines(), list[dict[str, Any]](), None
        try:
            for event in events(work.kept(scores), rules):
                found.append(lines.as_object(wish.file, event))
        except AudioError as error:
            error_text = said(error)
        answer: dict[str, Any] = {"file": wish.file, "seconds": round(work.end_s, 6)}
        labels = [
            {"label": label, "score": round(score, 6)} for label, score in work.best(self._classifier.info.labels)
        ]
        parts = {"labels": labels, "windows": work.windows, "events": found}
        answer |= {name: part for name, part in parts.items() if name in wish.parts}
        more = [f"and {len(notes) - _MOST_NOTES} more"] if len(notes) > _MOST_NOTES else []
        return answer | {"notes": notes[:_MOST_NOTES] + more, "error": error_text}

    def name_of(self, wish: Wish) -> str:
        """Name of the file in which the recording is kept: FFmpeg may look at how it ends."""
        suffix = PurePosixPath(wish.file).suffix
        return f"recording{suffix}" if _SUFFIX.fullmatch(suffix) else "recording"


class _Work:
    """What is kept of a recording's windows while they are heard."""

    def __init__(self, hearing: Hearing, wish: Wish, is_stopped: Callable[[], bool]) -> None:
        self._options, self._wish, self._is_stopped = hearing.options, wish, is_stopped
        self._labels = hearing._classifier.info.labels
        self._highest = np.zeros(len(self._labels), np.float32)
        self.windows: list[dict[str, Any]] = []
        self.end_s = 0.0

    def kept(self, scores: Iterator[Scores]) -> Iterator[Scores]:
        """The same scores."""
        until = time.monotonic() + self._options.work_s
        for each in scores:
            if self._is_stopped():
                raise StoppedError("stopped")
            if each.time > self._options.most_minutes * 60:
                raise TooLongError(f"has more than {self._options.most_minutes:g} minutes of sound; send it in parts")
            if time.monotonic() > until:
                raise TooLongError(f"took longer than {self._options.work_s:g} s to be heard")
            self._highest = np.maximum(self._highest, each.values)
            self.end_s = each.end_time
            if "windows" in self._wish.parts:
                row = TaggedWindow.of(each, self._labels, self._wish.top)
                self.windows.append(JsonLines().as_object(self._wish.file, row))
            yield each

    def best(self, labels: tuple[str, ...]) -> list[tuple[str, float]]:
        return list(top(self._highest, labels, self._wish.top)) if self.end_s else []
