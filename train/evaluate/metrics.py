"""Measures of predictions, with their uncertainty. Pure numpy: scores and truth in, numbers out.

The scores and truth themselves are in `predictions`; a temperature is fitted in `temperature`; events in streams are
measured in `detection`.
"""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.evaluate.categories import categories
from train.evaluate.predictions import Predictions

BINS = 15
"""Bins of the calibration error, as in Guo et al. (2017)."""
_ESC50_CLIP = re.compile(r"(?:.*/)?[1-5]-(\d+)-[A-Z]-\d+(\.\w+)?")
"""Folder, fold, number of the recording at freesound.org, take, target."""
_PART = re.compile(r"@[\d.e+]+$")
"""End of a clip's name: where it begins in its file, seconds."""


def accuracy(p: Predictions) -> float:
    """Share of clips, 0 to 1, whose highest score is their label's.

    Raises:
        ValueError: no clip has a label. All functions here that return a mean over clips raise it.
    """
    return float(_known(p).right.mean())


def accuracy_by_fold(p: Predictions) -> dict[int, float]:
    """Accuracy of each fold that has clips with a label."""
    known = p.known
    return {int(fold): accuracy(known.of_fold(fold)) for fold in np.unique(known.folds)}


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter is None for fewer than two values.

    >>> mean_and_std([0.25, 0.75, 0.5])
    (0.5, 0.25)
    >>> mean_and_std([0.5])
    (0.5, None)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def accuracy_interval(p: Predictions, seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """95 % interval of the accuracy on clips of this kind: percentile bootstrap (Efron and Tibshirani, 1993).

    Recordings are drawn, with all of their clips: ESC-50 cuts several clips from one recording (see `recording`), and
    their results are not independent. Where all clips are right, or none, all draws are equal, however few clips there
    are; then the exact interval of Clopper and Pearson (1934) is used, with recordings as trials.
    """
    known = _known(p)
    of_recording: dict[str, list[bool]] = defaultdict(list)
    for clip, right in zip(known.clips, known.right.tolist(), strict=True):
        of_recording[recording(clip)].append(right)
    n = len(of_recording)
    if known.right.all():
        return 0.025 ** (1 / n), 1.0
    if not known.right.any():
        return 0.0, 1 - 0.025 ** (1 / n)
    # Recordings with the same numbers of clips and right clips are alike: drawing how many of each kind is enough.
    kinds = Counter((sum(rights), len(rights)) for rights in of_recording.values())
    times = np.random.default_rng(seed).multinomial(n, [count / n for count in kinds.values()], draws)
    rights, clips = np.array(list(kinds)).T
    low, high = np.quantile(times @ rights / (times @ clips), [0.025, 0.975])
    return float(low), float(high)


def recording(clip: str) -> str:
    """The recording that a clip was cut from. ESC-50's clips are named `fold-recording-take-target`, parts of a file
    `file@seconds`.

    >>> recording("3-164216-B-6.wav"), recording("door.wav@5"), recording("door.wav")
    ('164216', 'door.wav', 'door.wav')
    >>> recording("cat/3-164216-B-6.wav"), recording("cat/1.wav"), recording("dog/1.wav")
    ('164216', 'cat/1.wav', 'dog/1.wav')
    """
    file = _PART.sub("", clip)
    match = _ESC50_CLIP.fullmatch(file)
    return match[1] if match else file


@dataclass(frozen=True)
class Bin:
    """Clips whose highest score is above `low` and at most `high`."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean of their highest scores."""
    accuracy: float


def reliability(p: Predictions, bins: int = BINS) -> tuple[Bin, ...]:
    """Confidence and accuracy in `bins` equal bins of (0, 1]; only bins with clips, lowest first."""
    known = _known(p)
    confidence, right = known.confidence, known.right
    edges = np.arange(bins + 1) / bins
    which = np.digitize(confidence, edges[1:-1], right=True)
    found = []
    for i in np.unique(which):
        inside = which == i
        mean, share = float(confidence[inside].mean()), float(right[inside].mean())
        found.append(Bin(float(edges[i]), float(edges[i + 1]), int(inside.sum()), mean, share))
    return tuple(found)


def calibration_error(p: Predictions, bins: int = BINS) -> float:
    """Expected calibration error, 0 to 1: difference of confidence and accuracy in each bin, averaged over clips.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equation 3, of the highest score.
    """
    found = reliability(p, bins)
    total = sum(each.count for each in found)
    return sum(each.count * abs(each.accuracy - each.confidence) for each in found) / total


def confusion(p: Predictions) -> NDArray[np.int64]:
    """[labels, labels], number of clips of each label (row) that were predicted as each label (column)."""
    known = p.known
    counts = np.zeros((len(p.labels), len(p.labels)), np.int64)
    np.add.at(counts, (known.targets, known.said), 1)
    return counts


@dataclass(frozen=True)
class Label:
    """One label's results. None: the denominator is 0."""

    label: str
    support: int
    """Number of clips of this label."""
    right: int
    """Number of these that were predicted as this label."""
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None


def per_label(p: Predictions) -> tuple[Label, ...]:
    """Each label's precision, recall and F1, from the highest score; average precision, from all scores."""
    counts = confusion(p)

    def of(i: int, label: str) -> Label:
        right, support, said = int(counts[i, i]), int(counts[i].sum()), int(counts[:, i].sum())
        return Label(
            label,
            support,
            right,
            right / said if said else None,
            right / support if support else None,
            2 * right / (said + support) if said + support else None,
            average_precision(p.scores[:, i], p.targets == i),
        )

    return tuple(of(i, label) for i, label in enumerate(p.labels))


def average_precision(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    """Mean of the precision at each positive, from the highest score down. None: there are no positives.

    Manning, Raghavan and Schütze, Introduction to Information Retrieval (2008), section 8.4: the sum over ranks of
    precision times the step in recall. Equal scores share one rank, so their order does not matter.

    Args:
        scores: [N].
        positive: [N].
    """
    if not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # the last of each run of equal scores
    found = np.cumsum(positive[order])[ends]
    return float((found / (ends + 1) * np.diff(found, prepend=0)).sum() / positive.sum())


@dataclass(frozen=True)
class Category:
    """One category's results, over its clips."""

    category: str
    labels: int
    clips: int
    accuracy: float
    """Share of clips whose predicted label is right."""
    category_accuracy: float
    """Share of clips whose predicted label is of this category."""


def per_category(p: Predictions) -> tuple[Category, ...]:
    """Results of each category that has clips."""
    of_label = categories(p.labels)
    names = list(dict.fromkeys(of_label))
    number = np.array([names.index(category) for category in of_label])
    known = p.known
    true, said = number[known.targets], number[known.said]
    return tuple(
        Category(
            name,
            of_label.count(name),
            int((true == i).sum()),
            float(known.right[true == i].mean()),
            float((said[true == i] == i).mean()),
        )
        for i, name in enumerate(names)
        if (true == i).any()
    )


@dataclass(frozen=True)
class Confused:
    """Clips of one label that were predicted as another."""

    true: str
    said: str
    count: int
    clips: tuple[str, ...]


def most_confused(p: Predictions, count: int = 10) -> tuple[Confused, ...]:
    """The pairs with most clips, most first; pairs with equally many in the labels' order."""
    known = p.known
    pairs: dict[tuple[int, int], list[str]] = defaultdict(list)
    for true, said, clip in zip(known.targets.tolist(), known.said.tolist(), known.clips, strict=True):
        if true != said:
            pairs[true, said].append(clip)
    order = sorted(pairs, key=lambda pair: (-len(pairs[pair]), pair))[:count]
    return tuple(Confused(p.labels[t], p.labels[s], len(pairs[t, s]), tuple(pairs[t, s])) for t, s in order)


@dataclass(frozen=True)
class McNemar:
    """Two systems on the same clips."""

    only_first: int
    """Number of clips that only the first system has right."""
    only_second: int
    p_value: float
    """Probability of such an uneven split, or a more uneven one, if both are equally good."""

    @classmethod
    def of(cls, only_first: int, only_second: int) -> "McNemar":
        n = only_first + only_second
        tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
        return cls(only_first, only_second, min(1.0, 2 * tail / 2**n))


def mcnemar(p: Predictions, q: Predictions) -> McNemar:
    """McNemar's test (1947), exact, two-sided: whether two systems differ in accuracy.

    Only clips that one system has right and the other wrong count; each is a fair coin's toss if both are equally good.

    Raises:
        ValueError: the clips or their labels are not the same.
    """
    first, second = _outcomes(p), _outcomes(q)
    if {clip: label for clip, (label, _) in first.items()} != {clip: label for clip, (label, _) in second.items()}:
        raise ValueError("only predictions of the same clips, of the same labels, can be compared")
    splits = Counter((first[clip][1], second[clip][1]) for clip in first)
    return McNemar.of(splits[True, False], splits[False, True])


def _outcomes(p: Predictions) -> dict[str, tuple[str, bool]]:
    """Each clip's label, and whether it was predicted."""
    known = _known(p)
    rows = zip(known.clips, known.targets.tolist(), known.right.tolist(), strict=True)
    found = {clip: (p.labels[target], right) for clip, target, right in rows}
    if len(found) != len(known.clips):
        raise ValueError("some clips are there twice")
    return found


def _known(p: Predictions) -> Predictions:
    known = p.known
    if not known.clips:
        raise ValueError("there is no clip of a label")
    return known
