"""Recordings that are none of the labels: which of them a head learns from."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch

from tagger.errors import UserError
from tests.trainings import mn_backbone
from train.fit.backbone import Backbone
from train.fit.negatives import STEPS, Negatives, fingerprint, negatives_for, stored

pytestmark = pytest.mark.train


def knows_two_classes() -> Backbone:
    """A backbone whose published layers tell two classes, by the first two features, and never any other."""
    plain = mn_backbone(head="mlp")
    assert plain.weights is not None
    weights = {name: tensor.clone() for name, tensor in plain.weights.items()}
    for layer in ("classifier.2", "classifier.5"):
        for kind in ("weight", "bias"):
            weights[f"{layer}.{kind}"].zero_()
        weights[f"{layer}.weight"][[0, 1], [0, 1]] = 10.0
    weights["classifier.5.bias"][:2], weights["classifier.5.bias"][2:] = -10.0, -100.0
    return replace(plain, weights=weights)


BACKBONE = knows_two_classes()
SIZE = BACKBONE.build(2).embedding_size
NO_LAYERS = torch.nn.Sequential()
"""Of a linear head, between pooling and the last layer."""
NEITHER, FIRST, SECOND, BOTH = (torch.tensor([*pair, *[0.0] * (SIZE - 2)]) for pair in ((0, 0), (1, 0), (0, 1), (1, 1)))
RECORDED = torch.stack([NEITHER, FIRST, SECOND, BOTH])


@pytest.fixture(autouse=True)
def of_the_user(home) -> None:
    """The user's file of negatives holds these four windows."""
    steps = RECORDED[:, None].repeat(1, STEPS, 1)
    home.mkdir(exist_ok=True)
    np.savez(stored(), pooled=RECORDED, steps=steps, fingerprint=fingerprint(BACKBONE))


def found(heard: torch.Tensor, backbone: Backbone = BACKBONE) -> Negatives:
    """For one label whose only clip has these features."""
    return negatives_for(backbone, NO_LAYERS, heard[None], torch.ones(1, 1))


@pytest.mark.parametrize(
    ("heard", "expected"),
    [(NEITHER, [FIRST, SECOND, BOTH]), (FIRST, [SECOND, BOTH]), (SECOND, [FIRST, BOTH]), (BOTH, [])],
)
def test_recordings_of_what_a_label_sounds_like_are_left_out(heard, expected):
    """A user may teach `speech`, although speech is among the recordings."""
    kept = found(heard)
    assert torch.equal(kept.whole, torch.stack(expected) if expected else RECORDED[:0])
    assert torch.equal(kept.steps, kept.whole[:, None].repeat(1, STEPS, 1))


def test_a_hidden_layer_that_is_kept_gives_its_own_features():
    hidden = BACKBONE.build(2).eval().classifier[2:-1]
    kept = negatives_for(BACKBONE, hidden, hidden(FIRST[None]).detach(), torch.ones(1, 1))
    assert torch.equal(kept.whole, hidden(torch.stack([SECOND, BOTH])))


@pytest.mark.parametrize("other", [mn_backbone(1, head="mlp"), replace(BACKBONE, weights=None)])
def test_other_networks_have_none(other):
    kept = found(NEITHER, other)
    assert (kept.whole.shape, kept.steps.shape) == ((0, SIZE), (0, STEPS, SIZE))


def test_without_the_file_there_are_none():
    stored().unlink()
    assert len(found(NEITHER)) == 0


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_a_damaged_file_is_one_line(content):
    stored().write_bytes(content)
    with pytest.raises(UserError, match=r"negatives\.npz: damaged"):
        found(NEITHER)
    whole = BytesIO()
    np.savez(whole, pooled=RECORDED, fingerprint=fingerprint(BACKBONE))
    stored().write_bytes(whole.getvalue())
    with pytest.raises(UserError, match=r"negatives\.npz: damaged"):
        found(NEITHER)


def test_halves_share_no_window():
    one, other = Negatives(RECORDED, RECORDED[:, None].repeat(1, STEPS, 1)).halves()
    assert torch.equal(one.whole, torch.stack([NEITHER, SECOND]))
    assert torch.equal(other.whole, torch.stack([FIRST, BOTH]))
