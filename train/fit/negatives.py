"""Features of recordings that are none of a user's labels, for heads on `mn04`: speech, music, instruments, effects.

A few own labels alone do not tell a network what else there is: a head that has heard a doorbell and noise takes all
that is not noise for the doorbell. `scripts/negatives.py` makes features of recordings once, as openWakeWord does for
wake words; they lie in `$TAGGER_HOME`, since the recordings are other people's.
"""

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tagger import files
from tagger.errors import UserError
from tagger.models.network import build
from train.fit.backbone import Backbone

STEPS = 4
"""Steps that are kept of each window."""
_KNOWN = 0.2
"""A recording stays if the backbone hears something in it that is in no label's sounds, with this probability at least.
"""


@dataclass(frozen=True)
class Negatives:
    whole: Tensor
    """[N, F], inputs of the last layer for windows."""
    steps: Tensor
    """[N, STEPS, F], inputs of the last layer for some steps of each."""

    def __len__(self) -> int:
        return len(self.whole)

    def added_to(self, features: Tensor, targets: Tensor, of_steps: bool = False) -> tuple[Tensor, Tensor]:
        """These rows, [N, F] and [N, labels], and below them the negatives with targets of zero."""
        more = self.steps.flatten(0, 1) if of_steps else self.whole
        return torch.cat([features, more]), torch.cat([targets, targets.new_zeros(len(more), targets.shape[1])])

    def halves(self) -> tuple["Negatives", "Negatives"]:
        """Two of them, each with every other window: to fit by, and to choose by."""
        return (Negatives(self.whole[::2], self.steps[::2]), Negatives(self.whole[1::2], self.steps[1::2]))


def stored() -> Path:
    """The file that `scripts/negatives.py` writes. It may be missing."""
    return files.home() / "negatives.npz"


def fingerprint(backbone: Backbone) -> str:
    """Hash of everything that the features depend on."""
    assert backbone.weights is not None
    digest = hashlib.sha256(f"{backbone.architecture} {backbone.config.width} {backbone.mel}".encode())
    for name in sorted(backbone.weights):
        digest.update(name.encode() + backbone.weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def negatives_for(backbone: Backbone, head: torch.nn.Sequential, heard: Tensor, targets: Tensor) -> Negatives:
    """The recordings that none of these labels explains; none at all if the user has none for this backbone.

    Args:
        head: the network's layers after pooling and flattening, without the last one.
        heard: [clips, F], inputs of the last layer for clips.
        targets: [clips, labels], 0 or 1.

    Raises:
        UserError: the file of features is damaged.
    """
    size = heard.shape[1]
    nothing = Negatives(heard.new_zeros(0, size), heard.new_zeros(0, STEPS, size))
    if backbone.weights is None or not stored().is_file():
        return nothing
    try:
        if not zipfile.is_zipfile(stored()):
            raise ValueError("no archive")
        with np.load(stored()) as found:
            if str(found["fingerprint"]) != fingerprint(backbone):
                return nothing
            pooled, steps = (torch.from_numpy(found[name].astype(np.float32)) for name in ("pooled", "steps"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{stored()}: damaged ({error}); delete it, or make it again by scripts/negatives.py") from None
    config = replace(backbone.config, head="mlp", labels=len(backbone.labels))  # as its weights were published
    published = build(backbone.architecture, config).eval()
    published.load_state_dict(backbone.weights)
    layers: torch.nn.Sequential = published.classifier[2:]  # type: ignore[index,assignment]
    with torch.inference_mode():
        in_clips = (layers[-1] if len(head) else layers)(heard).sigmoid()
        expected = (targets.T @ in_clips / targets.sum(0).clamp(min=1)[:, None]).amax(0)  # [classes]
        kept = (layers(pooled).sigmoid() * (1 - expected)).amax(1) >= _KNOWN
        return Negatives(head(pooled[kept]), head(steps[kept]))
