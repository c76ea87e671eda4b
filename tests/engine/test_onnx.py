"""Exported graphs: those that come with the package, the choice of a runtime, and the export."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tagger.audio.decode import decode
from tagger.checkpoints import checkpoint, store
from tagger.checkpoints.graph import graph_of
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.opinion import Opinion
from tagger.engine import export, int8, runtime, runtime_onnx
from tagger.engine.runtime import open_model
from tagger.engine.runtime_torch import Classifier
from tagger.engine.scores import WindowClassifier
from tagger.errors import CheckpointError, UserError
from tagger.events import Window
from tagger.features.config import MelConfig
from tagger.models.config import CRNNConfig, DyMNConfig, EfficientATConfig
from tagger.models.network import build
from tagger.sources.file import DEMO
from tests.programs import ROOT, refused, run, write_wav

MODELS = ("esc50", "esc50-crnn")
SIZE = 160_000


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    sound = np.concatenate(list(decode(DEMO, 32_000)))
    return np.stack([sound[start : start + SIZE] for start in range(0, len(sound) - SIZE, SIZE)])


@pytest.fixture(params=["onnx", "openvino"])
def by_graph(request: pytest.FixtureRequest) -> str:
    """Names of the runtimes that read graphs."""
    if not runtime.RUNTIMES[request.param].is_installed:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.mark.parametrize("model", MODELS)
def test_the_bundled_graphs_say_what_their_checkpoints_say(model, by_graph, windows):
    onnx, torchs = open_model(model, by_graph), open_model(model, "torch", "cpu")
    assert (onnx.info, onnx.step_s) == (torchs.info, torchs.step_s)
    found, expected = onnx.outputs(windows), torchs.outputs(windows)
    assert found.logits == pytest.approx(expected.logits, abs=1e-4)
    assert found.steps == pytest.approx(expected.steps, abs=1e-5 * float(np.abs(expected.steps).max()))
    assert (found.surprise is None) == (expected.surprise is None)
    assert found.embedding == pytest.approx(expected.embedding, abs=1e-4)
    assert found.embedding.shape == (len(windows), {"esc50": 384, "esc50-crnn": 320}[model])
    scores, theirs = onnx(windows), torchs(windows)
    assert scores.values == pytest.approx(theirs.values, abs=1e-5)
    assert scores.activity == pytest.approx(theirs.activity, abs=1e-4)
    assert scores.other == theirs.other


@pytest.mark.parametrize("model", MODELS)
def test_a_window_alone_scores_as_in_a_batch_and_any_length_is_taken(model, by_graph, windows):
    classifier = open_model(model, by_graph)
    together = classifier(windows[:4]).values
    alone = np.concatenate([classifier(each[None]).values for each in windows[:4]])
    assert alone == pytest.approx(together, abs=1e-6)
    shorter = [Window(each[:50_000], 0, 50_000, 0.0) for each in windows[:2]]
    assert [each.values.shape for each in classifier.classify(shorter)] == [(50,), (50,)]


# --- the choice ---


def test_the_processor_is_left_to_onnx_runtime_and_the_rest_to_torch(monkeypatch):
    monkeypatch.setattr(runtime, "may_have_gpu", lambda: False)
    for device in ("auto", "cpu"):
        assert open_model("esc50", device=device).runs_on == "cpu by ONNX Runtime"
    assert open_model("esc50", "torch").runs_on.endswith("by torch")
    with pytest.raises(UserError, match="--device cuda:99"):
        open_model("esc50", device="cuda:99")


def test_a_gpu_that_torch_cannot_use_changes_nothing(monkeypatch):
    monkeypatch.setattr(runtime, "may_have_gpu", lambda: True)
    if not torch.cuda.is_available():
        assert open_model("esc50").runs_on == "cpu by ONNX Runtime"
    monkeypatch.setattr(runtime, "torch_has_gpu", lambda: True)
    assert open_model("esc50").runs_on.endswith("by torch")


def test_a_gpu_is_used_by_onnx_runtime_where_torch_is_missing_and_it_can(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(runtime, "may_have_gpu", lambda: True)
    assert open_model("esc50").runs_on == "cpu by ONNX Runtime"
    with pytest.raises(UserError, match="--runtime torch: torch is not installed"):
        open_model("esc50", device="cuda")
    with pytest.raises(UserError, match="--runtime onnx: cannot use --device cuda:1 here"):
        open_model("esc50", "onnx", "cuda:1")

    asked = []

    class Session(runtime_onnx.ort.InferenceSession):
        """Of a machine with a GPU."""

        works = True

        def __init__(self, graph: str, options: object, providers: list) -> None:
            asked.append(providers)
            super().__init__(graph, options, providers=providers[-1:])

        def get_providers(self) -> list[str]:
            return [
                each[0] if isinstance(each, tuple) else each for each in asked[-1] if self.works or each != asked[-1][0]
            ]

    monkeypatch.setattr(runtime_onnx.ort, "InferenceSession", Session)
    monkeypatch.setattr(runtime_onnx.ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert open_model("esc50").runs_on == "cuda by ONNX Runtime"
    assert open_model("esc50", device="cuda:1").runs_on == "cuda:1 by ONNX Runtime"
    assert asked[-1] == [("CUDAExecutionProvider", {"device_id": "1"}), "CPUExecutionProvider"]
    with pytest.raises(UserError, match="--runtime torch"):
        open_model("esc50", device="mps")

    monkeypatch.setattr(Session, "works", False)
    with pytest.raises(UserError, match="--device cuda: ONNX Runtime cannot use it"):
        open_model("esc50", device="cuda")
    assert open_model("esc50").runs_on == "cpu by ONNX Runtime"
    assert "trying another runtime" in caplog.text


def test_openvino_is_for_the_processor_and_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino is not installed: run `\./scripts/setup openvino`"):
        open_model("esc50", "openvino")
    monkeypatch.undo()
    if runtime.RUNTIMES["openvino"].is_installed:
        with pytest.raises(UserError, match="--runtime openvino: cannot use --device cuda"):
            open_model("esc50", "openvino", "cuda")


_TWO_END = """
import gc, os, signal
from tagger.engine.runtime import open_model
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
first, second = open_model("esc50", "openvino"), open_model("esc50", "openvino")
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_handled_after_networks_of_openvino_have_ended():
    if not runtime.RUNTIMES["openvino"].is_installed:
        pytest.skip("openvino is not installed")
    done = subprocess.run([sys.executable, "-c", _TWO_END], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A checkpoint without its graph."""
    return Path(shutil.copy(store.find("esc50"), tmp_path / "mine.safetensors"))


def test_a_checkpoint_without_a_graph_runs_in_torch(alone):
    assert open_model(str(alone), device="cpu").runs_on == "cpu by torch"
    with pytest.raises(CheckpointError, match=r"mine\.safetensors: has no exported graph; `tagger export .*mine"):
        open_model(str(alone), "onnx")


def test_without_torch_it_says_what_to_install_or_to_run_elsewhere(alone, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CheckpointError, match=r"\./scripts/setup torch`.*, or run `tagger export mine` .* mine\.onnx"):
        open_model(str(alone))
    with pytest.raises(UserError, match=r"--runtime torch: torch is not installed: run `./scripts/setup torch`"):
        open_model("esc50", "torch")
    assert open_model("esc50").runs_on == "cpu by ONNX Runtime"


@pytest.mark.parametrize("damage", ["other weights", "junk", "empty", "half"])
def test_a_graph_that_does_not_belong_to_the_checkpoint_is_not_run(damage, alone, monkeypatch, caplog):
    whole = graph_of(store.find("esc50-crnn" if damage == "other weights" else "esc50")).read_bytes()
    content = {"junk": b"junk", "empty": b"", "half": whole[: len(whole) // 2]}
    graph_of(alone).write_bytes(content.get(damage, whole))
    for name in ("onnx", "openvino"):
        if runtime.RUNTIMES[name].is_installed:
            with pytest.raises(CheckpointError, match=r"mine\.onnx: .*`tagger export"):
                open_model(str(alone), name)
    assert open_model(str(alone), device="cpu").runs_on == "cpu by torch"
    assert "trying another runtime" in caplog.text
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CheckpointError, match=r"mine\.onnx"):
        open_model(str(alone))


def test_changed_thresholds_keep_the_graph(alone):
    loaded = checkpoint.load(alone)
    shutil.copy(graph_of(store.find("esc50")), graph_of(alone))
    checkpoint.save(alone, replace(loaded.info, thresholds=(0.7,) * 50), loaded.model, half=True)
    assert open_model(str(alone), "onnx").info.thresholds[0] == 0.7


def test_an_added_checkpoint_brings_its_graph(alone, monkeypatch, tmp_path):
    monkeypatch.setenv("TAGGER_HOME", str(tmp_path / "home"))
    shutil.copy(graph_of(store.find("esc50")), graph_of(alone))
    assert run("models", "add", alone).exit_code == 0
    assert open_model("mine", "onnx").info.labels == open_model("esc50").info.labels


# --- export ---

SMALL = {
    "efficientat": EfficientATConfig(labels=3, width=0.1, moments=True, others=4),
    "opinion": EfficientATConfig(labels=3, width=0.1, moments=True, opinion=4, shared=10, seconded=True),
    "linear": EfficientATConfig(labels=3, width=0.1, head="linear"),
    "dymn": DyMNConfig(labels=3, width=0.1, moments=True),
    "crnn": CRNNConfig(labels=3, channels=(4, 6, 8, 12), sequence=16, hidden=8),
}


def saved(path: Path, name: str) -> Path:
    """A small network with random weights."""
    torch.manual_seed(3)
    architecture = "efficientat" if name in ("linear", "opinion") else name
    model = build(architecture, SMALL[name])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(2.0)
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr,operator]
    others = getattr(SMALL[name], "others", 0)
    opinion = Opinion(("A", "B", "C", "D"), (("A",), ("B", "C"), ("C",)), (-1.0,) * 4, (2.0,) * 4)
    info = CheckpointInfo(
        name="small",
        architecture=architecture,
        config=SMALL[name],
        mel=MelConfig(),
        window_seconds=1.0,
        labels=("a", "b", "c"),
        activation="sigmoid",
        thresholds=(0.5,) * 3,
        others=tuple(f"other {number}" for number in range(others)),
        surprise=1.0 if others else 0.0,
        opinion=opinion if name == "opinion" else None,
    )
    checkpoint.save(path, info, model.eval(), half=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_kind_of_network_can_be_exported(name, tmp_path):
    path = saved(tmp_path / "small.safetensors", name)
    done = run("export", path)
    assert done.exit_code == 0, done.output
    assert f"{graph_of(path)}: " in done.stdout
    sound = np.random.default_rng(0).standard_normal((3, 64_000)).astype(np.float32) / 10
    found, expected = open_model(str(path), "onnx"), Classifier(checkpoint.load(path), "cpu")
    assert found.step_s == expected.step_s
    assert found(sound).values == pytest.approx(expected(sound).values, abs=1e-5)
    assert found(sound).activity == pytest.approx(expected(sound).activity, abs=1e-5)
    assert found.outputs(sound).embedding == pytest.approx(expected.outputs(sound).embedding, abs=1e-4)


def test_a_graph_that_says_something_else_is_not_written(tmp_path, monkeypatch):
    path = saved(tmp_path / "small.safetensors", "crnn")

    class Off(WindowClassifier):
        def __init__(self, *args: object) -> None:
            self._inner = Classifier(checkpoint.load(path), "cpu")

        def outputs(self, waveforms):
            right = self._inner.outputs(waveforms)
            return replace(right, logits=right.logits + np.float32(0.01))

    monkeypatch.setattr(export, "OnnxClassifier", Off)
    refused(run("export", path), "differs by 0.01", "nothing was written")
    assert not graph_of(path).exists()
    quiet = write_wav(tmp_path / "short.wav", np.zeros(100))
    refused(run("export", path, "--on", quiet), "no sound to compare")


@pytest.mark.slow
def test_integers_are_kept_only_where_they_are_quicker_and_lose_little(tmp_path, monkeypatch):
    path, sounds = saved(tmp_path / "small.safetensors", "crnn"), tmp_path / "sounds"
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (sounds / label).mkdir(parents=True)
        write_wav(sounds / label / "noise.wav", rng.standard_normal(6 * 32_000) / 10)
    given = ("export", path, "--int8", "--on", sounds)
    refused(run(*given), "needs 200 windows", "have 12")
    graph = graph_of(path)
    exact = graph.read_bytes()

    def judged() -> str:
        with pytest.raises(CheckpointError, match="not worth it on this machine") as error:
            int8.export_int8(checkpoint.load(path).info, path, graph, sorted(sounds.glob("*/*")))
        return str(error.value)

    monkeypatch.setattr(int8, "LEAST_WINDOWS", 8)
    monkeypatch.setattr(int8, "MOST_LOST", 100.0)
    monkeypatch.setattr(int8, "milliseconds", lambda *_: (2.0, 2.5))
    assert "2.50 ms of processor a window, 2.00 in float32; accuracy falls by" in judged()
    monkeypatch.setattr(int8, "milliseconds", lambda *_: (2.0, 1.5))
    monkeypatch.setattr(int8, "MOST_LOST", -200.0)
    assert "in 6 windows; the graph stays in float32" in judged()
    assert graph.read_bytes() == exact

    monkeypatch.setattr(int8, "MOST_LOST", 100.0)
    done = run(*given)
    assert done.exit_code == 0, done.output
    assert "int8: 1.50 ms" in done.stdout
    found, expected = open_model(str(path), "onnx"), Classifier(checkpoint.load(path), "cpu")
    assert found.runs_on == "cpu by ONNX Runtime, int8"
    sound = rng.standard_normal((2, 32_000)).astype(np.float32) / 10
    assert found(sound).values == pytest.approx(expected(sound).values, abs=0.2)
    if runtime.RUNTIMES["openvino"].is_installed:
        assert open_model(str(path), "openvino").runs_on == "cpu by OpenVINO, int8"


def test_without_labels_integers_are_judged_by_what_they_decide(monkeypatch):
    exact, path = open_model("esc50", "onnx"), store.find("esc50")

    class Changed(runtime_onnx.OnnxClassifier):
        def __call__(self, waveforms):
            right = exact(waveforms)
            return replace(right, values=1 - right.values) if waveforms[0, 0] > 0 else right

    monkeypatch.setattr(int8, "milliseconds", lambda *_: (2.0, 1.0))
    heard = [int8.HeardWindow(np.full(SIZE, sign / 1e6, np.float32), None) for sign in (-1, -1, 1, -1)]
    found = int8.tradeoff(exact, Changed(exact.info, path, graph_of(path)), exact.info, heard)
    assert (found.lost, found.windows) == (25.0, 4)
    assert not found.is_worth_it
    assert "decided otherwise: 25.00 points in 4 windows" in str(found)
