"""Report of `tagger eval --streamed`: a line for the terminal, Markdown for people, JSON for machines."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tagger.files import replacing
from tagger.printable import number_of
from train.evaluate import intervals
from train.evaluate.detection import Detection
from train.evaluate.event_based import EventBased
from train.evaluate.found import Found

_WIDE = 0.1
"""Width of an interval of F1 from which on a run is small."""


def write(
    folder: Path,
    result: Detection,
    nontarget: Mapping[str, Any],
    alarms: Sequence[Found],
    marks: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Writes `streamed.json` and `streamed.md`.

    Args:
        nontarget: what `streamed.json` says of the audio in which every event is a false alarm.
        alarms: the events in it.
        marks: warnings; they come first.
        facts: command line, versions, data, settings.
    """
    document = {
        **facts,
        "soundscapes": result.to_document() | {"intervals_95": intervals_of(result)},
        "nontarget": dict(nontarget),
    }
    with replacing(folder / "streamed.json") as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    text = "\n".join(_markdown(result, nontarget["hours"], alarms, marks, facts)) + "\n"
    with replacing(folder / "streamed.md") as partial:
        partial.write_text(text, "utf-8")


def line(result: Detection) -> str:
    heard = result.announced
    return (
        f"event F1 {wide(result).micro.f1 or 0:.3f} (collar 1 s), announced {100 * (heard.recall or 0):.1f} %, "
        f"onset error {heard.onset_error.median_abs_s or 0:.2f} s, delay {heard.delay.median_s or 0:.2f} s (medians), "
        f"{result.false_alarms_per_hour:.1f} false alarms an hour"
    )


def widths(result: Detection, alarms: int, hours: float) -> Iterator[str]:
    """Lines for the terminal: 95 % intervals of a run's numbers, and what to do where they are wide.

    Args:
        alarms: events in `hours` hours of audio in which every event is a false alarm.
    """
    found = intervals_of(result)
    parts = []
    if f1 := found["event_f1"]:
        parts.append(f"F1 {f1[0]:.2f} to {f1[1]:.2f}")
    if announced := found["announced"]:
        parts.append(f"announced {100 * announced[0]:.0f} to {100 * announced[1]:.0f} %")
    low, high = found["false_alarms_per_hour"] or (0.0, math.inf)
    parts.append(f"false alarms {low:.1f} to {high:.1f} an hour")
    yield f"95 %:   {', '.join(parts)} ({number_of(result.sounds, 'sound')} in {60 * result.hours:.0f} minutes)"
    low, high = intervals.of_rate(alarms, hours)
    yield (
        f"non-target audio: {number_of(alarms, 'event')} in {hours:.1f} hours, {alarms / hours:.2f} an hour "
        f"(95 %: {low:.2f} to {high:.2f})"
    )
    if f1 and f1[1] - f1[0] > _WIDE:
        minutes = 60 * result.hours * ((f1[1] - f1[0]) / _WIDE) ** 2
        yield (
            f"a small run: its F1 may be anything within {f1[1] - f1[0]:.2f}, so smaller differences mean nothing; "
            f"about {math.ceil(minutes / 10) * 10:.0f} minutes in all (--minutes) bring that to {_WIDE:.2f}"
        )


def wide(result: Detection) -> EventBased:
    """The measure that is quoted: onsets within a second."""
    return next(each for each in result.event_based if each.collar_s == 1.0 and not each.with_offset)


def intervals_of(result: Detection) -> dict[str, tuple[float, float] | None]:
    """95 % intervals (`train.evaluate.intervals`). None: there is nothing to count."""
    micro, by_label = wide(result).micro, result.announced.by_label.values()
    announced = sum(count for count, _ in by_label)
    return {
        "event_f1": intervals.of_f1(micro.right, micro.truth, micro.found) if micro.truth + micro.found else None,
        "announced": intervals.of_share(announced, result.sounds) if result.sounds else None,
        "false_alarms_per_hour": intervals.of_rate(sum(result.false_alarms.values()), result.hours),
    }


def _interval(found: tuple[float, float] | None, shape: str, factor: float = 1) -> str:
    return "" if found is None else f"{found[0] * factor:{shape}} to {found[1] * factor:{shape}}"


def _markdown(
    result: Detection, hours: float, alarms: Sequence[Found], marks: Sequence[str], facts: Mapping[str, Any]
) -> Iterator[str]:
    yield "# Streamed evaluation\n"
    yield f"`{facts['command']}`\n"
    yield from (f"**{mark}**\n" for mark in marks)
    number = number_of(result.sounds, "sound")
    yield f"{number} in {result.hours:.2f} hours of soundscapes; {hours:.2f} hours of non-target audio.\n"
    yield "| measure | value | 95 % interval |\n|---|---|---|"
    for each in result.event_based:
        what = "onset and offset" if each.with_offset else "onset"
        micro = each.micro
        numbers = (
            f"precision {micro.precision or 0:.3f}, recall {micro.recall or 0:.3f}, macro {each.macro_f1 or 0:.3f}"
        )
        counted = micro.truth + micro.found > 0
        interval = _interval(intervals.of_f1(micro.right, micro.truth, micro.found), ".3f") if counted else ""
        yield f"| event F1, collar {each.collar_s:g} s, {what} | {micro.f1 or 0:.3f} ({numbers}) | {interval} |"
    heard, of_all = result.announced, intervals_of(result)
    share = _interval(of_all["announced"], ".1f", 100)
    yield f"| sounds announced by their label | {100 * (heard.recall or 0):.1f} % | {share} |"
    for title, spread in (
        ("onset to publication", heard.delay),
        ("onset error", heard.onset_error),
        ("offset error", heard.offset_error),
    ):
        if spread.median_s is not None:
            yield (
                f"| {title} | median {spread.median_s:.2f} s, median of magnitudes {spread.median_abs_s:.2f} s, "
                f"nine in ten below {spread.p90_abs_s:.2f} s | |"
            )
    yield f"| PSDS, scenarios 1 and 2 | {result.psds1 or 0:.3f}, {result.psds2 or 0:.3f} | |"
    rate = _interval(of_all["false_alarms_per_hour"], ".1f")
    yield f"| false alarms in soundscapes | {result.false_alarms_per_hour:.1f} an hour | {rate} |"
    rate = _interval(intervals.of_rate(len(alarms), hours), ".2f")
    yield f"| **false alarms in non-target audio** | **{len(alarms) / hours:.2f} an hour** ({len(alarms)}) | {rate} |"
    if result.calibration is not None:
        yield f"| calibration error of windows' highest scores | {100 * result.calibration.highest:.1f} % | |"
    yield (
        "\nIntervals: Clopper and Pearson (1934) for shares, Garwood (1936) for rates, Goutte and Gaussier (2005) for "
        "F1. "
        "They take sounds and alarms as independent; alarms in one piece of music are not."
    )
    yield "\n![truth and events](timeline.png)\n\n![missed sounds against false alarms](curves.png)\n"
    yield "| label | sounds | announced | F1, collar 1 s | false alarms an hour, soundscapes | non-target events |"
    yield "|---|---|---|---|---|---|"
    counts = wide(result).by_label
    for label, (announced, sounds) in heard.by_label.items():
        f1 = counts[label].f1
        per_hour = result.false_alarms.get(label, 0) / result.hours
        wrong = sum(each.label == label for each in alarms)
        yield f"| {label} | {sounds} | {announced} | {f1 or 0:.2f} | {per_hour:.1f} | {wrong} |"
