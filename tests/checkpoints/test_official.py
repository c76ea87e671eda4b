"""Official files of both families and data sets, made here with random weights. `test_store.py` uses a real one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tagger.checkpoints import checkpoint, official, release, store
from tagger.checkpoints.add import add
from tagger.engine.runtime_torch import Classifier
from tagger.errors import CheckpointError, UserError
from tagger.models.config import DyMNConfig, EfficientATConfig
from tagger.models.dymn import DyMN
from tagger.models.efficientat import EfficientAT
from tests.programs import refused, run, write_wav


def weights(family: str, labels: int = 527, width: float | None = None) -> dict[str, Tensor]:
    """Weights with the names that EfficientAT gives them."""
    torch.manual_seed(0)
    if family == "dymn":
        return DyMN(DyMNConfig(labels=labels, width=width or 0.4)).state_dict()
    ours = EfficientAT(EfficientATConfig(labels=labels, width=width or 0.1)).state_dict()
    return {name.replace(".fc", ".conc_se_layers.0.fc"): value for name, value in ours.items()}


def saved(folder: Path, name: str, content: dict[str, Tensor]) -> Path:
    torch.save(content, folder / name)
    return folder / name


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError, match=path.name.split("_")[0]) as caught:
        official.convert(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_a_dymn_file_has_every_key_matched(tmp_path):
    theirs = weights("dymn")
    info, model = official.convert(saved(tmp_path, "dymn04_as.pt", theirs))
    ours = model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert not model.training
    assert (info.name, info.architecture) == ("dymn04_as", "dymn")
    assert info.config == DyMNConfig(labels=527, width=0.4, temperature=1.0)
    assert info.labels == release.audioset_labels()
    assert info.training["data"] == "AudioSet"


@pytest.mark.slow
def test_the_score_in_a_dymn_files_name(tmp_path):
    info, _ = official.convert(saved(tmp_path, "dymn04_as_mAP_450.pt", weights("dymn")))
    assert (info.name, info.metrics) == ("dymn04_as", {"audioset_map": 0.45})


@pytest.mark.slow
def test_a_dymn_file_becomes_a_model_that_listens(tmp_path, home):
    added = add(saved(tmp_path, "dymn04_as.pt", weights("dymn")))
    assert added == home / "models" / "dymn04_as.safetensors"
    scores = Classifier(checkpoint.load(store.find("dymn04_as")), "cpu")(np.zeros((1, 16_000), np.float32)).values
    assert scores.shape == (1, 527)
    assert np.isfinite(scores).all()


def test_no_im_pre_means_audioset(tmp_path):
    """`no_im_pre`: trained on AudioSet alone, without ImageNet before."""
    info, _ = official.convert(saved(tmp_path, "mn01_as_no_im_pre_mAP_483.pt", weights("mn")))
    assert (info.name, len(info.labels)) == ("mn01_as_no_im_pre", 527)


@pytest.mark.parametrize(
    ("family", "name", "outputs", "config"),
    [
        ("mn", "mn01_im", 1000, EfficientATConfig(labels=1, width=0.1)),
        ("mn", "mn01_im_pytorch", 527, EfficientATConfig(labels=1, width=0.1)),
        ("dymn", "dymn04_im", 1000, DyMNConfig(labels=1, width=0.4, temperature=30.0)),
    ],
)
def test_an_imagenet_file_is_a_start_that_hears_nothing(tmp_path, family, name, outputs, config):
    theirs = weights(family, outputs)
    add(saved(tmp_path, f"{name}.pt", theirs))
    loaded = checkpoint.load(store.find(name))
    assert loaded.info.config == loaded.model.config == config
    assert (loaded.info.labels, loaded.info.thresholds) == ((official.UNTRAINED,), (1.0,))
    assert loaded.info.training["data"] == "ImageNet"
    assert not [line for line in loaded.info.licences if "AudioSet" in line]
    # All layers but the last have the official weights.
    ours = loaded.model.state_dict()
    kept = {name.replace(".conc_se_layers.0.", "."): value for name, value in theirs.items()}
    del kept["classifier.5.weight"], kept["classifier.5.bias"]
    assert ours.keys() - kept.keys() == {"classifier.5.weight", "classifier.5.bias"}
    assert all(torch.equal(ours[name], value) for name, value in kept.items())
    # The scores do not depend on the sound.
    noise = np.random.default_rng(0).standard_normal((2, 16_000)).astype(np.float32)
    assert (Classifier(loaded, "cpu")(noise).values == 0.5).all()


@pytest.mark.parametrize("command", [("tag",), ("listen", "--mqtt", "none", "--no-realtime")])
def test_an_imagenet_file_is_refused_by_what_listens(tmp_path, command):
    add(saved(tmp_path, "mn01_im.pt", weights("mn", 1000)))
    sound = write_wav(tmp_path / "sound.wav", np.zeros(8_000))
    refused(run(*command, sound, "--model", "mn01_im"), "mn01_im", "was never trained on sounds", "`tagger train`")


def test_pictures_in_colour_are_no_start(tmp_path):
    theirs = weights("mn", 1000)
    theirs["features.0.0.weight"] = theirs["features.0.0.weight"].repeat(1, 3, 1, 1)
    assert "fit no network" in refusal(saved(tmp_path, "mn01_im.pt", theirs))


@pytest.mark.parametrize(
    "name", ["mn01_as_hop_15_mAP_463", "mn01_as_mels_40_mAP_453", "mn01_as_fc_s2221_mAP_466", "dymn04_replace_se_as"]
)
def test_other_front_ends_heads_and_networks_are_refused(tmp_path, name):
    family = "dymn" if name.startswith("dymn") else "mn"
    assert "not supported" in refusal(saved(tmp_path, f"{name}.pt", weights(family)))


def test_a_name_that_no_checkpoint_can_have_is_refused(tmp_path):
    assert "rename it" in refusal(saved(tmp_path, f"{'m' * 201}.pt", weights("mn")))


@pytest.mark.parametrize("family", ["mn", "dymn"])
def test_networks_with_other_outputs_are_refused(tmp_path, family):
    assert "50 outputs, AudioSet has 527" in refusal(saved(tmp_path, f"{family}_esc50.pt", weights(family, 50)))


@pytest.mark.parametrize("change", ["lacks", "has more", "has another shape"])
def test_a_dymn_file_that_is_not_whole_is_refused(tmp_path, change):
    theirs = weights("dymn")
    if change == "lacks":
        del theirs["layers.3.depth_act.lambdas"]
    elif change == "has more":
        theirs["layers.15.proj_norm.bias"] = torch.zeros(3)
    else:
        theirs["in_c.0.weight"] = torch.zeros(8, 3, 3, 3)
    message = refusal(saved(tmp_path, "dymn04_as.pt", theirs))
    assert "fit no network" in message
    assert "dymn04 to dymn20" in message


def test_a_dymn_of_a_width_that_was_never_published_is_refused(tmp_path):
    assert "fit no network" in refusal(saved(tmp_path, "dymn02_as.pt", weights("dymn", width=0.2)))


@pytest.mark.parametrize("name", ["dymn10", "dymn10_as", "mn40", "mn40_as_ext", "dymn20_im", "mn10_im"])
def test_what_cannot_be_checked_is_not_downloaded_and_it_says_what_to_do(name):
    with pytest.raises(UserError) as caught:
        release.release_file(name)
    message = str(caught.value)
    file = release.UNPINNED_FILES[name.removesuffix("_as")]
    assert message.startswith(name)
    assert f"{release.RELEASE_URL}/{file}" in message
    assert f"`tagger models add {file}`" in message
    assert "\n" not in message


def test_files_are_known_by_the_names_that_they_will_have():
    assert not release.UNPINNED_FILES.keys() & release.RELEASE_FILES.keys()
    files = release.UNPINNED_FILES | {key: file.name for key, file in release.RELEASE_FILES.items()}
    for key, file in files.items():
        assert official.official_name(Path(file)) in (key, f"{key}_as")
