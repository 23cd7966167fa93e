"""The processes of one training: a single one, or those that torchrun starts, one a device."""

from __future__ import annotations

import atexit
import os
import warnings
from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clorg_scale.backbones.memory import memory_format

__all__ = ["Processes", "first_process"]


def first_process() -> bool:
    """Whether this is the one of torchrun's processes that writes and talks; a single process is."""
    return os.environ.get("RANK", "0") == "0"


class Processes:
    """Where this process stands among the others.

    Attributes
    ----------
    rank, count
        Its number, and how many there are.
    device
        Its device.
    first
        Whether it is the one that writes files and shows progress.
    """

    def __init__(self, device: str) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.first = first_process()
        local = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            # Not sooner: a second group of the same processes would find the addresses of the first.
            atexit.register(dist.destroy_process_group)

    def placed(self, method: nn.Module) -> nn.Module:
        """The method on this device, its gradients and batch statistics shared among the processes."""
        method.to(self.device, memory_format=memory_format(self.device))
        if self.count == 1:
            return method
        if self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer releases call broadcast_buffers another name
            return nn.parallel.DistributedDataParallel(
                method, device_ids=[self.device.index] if self.device.type == "cuda" else None, broadcast_buffers=False
            )

    def mixed_precision(self) -> AbstractContextManager[None]:
        """Bfloat16 where the device is made for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def mean(self, value: Tensor) -> float:
        """Mean of a number over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
        return float(value) / self.count

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            dist.barrier()

    def synchronize(self) -> None:
        """Until the device has done what it was told, for honest clocks."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
