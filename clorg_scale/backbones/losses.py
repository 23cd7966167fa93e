"""The loss of MoCo v3 with a queue, which Lightly does not have."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["QueueContrast"]


class QueueContrast(nn.Module):
    """Contrast predictions with the teacher's features, the keys (arXiv 2104.02057, arXiv 2305.10229).

    For queries q_i and keys k_j of length 1, k_i that of the other view of the same image,

        loss = 2 T mean_i -log ( exp(q_i k_i / T) / sum_j exp(q_i k_j / T) ),

    j over the batch of all processes and the keys of the batches before, one queue for each view. Queries are no
    negatives, which they are in SimCLR.

    Parameters
    ----------
    size, width
        Keys in each queue, at most, and their length.
    temperature
        T.
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
        """Put keys (2, b, d) in the place of the oldest."""
        size = self.queue.shape[1]
        keys = keys[:, -size:]
        places = (self.enqueued + torch.arange(keys.shape[1], device=keys.device)) % size
        self.queue[:, places] = keys
        self.enqueued += keys.shape[1]


def _of_all_processes(keys: Tensor) -> tuple[Tensor, int]:
    """Keys (2, b, d) of every process side by side, and where those of this one begin."""
    if not dist.is_initialized():
        return keys, 0
    parts = [torch.empty_like(keys) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, keys.contiguous())
    return torch.cat(parts, dim=1), dist.get_rank() * keys.shape[1]
