"""Several checkpoints as one model: which labels it has, and which checkpoint decides each. No torch.

Classes of a checkpoint's second opinion, which a user names, are further labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tagger.checkpoints.classes import ClassesInfo
from tagger.checkpoints.info import CheckpointInfo
from tagger.errors import CheckpointError
from tagger.features.config import MelConfig


@dataclass(frozen=True)
class JointInfo:
    """Describes several checkpoints as `CheckpointInfo` describes one. A label that two have is the first one's."""

    parts: tuple[CheckpointInfo, ...]
    """Two or more, with one sample rate; or one, with classes."""
    classes: ClassesInfo | None = None
    """The last labels: those of the second opinion of one of the checkpoints. None: there are none."""

    def __post_init__(self) -> None:
        """
        Raises:
            CheckpointError: the sample rates differ, or a checkpoint has no label that no earlier one has.
        """
        first = self.parts[0]
        for number, part in enumerate(self.parts):
            if part.mel.sample_rate_hz != first.mel.sample_rate_hz:
                raise CheckpointError(
                    f"{part.name} hears {part.mel.sample_rate_hz} Hz and {first.name} {first.mel.sample_rate_hz} Hz; "
                    "models that listen together must have one sample rate"
                )
            if not self.columns[number]:
                raise CheckpointError(
                    f"{part.name} has no label that {' or '.join(each.name for each in self.parts[:number])} lacks, so "
                    "it would not be asked; name it first, or leave it out"
                )

    @cached_property
    def columns(self) -> tuple[tuple[int, ...], ...]:
        """For each checkpoint, the numbers of its labels that no earlier one has."""
        taken: set[str] = set()
        found = []
        for part in self.parts:
            found.append(tuple(i for i, label in enumerate(part.labels) if label not in taken))
            taken.update(part.labels)
        return tuple(found)

    @property
    def doubles(self) -> dict[str, list[str]]:
        """By checkpoint, its labels that an earlier one has and decides. Only checkpoints that have any."""
        lost = {
            part.name: [label for i, label in enumerate(part.labels) if i not in set(columns)]
            for part, columns in zip(self.parts, self.columns, strict=True)
        }
        return {name: labels for name, labels in lost.items() if labels}

    @property
    def name(self) -> str:
        return "+".join([part.name for part in self.parts] + [each.name for each in self._classes])

    @property
    def _classes(self) -> tuple[ClassesInfo, ...]:
        return () if self.classes is None else (self.classes,)

    @property
    def mel(self) -> MelConfig:
        """The first one's: all have its sample rate, and each hears through its own."""
        return self.parts[0].mel

    @property
    def window_seconds(self) -> float:
        """Length of the longest window; a checkpoint with a shorter one hears its end."""
        return max(part.window_seconds for part in self.parts)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        pairs = zip(self.parts, self.columns, strict=True)
        own = (part.labels[i] for part, columns in pairs for i in columns)
        return (*own, *(label for each in self._classes for label in each.labels))

    @cached_property
    def thresholds(self) -> tuple[float, ...]:
        pairs = zip(self.parts, self.columns, strict=True)
        own = (part.thresholds[i] for part, columns in pairs for i in columns)
        return (*own, *(threshold for each in self._classes for threshold in each.thresholds))

    @cached_property
    def models(self) -> tuple[str, ...]:
        """[labels], name of the checkpoint that decides each."""
        own = (part.name for part, columns in zip(self.parts, self.columns, strict=True) for _ in columns)
        return (*own, *(each.name for each in self._classes for _ in each.labels))


ModelInfo = CheckpointInfo | JointInfo


def joined(parts: Sequence[CheckpointInfo]) -> ModelInfo:
    """One description of one checkpoint or several.

    Raises:
        CheckpointError: they cannot be heard together.
    """
    return parts[0] if len(parts) == 1 else JointInfo(tuple(parts))


def models_of(info: ModelInfo) -> tuple[str, ...]:
    """[labels], name of the checkpoint that decides each. Empty: one decides all."""
    return info.models if isinstance(info, JointInfo) else ()


def parts_of(info: ModelInfo) -> tuple[CheckpointInfo, ...]:
    """The checkpoints."""
    return info.parts if isinstance(info, JointInfo) else (info,)


def shortest_window_s(info: ModelInfo) -> float:
    """Length of the shortest window of all checkpoints, seconds: how long a moment is heard by each of them."""
    return min(part.window_seconds for part in parts_of(info))
