"""The loss of MoCo v3 with a queue, which Lightly lacks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["QueueContrast"]


class QueueContrast(nn.Module):
    """Contrast predictions with the teacher's features, the keys (arXiv 2104.02057, arXiv 2305.10229).

    For queries q_i and keys k_j of unit length, with k_i the key of the other view of the same image,

        loss = 2 T mean_i -log ( exp(q_i k_i / T) / sum_j exp(q_i k_j / T) ),

    where j runs over the batch of all processes and the keys of earlier batches, one queue for each view. Unlike in
    SimCLR, queries are not used as negatives.

    Parameters
    ----------
    size, width
        Capacity of each queue, and length of a key.
    temperature
        Temperature T.
    """

    def __init__(self, size: int, width: int, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("queue", torch.zeros(2, size, width))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.int64))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Loss of queries (2, b, d) of two views; keys (2, b, d) of the same images, of the view to be recognized."""
        queries, keys = functional.normalize(queries, dim=2), functional.normalize(keys, dim=2)
        batch, first = _of_all_processes(keys)
        n_kept = min(int(self.enqueued), self.queue.shape[1])
        against = torch.cat([batch, self.queue[:, :n_kept]], dim=1)
        similarities = queries @ against.transpose(1, 2) / self.temperature
        own = torch.arange(first, first + queries.shape[1], device=queries.device)
        self._enqueue(batch)
        return functional.cross_entropy(similarities.flatten(0, 1), own.repeat(2)) * (2 * self.temperature)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """Replace the oldest keys by keys (2, b, d)."""
        size = self.queue.shape[1]
        keys = keys[:, -size:]
        slots = (self.enqueued + torch.arange(keys.shape[1], device=keys.device)) % size
        self.queue[:, slots] = keys
        self.enqueued += keys.shape[1]


def _of_all_processes(keys: Tensor) -> tuple[Tensor, int]:
    """Concatenate the keys (2, b, d) of all processes; returns also where those of this process begin."""
    if not dist.is_initialized():
        return keys, 0
    gathered = [torch.empty_like(keys) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, keys.contiguous())
    return torch.cat(gathered, dim=1), dist.get_rank() * keys.shape[1]
