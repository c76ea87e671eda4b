"""`tagger eval --streamed` with several models: each hears the same streams; one table, paired over their sounds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tagger.checkpoints.checkpoint import Checkpoint
from tagger.files import replacing
from train.data.corpus import Corpus
from train.evaluate import compare, detection, intervals, streams
from train.evaluate.detection import Detection
from train.evaluate.inputs import StreamOptions
from train.evaluate.metrics import McNemar
from train.evaluate.streamed_report import intervals_of, wide
from train.evaluate.streams import Heard
from train.messages import Say

_Played = tuple[Heard, Detection, float]
"""What a model heard, its measures, and its window, seconds."""


def evaluate(
    systems: Mapping[str, Sequence[tuple[Checkpoint, int]]],
    corpora: Callable[[Checkpoint], Corpus],
    options: StreamOptions,
    output: Path,
    device: str,
    marks: Sequence[str],
    facts: Mapping[str, Any],
    say: Say,
) -> None:
    """Writes each model's report into a folder of its own, `1`, `2`, ..., and `comparison.md`.

    Raises:
        UserError: as `streams.evaluate`.
    """
    played: dict[str, _Played] = {}
    for number, (model, pairs) in enumerate(systems.items(), 1):
        say(f"-- {model}")
        heard, result = streams.evaluate(pairs, corpora, options, output / f"{number}", device, marks, facts, say)
        played[model] = heard, result, pairs[0][0].info.window_seconds
    table = list(_rows(played))
    for line in (*compare.aligned(table), *_EXPLAINED):
        say(line)
    with replacing(output / "comparison.md") as partial:
        header, *body = table
        lines = ["# Comparison in streams", "", f"`{facts['command']}`", "", *(f"> **WARNING: {m}**\n" for m in marks)]
        lines += [compare.row(header), f"|{'---|' * len(header)}", *map(compare.row, body), ""]
        lines += [f"- {line}" for line in _EXPLAINED]
        lines += [f"- {model}: [{number}/streamed.md]({number}/streamed.md)" for number, model in enumerate(played, 1)]
        partial.write_text("\n".join(lines) + "\n", "utf-8")
    say(f"report: {output / 'comparison.md'}")


_EXPLAINED = (
    "in brackets: 95 % intervals, by Goutte and Gaussier (2005) for F1, Clopper and Pearson (1934), Garwood (1936)",
    "against: sounds that only one of the two announced, McNemar's exact test (1947), as if sounds were independent",
)


def _rows(played: Mapping[str, _Played]) -> Iterator[list[str]]:
    names = list(played)
    first = _announced(*played[names[0]])
    yield ["model", "event F1", "announced", "false alarms an hour", "in non-target audio", f"against {names[0]}"]
    for name, (heard, result, window_s) in played.items():
        found, alarms = intervals_of(result), len(heard.alarms)
        yield [
            name,
            f"{wide(result).micro.f1 or 0:.3f}{_within(found['event_f1'], '.2f')}",
            f"{100 * (result.announced.recall or 0):.1f} %{_within(found['announced'], '.0f', 100)}",
            f"{result.false_alarms_per_hour:.1f}{_within(found['false_alarms_per_hour'], '.1f')}",
            f"{alarms / heard.hours:.2f}{_within(intervals.of_rate(alarms, heard.hours), '.2f')}",
            "" if name == names[0] else _against(first, _announced(heard, result, window_s)),
        ]


def _within(found: tuple[float, float] | None, shape: str, factor: float = 1) -> str:
    return "" if found is None else f" ({found[0] * factor:{shape}} to {found[1] * factor:{shape}})"


def _announced(heard: Heard, result: Detection, window_s: float) -> dict[tuple[str, str, float], bool]:
    """Whether each sound was announced, by stream, label and onset."""
    return {
        (name, sound.label, round(sound.onset_s, 1)): is_announced
        for name, (truth, found, _) in heard.streams.items()
        for sound, is_announced, _ in detection.paired(truth, found, window_s)
    }


def _against(first: Mapping[Any, bool], second: Mapping[Any, bool]) -> str:
    if first.keys() != second.keys():
        return "not the same streams"
    lost = sum(first[sound] and not second[sound] for sound in first)
    gained = sum(second[sound] and not first[sound] for sound in first)
    p = compare.p_in_words(McNemar.of(lost, gained).p_value)
    return f"{100 * (gained - lost) / max(1, len(first)):+.1f} points announced: {gained} gained, {lost} lost, p {p}"
