"""Files that were made to hurt: refused in one line, at once, in little memory; and one of them spoils no list."""

import io
import json
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from tagger.checkpoints import checkpoint, official, store
from tagger.checkpoints.header import METADATA_KEY, read_header
from tagger.checkpoints.store import BUNDLED
from tagger.errors import CheckpointError
from tagger.models.config import EfficientATConfig
from tagger.models.efficientat import EfficientAT
from tests.fuzz.checkpoints import CRNN, examples
from tests.fuzz.trial import problem_of
from tests.programs import run


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.safetensors"
    info = examples()[0]
    checkpoint.save(path, info, checkpoint.build(info))
    return path


def rewritten(good: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The checkpoint with a document that `change` has changed, or the one that it returns."""
    document = read_header(good)
    document = change(document) or document
    path = good.with_name("bad.safetensors")
    save_file(load_file(good), path, {METADATA_KEY: json.dumps(document)})
    return path


def refused(path: Path, read: Callable[[Path], object] = checkpoint.load) -> str:
    """Why, in one line, within a second of processor time and 200 MB."""
    reasons: list[str] = []

    def attempt() -> None:
        try:
            read(path)
        except CheckpointError as error:
            reasons.append(str(error))

    assert problem_of(attempt) is None
    assert len(reasons) == 1
    assert str(path) in reasons[0]
    assert len(reasons[0]) < 1_000
    return reasons[0]


def deep(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a million labels": (lambda d: d | {"labels": list(map(str, range(1_000_000)))}, ""),
    "20 000 labels": (lambda d: d | {"labels": list(map(str, range(20_000)))}, "labels"),
    "a label twice": (lambda d: d | {"labels": ["a", "a", "b"]}, "repeat"),
    "a label that is long": (lambda d: d | {"labels": ["a" * 101, "b", "c"]}, "100 letters"),
    "labels that are lists": (lambda d: d | {"labels": [["a"], [], {}]}, "labels"),
    "500 levels": (lambda d: d | {"metrics": {"x": deep(500)}}, "levels"),
    "a number of 400 digits": (lambda d: d | {"metrics": {"x": 10**400}}, "too large"),
    "no number": (lambda d: d | {"metrics": {"x": float("nan")}}, "not finite"),
    "half a character": (lambda d: d | {"name": "\ud800"}, "half a character"),
    "a name that steers": (lambda d: d | {"name": "\x1b[2J"}, "name"),
    "a huge scale": (lambda d: d["features"]["mel"].update(scale=1e300), "scale"),
    "a minute temperature": (lambda d: d["calibration"].update(temperature=1e-300), "temperature"),
    "a huge bias": (lambda d: d["calibration"].update(bias=1e308), "bias"),
    "a window of a year": (lambda d: d["features"].update(window_seconds=3e7), "window_seconds"),
    "a rate of a billion": (lambda d: d["features"]["mel"].update(sample_rate_hz=10**9), "sample_rate_hz"),
    "a transform of a billion": (lambda d: d["features"]["mel"].update(n_fft=2**30), "n_fft"),
    "a billion bands": (lambda d: d["features"]["mel"].update(n_mels=10**9), "n_mels"),
    "hops of one sample": (
        lambda d: d["features"].update(window_seconds=60, mel=d["features"]["mel"] | {"hop_samples": 1}),
        "memory",
    ),
    "other bands than the features": (lambda d: d["architecture"]["config"].update(bands=64), "bands"),
    "layers that the file lacks": (lambda d: d["architecture"]["config"].update(hidden=4096), "misshapen"),
    "another network": (
        lambda d: d["architecture"].update(name="efficientat", config={"labels": 3, "width": 8.0}),
        "lacks weights",
    ),
    "no name of a network": (lambda d: d["architecture"].update(name=["crnn"]), "cannot be used"),
    "no table": (lambda d: d | {"features": {"name": "log_mel", "mel": 1, "window_seconds": 1}}, "cannot be used"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_documents(good: Path, change: str) -> None:
    make, words = CHANGES[change]
    assert words in refused(rewritten(good, make))


def test_a_header_that_is_said_to_be_huge(good: Path) -> None:
    content = good.read_bytes()
    for length in (2**63, 2**40, len(content), 0):
        good.write_bytes(length.to_bytes(8, "little") + content[8:])
        assert "not a whole .safetensors file" in refused(good)
    text = b" " * 100_000_000 + b"{}"
    good.write_bytes(len(text).to_bytes(8, "little") + text)
    assert "more than any checkpoint's" in refused(good)


@pytest.mark.parametrize("text", [b"[" * 1_000_000, b'{"a":' * 100_000, b"\xff" * 1000])
def test_a_header_of_brackets(good: Path, text: bytes) -> None:
    good.write_bytes(len(text).to_bytes(8, "little") + text)
    assert "not a whole .safetensors file" in refused(good)


def test_shapes_are_compared_before_anything_is_made(good: Path) -> None:
    info = examples()[0]
    path = good.with_name("huge.safetensors")
    wide = replace(CRNN, channels=(4096,) * 4, sequence=4096, hidden=4096)  # 2 GB
    document = info.to_document()
    document["architecture"]["config"] = asdict(wide)
    save_file(load_file(good), path, {METADATA_KEY: json.dumps(document)})
    assert "misshapen" in refused(path)


def test_weights_of_a_type_that_no_network_has(good: Path) -> None:
    weights = {name: value.astype(np.uint8) for name, value in load_file(good).items()}
    document = json.dumps(read_header(good))
    save_file(weights, good, {METADATA_KEY: document})
    assert "of a type that no network has" in refused(good)


def official_file(folder: Path, content: object, **options: Any) -> Path:
    path = folder / "mn01_as.pt"
    torch.save(content, path, **options)
    return path


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return EfficientAT(EfficientATConfig(labels=527, width=0.1)).state_dict()


def test_expanded_tensors_are_never_made(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    for huge in (
        {name: torch.zeros(1).expand(value.shape) if value.dim() else value for name, value in weights.items()},
        OrderedDict({"classifier.5.bias": torch.zeros(1).expand(2_000_000_000)}),
    ):
        path = official_file(tmp_path, huge)
        assert "larger than what is stored of it" in refused(path, official.convert)


def test_other_things_that_torch_saves(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    for content in (
        {"a": torch.zeros(3).to_sparse()},
        {"a": torch.zeros(3, dtype=torch.complex64)},
        {"a": torch.zeros(3, device="meta")},
        {"a": {"b": torch.zeros(3)}},
        [torch.zeros(3)],
        {1: torch.zeros(3)},
        {},
        torch.zeros(3),
        "text",
    ):
        assert "more than weights" in refused(official_file(tmp_path, content), official.convert)
    old = official_file(tmp_path, weights, _use_new_zipfile_serialization=False)
    assert "not a whole file of PyTorch weights" in refused(old, official.convert)


def changed_members(path: Path, change: Callable[[str, bytes], bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, change(name, data))
    return path


def test_archives_that_are_packed_or_lack_what_they_name(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = changed_members(official_file(tmp_path, weights), lambda _, data: data, zipfile.ZIP_DEFLATED)
    assert "packed" in refused(path, official.convert)
    path = changed_members(official_file(tmp_path, weights), lambda name, data: data[:1] if "/data/" in name else data)
    assert "not stored as a whole" in refused(path, official.convert)
    bomb = b"\x80\x02cbuiltins\nbytearray\n(I100000000000\ntR."
    path = changed_members(
        official_file(tmp_path, weights), lambda name, data: bomb if name.endswith("data.pkl") else data
    )
    assert "more than weights" in refused(path, official.convert)
    far = b"\x80\x02}r\xff\xff\xff\x7f."
    path = changed_members(
        official_file(tmp_path, weights), lambda name, data: far if name.endswith("data.pkl") else data
    )
    assert "not a whole file" in refused(path, official.convert)


def test_one_bad_file_spoils_no_list(good: Path, home: Path) -> None:
    folder = home / "models"
    folder.mkdir(parents=True)
    for number, (change, _) in enumerate(CHANGES.values()):
        rewritten(good, change).replace(folder / f"bad{number}.safetensors")
    (folder / "brackets.safetensors").write_bytes((1_000_000).to_bytes(8, "little") + b"[" * 1_000_000)
    (folder / "nothing.safetensors").write_bytes(b"")
    (folder / "folder.safetensors").mkdir()
    (folder / "link.safetensors").symlink_to(folder / "gone")
    good.rename(folder / "good.safetensors")
    result = run("models")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "unusable" not in lines["good"]
    assert "esc50" in lines
    bundled = {path.stem for path in BUNDLED.glob("*.safetensors")}
    bad = [line for name, line in lines.items() if name not in {"name", "good"} | bundled]
    assert len(bad) >= len(CHANGES)
    assert sum("unusable: " in line for line in bad) >= len(bad) - 2  # shapes are compared when it is loaded


def test_any_error_at_all_is_a_reason(good: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "models").mkdir(parents=True)
    good.rename(home / "models" / "odd.safetensors")

    def fail(path: Path) -> Any:
        raise MemoryError("no\nmemory")

    monkeypatch.setattr(store, "read_info", fail)
    result = run("models")
    assert result.exit_code == 0
    assert "unusable: " in result.stdout
