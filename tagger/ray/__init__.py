"""For Ray: `Tagger` is a callable class for Ray Data's `map_batches`; `tagger.ray.serve` answers HTTP by Ray Serve.

Only `serve` imports Ray. Of the others Ray imports what it is told to.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tagger import api
from tagger.errors import UserError

_AUDIO, _RATE, _PATH = "amplitude", "sample_rate", "path"


class Tagger:
    """Labels of clips, batch by batch. Each of Ray's workers makes one, and opens its models once.

    >>> clips = {"amplitude": [np.zeros(32_000, np.float32)], "sample_rate": [32_000]}
    >>> found = Tagger(top=2)(clips)
    >>> len(found["labels"][0]), found["scores"].shape
    (2, (1, 2))
    """

    def __init__(self, *models: str, top: int = 5, **options: Any) -> None:
        """
        Args:
            models, options: as `tagger.load` takes them.
            top: number of labels of a clip.
        """
        self._tagger, self._top = api.load(*models, **options), top

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with three more columns.

        Args:
            batch: columns `amplitude` ([samples] or [channels, samples]) and `sample_rate`, as `ray.data.read_audio`
                gives them; or `path`, files that every worker can read.

        Returns:
            `labels`: of each clip, those with the highest scores of any window, highest first; `scores`, [B, top],
            float32, NaN where there are none; `error`: why a clip could not be heard, or "".

        Raises:
            UserError: the batch has none of these columns.
        """
        if _AUDIO not in batch and _PATH not in batch:
            raise UserError(f"the batch has no columns {_AUDIO} and {_RATE}, and no column {_PATH}")
        count = len(batch[_AUDIO if _AUDIO in batch else _PATH])
        labels, errors = np.empty(count, object), np.empty(count, object)
        scores = np.full((count, self._top), np.nan, np.float32)
        for row in range(count):
            labels[row], errors[row] = [], ""
            try:
                best = self._best(batch, row)
            except UserError as error:
                errors[row] = str(error)
                continue
            labels[row] = [label for label, _ in best]
            scores[row, : len(best)] = [score for _, score in best]
        return {**batch, "labels": labels, "scores": scores, "error": errors}

    def _best(self, batch: Mapping[str, Any], row: int) -> list[tuple[str, float]]:
        if _AUDIO in batch:
            return self._tagger.classify(np.asarray(batch[_AUDIO][row]), int(batch[_RATE][row])).top(self._top)
        highest: dict[str, float] = {}
        for window in self._tagger.tag(str(batch[_PATH][row])):
            for label, score in zip(window.labels, window.scores.tolist(), strict=True):
                highest[label] = max(score, highest.get(label, 0.0))
        return sorted(highest.items(), key=lambda each: -each[1])[: self._top]
