"""Results of a calibration: the printed report, and the file for `tagger listen --config`."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tagger import __version__
from tagger.calibration.rates import Evidence, most
from tagger.calibration.targets import HOURS, Wishes
from tagger.config.edit import Changes, changed
from tagger.printable import number_of

ENOUGH_RECALL = 0.8
"""Share of a label's own examples that should be announced; below it the report warns."""


@dataclass(frozen=True)
class Result:
    """Result of one label."""

    evidence: Evidence
    enter: float
    """The new threshold."""
    examples: tuple[float, ...]
    """The highest threshold at which each own example would be announced."""

    @property
    def label(self) -> str:
        return self.evidence.rules.label

    @property
    def is_changed(self) -> bool:
        return self.enter != self.evidence.now

    @property
    def rate(self) -> float:
        """Expected false alarms per hour at the new threshold."""
        return self.evidence.rates[self.evidence.at(self.enter)]

    def found(self, enter: float) -> int:
        """Examples that are announced at this threshold."""
        return sum(level >= enter for level in self.examples)

    @property
    def is_deaf(self) -> bool:
        """Whether too few of the examples are announced."""
        return self.found(self.enter) < ENOUGH_RECALL * len(self.examples)


@dataclass(frozen=True)
class About:
    """What all results of one calibration have in common."""

    wishes: Wishes
    hours: float
    """Length of the audio that was heard."""
    model: str
    window_s: float
    hop_s: float

    def __str__(self) -> str:
        window = f"a window of {self.window_s:g} s every {self.hop_s:g} s"
        return f"{_long(self.hours)} heard; model {self.model}, {window}; wish: {self.wishes}"

    @property
    def unit(self) -> str:
        return "an hour" if self.wishes.unit == "hour" else f"a {self.wishes.unit}"

    def rate(self, per_hour: float) -> str:
        """A rate in the unit of the wish, as text."""
        value = per_hour * HOURS[self.wishes.unit]
        return "< 0.01" if 0 < value < 0.01 else f"{value:.2f}" if value < 1 else f"{value:.{int(value < 10)}f}"

    def is_hopeless(self, result: Result) -> bool:
        """Whether no threshold can bring the label's false alarms down to the wish."""
        rates = result.evidence.limits if self.wishes.sure else result.evidence.rates
        return result.evidence.tail is not None and rates[-1] > min(self.wishes.per_hour)


def report(about: About, results: Sequence[Result], excepted: Sequence[str]) -> Iterator[str]:
    """Lines to print: thresholds, their false alarms, wishes that cannot be met, and how sure all this is."""
    yield str(about)
    yield ""
    shown = [each for each in results if each.is_changed or each.examples or each.evidence.counts[0]]
    if shown:
        yield f"{'':<20} {'threshold':>12}  {'in recording':>12}  {about.unit:>8} {'at most':>8}   {'own examples':<}"
    for each in sorted(shown, key=lambda each: -each.rate):
        yield _row(about, each)
    silent = sum(each.evidence.tail is None and each not in shown for each in results)
    if fine := len(results) - len(shown) - silent:
        several = number_of(fine, "label more was", "labels more were")
        yield f"{several} heard faintly; the wish is met as it is"
    if silent:
        several = number_of(silent, "label was", "labels were")
        yield f"{several} never heard, not even faintly; nothing is changed there"
    if excepted:
        yield f"left alone: {', '.join(excepted)}"
    yield from _hopeless(about, [each for each in results if about.is_hopeless(each)])
    yield from _deaf(about, [each for each in results if each.is_deaf])
    yield from _sureness(about, results)


def _row(about: About, result: Result) -> str:
    evidence, i = result.evidence, result.evidence.at(result.enter)
    enters = f"{evidence.now:.2f} -> {result.enter:.2f}" if result.is_changed else f"{result.enter:.2f}"
    counts = f"{evidence.count(evidence.now)} -> {evidence.count(result.enter)}"
    rates = f"{about.rate(evidence.rates[i]):>8} {about.rate(evidence.limits[i]):>8}"
    found = f"{result.found(evidence.now)} -> {result.found(result.enter)} of {len(result.examples)}"
    row = f"{result.label:<20} {enters:>12}  {counts:>12}  {rates}   {found if result.examples else ''}"
    return row.rstrip()


def _hopeless(about: About, failed: Sequence[Result]) -> Iterator[str]:
    if not failed:
        return
    yield ""
    yield "These cannot meet the wish, even at the highest threshold:"
    for each in failed:
        count = each.evidence.counts[-1]
        seen = f"{count} in the recording" if count else "none in the recording, which is too short to show less"
        rates = f"{about.rate(each.evidence.rates[-1])} {about.unit}, at most {about.rate(each.evidence.limits[-1])}"
        yield f"  {each.label}: {rates}; {seen}"
    if any(not each.evidence.counts[-1] for each in failed):
        yield "  A longer recording may show that some can."
    names = ", ".join(_value(each.label) for each in failed)
    yield f"  To be rid of them, add to the file, under [events]: deny = [{names}]"
    yield "  To teach the model your room: tagger train ... --background DIR, with this recording in DIR."


def _deaf(about: About, deaf: Sequence[Result]) -> Iterator[str]:
    if not deaf:
        return
    yield ""
    yield f"Warning: fewer than {100 * ENOUGH_RECALL:.0f} % of your examples are announced:"
    for each in deaf:
        levels, evidence = sorted(each.examples, reverse=True), each.evidence
        needed = math.floor(100 * levels[math.ceil(ENOUGH_RECALL * len(levels)) - 1]) / 100
        found = f"  {each.label}: {each.found(each.enter)} of {len(levels)}"
        if needed < evidence.enters[0]:
            yield f"{found}; {each.found(evidence.now)} before, so the threshold is not all: it needs training"
        else:
            rate = f"{about.rate(evidence.rates[evidence.at(needed)])} false alarms {about.unit}"
            yield f"{found}; {100 * ENOUGH_RECALL:.0f} % would need enter = {needed:g}, at {rate}"


def _sureness(about: About, results: Sequence[Result]) -> Iterator[str]:
    """Lines on what a recording of this length can show."""
    rarest = about.wishes.rarest
    total = sum(each.rate for each in results)
    before = about.rate(sum(each.evidence.rates[each.evidence.at(each.evidence.now)] for each in results))
    over = ", more than you wish" if total > about.wishes.per_hour[1] else ""
    yield ""
    yield f"All labels together: {about.rate(total)} false alarms {about.unit} expected{over}; {before} before."
    shows = most(0) / about.hours
    yield f"What {_long(about.hours)} can show: of a label without any event in them, there are fewer than"
    yield f"{about.rate(shows)} {about.unit}, with 95 % confidence (the rule of three)."
    if shows > rarest.per_hour:
        yield f"Your wish, {rarest}, is rarer. It is met by estimate: how fast do high scores become rare in your room?"
        seen = _long(most(0) / rarest.per_hour)
        yield f"To see it met would take {seen}. The longer the recording, the better the estimate, and the"
        yield "lower most thresholds. All of it holds if the room stays as it was heard; `at most` is 95 % sure."


def document(about: About, results: Sequence[Result], old: str, moved: Changes | None = None) -> str:
    """Text of the TOML file: the old one's, with its comments, and the new thresholds.

    Args:
        moved: further changes, needed because the file goes to another folder.
    """
    head = f"# By `tagger calibrate` {__version__}. The thresholds are for this model, window and hop, and this room.\n"
    head += f"# {about}\n"
    schema, text = _SCHEMA.match(old), without_head(old) or "\n[events]\n"
    changes = dict(moved or {})
    for each in results:
        if each.is_changed:
            changes["events", "labels", each.label, "enter"] = (each.enter, f"was {each.evidence.now:g}")
    return (schema[0] if schema else "") + head + changed(text, changes)


def without_head(text: str) -> str:
    """The file's text without the lines that `document` writes before it."""
    return _HEAD.sub("", _SCHEMA.sub("", text))


_SCHEMA = re.compile(r"\A#:schema .*\n")
_HEAD = re.compile(r"\A# By `tagger calibrate` .*\n# .*\n")
"""The head that an earlier calibration wrote."""


def _value(value: str) -> str:
    """A string in TOML."""
    return json.dumps(value, ensure_ascii=False)


def _long(hours: float) -> str:
    return f"{60 * hours:.1f} min" if hours < 2 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
