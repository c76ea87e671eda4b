"""`tagger train --freeze`: a new head on a frozen network. Its features are extracted once; heads then take seconds."""

import functools
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tagger import checkpoint, release, store
from tagger.checkpoint import Checkpoint, CheckpointInfo
from tagger.classifier import Classifier, choose_device
from tagger.errors import AudioError, CheckpointError, UserError
from tagger.features import LogMel, MelConfig
from tagger.files import sha256
from tagger.models import EfficientAT
from tagger.sources.decode import decode
from train import augment, esc50
from train.cache import cached
from train.head import Head, best_threshold, cross_entropy, fit

WINDOW_SECONDS = 5.0
BANDWIDTH_HZ = 7_500.0
"""Every copy of ESC-50 holds this much. What is above is ignored, so a full-band microphone sounds the same."""
PLACED_VIEWS = 4
"""Times that each clip is heard elsewhere in the window, besides as it is."""
BACKGROUNDS = 1_200
"""Windows of noise that are none of the labels."""
L2_CANDIDATES = (3e-4, 1e-3, 3e-3)
_BATCH = 32

Say = Callable[[str], None]


@dataclass(frozen=True)
class Features:
    """Embeddings of everything that a head is fitted on."""

    plain: Tensor
    """[clips, F]: each clip as it is."""
    placed: tuple[Tensor, ...]
    """Each [clips, F]: each clip somewhere in the window."""
    fragments: Tensor
    """[clips, F]: each clip's first or last moment, too little to know it by."""
    background: Tensor
    """[backgrounds, F]: noise."""

    def of(self, chosen: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Features and targets of the chosen clips, in every view, and of what is none of the labels."""
        views = [view[chosen] for view in (self.plain, *self.placed)]
        nothing = torch.cat([self.fragments[chosen], self.background])
        no_label = torch.zeros(len(nothing), targets.shape[1])
        return torch.cat([*views, nothing]), torch.cat([*[targets[chosen]] * len(views), no_label])


@dataclass(frozen=True)
class Fitted:
    head: Head
    l2: float
    threshold: float


def run(
    data: Path,
    backbone: str,
    folds: Sequence[int],
    output: Path,
    name: str,
    seed: int,
    device: str,
    say: Say,
) -> None:
    """
    Args:
        data: ESC-50's folder.
        backbone: `mn04`, ..., or a checkpoint's name or path.
        folds: hold out each of these in turn. None named: all five, and then a checkpoint from all clips.
        output: folder for `fold1.safetensors`, ..., `NAME.safetensors` and `results.json`.

    Raises:
        UserError: the data or the backbone is not there.
    """
    choose_device(device)  # a wrong one is said now, not after the decoding
    dataset = esc50.read(data)
    start, digest = _backbone(backbone)
    mel = replace(start.info.mel, bandwidth_hz=BANDWIDTH_HZ)
    say(f"{len(dataset.clips)} clips of {len(dataset.labels)} labels; frozen {start.info.name}")

    clips = _decoded(dataset, mel.sample_rate_hz)
    key = {"data": dataset.fingerprint, "backbone": digest, "mel": repr(mel), "seed": seed, "version": 1}
    features = _features(clips, start, mel, key, seed, device)
    fold_of = torch.tensor([clip.fold for clip in dataset.clips])
    targets = torch.nn.functional.one_hot(torch.tensor([clip.target for clip in dataset.clips])).float()

    def save(fitted: Fitted, path: Path, title: str, held_out: int | None, metrics: dict[str, Any]) -> Checkpoint:
        training = {
            "recipe": "frozen",
            "backbone": {"name": start.info.name, "sha256": digest},
            "data": {"name": "ESC-50", "fingerprint": dataset.fingerprint, "clips": len(dataset.clips)},
            "folds": [fold for fold in esc50.FOLDS if fold != held_out],
            "held_out_fold": held_out,
            "seed": seed,
            "l2": fitted.l2,
            "placed_views": PLACED_VIEWS,
            "fragments": len(dataset.clips),
            "backgrounds": BACKGROUNDS,
        }
        made = _with_head(start, fitted, mel, title, dataset.labels, training, metrics)
        checkpoint.save(path, made.info, made.model, half=True)
        return checkpoint.load(path)  # what is scored is what was written

    results: dict[int, float] = {}
    chosen: list[Fitted] = []
    for fold in folds or esc50.FOLDS:
        fitted = fit_fold(features, targets, fold_of, fold)
        path, title = output / f"fold{fold}.safetensors", f"{name}-fold{fold}"
        held_out = np.flatnonzero((fold_of == fold).numpy())
        saved = save(fitted, path, title, fold, {})
        accuracy = _accuracy(saved, clips, held_out, targets, device)
        save(fitted, path, title, fold, {"accuracy": accuracy})
        say(f"fold {fold}: {100 * accuracy:6.2f} %   l2 {fitted.l2:g}, threshold {fitted.threshold:g}   {path}")
        results[fold] = accuracy
        chosen.append(fitted)
    summary: dict[str, Any] = {"accuracy_by_fold": results}
    if len(results) > 1:
        summary |= {"mean": statistics.mean(results.values()), "std": statistics.stdev(results.values())}
        say(f"mean  : {100 * summary['mean']:6.2f} %   standard deviation {100 * summary['std']:.2f}")
    if not folds:
        # Nothing is held out any more, so what the folds chose is taken over.
        l2 = statistics.median(each.l2 for each in chosen)
        threshold = round(statistics.median(each.threshold for each in chosen), 2)
        everything = torch.ones(len(dataset.clips), dtype=torch.bool)
        final = Fitted(fit(*features.of(everything, targets), l2), l2, threshold)
        path = output / f"{name}.safetensors"
        save(final, path, name, None, {"five_fold_accuracy": summary["mean"], "five_fold_std": summary["std"]})
        say(f"all clips: {path}")
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(summary, indent=2) + "\n")


def fit_fold(features: Features, targets: Tensor, fold_of: Tensor, held_out: int) -> Fitted:
    """A head that never saw the held-out fold. Regularisation and threshold are chosen on another, inner fold."""
    inner = esc50.FOLDS[esc50.FOLDS.index(held_out) - 1]
    inside = (fold_of != held_out) & (fold_of != inner)
    validation, validation_targets = features.of(fold_of == inner, targets)
    tried = []
    for l2 in L2_CANDIDATES:
        head = fit(*features.of(inside, targets), l2)
        tried.append((float(cross_entropy(head.logits(validation), validation_targets)), l2, head))
    _, l2, head = min(tried, key=lambda each: each[0])
    threshold = best_threshold(head.logits(validation).sigmoid(), validation_targets)
    return Fitted(fit(*features.of(fold_of != held_out, targets), l2), l2, threshold)


def _backbone(name: str) -> tuple[Checkpoint, str]:
    """The network that `name` means, and the sha256 of its file."""
    known = f"{name}_as" if name in release.RELEASE_FILES else name
    try:
        path = store.find(known)
    except CheckpointError:
        if known == name:
            raise
        raise UserError(
            f"the AudioSet weights of {name} are not here yet: `tagger models download {name}`, "
            "or `tagger models add FILE` if you have the file"
        ) from None
    loaded = checkpoint.load(path)
    if not isinstance(loaded.model, EfficientAT):
        raise UserError(f"{path}: --freeze needs an EfficientAT network, this is {loaded.info.architecture}")
    return loaded, sha256(path)


def _decoded(dataset: esc50.Esc50, rate_hz: int) -> NDArray[np.int16]:
    """[clips, samples], mono, decoded and resampled once."""
    samples = int(WINDOW_SECONDS * rate_hz)

    def make(path: Path) -> None:
        shape = (len(dataset.clips), samples)
        array = np.lib.format.open_memmap(path, "w+", np.int16, shape)
        with click.progressbar(dataset.clips, label="decoding", file=sys.stderr) as bar:
            for row, clip in zip(array, bar, strict=True):
                try:
                    heard = np.concatenate(list(decode(clip.path, rate_hz)))[:samples]
                except AudioError as error:
                    raise UserError(f"a clip cannot be used: {error}") from None
                row[: len(heard)] = np.clip(np.rint(heard * 32767), -32768, 32767)
        array.flush()

    return cached("clips", {"data": dataset.fingerprint, "rate_hz": rate_hz, "samples": samples, "version": 1}, make)


def _features(
    clips: NDArray[np.int16], start: Checkpoint, mel: MelConfig, key: dict[str, Any], seed: int, device: str
) -> Features:
    samples, rate_hz = clips.shape[1], mel.sample_rate_hz
    embed = functools.partial(_embed, start, mel, device)

    def plain() -> Iterator[NDArray[np.float32]]:
        yield from map(as_float, clips)

    def placed(rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
        noise = augment.Noise(samples, rng)
        for clip in clips:
            yield augment.placed(as_float(clip), noise, rate_hz, rng)

    def fragments(rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
        noise = augment.Noise(samples, rng)
        for clip in clips:
            yield augment.fragment(as_float(clip), noise, rate_hz, rng)

    def background(rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
        noise = augment.Noise(samples, rng)
        yield np.zeros(samples, np.float32)
        for _ in range(BACKGROUNDS - 1):
            yield augment.background(noise, samples, rate_hz, rng)

    def kept(view: str, count: int, windows: Callable[[], Iterator[NDArray[np.float32]]]) -> Tensor:
        array = cached("features", key | {"view": view}, lambda path: embed(path, windows(), count, view))
        return torch.from_numpy(np.array(array))

    seeded = [np.random.default_rng([seed, view]) for view in range(PLACED_VIEWS + 2)]
    views = [
        kept(f"placed {view}", len(clips), functools.partial(placed, rng))
        for view, rng in enumerate(seeded[:PLACED_VIEWS])
    ]
    ends = kept("fragments", len(clips), functools.partial(fragments, seeded[-1]))
    nothing = kept("background", BACKGROUNDS, functools.partial(background, seeded[PLACED_VIEWS]))
    return Features(kept("plain", len(clips), plain), tuple(views), ends, nothing)


def _embed(
    start: Checkpoint,
    mel: MelConfig,
    device: str,
    path: Path,
    windows: Iterator[NDArray[np.float32]],
    count: int,
    view: str,
) -> None:
    """Writes the embeddings of `count` windows, [count, F], float32."""
    assert isinstance(start.model, EfficientAT)
    place = choose_device(device)
    log_mel = LogMel(mel).to(place)
    network = start.model.to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = np.empty((count, network.embedding_size), np.float32)
    with click.progressbar(length=count, label=f"features, {view}", file=sys.stderr) as bar, torch.inference_mode():
        for first in range(0, count, _BATCH):
            batch = np.stack([next(windows) for _ in range(min(_BATCH, count - first))])
            spectrogram = log_mel(torch.from_numpy(batch).to(place)).to(memory_format=torch.channels_last)
            found[first : first + len(batch)] = network.embed(spectrogram).cpu().numpy()
            bar.update(len(batch))
    with path.open("wb") as file:
        np.save(file, found)


def _with_head(
    start: Checkpoint,
    fitted: Fitted,
    mel: MelConfig,
    name: str,
    labels: tuple[str, ...],
    training: dict[str, Any],
    metrics: dict[str, Any],
) -> Checkpoint:
    info = CheckpointInfo(
        name=name,
        architecture=start.info.architecture,
        config=replace(start.info.config, labels=len(labels), head="linear"),
        mel=mel,
        window_seconds=WINDOW_SECONDS,
        labels=labels,
        activation="sigmoid",
        thresholds=(fitted.threshold,) * len(labels),
        training=training,
        metrics=metrics,
        licences=(*start.info.licences, esc50.LICENCE),
    )
    model = checkpoint.build(info)
    weights = {key: value for key, value in start.model.state_dict().items() if not key.startswith("classifier.")}
    weights |= {"classifier.2.weight": fitted.head.weight, "classifier.2.bias": fitted.head.bias}
    model.load_state_dict(weights)
    return Checkpoint(info, model.eval())


def _accuracy(
    saved: Checkpoint, clips: NDArray[np.int16], rows: NDArray[np.intp], targets: Tensor, device: str
) -> float:
    """Of the highest score, over whole clips, through the classifier that the daemon runs."""
    classify = Classifier(saved, device)
    batches = np.array_split(rows, max(1, len(rows) // _BATCH))
    scores = np.concatenate([classify(as_float(clips[batch])) for batch in batches])
    return float((scores.argmax(1) == targets[torch.from_numpy(rows)].argmax(1).numpy()).mean())


def as_float(clip: NDArray[np.int16]) -> NDArray[np.float32]:
    """Full scale -1 to 1."""
    return clip.astype(np.float32) / np.float32(32767)
