"""Windows to scores. Owns the device, the batch, `inference_mode`, and the one copy in and out."""

import copy
import itertools

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tagger.checkpoint import Checkpoint
from tagger.errors import UserError
from tagger.events import Samples
from tagger.features import front_end

DEVICES = ("auto", "cpu", "cuda", "mps")


class Classifier:
    """A checkpoint on a device, ready to classify. Not for several threads at once."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        """
        Args:
            device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto` for the best there is.

        Raises:
            UserError: there is no such device.
        """
        self.info = checkpoint.info
        self.device = choose_device(device)
        self._features = front_end(self.info.mel).to(self.device)
        model = without_batch_norm(checkpoint.model).to(self.device)
        self._model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, waveforms: Samples) -> Samples:
        """
        Args:
            waveforms: [B, N], float32, full scale -1 to 1, at `info.mel.sample_rate_hz`.

        Returns:
            [B, labels], float32, each 0 to 1.
        """
        with torch.inference_mode():
            features = self._features(torch.from_numpy(waveforms).to(self.device))
            raw = self._model(features.to(memory_format=torch.channels_last))
            logits = raw / self.info.temperature + self.info.bias
            scores = logits.softmax(1) if self.info.activation == "softmax" else logits.sigmoid()
            values: Samples = scores.float().cpu().numpy()
        return values

    def warm_up(self, window_samples: int) -> None:
        """Classifies silence, so that the first real window is not the slow one."""
        for _ in range(2):
            self(np.zeros((1, window_samples), np.float32))


def without_batch_norm(model: nn.Module) -> nn.Module:
    """A copy for inference, each batch norm folded into the convolution before it: the same scores in half the time."""
    model = copy.deepcopy(model).eval()
    for layers in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i, (layer, following) in enumerate(itertools.pairwise(layers)):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                layers[i], layers[i + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()
    return model


def choose_device(name: str) -> torch.device:
    """
    Raises:
        UserError: `name` is no device, or not one that this machine has.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: unknown; use one of {', '.join(DEVICES)}, or cuda:N") from None
    has = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not has.get(device.type, False):
        raise UserError(f"--device {name}: this machine has none that torch can use; use --device auto or cpu")
    return device
