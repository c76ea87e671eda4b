"""How good predictions are, and how sure that is. Pure numpy: scores and truth in, numbers out."""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

NO_LABEL = -1
"""Target of a clip that is none of the labels."""
BINS = 15
"""Of the calibration error, as Guo et al. (2017) have it."""
TEMPERATURES = (0.05, 20.0)
"""What `fit_temperature` chooses from."""

ESC50_CATEGORIES = {
    "animals": "dog rooster pig cow frog cat hen insects sheep crow",
    "natural soundscapes and water": "rain sea_waves crackling_fire crickets chirping_birds water_drops wind "
    "pouring_water toilet_flush thunderstorm",
    "human non-speech": "crying_baby sneezing clapping breathing coughing footsteps laughing brushing_teeth snoring "
    "drinking_sipping",
    "interior/domestic": "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine "
    "vacuum_cleaner clock_alarm clock_tick glass_breaking",
    "exterior/urban": "helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw",
}
"""ESC-50's five major categories and their ten labels each, in the order of its targets (Piczak, ACM MM 2015)."""
ESC50_LABELS = tuple(" ".join(ESC50_CATEGORIES.values()).split())
OWN_CATEGORY = "own labels"
"""The category of labels that are not ESC-50's."""

_ESC50_CLIP = re.compile(r"(?:.*/)?[1-5]-(\d+)-[A-Z]-\d+(\.\w+)?")
"""Folder, fold, recording at freesound.org, take, target."""
_PART = re.compile(r"@[\d.e+]+$")
"""Where in its file a clip begins, seconds."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was said of clips, and what they are: everything that a report is made from."""

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    """[N, labels], each 0 to 1, after activation and temperature."""
    targets: NDArray[np.int64]
    """[N], index of the true label, or `NO_LABEL`."""
    clips: tuple[str, ...]
    """N names."""
    folds: NDArray[np.int64]
    """[N], the fold that each clip was scored in."""

    def __post_init__(self) -> None:
        n = len(self.clips)
        if self.scores.shape != (n, len(self.labels)) or self.targets.shape != (n,) or self.folds.shape != (n,):
            raise ValueError(
                f"{n} clips and {len(self.labels)} labels do not go with scores {self.scores.shape}, "
                f"targets {self.targets.shape} and folds {self.folds.shape}"
            )
        if not self.labels or not ((self.scores >= 0) & (self.scores <= 1 + 1e-6)).all():
            raise ValueError("there must be labels, and scores must be numbers from 0 to 1")
        if not ((self.targets >= NO_LABEL) & (self.targets < len(self.labels))).all():
            raise ValueError(f"targets must be {NO_LABEL} to {len(self.labels) - 1}")

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """All clips of the parts, in their order: such as of five folds, each by a network of its own.

        Raises:
            ValueError: there are no parts, or their labels differ.
        """
        if len({part.labels for part in parts}) != 1:
            raise ValueError("predictions can be joined only where all have the same labels")
        return cls(
            parts[0].labels,
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.targets for part in parts]),
            tuple(clip for part in parts for clip in part.clips),
            np.concatenate([part.folds for part in parts]),
        )

    @property
    def said(self) -> NDArray[np.intp]:
        """[N], index of the highest score; of equal ones, the first."""
        best: NDArray[np.intp] = self.scores.argmax(1)
        return best

    @property
    def confidence(self) -> NDArray[np.float64]:
        """[N], the highest score."""
        highest: NDArray[np.float64] = self.scores.max(1).astype(np.float64)
        return highest

    @property
    def right(self) -> NDArray[np.bool_]:
        """[N], whether the highest score is the true label's. Never for background."""
        found: NDArray[np.bool_] = self.said == self.targets
        return found

    @property
    def known(self) -> "Predictions":
        """The clips of a label, without background. All but average precision is computed on these alone."""
        return self.only(self.targets != NO_LABEL)

    def of_fold(self, fold: int) -> "Predictions":
        return self.only(self.folds == fold)

    def only(self, chosen: NDArray[np.bool_]) -> "Predictions":
        """
        Args:
            chosen: [N], which clips to keep.
        """
        clips = tuple(clip for clip, keep in zip(self.clips, chosen, strict=True) if keep)
        return Predictions(self.labels, self.scores[chosen], self.targets[chosen], clips, self.folds[chosen])


def accuracy(p: Predictions) -> float:
    """Share of clips, 0 to 1, whose highest score is their label's.

    Raises:
        ValueError: there is no clip of a label. So do all functions here that return a mean over clips.
    """
    return float(_known(p).right.mean())


def accuracy_by_fold(p: Predictions) -> dict[int, float]:
    """Of each fold that has clips of a label."""
    known = p.known
    return {int(fold): accuracy(known.of_fold(fold)) for fold in np.unique(known.folds)}


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None of fewer than two.

    >>> mean_and_std([0.25, 0.75, 0.5])
    (0.5, 0.25)
    >>> mean_and_std([0.5])
    (0.5, None)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def accuracy_interval(p: Predictions, seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """Where accuracy on other clips of this kind would be, 95 %: percentile bootstrap (Efron and Tibshirani, 1993).

    What is drawn is recordings, with all of their clips: ESC-50 cuts several from one, and they stand or fall together
    (see `recording`). Where all clips are right, or none, every draw says so, however few clips there are; the exact
    interval of Clopper and Pearson (1934) takes its place, with recordings for trials.
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
    # Recordings of as many clips, as many of them right, are alike: drawing how often each kind comes is enough.
    kinds = Counter((sum(rights), len(rights)) for rights in of_recording.values())
    times = np.random.default_rng(seed).multinomial(n, [count / n for count in kinds.values()], draws)
    rights, clips = np.array(list(kinds)).T
    low, high = np.quantile(times @ rights / (times @ clips), [0.025, 0.975])
    return float(low), float(high)


def recording(clip: str) -> str:
    """What a clip was cut from: ESC-50's are named `fold-recording-take-target`, parts of a file `file@seconds`.

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
    """Confidence against accuracy, in `bins` equal bins of (0, 1]; those that hold clips, lowest first."""
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
    """How far confidence is from accuracy, 0 to 1: the mean over clips of their bins' difference.

    The expected calibration error of Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equation 3,
    of the highest score.
    """
    found = reliability(p, bins)
    total = sum(each.count for each in found)
    return sum(each.count * abs(each.accuracy - each.confidence) for each in found) / total


def confusion(p: Predictions) -> NDArray[np.int64]:
    """[labels, labels], how many clips of each label (row) were said to be each (column)."""
    known = p.known
    counts = np.zeros((len(p.labels), len(p.labels)), np.int64)
    np.add.at(counts, (known.targets, known.said), 1)
    return counts


@dataclass(frozen=True)
class Label:
    """One label's results; None where there is nothing to divide by."""

    label: str
    support: int
    """Clips of it."""
    right: int
    """Of these, those said to be it."""
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None


def per_label(p: Predictions) -> tuple[Label, ...]:
    """Of the highest score: precision, recall and their harmonic mean. Of all scores: average precision."""
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
    """Mean precision at each positive, from the highest score down; None without positives.

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


def categories(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Each label's category. ESC-50's fifty have five where they come first, in their order; others are one's own."""
    if labels[: len(ESC50_LABELS)] != ESC50_LABELS:
        return (OWN_CATEGORY,) * len(labels)
    official = (category for category, names in ESC50_CATEGORIES.items() for _ in names.split())
    return (*official, *[OWN_CATEGORY] * (len(labels) - len(ESC50_LABELS)))


@dataclass(frozen=True)
class Category:
    """One category's results, over its clips."""

    category: str
    labels: int
    clips: int
    accuracy: float
    """Share whose label is right."""
    category_accuracy: float
    """Share said to be of this category, whichever label."""


def per_category(p: Predictions) -> tuple[Category, ...]:
    """Of each category that has clips."""
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
    """Clips of one label that were said to be another."""

    true: str
    said: str
    count: int
    clips: tuple[str, ...]


def most_confused(p: Predictions, count: int = 10) -> tuple[Confused, ...]:
    """The pairs of most clips, most first; of as many, in the labels' order."""
    known = p.known
    pairs: dict[tuple[int, int], list[str]] = defaultdict(list)
    for true, said, clip in zip(known.targets.tolist(), known.said.tolist(), known.clips, strict=True):
        if true != said:
            pairs[true, said].append(clip)
    order = sorted(pairs, key=lambda pair: (-len(pairs[pair]), pair))[:count]
    return tuple(Confused(p.labels[t], p.labels[s], len(pairs[t, s]), tuple(pairs[t, s])) for t, s in order)


def fit_temperature(
    logits: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]], activation: Literal["softmax", "sigmoid"]
) -> float:
    """What to divide logits by, so that the highest score is as often right as it says.

    Softmax: the minimum of the negative log-likelihood (Guo et al., 2017, section 4.2). Sigmoid: that of the binary log
    loss of the highest score against whether its label is the right one; its confidence is that score alone. Both
    losses are convex in the inverse of the temperature, so there is one minimum, and golden sections find it.

    Args:
        logits: [N, labels].
        targets: [N], index of the true label. Rows of `NO_LABEL` are left out.

    Returns:
        Within `TEMPERATURES`; 1 where no other is better.

    Raises:
        ValueError: no row is of a label.
    """
    rows = targets != NO_LABEL
    if not rows.any():
        raise ValueError("a temperature needs clips of a label")
    z, true = logits[rows].astype(np.float64), targets[rows]
    # Of softmax: how far each logit is above the true one. Of sigmoid: the highest logit, positive where it is wrong.
    above = z - np.take_along_axis(z, true[:, None], 1)
    highest = np.where(z.argmax(1) == true, -z.max(1), z.max(1))[:, None]

    def loss(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        if activation == "softmax":
            return float(np.logaddexp.reduce(above * inverse, axis=1).mean())
        return float(np.logaddexp(0, highest * inverse).mean())

    low, high = map(math.log, TEMPERATURES)
    found = _least(loss, low, high)
    return math.exp(min((0.0, found, low, high), key=loss))


def fit_line(logits: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """What to divide logits by and what to add then, so that the highest sigmoid score is as often right as it says.

    Sigmoids that were also taught to stay silent are too modest about clips that do hold a label; no temperature mends
    that. Platt, "Probabilistic Outputs for Support Vector Machines" (1999), with a prior of weight one on changing
    nothing, so that a few clips, or clips that are all right, change little.

    Args:
        logits: [N, labels].
        targets: [N], index of the true label. Rows of `NO_LABEL` are left out.

    Returns:
        Temperature and bias: a score is sigmoid(logit / temperature + bias).

    Raises:
        ValueError: no row is of a label.
    """
    rows = targets != NO_LABEL
    if not rows.any():
        raise ValueError("a calibration needs clips of a label")
    z = logits[rows].astype(np.float64)
    right = (z.argmax(1) == targets[rows]).astype(np.float64)
    inputs = np.stack([z.max(1), np.ones(len(z))], 1)
    prior = np.array([1.0, 0.0])
    line = prior.copy()
    for _ in range(100):  # Newton's method on a strictly convex loss
        said = 1 / (1 + np.exp(-inputs @ line))
        gradient = inputs.T @ (said - right) + (line - prior)
        curvature = (inputs * (said * (1 - said))[:, None]).T @ inputs + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        line = line - step * min(1.0, 1.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    if not TEMPERATURES[0] < 1 / max(line[0], 1e-9) < TEMPERATURES[1]:  # higher scores are not more often right
        return fit_temperature(logits, targets, "sigmoid"), 0.0
    return float(1 / line[0]), float(line[1])


def _least(function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-6) -> float:
    """Where a function of one minimum has it, by golden sections (Kiefer, 1953)."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > tolerance:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2


@dataclass(frozen=True)
class McNemar:
    """Two systems on the same clips."""

    only_first: int
    """Clips that only the first has right."""
    only_second: int
    p_value: float
    """How probable so uneven a split is, or one more so, if both were equally good."""


def mcnemar(p: Predictions, q: Predictions) -> McNemar:
    """Whether two systems differ in accuracy: McNemar's test (1947), exact, two-sided.

    Only clips that one has right and the other wrong tell; each is a fair coin's toss if both are equally good.

    Raises:
        ValueError: the clips or their labels are not the same.
    """
    first, second = _outcomes(p), _outcomes(q)
    if {clip: label for clip, (label, _) in first.items()} != {clip: label for clip, (label, _) in second.items()}:
        raise ValueError("only predictions of the same clips, of the same labels, can be compared")
    splits = Counter((first[clip][1], second[clip][1]) for clip in first)
    b, c = splits[True, False], splits[False, True]
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    return McNemar(b, c, min(1.0, 2 * tail / 2 ** (b + c)))


def _outcomes(p: Predictions) -> dict[str, tuple[str, bool]]:
    """Each clip's label, and whether it was found."""
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
