"""EfficientAT's own code, answering requests. Runs in the Python that has its packages: imports nothing of tagger.

    cd EfficientAT && python .../tagger/bench/peer_program.py

A window goes the way of its `windowed_inference.py`: its mel front end, its network, a sigmoid. The weights are those
of a checkpoint of ours, under the names that its own network has.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

_TYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def tensors(path: str) -> dict[str, torch.Tensor]:
    """Weights of a `.safetensors` file by name."""
    with Path(path).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], _TYPES[entry["dtype"]]).reshape(entry["shape"])
        found[name] = torch.from_numpy(values.astype(np.float32) if entry["dtype"] != "I64" else values.copy())
    return found


class Peer:
    """The network and the front end, as its scripts build them."""

    def open(self, name: str, weights: str, samples: str, window: int, hop: int) -> dict[str, Any]:
        """
        Args:
            weights: a checkpoint of ours.
            samples: file with the recording, [N].
            window, hop: samples.
        """
        from helpers.utils import NAME_TO_WIDTH
        from models.preprocess import AugmentMelSTFT

        if name.startswith("dymn"):
            from models.dymn.model import get_model
        else:
            from models.mn.model import get_model
        self.model = get_model(width_mult=NAME_TO_WIDTH(name))
        ours = tensors(weights)
        names = self.model.state_dict()
        self.model.load_state_dict({key: ours[key.replace(".conc_se_layers.0.", ".")] for key in names})
        self.model.eval()
        self.mel = AugmentMelSTFT(n_mels=128, sr=32000, win_length=800, hopsize=320)
        self.mel.eval()
        self.waveform = torch.from_numpy(np.load(samples))[None]
        self.window, self.hop, self.at = window, hop, 0
        return {"torch": torch.__version__}

    def next_logits(self) -> torch.Tensor:
        """Logits of the next window of the recording, which repeats; and the scores, as its script makes them."""
        if self.at + self.window > self.waveform.shape[1]:
            self.at = 0
        with torch.no_grad():
            spec = self.mel(self.waveform[:, self.at : self.at + self.window])
            preds, _features = self.model(spec.unsqueeze(0))
        torch.sigmoid(preds.float()).squeeze().cpu().numpy()
        self.at += self.hop
        return preds  # type: ignore[no-any-return]

    def run(self, windows: int) -> dict[str, Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(windows):
            self.next_logits()
        return {"windows": windows, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}

    def logits(self, windows: int, out: str) -> dict[str, Any]:
        self.at = 0
        np.save(out, np.stack([self.next_logits().float().numpy().ravel() for _ in range(windows)]))
        return {}


def main() -> None:
    sys.path[0] = os.getcwd()  # noqa: PTH109
    torch.set_num_threads(1)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(peer, request.pop("do"))(**request)
        except Exception as error:  # its code may raise anything
            answer = {"error": f"EfficientAT's code: {type(error).__name__}: {error}", "exit_code": 2}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
