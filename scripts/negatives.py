"""Makes $TAGGER_HOME/negatives.npz: features of recordings that are none of a user's labels, for the recipe `head`.

    python scripts/nontarget.py nontarget/ --set train
    python scripts/negatives.py nontarget/train

Needs mn04's AudioSet weights: `tagger models download mn04`. Each kind of recording (a folder in nontarget/train) gives
as many windows as any other, at random places and levels, over faint noise. How they are used: `train.fit.negatives`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.audio.decode import decode
from tagger.errors import AudioError
from tagger.features.logmel import front_end
from tagger.files import replacing
from tagger.models.efficientat import step_features
from train.data.own import sounds_in
from train.fit import negatives
from train.fit.backbone import load_backbone
from train.fit.job import WINDOW_SECONDS
from train.recipe import RECIPES

EACH = 125
"""Windows of each kind."""
LEVEL_DB, FLOOR_DB = (-60.0, -15.0), (-90.0, -60.0)
"""RMS of the recordings and of the noise under them, dBFS."""
QUIETEST = 1e-3
"""A window without a sample above this magnitude is left out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recordings", type=Path)
    folder = parser.parse_args().recordings
    backbone = load_backbone("mn04", None, RECIPES["head"])
    network, extract = backbone.build(1).eval(), front_end(backbone.mel)
    rng = np.random.default_rng(0)
    pooled, steps = [], []
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        made = list(windows(kind, backbone.mel.sample_rate_hz, rng))
        print(f"{kind.name}: {len(made)} windows", flush=True)
        for window in made:
            with torch.inference_mode():
                maps = network.features(extract(torch.from_numpy(window[None])))
                within = step_features(maps, network.classifier)[0].numpy()
            pooled.append(maps.mean((2, 3))[0].numpy())
            steps.append(within[rng.choice(len(within), negatives.STEPS, replace=False)])
    with replacing(negatives.stored()) as partial, partial.open("wb") as file:
        np.savez(
            file,
            pooled=np.array(pooled, np.float16),
            steps=np.array(steps, np.float16),
            fingerprint=negatives.fingerprint(backbone),
        )
    print(f"written: {negatives.stored()}")


def windows(kind: Path, rate_hz: int, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Windows of a folder's recordings, about `EACH`, [samples] each."""
    paths, samples = sounds_in(kind), round(WINDOW_SECONDS * rate_hz)
    for path in paths:
        pieces = [np.zeros(1, np.float32)]
        try:
            for piece in decode(path, rate_hz):
                pieces.append(piece)  # what came before an error stays
        except AudioError as error:
            print(f"{error}; what was read is used", flush=True)
        sound = np.concatenate(pieces)
        for start in rng.integers(0, max(1, len(sound) - samples), max(1, round(EACH / len(paths)))):
            window = np.resize(sound[start : start + samples], samples)
            if np.abs(window).max() < QUIETEST:
                continue
            level, floor = 10 ** (rng.uniform(*LEVEL_DB) / 20), 10 ** (rng.uniform(*FLOOR_DB) / 20)
            window = window * (level / np.sqrt(np.mean(window**2))) + floor * rng.standard_normal(samples)
            yield np.clip(window, -1, 1).astype(np.float32)


if __name__ == "__main__":
    main()
