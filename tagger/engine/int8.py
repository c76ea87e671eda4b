"""`tagger export --int8`: a graph whose convolutions and matrix products compute with integers of 8 bits.

Whether that is quicker depends on the processor: one that sums products of bytes in one step (VNNI, Arm's SDOT) gains,
another may lose. So it is measured here, on this machine, and kept only where it is worth it.
"""

import itertools
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from tagger.audio.decode import decode_blocks
from tagger.audio.window import SlidingWindows
from tagger.checkpoints.graph import CUT_KEY, FEATURES, INT8_KEY
from tagger.checkpoints.info import CheckpointInfo
from tagger.engine.runtime_onnx import OnnxClassifier
from tagger.errors import CheckpointError, UserError, checkpoint_errors
from tagger.events import Samples, Window
from tagger.features.frames import FrontEnd
from tagger.files import replacing
from tagger.printable import number_of

LEAST_WINDOWS = 200
"""Fewest windows that show a loss of half a point."""
MOST_LOST = 0.5
"""Most percentage points that may be lost."""
_MOST_WINDOWS = 5000
_MOST_CALIBRATING = 100
"""Windows that choose the ranges of the integers; the others measure what is lost."""
_TIMED = 15
"""Windows in a timing; the quickest counts."""
_OPERATIONS = ["Conv", "Gemm", "MatMul"]


@dataclass(frozen=True)
class Tradeoff:
    """What integers cost and save on this machine."""

    float_ms: float
    """Processor time of a window by the graph of float32, milliseconds."""
    int8_ms: float
    lost: float
    """Percentage points."""
    measure: str
    """What is lost."""
    windows: int

    @property
    def is_worth_it(self) -> bool:
        return self.int8_ms < self.float_ms and self.lost <= MOST_LOST

    def __str__(self) -> str:
        return (
            f"{self.int8_ms:.2f} ms of processor a window, {self.float_ms:.2f} in float32; "
            f"{self.measure} {self.lost:.2f} points in {number_of(self.windows, 'window')}"
        )


@dataclass(frozen=True)
class HeardWindow:
    """A window of a recording."""

    samples: Samples
    label: int | None
    """Number of the label that the file's folder names."""


def export_int8(info: CheckpointInfo, checkpoint: Path, graph: Path, sounds: Sequence[Path]) -> Tradeoff:
    """Replaces an exported graph by one that computes with integers, if that is quicker here and loses little.

    Args:
        graph: the exported graph, in float32.
        sounds: recordings; the folder of one may name its label. A part calibrates, the rest measures.

    Raises:
        CheckpointError: it is not worth it on this machine; the graph stays as it was. Or it cannot be made.
        UserError: the recordings are too few.
    """
    count = sum(1 for _ in _heard(info, sounds))
    if count < LEAST_WINDOWS:
        raise UserError(
            f"--int8 needs {LEAST_WINDOWS} windows to see what it loses, and these recordings have {count}: "
            "--on DIR names more"
        )
    every, front_end = max(2, count // _MOST_CALIBRATING), FrontEnd(info.mel)
    with replacing(graph) as partial:
        calibrating = itertools.islice(_heard(info, sounds), 0, None, every)
        _quantize(graph, partial, (front_end(each.samples[None]) for each in calibrating))
        rest = (each for number, each in enumerate(_heard(info, sounds)) if number % every)
        exact, quick = OnnxClassifier(info, checkpoint, graph), OnnxClassifier(info, checkpoint, partial)
        found = tradeoff(exact, quick, info, rest)
        if not found.is_worth_it:
            raise CheckpointError(f"int8 is not worth it on this machine: {found}; the graph stays in float32")
    return found


def _heard(info: CheckpointInfo, sounds: Sequence[Path]) -> Iterator[HeardWindow]:
    """Windows of the recordings, one behind the other, of each no more than keeps their number bounded."""
    rate_hz, window_s = info.mel.sample_rate_hz, info.window_seconds
    left = _MOST_WINDOWS
    for number, path in enumerate(sounds):
        label = info.labels.index(path.parent.name) if path.parent.name in info.labels else None
        sliding = SlidingWindows.of_seconds(window_s, window_s, rate_hz)
        windows = sliding.cut(decode_blocks(path, rate_hz), flush=False)
        for window in itertools.islice(windows, min(left, max(1, left // (len(sounds) - number)))):
            left -= 1
            yield HeardWindow(window.samples, label)


def _quantize(graph: Path, out: Path, calibration: Iterator[Samples]) -> None:
    """Raises: CheckpointError: ONNX Runtime cannot quantize it."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Samples] | None:
            features = next(calibration, None)
            return None if features is None else {FEATURES: features}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain = Path(folder) / "plain.onnx"
        with checkpoint_errors(f"{graph}: cannot be made int8"):
            quant_pre_process(str(graph), str(plain), skip_symbolic_shape=True)  # folds batch norms and casts
            quantize_static(
                str(plain),
                str(out),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPERATIONS,
                per_channel=True,
                reduce_range=True,  # 7 bits for weights: without VNNI, sums of products of 8 bits overflow
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    model = onnx.load(str(out))
    known = {each.key: each.value for each in onnx.load(str(graph)).metadata_props}
    known.pop(CUT_KEY, None)  # where it could be cut, values now have other names
    helper.set_model_props(model, known | {INT8_KEY: "1"})
    out.write_bytes(model.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the quantizer's advice to its developers to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def tradeoff(
    one: OnnxClassifier, other: OnnxClassifier, info: CheckpointInfo, heard: Iterable[HeardWindow]
) -> Tradeoff:
    """What the other loses, and what both take."""
    thresholds = np.asarray(info.thresholds, np.float32)
    windows = labelled = right = still_right = otherwise = 0
    for each in heard:
        before, after = (classifier(each.samples[None]).values[0] for classifier in (one, other))
        windows += 1
        otherwise += bool(((before >= thresholds) != (after >= thresholds)).any())
        if each.label is not None:
            labelled += 1
            right += int(before.argmax()) == each.label
            still_right += int(after.argmax()) == each.label
    times = milliseconds(one, other, info)
    if labelled >= LEAST_WINDOWS // 2:
        return Tradeoff(*times, 100 * (right - still_right) / labelled, "accuracy falls by", labelled)
    return Tradeoff(*times, 100 * otherwise / windows, "decided otherwise:", windows)


def milliseconds(one: OnnxClassifier, other: OnnxClassifier, info: CheckpointInfo) -> tuple[float, float]:
    """Processor time of a window in a stream at a hop of a second, the quickest of several in turn, milliseconds."""
    rate_hz = info.mel.sample_rate_hz
    size = round(info.window_seconds * rate_hz)
    noise = np.random.default_rng(0).standard_normal(size + (_TIMED + 1) * rate_hz, np.float32) / np.float32(10)
    times: tuple[list[float], list[float]] = ([], [])
    prepare = [classifier.preparer(size, rate_hz) for classifier in (one, other)]
    for number in range(_TIMED + 1):
        start = number * rate_hz
        window = Window(noise[start : start + size], start, size, 0.0)
        for classifier, prepared, each in zip((one, other), prepare, times, strict=True):
            began = time.process_time()
            classifier.of_prepared([prepared(window)])
            each.append(1000 * (time.process_time() - began))
    return min(times[0][1:]), min(times[1][1:])
