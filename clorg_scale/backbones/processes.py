"""The processes of a training: a single one, or those that torchrun starts, one for each device."""

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
    """Whether this is the process that writes files and prints: the first of torchrun's, or a single one."""
    return os.environ.get("RANK", "0") == "0"


class Processes:
    """The processes of a training, and the rank of this one.

    Attributes
    ----------
    rank, count
        Number of this process, and of all processes.
    device
        Device of this process.
    first
        Whether this process writes files and shows progress.
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
            # Not earlier: a second group of the same processes would find the addresses of the first.
            atexit.register(dist.destroy_process_group)

    def on_device(self, method: nn.Module) -> nn.Module:
        """Move the method to this device; share its gradients and batch statistics among the processes."""
        method.to(self.device, memory_format=memory_format(self.device))
        if self.count == 1:
            return method
        if self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer releases rename broadcast_buffers
            return nn.parallel.DistributedDataParallel(
                method, device_ids=[self.device.index] if self.device.type == "cuda" else None, broadcast_buffers=False
            )

    def mixed_precision(self) -> AbstractContextManager[None]:
        """Compute in bfloat16 on a GPU."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def mean(self, value: Tensor) -> float:
        """Average a number over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
        return float(value) / self.count

    def wait(self) -> None:
        """Barrier across processes."""
        if self.count > 1:
            dist.barrier()

    def synchronize(self) -> None:
        """Synchronize with the device for accurate timing."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
