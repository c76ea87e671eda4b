"""`tagger.ray.Tagger`, which Ray Data calls with batches of clips. It needs no Ray."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.errors import UserError
from tagger.ray import Tagger
from tests.programs import siren, write_wav

RATE_HZ = 32_000


@pytest.fixture(scope="module")
def hears() -> Tagger:
    found: Tagger = pickle.loads(pickle.dumps(Tagger(top=2)))
    return found


def column(*values: Any) -> "np.ndarray[Any, Any]":
    found = np.empty(len(values), object)
    found[:] = values
    return found


def test_a_batch_of_clips_gets_labels_and_scores(hears: Tagger) -> None:
    sound = siren(6).astype(np.float32)
    batch = {
        "amplitude": column(sound[None], np.stack([sound, sound])[:, : 5 * RATE_HZ]),  # [channels, samples]
        "sample_rate": np.array([RATE_HZ, RATE_HZ]),
        "number": np.array([7, 8]),
    }
    found = hears(batch)
    assert [labels[0] for labels in found["labels"]] == ["siren", "siren"]
    assert (found["scores"][:, 0] > 0.9).all()
    assert (found["scores"][:, 1] < 0.1).all()
    assert (found["scores"].shape, found["scores"].dtype) == ((2, 2), np.float32)
    assert found["error"].tolist() == ["", ""]
    assert found["number"].tolist() == [7, 8], "columns that it does not know stay"


def test_a_clip_that_cannot_be_heard_is_a_row_with_its_reason(hears: Tagger, tmp_path: Path) -> None:
    good = write_wav(tmp_path / "good.wav", siren(6))
    (tmp_path / "bad.wav").write_bytes(b"RIFF no sound")
    found = hears({"path": np.array([str(good), str(tmp_path / "bad.wav")])})
    assert found["labels"][0][0] == "siren"
    assert (found["error"][0], found["labels"][1]) == ("", [])
    assert "not audio" in found["error"][1]
    assert np.isnan(found["scores"][1]).all()


def test_a_batch_without_sound_is_refused(hears: Tagger) -> None:
    with pytest.raises(UserError, match="no columns amplitude and sample_rate, and no column path"):
        hears({"image": np.zeros(1)})
