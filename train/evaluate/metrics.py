"""Measures of predictions, with their uncertainty. Pure numpy: scores and truth in, numbers out."""

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
"""Target of a clip without a label."""
BINS = 15
"""Bins of the calibration error, as in Guo et al. (2017)."""
TEMPERATURES = (0.05, 20.0)
"""Range of `fit_temperature`."""

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
"""Folder, fold, number of the recording at freesound.org, take, target."""
_PART = re.compile(r"@[\d.e+]+$")
"""End of a clip's name: where it begins in its file, seconds."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores and truth of clips: everything that a report is made from."""

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    """[N, labels], each 0 to 1, after activation and temperature."""
    targets: NDArray[np.int64]
    """[N], index of the true label, or `NO_LABEL`."""
    clips: tuple[str, ...]
    """N names."""
    folds: NDArray[np.int64]
    """[N], the fold in which each clip was scored."""

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
        """All clips of the parts, in order: for example of five folds, each scored by its own network.

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
        """[N], index of the highest score; the first of equal ones."""
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
        """The clips with a label, without background. Only average precision is computed on others, too."""
        return self.only(self.targets != NO_LABEL)

    def of_fold(self, fold: int) -> "Predictions":
        return self.only(self.folds == fold)

    def only(self, chosen: NDArray[np.bool_]) -> "Predictions":
        """
        Args:
            chosen: [N], whether to keep each clip.
        """
        clips = tuple(clip for clip, keep in zip(self.clips, chosen, strict=True) if keep)
        return Predictions(self.labels, self.scores[chosen], self.targets[chosen], clips, self.folds[chosen])


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


def categories(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Each label's category: ESC-50's if its fifty labels come first, in their order; `OWN_CATEGORY` for all others."""
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


def fit_temperature(
    logits: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]], activation: Literal["softmax", "sigmoid"]
) -> float:
    """The divisor of logits with which the highest score is right as often as it says.

    Softmax: the minimum of the negative log-likelihood (Guo et al., 2017, section 4.2). Sigmoid: that of the binary log
    loss of the highest score against whether its label is the right one; its confidence is that score alone. Both
    losses are convex in the inverse of the temperature, so there is one minimum, and golden sections find it.

    Args:
        logits: [N, labels].
        targets: [N], index of the true label. Rows of `NO_LABEL` are left out.

    Returns:
        A number within `TEMPERATURES`; 1 if no other is better.

    Raises:
        ValueError: no row has a label.
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
    """The divisor of logits and the number to add with which the highest sigmoid score is right as often as it says.

    Sigmoids that were also trained on windows without a label are too low for clips with one; a temperature alone
    cannot correct that. Platt, "Probabilistic Outputs for Support Vector Machines" (1999), with a prior of weight one
    on changing nothing, so that few clips, or clips that are all right, change little.

    Args:
        logits: [N, labels].
        targets: [N], index of the true label. Rows of `NO_LABEL` are left out.

    Returns:
        Temperature and bias: a score is sigmoid(logit / temperature + bias).

    Raises:
        ValueError: no row has a label.
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
    """Minimum of a function that has only one, by golden sections (Kiefer, 1953)."""
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
    """Number of clips that only the first system has right."""
    only_second: int
    p_value: float
    """Probability of such an uneven split, or a more uneven one, if both are equally good."""


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
    b, c = splits[True, False], splits[False, True]
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    return McNemar(b, c, min(1.0, 2 * tail / 2 ** (b + c)))


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
