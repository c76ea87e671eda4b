"""Recipes: every choice of a training but the data. A checkpoint's document holds its recipe."""

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tagger.errors import UserError, near
from tagger.features.config import FRONT_ENDS


@dataclass(frozen=True)
class Recipe:
    """Settings of a training. Probabilities are per clip and epoch."""

    epochs: int = 12
    """Epochs in which labels are learnt. 0, with `pretrain_epochs`: only the last layer learns them, by an exact fit
    (`train.fit.pretrained_head`)."""
    batch: int = 32
    patience: int = 8
    """Training stops after this many epochs without a better inner validation."""
    inner_share: float = 0.1
    """Share of the training clips, split by recording, that only choose the epoch and calibrate."""

    # Trained part
    trainable: Literal["all", "head", "gradual", "upper"] = "all"
    """A key of `train.fit.job.TRAINERS`. all: the whole network; head: the last layer alone, fitted exactly; gradual:
    block after block, from the last one down; upper: the blocks above `frozen_blocks`, on windows that are computed
    once (`train.fit.stream`)."""
    frozen_blocks: int = 0
    """Number of blocks at the input whose weights do not change."""
    frozen_norm: bool = True
    """Whether batch norms keep their first statistics. `--start nothing` changes this."""
    fitted_head: bool = True
    """Whether training starts with a last layer that is fitted exactly to the network's features, not with a random one
    (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022)."""
    head: Literal["linear", "mlp"] = "linear"
    """linear: one new layer on the pooled features of published weights. mlp: before it, the hidden layer that these
    weights have."""
    dropout: float | None = None
    """Dropout probability. None: the network's own."""

    # Optimisation: AdamW (Loshchilov and Hutter, ICLR 2019), linear warm-up, cosine to 0
    learning_rate: float = 5e-4
    head_learning_rate: float = 1e-3
    layer_decay: float = 1.0
    """Learning rate of a block, as a fraction of the rate of the block after it."""
    weight_decay: float = 0.0
    warmup_epochs: float = 1.0
    clip_gradient: float = 0.0
    """Largest 2-norm of the gradient; 0: no limit."""
    average: float = 0.995
    """Decay per step of the moving average of the weights, which is validated and kept; 0: no average."""
    start_share: float = 0.0
    """Weight of the starting weights in the mixture with the trained ones that is validated and kept. Wortsman et al.,
    "Robust fine-tuning of zero-shot models" (CVPR 2022)."""
    mixed_precision: bool = True
    """bfloat16 for matrices and convolutions, where the device is faster with it."""

    # The target
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    label_smoothing: float = 0.0
    distill: float = 0.5
    """With a teacher: share of the loss against its scores; the rest is against the labels."""
    distill_temperature: float = 1.0
    """Divisor of the teacher's and the student's logits. Hinton et al., arXiv:1503.02531."""

    pretrain_epochs: int = 0
    """With `stored_views`: epochs in which the network first learns to answer as `pretrain_teacher` does, without
    labels (`train.fit.pretrain`). Each has ten pieces of every clip. 0: none."""
    pretrain_teacher: str = "mn04"
    """The network whose official AudioSet weights are learnt from, as they are."""
    pretrain_batch: int = 128
    pretrain_learning_rate: float = 2e-3

    surprise: float = 0.0
    """With `upper`: this times the highest surprise is subtracted from every logit (see CheckpointInfo)."""
    opinion: bool = False
    """Whether the official network that training starts from gives a second opinion (`train.fit.opinion`), at a third
    of the network's time or less."""
    opinion_layer: bool = False
    """Whether that network also says how sure it is of each label, by a last layer that is fitted to its features as
    the recipe `head` does it (`train.fit.label_layer`). Not with `head`, which is such a layer."""
    enter_logit: float = 0.0
    """With `upper`: logit at which an event begins."""

    # Waveforms
    gain_db: float = 10.0
    """Random gain: up by at most half of it, down by at most all of it, dB."""
    roll: float = 0.7
    """Probability of a circular shift."""
    placed: float = 0.4
    """Probability that the sound is anywhere in the window, perhaps cut off, over noise or a background recording."""
    crop_seconds: float = 0.0
    """Length of the random pieces that are learnt from, seconds; 0: whole windows."""
    nothing: float = 0.15
    """Windows without a label (noise, fragments, background recordings), as a share of the clips."""
    background: float = 0.0
    """Probability of noise or a background recording under the clip, at `background_snr_db`."""
    background_snr_db: tuple[float, float] = (0.0, 30.0)
    scenes: int = 6
    """With `upper`: windows made of each clip over a background, perhaps with another clip. Epochs grow with them."""
    channel: float = 0.0
    """With `upper`: probability that a scene is heard through a room, an equaliser, automatic gain, clipping or a
    telephone."""
    mix_waveforms: float = 0.0
    """Probability that two clips are mixed. The target is then the same mixture of their labels."""

    stored_views: int = 0
    """Views of each clip whose spectrograms are computed once and used in all epochs, without mixing of waveforms and
    changes of bands; 0: spectrograms are computed in every epoch."""

    # Spectrograms
    mix_spectrograms: float = 0.4
    """Alpha of mixup's beta distribution (Zhang et al., ICLR 2018); 0: no mixup."""
    warp_frames: float = 0.0
    """Largest change of speed, as a share; 0: none."""
    warp_bands: float = 0.0
    """Largest shift of the bands, as a share of half their number, and largest stretch or squeeze; 0: none."""
    equalise_db: float = 0.0
    """Largest gain of a band against the others, dB; 0: none."""
    mask_bands: int = 0
    """Widest mask over mel bands (Park et al., "SpecAugment", Interspeech 2019); 0: no mask."""
    mask_frames: int = 0
    """Longest mask over frames; 0: no mask."""
    jitter_low_hz: float = 10.0
    """Largest rise of the lowest mel band's edge, hertz, drawn for each batch."""
    jitter_high_hz: float = 1_000.0
    """Largest rise or fall of the highest mel band's edge, hertz, drawn for each batch."""
    bandwidth: float = 0.1
    """Probability, for each batch, that all above a random frequency (3 kHz or more) is removed."""

    # The front end of networks that start from nothing; others keep the one that they were trained with
    front_end: str = "efficientat"
    """A key of tagger.features.config.FRONT_ENDS."""
    bandwidth_hz: float | None = 7_500.0
    """Frequencies above it count as silence, in training and in use. Every copy of ESC-50 reaches this far."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name))
        if self.front_end not in FRONT_ENDS:
            raise UserError(f"front_end {self.front_end!r} is unknown{near(self.front_end, FRONT_ENDS)}")
        if self.pretrain_epochs and not (self.stored_views and self.trainable == "all"):
            raise UserError(
                "pretrain_epochs: it learns from stored spectrograms (stored_views), the whole network (all)"
            )
        if not (self.epochs or self.pretrain_epochs):
            raise UserError("epochs 0 must be more than 0, unless the network is pretrained (pretrain_epochs)")
        if self.opinion_layer and self.trainable == "head":
            raise UserError("opinion_layer: a last layer alone (--freeze) is that layer already")

    def to_document(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return dataclasses.asdict(self)


_CHOICES = {name: get_args(kind) for name, kind in get_type_hints(Recipe).items() if get_origin(kind) is Literal}
_PROBABILITIES = [
    "layer_decay",
    "average",
    "start_share",
    "label_smoothing",
    "distill",
    "roll",
    "placed",
    "background",
    "channel",
    "mix_waveforms",
    "bandwidth",
]
_POSITIVE = (
    "patience",
    "learning_rate",
    "head_learning_rate",
    "distill_temperature",
    "pretrain_learning_rate",
)
_LIMITS = {
    "batch": (1, 4096),  # windows of 5 s are 2.6 GB
    "pretrain_batch": (1, 4096),
    "dropout": (0, 0.99),
    "gain_db": (0, 100),
    "jitter_low_hz": (0, 100),
    "jitter_high_hz": (0, 3_000),
    "warp_frames": (0, 2),
    "warp_bands": (0, 1),
    "equalise_db": (0, 60),
    "bandwidth_hz": (1_000, 1_000_000),
    "nothing": (0, 10),
    "scenes": (1, 200),
}
"""Lowest and highest value; beyond them no window, mel bank or network can be made."""
_SHORTEST_CROP_SECONDS = 0.2


def _check(name: str, value: Any) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise UserError(f"{name} {value!r} is not one of {', '.join(_CHOICES[name])}")
    if name in _PROBABILITIES and value is not None and not 0 <= value <= 1:
        raise UserError(f"{name} {value} must be between 0 and 1")
    if name in _POSITIVE and not value > 0:
        raise UserError(f"{name} {value} must be more than 0")
    low, high = _LIMITS.get(name, (0, 1_000_000))
    if isinstance(value, float | int) and not isinstance(value, bool) and not low <= value <= high:
        raise UserError(f"{name} {value} must be a number from {low} to {high}")
    if name == "inner_share" and not 0 < value < 0.6:
        raise UserError(f"inner_share {value} must be more than 0 and less than 0.6")
    if name == "crop_seconds" and 0 < value < _SHORTEST_CROP_SECONDS:
        raise UserError(f"crop_seconds {value} must be 0, or {_SHORTEST_CROP_SECONDS} or more")
    if name == "background_snr_db" and not -200 <= value[0] <= value[1] <= 200:
        raise UserError(f"background_snr_db {value} must be two numbers from -200 to 200, the lower one first")


_ORIGIN = Recipe(
    # The settings of the project that this one answers, as far as its table tells: whole network, no placed windows,
    # no noise, a softmax over 50 labels.
    front_end="origin",
    activation="softmax",
    nothing=0.0,
    placed=0.0,
    bandwidth=0.0,
    jitter_low_hz=10.0,
    fitted_head=False,
    head="mlp",
)

_CRNN = Recipe(
    epochs=100,
    batch=16,
    patience=100,
    frozen_norm=False,
    learning_rate=2e-3,
    head_learning_rate=2e-3,
    weight_decay=0.02,
    warmup_epochs=2.0,
    clip_gradient=5.0,
    average=0.998,
    stored_views=3,
    crop_seconds=2.5,
    nothing=0.05,
    placed=0.2,
    warp_frames=0.3,
    warp_bands=0.1,
    equalise_db=6.0,
    mask_bands=8,
    mask_frames=10,
    mix_spectrograms=0.2,
    dropout=0.2,
    activation="softmax",
)

RECIPES: dict[str, Recipe] = {
    "finetune": Recipe(frozen_blocks=9, learning_rate=1e-3, start_share=0.5, opinion=True),
    "head": Recipe(trainable="head", inner_share=0.25, opinion=True),  # the last fit learns from these, too
    "stream": Recipe(
        trainable="upper",
        epochs=6,
        batch=64,
        frozen_blocks=10,
        head="mlp",
        learning_rate=1e-3,
        head_learning_rate=2e-3,
        weight_decay=1e-3,
        clip_gradient=5.0,
        surprise=1.0,
        opinion=True,
        opinion_layer=True,
        enter_logit=1.5,
    ),
    "gradual": Recipe(trainable="gradual", layer_decay=0.85),
    "crnn": _CRNN,
    "crnn-distilled": replace(
        _CRNN,
        epochs=40,
        batch=32,
        learning_rate=5e-4,
        head_learning_rate=1e-3,
        distill=0.8,
        distill_temperature=2.0,
        mix_spectrograms=0.5,
        pretrain_epochs=40,
    ),
    "crnn-pretrained": replace(_CRNN, epochs=0, activation="sigmoid", pretrain_epochs=40),
    "origin-crnn": replace(_ORIGIN, epochs=20, frozen_norm=False, learning_rate=1e-3, head_learning_rate=1e-3),
    "origin-default": replace(_ORIGIN, epochs=10, front_end="efficientat"),
    "origin-custom-10": replace(_ORIGIN, epochs=10),
    "origin-custom-20": replace(_ORIGIN, epochs=20),
    "origin-custom-50": replace(_ORIGIN, epochs=50),
}
"""All recipes, by the name that `--recipe` takes."""


def named(name: str, changes: dict[str, str]) -> Recipe:
    """A recipe with some of its fields changed, as `--set FIELD=VALUE` gives them.

    Raises:
        UserError: no such recipe or field, or a value that the field cannot have.
    """
    if name not in RECIPES:
        raise UserError(f"no recipe {name!r}{near(name, RECIPES)}; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    return replace(recipe, **{field: _parsed(recipe, field, text) for field, text in changes.items()})


def _parsed(recipe: Recipe, field: str, text: str) -> Any:
    kinds = {each.name: each.type for each in dataclasses.fields(Recipe)}
    if field not in kinds:
        raise UserError(f"a recipe has no field {field!r}{near(field, kinds)}")
    kind, old = kinds[field], getattr(recipe, field)
    try:
        if text.lower() == "none" and "None" in str(kind):
            return None
        if isinstance(old, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if isinstance(old, tuple):
            low, high = map(float, text.split(","))
            return low, high
        if isinstance(old, str):
            return text
        return int(text) if isinstance(old, int) else float(text)
    except (KeyError, ValueError):
        raise UserError(f"{field}={text}: not a value for {field}, which is {old!r} in this recipe") from None
