"""Arrays that lie where they are used: on the GPU, if it has room for them."""

from collections.abc import Mapping

import torch
from torch import Tensor

_SHARE = 0.5
"""Share of a GPU's free memory that one call may fill; the rest is for the network, and for other processes."""


def held(arrays: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The arrays on the device, if it is a GPU with room for all of them; else as they are.

    A batch that is gathered on the GPU costs microseconds. From the processor's memory it costs more than the step.
    """
    size = sum(each.nbytes for each in arrays.values())
    if device.type != "cuda" or size > _SHARE * torch.cuda.mem_get_info(device)[0]:
        return dict(arrays)
    return {name: each.to(device) for name, each in arrays.items()}


def taken(array: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """These rows of an array, on the device, wherever the array lies.

    Args:
        array: [N, ...]
        rows: [B], whole numbers, anywhere.

    Returns:
        [B, ...]
    """
    return array[rows.to(array.device)].to(device)
