import csv
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tagger.checkpoints import checkpoint, official, store
from tagger.checkpoints.add import add, remove
from tagger.checkpoints.info import CheckpointInfo
from tagger.errors import CheckpointError, UserError
from tagger.features.config import MelConfig
from tagger.files import sha256
from tagger.models.config import EfficientATConfig
from tagger.models.network import build

OFFICIAL = "mn04_as_mAP_432.pt"


def save(path: Path, name: str = "small", training: dict[str, Any] | None = None) -> Path:
    info = CheckpointInfo(
        name=name,
        architecture="efficientat",
        config=EfficientATConfig(labels=1, width=0.1, head="linear"),
        mel=MelConfig(),
        window_seconds=5.0,
        labels=("dog",),
        activation="sigmoid",
        thresholds=(0.5,),
        training=training or {},
    )
    checkpoint.save(path, info, checkpoint.build(info))
    return path


@pytest.fixture(autouse=True)
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replaces the package's checkpoints by `esc50` and `mn04_as`, made for the test."""
    folder = tmp_path / "bundled"
    for name in ("esc50", "mn04_as"):
        save(folder / f"{name}.safetensors", name)
    monkeypatch.setattr(store, "BUNDLED", folder)
    return folder


def not_found(model: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        store.find(model)
    assert caught.value.exit_code == 2
    assert model in str(caught.value)
    return str(caught.value)


def test_a_bundled_one_is_found_by_name(bundled):
    assert store.find("esc50") == bundled / "esc50.safetensors"


def test_the_users_own_hides_the_bundled_one(bundled, home):
    own = save(home / "models" / "esc50.safetensors", "mine")
    assert store.find("esc50") == own
    listed = [(entry.name, entry.origin) for entry in store.entries()]
    assert listed == [("esc50", "own"), ("mn04_as", "bundled")]


def test_paths(tmp_path, monkeypatch):
    path = save(tmp_path / "runs" / "fold1.safetensors")
    assert store.find(str(path)) == path
    monkeypatch.chdir(path.parent)
    assert store.find("fold1.safetensors").resolve() == path
    assert store.find("./fold1.safetensors").resolve() == path
    assert "no such checkpoint file" in not_found("./fold2.safetensors")


def test_a_file_of_a_models_name_does_not_hide_it(bundled, tmp_path, monkeypatch):
    (tmp_path / "esc50").write_text("notes")
    monkeypatch.chdir(tmp_path)
    assert store.find("esc50") == bundled / "esc50.safetensors"


@pytest.mark.parametrize("typed", ["esc5", "ESC50", "escc50", "esc"])
def test_near_names_are_told(typed):
    assert "did you mean esc50?" in not_found(typed)


def test_with_nothing_near_all_are_told():
    message = not_found("xyz")
    assert "there is esc50, mn04_as" in message
    assert "tagger models" in message


def test_a_very_long_name_is_not_found():
    not_found("x" * 300)


def test_entries_tell_the_origin_and_what_is_unusable(home):
    save(home / "models" / "mn10_as.safetensors", training={"recipe": "official"})
    (home / "models" / "broken.safetensors").write_bytes(b"nothing")
    entries = {entry.name: entry for entry in store.entries()}
    assert {name: entry.origin for name, entry in entries.items() if entry.document} == {
        "esc50": "bundled",
        "mn04_as": "bundled",
        "mn10_as": "official",
    }
    assert entries["broken"].document is None
    assert "broken.safetensors" in entries["broken"].problem


def test_without_a_folder_there_are_the_bundled_ones(home):
    assert not home.exists()
    assert [entry.name for entry in store.entries()] == ["esc50", "mn04_as"]


def test_add_takes_a_checkpoint_in(tmp_path, home):
    path = save(tmp_path / "mine.safetensors")
    added = add(path)
    assert added == home / "models" / "mine.safetensors"
    assert added.read_bytes() == path.read_bytes()
    assert store.find("mine") == added
    assert add(added) == added  # an installed file stays
    assert [each.name for each in added.parent.iterdir()] == [added.name]


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pt"])
def test_add_of_nothing(tmp_path, name):
    with pytest.raises(CheckpointError, match="no such"):
        add(tmp_path / name)


def test_a_damaged_checkpoint_is_refused_and_the_old_one_stays(tmp_path, home):
    add(save(tmp_path / "mine.safetensors"))
    content = (tmp_path / "mine.safetensors").read_bytes()
    (tmp_path / "mine.safetensors").write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match=r"mine\.safetensors"):
        add(tmp_path / "mine.safetensors")
    assert (home / "models" / "mine.safetensors").read_bytes() == content


def test_add_of_official_weights(shared, home):
    added = add(shared / "weights" / OFFICIAL)
    assert added == home / "models" / "mn04_as.safetensors"
    assert store.find("mn04_as") == added
    info = checkpoint.load(added).info
    with (shared / "weights" / "audioset_class_labels_indices.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(527))
    assert info.labels == tuple(row["display_name"] for row in rows)
    assert (info.name, info.activation, info.window_seconds) == ("mn04_as", "sigmoid", 10.0)
    assert info.metrics == {"audioset_map": 0.432}
    assert info.training["sha256"] == sha256(shared / "weights" / OFFICIAL)
    entry = next(entry for entry in store.entries() if entry.name == "mn04_as")
    assert entry.origin == "official"


class _Touch:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("packed", ["torch", "pickle"])
def test_an_evil_pickle_is_refused_and_not_executed(tmp_path, home, packed):
    evil, witness = tmp_path / "mn04_as_mAP_432.pt", tmp_path / "executed"
    weights = {"classifier.5.bias": _Touch(witness)}
    if packed == "torch":
        torch.save(weights, evil)
    else:
        evil.write_bytes(pickle.dumps(weights, 2))
    with pytest.raises(CheckpointError, match="not a whole file of PyTorch weights") as caught:
        add(evil)
    assert "\n" not in str(caught.value)
    assert not witness.exists()
    assert not home.exists()
    # Proof that the file is dangerous: a careless reader runs its code.
    torch.load(evil, weights_only=False) if packed == "torch" else pickle.loads(evil.read_bytes())
    assert witness.exists()


def test_truncated_official_weights(shared, tmp_path):
    content = (shared / "weights" / OFFICIAL).read_bytes()
    path = tmp_path / OFFICIAL
    for length in (0, 1, 4, 100, 10_000, len(content) // 2, len(content) - 1000, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="mn04_as") as caught:
            official.convert(path)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "content",
    [
        [],
        3,
        {},
        {"weights": 3},
        {"weight": torch.zeros(3)},
        {"classifier.5.bias": torch.zeros(527)},
        nn.Linear(2, 2).state_dict(),
        {1: torch.zeros(3)},
        {"classifier.5.bias": torch.tensor(1.0)},
        {"classifier.5.bias": torch.zeros(0)},
    ],
)
def test_other_files_of_torch_save(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt"):
        add(tmp_path / "other.pt")


def test_networks_with_other_outputs_are_refused(tmp_path):
    torch.save(official_weights(labels=50), tmp_path / "mn01_esc50.pt")
    with pytest.raises(CheckpointError, match="50 outputs, AudioSet has 527"):
        add(tmp_path / "mn01_esc50.pt")


@pytest.mark.parametrize("name", ["mn01_as_hop_15_mAP_463", "mn01_as_mels_40_mAP_453"])
def test_networks_with_another_front_end_are_refused(tmp_path, name):
    torch.save(official_weights(), tmp_path / f"{name}.pt")
    with pytest.raises(CheckpointError, match="not supported"):
        add(tmp_path / f"{name}.pt")


def test_official_weights_that_are_not_numbers(tmp_path):
    weights = official_weights()
    weights["classifier.5.bias"] = torch.full((527,), float("nan"))
    torch.save(weights, tmp_path / "mn01_as.pt")
    with pytest.raises(CheckpointError, match="NaN"):
        add(tmp_path / "mn01_as.pt")


def official_weights(labels: int = 527) -> dict[str, torch.Tensor]:
    """Weights with the names that EfficientAT gives them."""
    info = EfficientATConfig(labels=labels, width=0.1)
    return {
        name.replace(".fc1.", ".conc_se_layers.0.fc1.").replace(".fc2.", ".conc_se_layers.0.fc2."): value
        for name, value in build("efficientat", info).state_dict().items()
    }


def test_each_width_is_recognised(tmp_path):
    torch.save(official_weights(), tmp_path / "mn01_as_mAP_298.pt")
    info, _ = official.convert(tmp_path / "mn01_as_mAP_298.pt")
    assert (info.config.width, info.metrics) == (0.1, {"audioset_map": 0.298})


def test_a_checkpoint_and_its_graph_are_removed(tmp_path):
    made = add(save(tmp_path / "mine.safetensors"))
    made.with_suffix(".onnx").write_text("graph")
    other = made.with_name("other.safetensors")
    other.write_text("damaged")
    assert remove("mine") == [made, made.with_suffix(".onnx")]
    assert remove("other") == [other]
    assert not list(store.folder().iterdir())


@pytest.mark.parametrize("name", ["../x", "x" * 5_000, "", "fire_alarm"])
def test_what_is_no_own_checkpoint_is_not_removed(name, tmp_path):
    store.folder().mkdir(parents=True)
    (store.folder().parent / "x.safetensors").write_text("not in the folder")
    with pytest.raises(UserError, match="no model"):
        remove(name)
    assert (store.folder().parent / "x.safetensors").exists()


def test_what_comes_with_the_package_is_not_removed():
    bundled = save(store.BUNDLED / "one.safetensors")
    with pytest.raises(UserError, match="one: comes with the package"):
        remove("one")
    assert bundled.exists()
