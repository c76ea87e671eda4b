"""One process, or several under `torchrun`: each runs the same code on its part of every batch."""

import gc
import importlib
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tagger.engine.runtime_torch import choose_device
from tagger.errors import TaggerError


@dataclass(frozen=True)
class Place:
    """Device of this process, its number, and the number of processes."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process prints, and writes files."""
        return self.rank == 0

    def shared(self, network: nn.Module) -> nn.Module:
        """The network, wrapped so that its gradients are averaged over all processes."""
        return DistributedDataParallel(network) if self.ranks > 1 else network

    def agreed(self, *values: float) -> list[float]:
        """The first process's values, in every process."""
        if self.ranks == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(numbers, 0)
        return numbers.tolist()

    def summed(self, *values: Tensor | float) -> list[Tensor | float]:
        """Sums over all processes. One process gives back what it gets, wherever that is."""
        if self.ranks == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(numbers)
        return list(numbers.tolist())

    def wait(self) -> None:
        """Waits until every process is here.

        Raises:
            TaggerError: one of them has ended; it has reported why.
        """
        if self.ranks == 1:
            return
        try:
            distributed.barrier()
        except RuntimeError:
            raise TaggerError(f"process {self.rank} stops, because another one has ended") from None


@contextmanager
def joined(device: str) -> Iterator[Place]:
    """This process's place: alone, or from torchrun's environment.

    Raises:
        UserError: there is no such device.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        yield Place(choose_device(device))
        return
    local = choose_device(device)
    if local.type == "cuda":
        local = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(local)
    # Before there is a group, which its functions would keep as their default, and with it threads that outlive Python.
    importlib.import_module("torch.distributed.nn")
    distributed.init_process_group("nccl" if local.type == "cuda" else "gloo")
    try:
        yield Place(local, distributed.get_rank(), ranks)
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        gc.collect()  # shared networks, which keep the group too
        distributed.destroy_process_group()
