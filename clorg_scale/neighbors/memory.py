"""Memory of a search, estimated before anything is built."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clorg_scale.arrays import available_memory, free_device_memory, parse_memory
from clorg_scale.arrays.memory import at_least, in_bytes
from clorg_scale.errors import InputError

__all__ = [
    "Budget",
    "flat_bytes",
    "index_bytes",
    "indexed_bytes",
    "largest_partition",
    "memory_needed",
    "partition_bytes",
    "search_budget",
]

LEAST_BLOCKS = 48 << 20
"""Least bytes for blocks that are worth it: the pass that finds the means, FAISS's own tiles (16 MB), a block of
queries and one of points."""

MOST_BLOCKS = {"cpu": 1 << 30, "cuda": 16 << 30}
"""Bytes of blocks beyond which a search gets no faster. A GPU multiplies two blocks of 10^5 points in a tenth of a
second, beside which merging what is found, some thirty launches, is nothing."""

SHARE_OF_AVAILABLE = 0.8

PARTITION_POINTS, PARTITION_BYTES = 1 << 18, 1 << 30
"""Points of a partition at most, and bytes that its search may take, where memory allows: the table does not depend on
the memory there is, then."""

LEAST_PARTITION = 4096
"""Points of the smallest partitions that are worth it."""


@dataclass(frozen=True)
class Budget:
    """Bytes for blocks of queries and points, and bytes to spare for a float32 copy of the embeddings."""

    blocks: int
    spare: int


def flat_bytes(n: int, d: int, n_queries: int, k: int) -> int:
    """Least memory of an exact search beside the embeddings: lengths, the table, blocks."""
    widest_rows = 256 * (24 * d + 48 * (k + 1))
    return 16 * n + 8 * n_queries * k + max(LEAST_BLOCKS, widest_rows)


def memory_needed(n: int, d: int, k: int, n_queries: int | None = None) -> int:
    """Least memory in bytes that a search takes beside the embeddings.

    Parameters
    ----------
    n, d
        Shape of the embeddings.
    k
        Neighbors of each point.
    n_queries
        Points whose neighbors are searched; default: all.
    """
    return flat_bytes(n, d, n if n_queries is None else n_queries, k)


def index_bytes(index: str, n: int, d: int, k: int) -> int:
    """Memory of a search through the index of this name, beside the embeddings."""
    if index == "partitioned":
        return flat_bytes(n, d, n, k) + 40 * n + partition_bytes(min(n, _least_partition(k)), d, k, 8)
    lists = math.sqrt(n)
    extra = {
        "flat": 0.0,
        "ivf": 40 * n + lists * d * (4 + 64 * 8 + 40) + (64 << 20),  # lists; centroids, their sample; visitors
        "hnsw": n * (4 * d + 4 * 128 + 32),  # a copy; 64 links at the bottom, fewer above
        "nndescent": n * (8 * d + 40 * max(48, 3 * k // 2)),  # two copies; pools of candidates
        "cagra": n * (4 * d + 4 * 192),
    }
    return flat_bytes(n, d, n, k) + int(extra.get(index, n * (4 * d + 64)))


def indexed_bytes(n: int, d: int) -> int:
    """Memory that an inverted file over a copy of the points takes: float32 and numbers, and as much for blocks."""
    return 2 * n * (4 * d + 32)


def partition_bytes(n: int, d: int, k: int, itemsize: int) -> int:
    """Memory of the search of a partition: its rows as they are stored, an index over a float32 copy, its table."""
    return n * (d * itemsize + 24 * k) + indexed_bytes(n, d) + index_bytes("ivf", n, d, k)


def largest_partition(d: int, k: int, itemsize: int, *, room: int) -> int:
    """Most points of a partition whose search fits in `room` bytes; at least the fewest that are worth it."""
    room = min(room, PARTITION_BYTES)
    low, high = _least_partition(k), max(_least_partition(k), PARTITION_POINTS)
    while low < high:
        middle = (low + high + 1) // 2
        if partition_bytes(middle, d, k, itemsize) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _least_partition(k: int) -> int:
    return max(LEAST_PARTITION, 20 * (k + 1))


def search_budget(
    needed: int, least: int, memory_limit: str | int | None, what: str, *, device: str = "cpu", on_device: bool = False
) -> Budget:
    """Divide the memory, once `needed` is known to fit.

    Parameters
    ----------
    needed
        Memory of the search as asked for, its smallest blocks included.
    least
        Memory of the smallest search that would do (exact, streamed).
    memory_limit
        The argument of the user; None stands for most of what is available.
    what
        The search, for the error message.
    device, on_device
        Device of the search, and whether the embeddings are on a GPU, in whose memory the search then works.

    Raises
    ------
    InputError
        If it does not fit; the message says what would.
    """
    limit = parse_memory(memory_limit)
    free = free_device_memory() if device == "cuda" else 0
    total = int(SHARE_OF_AVAILABLE * (free if on_device else available_memory())) if limit is None else limit
    if needed > total:
        name = "memory available" if limit is None else "memory limit"
        way_out = "" if needed == least else f" (index='flat' needs {at_least(least)})"
        raise InputError(
            f"{what} needs at least {at_least(needed)}{way_out}, more than the {name} of "
            f"{in_bytes(total)}; raise the limit, or lower k."
        )
    blocks = min(MOST_BLOCKS[device], LEAST_BLOCKS + (total - needed) // 2)
    if device == "cuda":  # blocks from main memory are copied there
        blocks = min(blocks, max(LEAST_BLOCKS, free // 2))
    return Budget(blocks, total - needed - blocks + LEAST_BLOCKS)
