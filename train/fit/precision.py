"""Half precision, where the device computes faster in it."""

from collections.abc import Callable
from typing import Any

import torch


def autocast(device: torch.device, wanted: bool) -> Callable[[], Any]:
    """Makes contexts of bfloat16 for matrices and convolutions, if it is wanted and the device is faster with it."""
    if device.type == "cuda":
        use = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        use = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return lambda: torch.autocast(device.type, torch.bfloat16, enabled=wanted and use)
