"""`tagger devices --probe`: opens a live source for some seconds, and says what it is and what is heard there."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tagger.audio.level import LevelMeter
from tagger.audio.window import SlidingWindows
from tagger.condition import SourceError
from tagger.engine.runtime import open_models
from tagger.errors import UserError
from tagger.events import Block, Level
from tagger.listen import follow
from tagger.settings import DEFAULT_MODEL
from tagger.sources import Source, open_source
from tagger.sources.spec import Spec

LISTEN_SECONDS = 8.0
"""Sound that is listened to."""
_LONGEST_SECONDS = 40.0
"""Longest time for all of it."""
_MOST_LABELS = 5


@dataclass(frozen=True)
class Probed:
    """What a source is, and what was heard."""

    description: str
    first_sound_s: float
    """Time until the first sound, seconds."""
    level: Level
    is_zeros: bool
    """Whether all samples were the same."""
    top: tuple[tuple[str, float, float], ...]
    """Labels with the highest scores: label, its highest score, and its threshold."""
    about: dict[str, Any]
    """Codec, container and the like, of a stream by URL."""

    @property
    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"source   {self.description}"
        if self.about:
            pictures = ", with pictures" if self.about["has_pictures"] else ""
            title = f", called {self.about['title']!r}" if self.about["title"] else ""
            yield f"stream   {self.about['codec']} in {self.about['container']}{pictures}{title}"
        zeros = "  nothing but digital silence: it may be muted" if self.is_zeros else ""
        yield f"sound    after {self.first_sound_s:.1f} s"
        yield f"level    rms {self.level.rms_dbfs:z.1f}  peak {self.level.peak_dbfs:z.1f} dBFS{zeros}"
        for label, score, threshold in self.top:
            verdict = "announced" if score >= threshold else f"below its threshold of {threshold:.2f}"
            yield f"hears    {label} {score:.2f}, {verdict}"

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "source": self.description,
            **self.about,
            "first_sound_s": round(self.first_sound_s, 2),
            "rms_dbfs": round(self.level.rms_dbfs, 1),
            "peak_dbfs": round(self.level.peak_dbfs, 1),
            "zeros": self.is_zeros,
            "top": [{"label": a, "score": round(b, 4), "threshold": round(c, 4)} for a, b, c in self.top],
        }


def probed(text: str) -> Probed:
    """
    Args:
        text: the source, as `tagger listen` takes it.

    Raises:
        UserError: it is no live source, or cannot be.
        TaggerError: nothing can be heard; the reason is named.
    """
    classifier = open_models((DEFAULT_MODEL,), "auto", "auto", None)
    info = classifier.info
    source = open_source(text, info.mel.sample_rate_hz)
    if not source.live:
        raise UserError(f"{Spec.parse(text).shown}: is no live source; `tagger tag` listens to recordings")
    began = time.monotonic()
    timer = threading.Timer(_LONGEST_SECONDS, source.close)
    timer.start()
    try:
        heard = list(_first(source, LISTEN_SECONDS, info.mel.sample_rate_hz))
    finally:
        timer.cancel()
        source.close()
    if not heard:
        raise SourceError("no_bytes", f"{source.description}: no sound came within {_LONGEST_SECONDS:g} s")
    rate_hz = info.mel.sample_rate_hz
    meter = LevelMeter(rate_hz, sum(len(block.samples) for _, block in heard) / rate_hz)
    level = next(found for found in (meter.feed(block) for _, block in heard) if found is not None)
    sliding = SlidingWindows.of_seconds(info.window_seconds, 1.0, rate_hz)
    lane = classifier.lane(sliding)
    best = dict.fromkeys(info.labels, 0.0)
    for scores in follow((block for _, block in heard), lane, sliding):
        for label, value in zip(info.labels, scores.values, strict=True):
            best[label] = max(best[label], float(value))
    names = sorted(info.labels, key=lambda label: -best[label])[:_MOST_LABELS]
    thresholds = dict(zip(info.labels, info.thresholds, strict=True))
    low, high = min(float(b.samples.min()) for _, b in heard), max(float(b.samples.max()) for _, b in heard)
    about = getattr(source, "about", None)
    return Probed(
        description=source.description,
        first_sound_s=heard[0][0] - began,
        level=level,
        is_zeros=high - low <= 1 / 32_768,
        top=tuple((label, best[label], thresholds[label]) for label in names),
        about={} if about is None else vars(about),
    )


def _first(source: Source, seconds: float, rate_hz: int) -> Iterator[tuple[float, Block]]:
    """The first blocks, each with the moment that it came, on the monotonic clock."""
    length = 0
    with closing(source.blocks()) as blocks:  # type: ignore[type-var]  # a generator, which closes the device
        for block in blocks:
            if not block.samples.size:
                continue
            yield time.monotonic(), block
            length += len(block.samples)
            if length >= seconds * rate_hz:
                return
