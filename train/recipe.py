"""How a network is trained: every choice that is not the data. A checkpoint's document carries its recipe."""

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, Literal

from tagger.errors import UserError, near
from tagger.features.config import FRONT_ENDS


@dataclass(frozen=True)
class Recipe:
    """Every number of the training loop. Probabilities are per clip and epoch."""

    epochs: int = 12
    batch: int = 32
    patience: int = 8
    """Epochs without a better inner validation after which training stops."""
    inner_share: float = 0.1
    """Share of the training clips that are kept aside, by recording, to choose the epoch and to calibrate."""

    # What is trained
    trainable: Literal["all", "head", "gradual", "upper"] = "all"
    """The whole network; the last layer alone, fitted exactly; from the last layer down, a block after the other; or
    the blocks above `frozen_blocks`, on windows that are made once (`train.fit.stream`)."""
    frozen_blocks: int = 0
    """So many blocks at the input stay as they are."""
    frozen_norm: bool = True
    """Batch norms keep the statistics that they start with. `--start nothing` changes this."""
    fitted_head: bool = True
    """Begin with a last layer fitted exactly to the network's features (Kumar et al., "Fine-Tuning can Distort
    Pretrained Features and Underperform Out-of-Distribution", ICLR 2022), not with a random one."""
    head: Literal["linear", "mlp"] = "linear"
    """On the pooled features of a network from published weights: one new layer, or, before it, the hidden layer that
    learnt for their labels."""
    dropout: float | None = None
    """None: the network's own."""

    # Optimisation: AdamW (Loshchilov and Hutter, ICLR 2019), linear warm-up, cosine to nothing
    learning_rate: float = 5e-4
    head_learning_rate: float = 1e-3
    layer_decay: float = 1.0
    """Each block nearer to the input learns at this fraction of the rate of the block after it."""
    weight_decay: float = 0.0
    warmup_epochs: float = 1.0
    clip_gradient: float = 0.0
    """Longest gradient, 2-norm; 0: any."""
    average: float = 0.995
    """Decay a step of the moving average of the weights, which is what is validated and kept; 0: none."""
    start_share: float = 0.0
    """Share that the weights from before the first batch have in those that are validated and kept. Wortsman et al.,
    "Robust fine-tuning of zero-shot models" (CVPR 2022)."""
    mixed_precision: bool = True
    """Half precision for matrices and convolutions, where the device is quicker with it."""

    # The target
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    label_smoothing: float = 0.0
    distill: float = 0.5
    """With a teacher: share of the loss that compares with the teacher, the rest compares with the labels."""
    distill_temperature: float = 1.0
    """Teacher's and student's logits are divided by it. Hinton et al., arXiv:1503.02531."""

    surprise: float = 0.0
    """With `upper`: what logits lose for a sound that the network is sure of and no label explains."""
    enter_logit: float = 0.0
    """With `upper`: the logit at which an event begins."""

    # Waveforms
    gain_db: float = 10.0
    """Louder by at most half of it, softer by at most all of it."""
    roll: float = 0.7
    """Probability of a circular shift."""
    placed: float = 0.4
    """Probability that the sound is somewhere in the window, cut off or late, over noise or a background recording."""
    crop_seconds: float = 0.0
    """Train on random pieces of this length; 0: on whole windows."""
    nothing: float = 0.15
    """Windows that are none of the labels (noise, fragments, background recordings), as a share of the clips."""
    background: float = 0.0
    """Probability of noise or a background recording under the clip, at `background_snr_db`."""
    background_snr_db: tuple[float, float] = (0.0, 30.0)
    mix_waveforms: float = 0.0
    """Probability that two clips sound at once. The window then has both labels' shares."""

    stored_views: int = 0
    """Spectrograms are made once, of so many views of each clip, and learnt from in all epochs; 0: made anew from
    the waveforms in each. Then mixing of waveforms and changes of bands do not take place."""

    # Spectrograms
    mix_spectrograms: float = 0.4
    """Alpha of mixup's beta distribution (Zhang et al., ICLR 2018); 0: none."""
    warp_frames: float = 0.0
    """Up to so much quicker or slower, as a share; 0: neither."""
    warp_bands: float = 0.0
    """Bands moved by up to so much of half their number, and spread or pressed together by as much; 0: not."""
    equalise_db: float = 0.0
    """Largest gain of any band against the others; 0: none."""
    mask_bands: int = 0
    """Widest mask over mel bands (Park et al., "SpecAugment", Interspeech 2019); 0: none."""
    mask_frames: int = 0
    """Longest mask over frames; 0: none."""
    jitter_low_hz: float = 10.0
    """The lowest mel band begins up to so much higher, drawn for each batch."""
    jitter_high_hz: float = 1_000.0
    """The highest mel band ends up to so much higher or lower, drawn for each batch."""
    bandwidth: float = 0.1
    """Probability, for each batch, that all above a random frequency from 3 kHz on is taken away."""

    # The front end, for networks that start from nothing; others keep the one that they were trained with
    front_end: str = "efficientat"
    """A key of tagger.features.config.FRONT_ENDS."""
    bandwidth_hz: float | None = 7_500.0
    """What is above is treated as silence, in training and ever after. Every copy of ESC-50 holds this much."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name))
        if self.front_end not in FRONT_ENDS:
            raise UserError(f"front_end {self.front_end!r} is unknown{near(self.front_end, FRONT_ENDS)}")

    def to_document(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


_CHOICES = {
    "head": ("linear", "mlp"),
    "trainable": ("all", "head", "gradual", "upper"),
    "activation": ("sigmoid", "softmax"),
}
_PROBABILITIES = [
    "layer_decay",
    "average",
    "start_share",
    "label_smoothing",
    "distill",
    "roll",
    "placed",
    "background",
    "mix_waveforms",
    "bandwidth",
]
_POSITIVE = ("epochs", "batch", "patience", "learning_rate", "head_learning_rate", "distill_temperature")
_LIMITS = {
    "dropout": (0, 0.99),
    "gain_db": (0, 100),
    "jitter_low_hz": (0, 100),
    "jitter_high_hz": (0, 3_000),
    "warp_frames": (0, 2),
    "warp_bands": (0, 1),
    "equalise_db": (0, 60),
    "bandwidth_hz": (1_000, 1_000_000),
    "nothing": (0, 10),
}
"""Beyond them no window, no mel bank or no network can be made."""
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
    # The origin's loop as far as its table tells: whole network, no placed windows, no noise, a softmax of 50.
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
    "finetune": Recipe(frozen_blocks=9, learning_rate=1e-3, start_share=0.5),
    "head": Recipe(trainable="head", inner_share=0.25),  # the last fit learns these, too
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
        enter_logit=1.5,
    ),
    "gradual": Recipe(trainable="gradual", layer_decay=0.85),
    "crnn": _CRNN,
    "crnn-distilled": replace(_CRNN, distill=0.8, distill_temperature=2.0, mix_spectrograms=0.5),
    "origin-crnn": replace(_ORIGIN, epochs=20, frozen_norm=False, learning_rate=1e-3, head_learning_rate=1e-3),
    "origin-default": replace(_ORIGIN, epochs=10, front_end="efficientat"),
    "origin-custom-10": replace(_ORIGIN, epochs=10),
    "origin-custom-20": replace(_ORIGIN, epochs=20),
    "origin-custom-50": replace(_ORIGIN, epochs=50),
}
"""By the name that `--recipe` takes."""


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
