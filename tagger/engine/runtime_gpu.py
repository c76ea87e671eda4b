"""PyTorch on a GPU: one copy in and one out for a batch, the network in half precision, small batches as CUDA graphs.

Samples are gathered in pinned memory, which a copy leaves without the processor. Features are computed in float32: the
powers of quiet and of loud sounds do not fit half precision together. Only the network is halved, which changes a score
by 0.004 at most (`esc50` on the demo). All outputs come back as one array.

A small batch is bound by the launches of some 200 kernels, which a CUDA graph replays at once. `torch.compile` would
need a C compiler, and minutes at the first start for each size of a batch.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagger.checkpoints.checkpoint import Checkpoint
from tagger.engine.runtime_torch import Classifier
from tagger.engine.scores import NetworkOutputs
from tagger.events import Samples

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Windows of the batches that are replayed; others are filled up to the next. Larger ones keep the GPU busy anyway."""
_MOST_REPLAYS = 2 * len(SIZES)
_OFF_SECONDS = 3_600.0
"""Time after which recordings are tried again that did not work, seconds: others may have had the memory."""
_TOLERANCE = 0.05
"""Most that a replayed logit may differ from the network's, at the capture; half precision rounds by less."""
Replay = Callable[[Tensor], Tensor]
"""A batch of features to the network's outputs, side by side."""


class GpuClassifier(Classifier):
    """A checkpoint on a GPU, ready to classify."""

    def __init__(self, checkpoint: Checkpoint, device: str, half: bool | None = None) -> None:
        """
        Args:
            device: as `Classifier`.
            half: whether the network computes in half precision. None: on CUDA.

        Raises:
            UserError: this machine has no such device.
        """
        super().__init__(checkpoint, device)
        is_cuda = self.device.type == "cuda"
        self._dtype = torch.float16 if (is_cuda if half is None else half) else torch.float32
        self._model = self._model.to(self._dtype)
        self._shapes: dict[torch.Size, list[tuple[int, ...] | None]] = {}
        """Of each output of the network, without the batch, by the features' shape. None: it has no such output."""
        self._host = _Host(is_cuda)
        self._run: Replay = self._packed
        if is_cuda:
            pool = torch.cuda.graph_pool_handle()  # recordings are replayed one after the other, in the same memory
            self._run = Replays(self._packed, lambda run, given: captured_cuda(run, given, pool))

    def features(self, waveforms: Samples) -> Tensor:
        """[B, 1, bands, frames], on the device."""
        return self.joined([waveforms])

    def preparer(self, window_samples: int, hop_samples: int) -> Callable[[Any], Samples]:
        """Waveforms: the device makes the features of a whole batch."""
        return lambda window: window.samples[None]

    def joined(self, prepared: Sequence[Any]) -> Tensor:
        with torch.inference_mode():
            features: Tensor = self._features(self._host.sent(prepared, self.device))
            return features.to(self._dtype)

    def outputs_of(self, features: Tensor) -> NetworkOutputs:
        with torch.inference_mode():
            found = self._host.received(self._run(features))
        outputs, at = [], 0
        for shape in self._shapes[features.shape[1:]]:
            size = 0 if shape is None else math.prod(shape)
            outputs.append(None if shape is None else found[:, at : at + size].reshape(len(found), *shape))
            at += size
        return NetworkOutputs(*outputs)  # type: ignore[arg-type]

    def _packed(self, features: Tensor) -> Tensor:
        """All outputs side by side, [B, size], float32."""
        outputs = self._model.outputs(features.to(memory_format=torch.channels_last))
        shapes = [None if each is None else tuple(each.shape[1:]) for each in outputs]
        self._shapes[features.shape[1:]] = shapes
        return torch.cat([each.flatten(1).float() for each in outputs if each is not None], 1)


class _Host(threading.local):
    """Memory of the host that a batch goes through, of each thread its own."""

    def __init__(self, is_pinned: bool) -> None:
        self._is_pinned = is_pinned
        self._given = self._found = torch.empty(0)
        self._on_its_way: torch.cuda.Event | None = None

    def sent(self, waveforms: Sequence[Samples], device: torch.device) -> Tensor:
        """Waveforms, each [n, N], as one tensor on the device, [B, N]."""
        count, size = sum(len(each) for each in waveforms), waveforms[0].shape[1]
        if self._on_its_way is not None:
            self._on_its_way.synchronize()  # else samples that are not yet copied would be overwritten
        self._given = self._large_enough(self._given, count * size)
        given = self._given[: count * size].view(count, size)
        np.concatenate(waveforms, out=given.numpy())
        if not self._is_pinned:
            return given.clone() if device.type == "cpu" else given.to(device)
        there = given.to(device, non_blocking=True)
        self._on_its_way = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._on_its_way.record(torch.cuda.current_stream(device))
        return there

    def received(self, found: Tensor) -> Samples:
        """A tensor of the device as an array."""
        if not self._is_pinned:
            return found.cpu().numpy()
        self._found = self._large_enough(self._found, found.numel())
        here = self._found[: found.numel()].view(found.shape)
        here.copy_(found, non_blocking=True)
        torch.cuda.current_stream(found.device).synchronize()
        return here.numpy().copy()

    def _large_enough(self, memory: Tensor, size: int) -> Tensor:
        if memory.numel() >= size:
            return memory
        return torch.empty(size, dtype=torch.float32, pin_memory=self._is_pinned)


class Replays:
    """Small batches as recordings of what the GPU did for one of their size, which are replayed."""

    def __init__(
        self, run: Replay, capture: Callable[[Replay, Tensor], Replay], now: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Args:
            run: the network.
            capture: makes a recording for features of one shape.
        """
        self._run, self._capture = run, capture
        self._replays: dict[torch.Size, Replay] = {}
        self._lock = threading.Lock()
        """A recording has one place for its features, and one for its outputs."""
        self._now, self._off_until = now, -math.inf
        """Until when there are no recordings, as one did not work, on the monotonic clock."""

    @property
    def is_off(self) -> bool:
        """Whether there are no recordings, as one did not work lately."""
        return self._now() < self._off_until

    def __call__(self, features: Tensor) -> Tensor:
        size = next((size for size in SIZES if size >= len(features)), None)
        if size is None or self.is_off:
            return self._run(features)
        with self._lock:
            shape = torch.Size((size, *features.shape[1:]))
            if shape not in self._replays and not self._record(features, shape):
                return self._run(features)
            return self._replays[shape](features)

    def _record(self, features: Tensor, shape: torch.Size) -> bool:
        if self.is_off or len(self._replays) >= _MOST_REPLAYS:
            return False
        try:
            replay = self._capture(self._run, torch.zeros(shape, dtype=features.dtype, device=features.device))
            difference = float((replay(features) - self._run(features)).abs().max())
        except RuntimeError as error:  # out of memory, too: the batch itself may fit
            self._stop(f"{error}")
            return False
        if not difference <= _TOLERANCE:
            self._stop(f"a replay differs by {difference:.2g}")
            return False
        self._replays[shape] = replay
        return True

    def _stop(self, why: str) -> None:
        self._off_until = self._now() + _OFF_SECONDS
        self._replays.clear()
        log.info("small batches take longer on this GPU: no CUDA graphs (%s)", why.strip().partition("\n")[0])


def captured_cuda(run: Replay, given: Tensor, pool: Any) -> Replay:
    """A CUDA graph of `run` for features of the shape of `given`, or for fewer windows."""
    stream = torch.cuda.Stream(given.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(given.device))
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries choose their algorithms, and take their memory, before
            run(given)
    torch.cuda.current_stream(given.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # other threads copy meanwhile
        found = run(given)

    def replay(features: Tensor) -> Tensor:
        given[: len(features)].copy_(features)
        graph.replay()
        return found[: len(features)].clone()

    return replay
