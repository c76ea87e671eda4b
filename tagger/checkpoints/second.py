"""`tagger models opinion`: gives a checkpoint a second opinion, the official network that it was made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from tagger.checkpoints import checkpoint, store
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.opinion import Opinion, classes_for, read_constants
from tagger.errors import CheckpointError, UserError
from tagger.models.config import LEAST_SHARED
from tagger.models.network import Network
from tagger.models.opinion import with_opinion


@dataclass(frozen=True)
class Asked:
    """How a second opinion is to count."""

    classes: Mapping[str, tuple[str, ...]]
    """By label, the classes that mean it, where the package's table has no such label, or others."""
    bias: float | None = None
    """None: the package's."""
    head: str | None = None
    """Name or path of a checkpoint of the recipe `head` on the same official network: its last layer says how sure the
    official network is of each label. None: there is none."""


def add(model: str, official: str | None, asked: Asked, out: Path) -> CheckpointInfo:
    """Writes the checkpoint with a second opinion; one that it has already is replaced.

    Args:
        official: name or path of the official network. None: the one that the checkpoint was trained from.

    Raises:
        CheckpointError: a file cannot be read, or the networks share too few layers.
        UserError: no classes are known for a label, or no usual logits for the network.
    """
    path = store.find(model)
    loaded = checkpoint.load(path)
    name = official or str(loaded.info.training.get("backbone", {}).get("name", ""))
    if not name:
        raise UserError(f"{path}: does not say which network it was trained from; --of NAME")
    other = checkpoint.load(store.find(name))
    if not is_official(other.info):
        raise UserError(f"{name}: is no official AudioSet network, and only they have a second opinion")
    head, heard = last_layer(asked.head, loaded.info, other.info.name) if asked.head else (None, ())
    network = with_opinion(cast(Network, loaded.model), cast(Network, other.model), head)
    if network is None:
        raise CheckpointError(
            f"{path}: shares fewer than {LEAST_SHARED} layers with {name}, and a second network would cost too much"
        )
    constants = read_constants()
    measured = _measured(constants, loaded.info, asked)
    section = opinion_for(loaded.info.labels, other.info, asked, constants, measured)
    licences = tuple(dict.fromkeys((*loaded.info.licences, *other.info.licences)))
    info = replace(loaded.info, config=network.config, opinion=section, licences=licences)
    if heard:
        heard = sorted({*info.training.get("trained_on", ()), *heard})
        info = replace(info, training={**info.training, "trained_on": heard})
    if thresholds := measured.get("thresholds"):
        info = replace(info, thresholds=tuple(float(thresholds[label]) for label in info.labels))
    checkpoint.save(out, info, network, half=True)
    return info


def last_layer(model: str, info: CheckpointInfo, official: str) -> tuple[nn.Linear, Sequence[str]]:
    """The last layer of a checkpoint of the recipe `head`, in the order of another's labels; and the clips that it has
    heard. Its temperature and bias are in its weights.

    Raises:
        CheckpointError: the file cannot be read.
        UserError: it is no linear layer on that official network, or lacks labels.
    """
    loaded = checkpoint.load(store.find(model))
    theirs, made = loaded.info, loaded.info.training
    is_linear = made.get("recipe") == "head" and getattr(theirs.config, "head", None) == "linear"
    if not is_linear or made.get("backbone", {}).get("name") != official or theirs.config.joint or theirs.others:
        raise UserError(f"--head {model}: is no single linear layer on {official} (`tagger train --freeze`)")
    if lacking := [label for label in info.labels if label not in theirs.labels]:
        raise UserError(f"--head {model}: does not know {', '.join(lacking[:5])}")
    order = [theirs.labels.index(label) for label in info.labels]
    last = cast(Any, loaded.model).classifier[-1]
    found = nn.Linear(last.in_features, len(order))
    found.load_state_dict(
        {"weight": last.weight[order] / theirs.temperature, "bias": last.bias[order] / theirs.temperature + theirs.bias}
    )
    return found, made.get("trained_on", ())


def opinion_for(
    labels: Sequence[str],
    other: CheckpointInfo,
    asked: Asked,
    constants: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> Opinion:
    """
    Args:
        constants: as `read_constants` gives them.
        measured: as `_measured` gives it.

    Raises:
        UserError: no classes are known for a label, or no usual logits for the network.
    """
    table = classes_for(labels, other.labels) | dict(asked.classes)
    if lacking := [label for label in labels if label not in table]:
        raise UserError(
            f"no AudioSet class is known to mean {', '.join(lacking[:5])}: --classes FILE, a CSV with the columns "
            "label and classes (`a; b`)"
        )
    if other.name not in constants["usual"]:
        raise UserError(f"the usual logits of {other.name} are not known; those of {', '.join(constants['usual'])} are")
    known = set(other.labels)
    if strange := [name for label in labels for name in table[label] if name not in known]:
        raise UserError(f"{strange[0]!r} is no class of {other.name}")
    usual = constants["usual"][other.name]
    bias = measured.get("bias", constants["bias"]) if asked.bias is None else asked.bias
    weights = constants["weights"] | ({} if asked.head else {"share": 0.0})
    means = tuple(table[label] for label in labels)
    mean, spread = tuple(usual["mean"]), tuple(usual["spread"])
    return Opinion(other.labels, means, mean, spread, **weights, bias=bias, network=other.name)


def _measured(constants: Mapping[str, Any], info: CheckpointInfo, asked: Asked) -> Mapping[str, Any]:
    """What was measured of this model with such a head: `bias`, and `thresholds` by label. Empty: nothing was."""
    found: Mapping[str, Any] = constants["models"].get(info.name, {})
    return found if asked.head and set(found.get("thresholds", ())) == set(info.labels) else {}


def is_official(info: CheckpointInfo) -> bool:
    """Whether it is a network as it was published, trained on AudioSet."""
    return info.training.get("recipe") == "official" and info.training.get("data") == "AudioSet"
