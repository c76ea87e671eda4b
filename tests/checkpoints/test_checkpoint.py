import errno
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tagger.checkpoints import checkpoint
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.header import METADATA_KEY, read_header
from tagger.checkpoints.info import CheckpointInfo
from tagger.errors import CheckpointError
from tagger.features.config import FRONT_ENDS, MelConfig, MfccConfig
from tagger.files import sha256
from tagger.models.config import EfficientATConfig
from tests.programs import room_for

INFO = CheckpointInfo(
    name="small",
    architecture="efficientat",
    config=EfficientATConfig(labels=3, width=0.1, head="linear"),
    mel=MelConfig(bandwidth_hz=7_500.0),
    window_seconds=5.0,
    labels=("dog", "crying_baby", "Säge, elektrisch"),
    activation="sigmoid",
    thresholds=(0.25, 0.5, 0.75),
    temperature=1.5,
    training={"recipe": "frozen", "folds": [1, 2], "seed": 0},
    metrics={"accuracy": 0.5},
    licences=("CC BY-NC 3.0",),
)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return checkpoint.build(INFO).eval()


@pytest.fixture
def path(tmp_path: Path, model: nn.Module) -> Path:
    """A file with a valid checkpoint."""
    path = tmp_path / "models" / "small.safetensors"
    checkpoint.save(path, INFO, model)
    return path


def test_a_full_disk_is_an_error_of_the_system_and_names_the_file(path: Path) -> None:
    loaded, before = checkpoint.load(path), path.read_bytes()
    with room_for(len(before) // 2), pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
        checkpoint.save(path, loaded.info, loaded.model)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before


def refused(path: Path) -> str:
    """The error for `path`, which must be one line that names it."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def rewrite(path: Path, document: Any = None, change: Callable[[dict[str, Tensor]], Any] | None = None) -> None:
    """Writes the file again, with another document or other weights."""
    weights = load_file(path)
    if change:
        change(weights)
    text = json.dumps(read_header(path) if document is None else document)
    save_file(weights, path, {METADATA_KEY: text})


def spectrogram() -> Tensor:
    return torch.randn(2, 1, 128, 100, generator=torch.Generator().manual_seed(0))


def scores(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        return model(spectrogram()).sigmoid()


def test_round_trip(path, model):
    loaded = checkpoint.load(path)
    assert loaded.info == INFO
    assert not loaded.model.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name
    assert torch.equal(scores(loaded.model), scores(model))


def test_saving_what_was_loaded_gives_the_same_file(path, tmp_path):
    loaded = checkpoint.load(path)
    checkpoint.save(tmp_path / "again.safetensors", loaded.info, loaded.model)
    assert sha256(tmp_path / "again.safetensors") == sha256(path)


def test_the_document_says_all_that_features_need(path):
    document = read_header(path)
    assert document["format"] == 1
    assert document["labels"] == list(INFO.labels)
    assert document["features"]["mel"]["bandwidth_hz"] == 7_500
    assert MelConfig(**document["features"]["mel"]) == INFO.mel


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_features_come_back_as_they_were(path, model, name):
    checkpoint.save(path, replace(INFO, mel=FRONT_ENDS[name]), model)
    found = checkpoint.load(path).info.mel
    assert found == FRONT_ENDS[name]
    assert type(found) is type(FRONT_ENDS[name])
    assert read_header(path)["features"]["name"] == ("mfcc" if name == "mfcc" else "log_mel")


def test_a_document_from_before_there_was_a_bias(path):
    document = read_header(path)
    document["calibration"] = {"temperature": 1.5}
    info = CheckpointInfo.from_document(document)
    assert (info.temperature, info.bias) == (1.5, 0.0)


def test_a_document_from_before_there_were_other_features(path):
    document = read_header(path)
    document["features"] = {
        "name": "log_mel",
        "window_seconds": 5.0,
        "mel": {
            "sample_rate_hz": 32_000,
            "n_fft": 1024,
            "window_samples": 800,
            "hop_samples": 320,
            "n_mels": 128,
            "f_min_hz": 0.0,
            "f_max_hz": 15_000.0,
            "preemphasis": 0.97,
            "log_offset": 1e-5,
            "shift": 4.5,
            "scale": 5.0,
            "bandwidth_hz": 7_500.0,
        },
    }
    rewrite(path, document)
    assert checkpoint.load(path).info == INFO


def test_half_precision_is_half_the_size_and_nearly_the_same(path, model, tmp_path):
    half = tmp_path / "half.safetensors"
    # Batch norms of trained networks have variances far below the smallest number in float16.
    tiny = checkpoint.build(INFO).eval()
    tiny.load_state_dict(model.state_dict() | {"features.0.1.running_var": torch.full((8,), 1e-40)})
    checkpoint.save(half, INFO, tiny, half=True)
    with safe_open(half, framework="pt") as tensors:
        kinds = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118  # no mapping
    for name, tensor in kinds.items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float16 if tensor.dim() > 1 else torch.float32), name
    loaded = checkpoint.load(half).model
    assert all(each.dtype == torch.float32 for each in loaded.state_dict().values() if each.is_floating_point())
    assert loaded.state_dict()["features.0.1.running_var"].eq(torch.full((8,), 1e-40)).all()
    checkpoint.save(half, INFO, model, half=True)
    torch.testing.assert_close(scores(checkpoint.load(half).model), scores(model), atol=2e-3, rtol=0)


def test_half_precision_of_a_real_network_is_about_half_the_size(tmp_path):
    info = replace(INFO, config=EfficientATConfig(labels=3, width=0.4))
    for half in (False, True):
        checkpoint.save(tmp_path / f"{half}.safetensors", info, checkpoint.build(info), half=half)
    sizes = [(tmp_path / f"{half}.safetensors").stat().st_size for half in (True, False)]
    assert 0.5 < sizes[0] / sizes[1] < 0.6


def test_half_precision_writes_nothing_that_cannot_be_loaded(tmp_path):
    big = checkpoint.build(INFO)
    with torch.no_grad():
        big.classifier[-1].weight.fill_(1e5)
    checkpoint.save(tmp_path / "big.safetensors", INFO, big, half=True)
    checkpoint.load(tmp_path / "big.safetensors")


def test_a_failing_save_leaves_the_old_file_and_no_other(path, model):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.save(path, replace(INFO, training={"cannot": object()}), model)

    class Unsavable(nn.Module):
        def state_dict(self) -> dict[str, Tensor]:  # two names of one memory: safetensors refuses, having begun
            shared = torch.zeros(4)
            return {"one": shared, "two": shared}

    with pytest.raises(RuntimeError):
        checkpoint.save(path, INFO, Unsavable())
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_save_replaces_the_file_in_one_step(path, model):
    old = path.open("rb")  # a reader while the file is written
    with old:
        start = old.read(100)
        checkpoint.save(path, replace(INFO, name="newer"), model)
        assert start + old.read() != path.read_bytes()
    assert checkpoint.load(path).info.name == "newer"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_digest_is_that_of_the_content(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_missing(tmp_path):
    assert "no such checkpoint file" in refused(tmp_path / "missing.safetensors")


def test_a_folder(tmp_path):
    assert "no such checkpoint file" in refused(tmp_path)


def test_empty(tmp_path):
    (tmp_path / "empty.safetensors").touch()
    refused(tmp_path / "empty.safetensors")


def test_truncated_anywhere(path):
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    lengths = {*range(1, 20), *range(20, header, header // 20), header - 1, header, header + 1}
    for length in sorted(lengths | set(range(header, len(content), len(content) // 20)) | {len(content) - 1}):
        path.write_bytes(content[:length])
        assert "copy or download it again" in refused(path), length


def test_something_appended(path):
    path.write_bytes(path.read_bytes() + b"more")
    refused(path)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\xff" * 100, bytes(100), b'{"format": 1}' * 50])
def test_something_else(tmp_path, content):
    (tmp_path / "other.safetensors").write_bytes(content)
    refused(tmp_path / "other.safetensors")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_not_opened(tmp_path, protocol):
    evil = tmp_path / "evil.safetensors"
    evil.write_bytes(pickle.dumps(_Touch(str(tmp_path / "executed")), protocol))
    assert "can run code" in refused(evil)
    assert not (tmp_path / "executed").exists()


class _Touch:
    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self._path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_save_is_not_opened(tmp_path, model, zipped):
    torch.save(model.state_dict(), tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    assert "models add" in refused(tmp_path / "model.pt")


def test_no_length_of_the_header_makes_it_a_pickle(path, model):
    """A .safetensors file begins with its header's length, 8 bytes, little-endian; 80 02 01 also begins a pickle."""
    length = int.from_bytes(path.read_bytes()[:8], "little")
    padding = 0x10280 - length
    assert padding > 0
    checkpoint.save(path, replace(INFO, licences=(INFO.licences[0] + "x" * padding,)), model)
    assert path.read_bytes()[:3] == b"\x80\x02\x01"
    checkpoint.load(path)


def test_without_document(path):
    save_file(load_file(path), path)
    assert "no tagger checkpoint" in refused(path)


def test_a_document_that_is_not_json(path):
    save_file(load_file(path), path, {METADATA_KEY: "{"})
    assert "not JSON" in refused(path)


@pytest.mark.parametrize("document", [[], "text", 1, {}, {"name": "x"}])
def test_a_document_that_is_none(path, document):
    rewrite(path, document)
    assert "names no format" in refused(path)


@pytest.mark.parametrize("number", [0, 2, 1.5, "1", None, [1]])
def test_an_unknown_format(path, number):
    rewrite(path, read_header(path) | {"format": number})
    assert "unknown to this version" in refused(path)


REQUIRED = [key for key in INFO.to_document() if key not in ("format", "others")]


@pytest.mark.parametrize("key", REQUIRED)
def test_each_key_is_required(path, key):
    document = read_header(path)
    del document[key]
    rewrite(path, document)
    assert f"lacks {key}" in refused(path)


@pytest.mark.parametrize("key", REQUIRED)
def test_each_key_has_a_type(path, key):
    for wrong in (None, 1, True):
        rewrite(path, INFO.to_document() | {key: wrong})
        assert f"wrong type of {key}" in refused(path)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("architecture", "name"),
        ("architecture", "config"),
        ("features", "name"),
        ("features", "window_seconds"),
        ("features", "mel"),
        ("calibration", "temperature"),
    ],
)
def test_each_inner_key_is_required(path, outer, inner):
    document = read_header(path)
    del document[outer][inner]
    rewrite(path, document)
    assert inner in refused(path)


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("architecture", "name"), "transformer"),
        (("architecture", "name"), 3),
        (("architecture", "name"), []),
        (("architecture", "config"), []),
        (("architecture", "config", "labels"), 4),
        (("architecture", "config", "labels"), "3"),
        (("architecture", "config", "labels"), None),
        (("architecture", "config", "width"), "0.1"),
        (("architecture", "config", "width"), 0),
        (("architecture", "config", "head"), "conv"),
        (("architecture", "config", "unknown"), 1),
        (("features", "name"), "cochleagram"),
        (("features", "name"), []),
        (("features", "mel", "n_mfcc"), 40),
        (("features", "mel", "mel_filters"), "bark"),
        (("features", "mel", "periodic_window"), "no"),
        (("features", "mel"), None),
        (("features", "mel", "n_fft"), "1024"),
        (("features", "mel", "hop_samples"), 0),
        (("features", "mel", "unknown"), 1),
        (("features", "window_seconds"), "five"),
        (("features", "window_seconds"), 0),
        (("features", "window_seconds"), float("nan")),
        (("labels",), ["dog", "cat"]),
        (("labels",), ["dog", "cat", "dog"]),
        (("labels",), []),
        (("activation",), "relu"),
        (("thresholds",), [0.5]),
        (("thresholds",), [0.5, 0.5, "high"]),
        (("thresholds",), [0.5, 0.5, None]),
        (("calibration", "temperature"), 0),
        (("calibration", "temperature"), -1),
        (("calibration", "temperature"), None),
        (("architecture", "config", "labels"), 3.0),
        (("architecture", "config", "width"), float("nan")),
        (("features", "mel", "n_mels"), 128.5),
        (("features", "mel", "sample_rate_hz"), 32_000.5),
        (("features", "window_seconds"), float("inf")),
        (("calibration", "temperature"), float("inf")),
        (("thresholds",), [0.5, 0.5, float("nan")]),
        (("thresholds",), [0.5, 0.5, -1]),
        (("thresholds",), [0.5, 0.5, 1.5]),
        (("labels",), ["dog", "cat", ""]),
        (("labels",), ["dog", "cat", None]),
    ],
)
def test_a_document_that_describes_no_network(path, place, wrong):
    document = read_header(path)
    target = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = wrong
    rewrite(path, document)
    refused(path)


@pytest.mark.parametrize("wrong", [{"n_mfcc": 129}, {"n_mfcc": "40"}, {"lifter": None}, {"dct": 2}])
def test_cepstra_that_describe_nothing(path, model, wrong):
    info = replace(INFO, mel=MfccConfig())
    checkpoint.save(path, info, model)
    document = info.to_document()
    document["features"]["mel"].update(wrong)
    rewrite(path, document)
    refused(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("classifier.2.bias"), "lacks weights: classifier.2.bias"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "unknown weights: extra"),
        (lambda weights: weights.update({"classifier.2.bias": torch.zeros(4)}), "misshapen weights: classifier.2.bias"),
        (lambda weights: weights["classifier.2.bias"].fill_(float("nan")), "NaN or infinity"),
        (lambda weights: weights["classifier.2.weight"].fill_(float("inf")), "NaN or infinity"),
        (lambda weights: weights.clear(), " more"),
    ],
)
def test_weights_that_do_not_fit(path, change, message):
    rewrite(path, change=change)
    assert message in refused(path)


def test_a_checkpoint_is_made_of_what_it_says(path):
    assert isinstance(checkpoint.load(path), Checkpoint)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"activation": "tanh"}, "activation"),
        ({"labels": ()}, "labels"),
        ({"labels": ("a", "a", "b")}, "repeat"),
        ({"labels": ("a", "b")}, "labels: 2, thresholds: 3, outputs: 3"),
        ({"thresholds": (0.5,)}, "thresholds: 1,"),
        ({"temperature": 0.0}, "temperature"),
        ({"window_seconds": -1.0}, "window_seconds"),
    ],
)
def test_what_cannot_be_cannot_be_made(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(INFO, **wrong)


# --- classes that the network knew before the training ---

OTHERS = replace(
    INFO,
    config=replace(INFO.config, moments=True, others=4),
    others=("Speech", "Music", "Silence", "Vehicle"),
    surprise=1.5,
    bias=-0.25,
)


@pytest.mark.parametrize("half", [False, True])
def test_other_classes_and_steps_of_their_own_round_trip(tmp_path, half):
    torch.manual_seed(2)
    network = checkpoint.build(OTHERS).eval()
    network.others.expected.uniform_(0, 1)
    path = tmp_path / "others.safetensors"
    checkpoint.save(path, OTHERS, network, half)
    loaded = checkpoint.load(path)
    assert loaded.info == OTHERS
    document = read_header(path)
    assert document["others"] == list(OTHERS.others)
    assert document["calibration"] == {"temperature": 1.5, "bias": -0.25, "surprise": 1.5}
    assert torch.equal(loaded.model.others.expected, network.others.expected)  # a vector stays in float32
    with torch.inference_mode():
        one, other = network.outputs(spectrogram()), loaded.model.outputs(spectrogram())
    assert one.opinion is other.opinion is None
    for mine, theirs in zip(one[:4], other[:4], strict=True):
        assert torch.equal(mine, theirs) or half
        torch.testing.assert_close(mine, theirs, atol=1e-2, rtol=1e-2)


def test_a_document_from_before_there_were_others(path):
    document = read_header(path)
    del document["others"]
    document["calibration"] = {"temperature": 1.5, "bias": 0.0}
    for key in ("moments", "joint", "others"):
        del document["architecture"]["config"][key]
    rewrite(path, document)
    assert checkpoint.load(path).info == INFO


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"others": ("Speech",)}, "1 names of other classes for 4"),
        ({"others": ()}, "0 names of other classes for 4"),
        ({"surprise": -1.0}, "surprise"),
        ({"surprise": float("nan")}, "surprise"),
        ({"surprise": float("inf")}, "surprise"),
    ],
)
def test_others_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        replace(OTHERS, **wrong)


def test_names_of_others_without_a_layer_for_them_are_refused(path):
    document = read_header(path)
    document["others"] = ["Speech"]
    rewrite(path, document)
    assert "1 names of other classes for 0" in refused(path)


def test_weights_of_others_that_are_missing_are_named(tmp_path):
    path = tmp_path / "others.safetensors"
    checkpoint.save(path, OTHERS, checkpoint.build(OTHERS))
    rewrite(path, change=lambda weights: [weights.pop(name) for name in ("others.expected", "moments.bias")])
    assert "lacks weights: moments.bias, others.expected" in refused(path)
