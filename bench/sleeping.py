"""`tagger` with a network that sleeps: it takes as long as one that computes, and leaves the processor to others.

    python -m bench.sleeping SECONDS listen ...     # each window takes so long
    python -m bench.sleeping SECONDS archive ...

Everything else is as it is: sources, windows, features, the engine, decisions, sinks, tables. All scores are 0.
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tagger.cli.main import main
from tagger.engine import runtime_onnx
from tagger.engine.scores import BatchScores

WINDOW_S = "TAGGER_BENCH_WINDOW_S"
"""Environment variable: time of a window, seconds."""


class SleepingClassifier(runtime_onnx.OnnxClassifier):
    """A graph that never runs."""

    def of_prepared(self, prepared: Sequence[Any]) -> BatchScores:
        time.sleep(len(prepared) * float(os.environ[WINDOW_S]))
        scores = np.zeros((len(prepared), len(self.info.labels)), np.float32)
        return BatchScores(scores, np.zeros((*scores.shape, 1), np.float32), self.info.window_seconds)


if __name__ == "__main__":
    runtime_onnx.OnnxClassifier = SleepingClassifier  # type: ignore[misc]
    if WINDOW_S in os.environ:  # a worker of `archive`, with the number of its socket
        from tagger.archive import worker

        worker.main()
    else:
        os.environ[WINDOW_S] = sys.argv.pop(1)
        if sys.argv[1] == "archive":
            from tagger.archive import pool

            pool.WORKER = "bench.sleeping"
        main()
