"""Python's face of the package: `tagger.load` gives a `Tagger`. docs/python.md shows how it is used.

Everything is computed by what the commands use: `classify` and `tag` by the loop of `tagger tag`, a stream by that of
`tagger listen`. Importing this module opens no model, and neither does `load`: the first use does.
"""

import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tagger import settings
from tagger.audio.chunk import MOST_CHANNELS, RATES_HZ
from tagger.audio.decode import decode_blocks
from tagger.audio.resample import LOUDEST, Resampler
from tagger.audio.window import SlidingWindows
from tagger.decide import Decider
from tagger.engine.engine import Lane
from tagger.engine.joint import JointClassifier
from tagger.engine.runtime import AUTO, open_models
from tagger.engine.scores import WindowClassifier
from tagger.errors import CheckpointError, UserError
from tagger.events import Block, Event, Samples, Scores, Window, top
from tagger.listen import follow
from tagger.tag.asked import ask
from tagger.tag.recording import events

Source = str | PathLike[str] | ArrayLike
"""A file, or an array."""
_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31}
_LONGEST_LOST_S = 1e9
"""Longest gap in a stream, seconds: 30 years, in which times are still exact to a microsecond."""
_BATCH = 8
"""Windows of one array that are classified together."""


class InputError(UserError, ValueError):
    """An array, a rate or an argument cannot be used."""


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Scores of a stretch of sound. Times are seconds from the beginning of the recording, array or stream."""

    start: float
    end: float
    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    """[labels], each 0 to 1, in the order of `labels`."""

    def __getitem__(self, label: str) -> float:
        """Score of a label.

        Raises:
            KeyError: there is no such label.
        """
        try:
            return float(self.scores[self.labels.index(label)])
        except ValueError:
            raise KeyError(label) from None

    def __contains__(self, label: object) -> bool:
        return label in self.labels

    def __iter__(self) -> Iterator[str]:
        """The labels, as a dictionary gives its keys."""
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` highest scores with their labels, highest first.

        Raises:
            InputError: `k` is no number from 0 on.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
            raise InputError(f"top {k!r}: must be a whole number from 0 on")
        return list(top(self.scores, self.labels, k))

    def __repr__(self) -> str:
        best = ", ".join(f"{label} {score:.2f}" for label, score in self.top(3))
        return f"{type(self).__name__}({self.start:.1f} to {self.end:.1f} s: {best})"


@dataclass(frozen=True)
class SoundEvent:
    """A sound from its begin to its end. Times are seconds from the beginning of the recording, array or stream."""

    label: str
    onset: float
    offset: float | None
    """None: it has begun, and has not ended."""
    peak_score: float
    """Highest score since it began."""
    id: str
    """Equal for the begin and the end of one event."""


@dataclass(frozen=True, eq=False, repr=False)
class Heard(LabelScores):
    """Scores of a stream's window, and what they begin and end."""

    events: tuple[SoundEvent, ...]
    """Each once when it begins, without `offset`, and once when it has ended."""


class Tagger:
    """Models that listen together. `load` makes one.

    Any number of threads may use it at once. A pickled one opens its models again where it is unpickled.
    """

    def __init__(
        self,
        models: tuple[str, ...],
        runtime: str,
        device: str,
        window: float | None,
        hop: float,
        config: Path | None,
    ) -> None:
        """Called by `load`, which describes the arguments."""
        self._opening: dict[str, Any] = {
            "runtime": runtime,
            "device": device,
            "window": window,
            "hop": hop,
            "config": config,
        }
        asked = ask(models, window, hop, config)
        self._models, self._window, self._hop = models, asked.window_s, hop
        self._events, self._info, self._rules = asked.events, asked.info, asked.rules
        self._lock = threading.Lock()
        self._opened: WindowClassifier | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Names or paths."""
        return self._models

    @property
    def window(self) -> float:
        """Length of a window, seconds."""
        return self._window

    @property
    def hop(self) -> float:
        """Time from one window to the next, seconds."""
        return self._hop

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of all scores."""
        return self._info.labels

    @property
    def rate(self) -> int:
        """Sample rate at which the models hear, Hz. Other rates are resampled to it."""
        return self._info.mel.sample_rate_hz

    def classify(self, array: ArrayLike, rate: float) -> LabelScores:
        """What is heard in one sound: of each label, the highest score of any window.

        Args:
            array: [samples] or [channels, samples], which are averaged. Floats with full scale -1 to 1, or int16, or
                int32. A sound that is shorter than a window is followed by silence.
            rate: samples a second.

        Raises:
            InputError: the array or the rate cannot be used.
        """
        found = list(self._scores(self._blocks(array, rate)))
        highest = np.max([each.values for each in found], axis=0)
        return LabelScores(0.0, _times(found[-1])[1], self.labels, highest)

    def tag(self, source: Source, rate: float | None = None, channel: int | None = None) -> Iterator[LabelScores]:
        """Scores of each window of a recording, as they are computed.

        Args:
            source: a file that FFmpeg decodes; or an array, as `classify` takes it.
            rate: samples a second of an array.
            channel: of a file, the one that is heard, from 1. None: all, averaged.

        Raises:
            InputError: the array or an argument cannot be used: at once, before the first score is asked for.
            AudioError: the file is missing, not audio, or damaged. The scores before the damage were given.
        """
        blocks = self._source(source, rate, channel)
        return (LabelScores(*_times(each), self.labels, each.values) for each in self._scores(blocks))

    def events(self, source: Source, rate: float | None = None, channel: int | None = None) -> Iterator[SoundEvent]:
        """Sounds in a recording, in order of onset, each when it has ended. Arguments and errors are those of `tag`."""
        return map(_event, events(self._scores(self._source(source, rate, channel)), self._rules))

    def embed(self, array: ArrayLike, rate: float) -> NDArray[np.float32]:
        """What the network makes of a sound before it looks for labels: its pooled features, [size], float32.

        Of a sound that is longer than a window, the mean over all windows. Arguments are those of `classify`.

        Raises:
            InputError: as `classify`; or several models were loaded.
            CheckpointError: the model's graph was exported by an earlier version, which left the features out.
        """
        if len(self.models) > 1:
            raise InputError("embed: features are of one model; load one alone")
        windows = list(self._sliding().cut(self._blocks(array, rate)))
        rows = []
        for start in range(0, len(windows), _BATCH):
            batch = np.stack([window.samples for window in windows[start : start + _BATCH]])
            embedding = _network(self._classifier).outputs(batch).embedding
            if embedding is None:
                raise CheckpointError(
                    f"{self.models[0]}: its graph has no features to give; `tagger export {self.models[0]}` writes it "
                    "again (where torch is installed)"
                )
            rows.append(embedding)
        mean: NDArray[np.float32] = np.average(np.concatenate(rows), 0, [window.valid for window in windows])
        return mean.astype(np.float32)

    def stream(self, rate: float) -> "AudioStream":
        """A stream of sound that comes piece by piece, as a context manager.

        Args:
            rate: samples a second of all that is fed.

        Raises:
            InputError: the rate cannot be used.
        """
        return AudioStream(self, check_rate(rate))

    def __repr__(self) -> str:
        return f"tagger.load({', '.join(map(repr, self.models))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, (self.models, self._opening)

    @property
    def _classifier(self) -> WindowClassifier:
        with self._lock:
            if self._opened is None:
                asked = self._opening
                how = asked["runtime"], asked["device"], asked["window"]
                self._opened = open_models(self.models, *how, [self._events])
            return self._opened

    def _sliding(self) -> SlidingWindows:
        return SlidingWindows.of_seconds(self.window, self.hop, self.rate, flush_at_gaps=True)

    def _scores(self, blocks: Iterable[Block]) -> Iterator[Scores]:
        sliding = self._sliding()
        return follow(blocks, self._classifier.lane(sliding), sliding, _BATCH)

    def _source(self, source: Source, rate: float | None, channel: int | None) -> Iterable[Block]:
        if isinstance(source, str | PathLike):
            if rate is not None:
                raise InputError("rate: a file has its own; leave it out")
            if channel is not None and (not _is_number(channel) or channel != int(channel) or channel < 1):
                raise InputError(f"channel {channel!r}: must be a whole number; the first channel is 1")
            return decode_blocks(Path(source), self.rate, channel=() if channel is None else (int(channel),))
        if rate is None:
            raise InputError("rate: an array needs its samples a second")
        if channel is not None:
            raise InputError("channel: is for files; of an array, give the row")
        return self._blocks(source, rate)

    def _blocks(self, array: ArrayLike, rate: float) -> list[Block]:
        resampler = Resampler(check_rate(rate), self.rate)
        samples = mono(array)
        resampled = np.concatenate([resampler.feed(samples), resampler.flush()])
        if not resampled.size:
            raise InputError(f"array: {len(samples)} samples are too few to be heard")
        return [Block(resampled, 0.0)]


class AudioStream:
    """Sound that comes piece by piece. `Tagger.stream` makes one. One thread at a time uses it."""

    def __init__(self, tagger: Tagger, rate: int) -> None:
        self._tagger, self._rate = tagger, rate
        self._sliding = SlidingWindows.of_seconds(tagger.window, tagger.hop, tagger.rate)
        self._lane: Lane = tagger._classifier.lane(self._sliding)
        self._decider = Decider(tagger._rules)
        self._resampler = Resampler(rate, tagger.rate)
        self._began_s, self._fed, self._given = 0.0, 0, 0
        """Where the sound since the last gap began, seconds; samples fed since then; and samples given on."""
        self._finished = False

    def feed(self, array: ArrayLike, lost: float = 0.0) -> list[Heard]:
        """Takes the next samples, and gives the windows that they complete.

        Args:
            array: as `Tagger.classify` takes it; it may be empty.
            lost: time without sound between the samples before and these, seconds: no window spans it.

        Raises:
            InputError: the array cannot be used, or the stream is finished. Nothing was taken.
        """
        if self._finished:
            raise InputError("the stream is finished; begin another")
        samples = mono(array, may_be_empty=True)
        if not _is_number(lost) or not 0 <= lost <= _LONGEST_LOST_S:
            raise InputError(f"lost {lost!r}: must be a time from 0 to {_LONGEST_LOST_S:g}, seconds")
        pieces = [self._resampler.flush()] if lost else []
        blocks = self._given_on(pieces, gap=False)
        if lost:
            self._began_s += self._fed / self._rate + lost
            self._fed = self._given = 0
            self._resampler = Resampler(self._rate, self._tagger.rate)
        self._fed += len(samples)
        blocks += self._given_on([self._resampler.feed(samples)], gap=bool(lost))
        return [heard for block in blocks for window in self._sliding.feed(block) for heard in self._heard(window)]

    def finish(self) -> tuple[SoundEvent, ...]:
        """Ends the stream: what the rest of the sound begins and ends, with the ends of all that still lasts.

        The end of a `with` block calls it. Later calls give nothing.
        """
        if self._finished:
            return ()
        self._finished = True
        blocks = self._given_on([self._resampler.flush()], gap=False)
        windows = [window for block in blocks for window in self._sliding.feed(block)]
        windows += self._sliding.flush()
        last = [event for window in windows for heard in self._heard(window) for event in heard.events]
        return (*last, *map(_event, self._decider.close()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        self._finished = True

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a stream belongs to its process; pickle the Tagger, and begin a stream there")

    def _given_on(self, pieces: Iterable[Samples], gap: bool) -> list[Block]:
        blocks = []
        for samples in pieces:
            if samples.size or gap:
                blocks.append(Block(samples, self._began_s + self._given / self._tagger.rate, gap))
                self._given += samples.size
        return blocks

    def _heard(self, window: Window) -> Iterator[Heard]:
        for each in self._lane.scores([window]):
            found = tuple(map(_event, self._decider.update(each)))
            yield Heard(*_times(each), self._tagger.labels, each.values, found)


def load(
    *models: str | PathLike[str],
    runtime: str = AUTO,
    device: str = AUTO,
    window: float | None = None,
    hop: float = 1.0,
    config: str | PathLike[str] | None = None,
) -> Tagger:
    """Models by the names that `tagger models` lists, or by path. Their networks are opened at the first use.

    Args:
        models: several listen together; none is the bundled `esc50`.
        runtime: what runs the networks, as `--runtime` of the commands.
        device: as `--device` of the commands.
        window: length of a window, seconds. None: the model's own.
        hop: time from one window to the next, seconds.
        config: TOML file of what counts as an event, such as `tagger.toml`. None: the models' own thresholds.

    Raises:
        CheckpointError: there is no such model, or it cannot be read.
        UserError: an argument cannot be used.
    """
    for model in models:
        if not isinstance(model, str | PathLike):
            raise InputError(f"load: {model!r}: must be a name or a path; several are arguments of their own")
    for name, seconds in (("window", window), ("hop", hop)):
        if not (_is_number(seconds) and seconds) and (name == "hop" or seconds is not None):
            raise InputError(f"load: {name} {seconds!r}: must be a number of seconds above 0")
    if runtime not in settings.RUNTIMES:
        raise InputError(f"load: runtime {runtime!r}: use one of {', '.join(settings.RUNTIMES)}")
    if not isinstance(device, str):
        raise InputError(f"load: device {device!r}: must be a name, such as cpu")
    if config is not None and not isinstance(config, str | PathLike):
        raise InputError(f"load: config {config!r}: must be the path of a TOML file")
    names = tuple(str(Path(model)) if isinstance(model, PathLike) else model for model in models)
    names = names or (settings.DEFAULT_MODEL,)
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"load: names {twice[0]} twice")
    return Tagger(names, runtime, device, window, hop, None if config is None else Path(config))


def _loaded(models: tuple[str, ...], options: dict[str, Any]) -> Tagger:
    return load(*models, **options)


def _is_number(value: object) -> bool:
    """Whether it is one finite real number, of Python or numpy."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False


def check_rate(rate: float) -> int:
    """The rate as a whole number.

    Raises:
        InputError: it is none, or no audio has it.
    """
    if not _is_number(rate):
        raise InputError(f"rate {rate!r}: must be a number, samples a second")
    if rate != int(rate) or int(rate) not in RATES_HZ:
        raise InputError(f"rate {rate}: must be a whole number from {RATES_HZ[0]} to {RATES_HZ[-1]}, samples a second")
    return int(rate)


def mono(array: ArrayLike, may_be_empty: bool = False) -> Samples:
    """The mean of an array's channels, [N], float32, full scale -1 to 1.

    Args:
        array: [N] or [channels, N]; floats, int16 or int32.
        may_be_empty: whether N may be 0.

    Raises:
        InputError: the array has another shape or type, no samples, or samples that are no sound.
    """
    if isinstance(array, str | PathLike):
        raise InputError("array: is a path; `tag` and `events` take recordings")
    try:
        given = np.asarray(array)
    except ValueError:
        raise InputError("array: its rows are not of one length") from None
    if given.ndim not in (1, 2):
        raise InputError(f"array of shape {given.shape}: must be [samples] or [channels, samples]")
    if not given.size:
        if may_be_empty:
            return np.zeros(0, np.float32)
        raise InputError(f"array of shape {given.shape}: has no samples")
    if given.ndim == 2 and given.shape[0] > min(given.shape[1], MOST_CHANNELS):
        raise InputError(f"array of shape {given.shape}: looks like [samples, channels]; give its transpose, array.T")
    scale = _FULL_SCALE.get(given.dtype.name)
    if given.dtype.kind != "f" and scale is None:
        raise InputError(f"array of {given.dtype}: must be floats with full scale -1 to 1, or int16, or int32")
    with np.errstate(over="ignore"):
        samples = given.astype(np.float32)  # a copy: what follows must not change the caller's
    if scale is not None:
        samples /= np.float32(scale)
    loudest = float(np.abs(samples).max())  # NaN if any is
    if not loudest < LOUDEST:
        which = f"of up to {loudest:g}" if np.isfinite(loudest) else "that are NaN or infinite"
        raise InputError(f"array: has samples {which}; floats have full scale -1 to 1")
    return samples if samples.ndim == 1 else samples.mean(0, dtype=np.float32)


def _network(classifier: WindowClassifier) -> WindowClassifier:
    """The network of one model, without the classes of its second opinion."""
    return classifier.parts[0] if isinstance(classifier, JointClassifier) else classifier


def _times(scores: Scores) -> tuple[float, float]:
    """Begin and end of a window, to the microsecond."""
    return round(scores.time, 6), round(scores.end_time, 6)


def _event(event: Event) -> SoundEvent:
    return SoundEvent(event.label, event.onset, event.offset, event.peak_score, event.id)
