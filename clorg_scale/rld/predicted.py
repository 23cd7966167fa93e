"""Predictions of time and memory, made before the work starts."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from clorg_scale.arrays.memory import check_memory
from clorg_scale.errors import require
from clorg_scale.rld.points import ClassOrderedPoints

__all__ = ["check_sampled_memory", "memory_needed", "product_rate"]

SIDE = 2048
"""Rows and columns of the matrix product that is timed."""


def product_rate(n_features: int, dtype: np.dtype[Any], device: str) -> float:
    """FLOP/s of one matrix product of this length and precision; in fp16 on a GPU, as exact RLD there."""
    if device == "cuda":
        torch = require("torch", extra="cuda13", purpose="RLD on a GPU")
        X = torch.randn(SIDE, n_features, device="cuda", dtype=torch.float64 if dtype == np.float64 else torch.float16)
        seconds = min(_timed(lambda: (X @ X.T, torch.cuda.synchronize())) for _ in range(3))
    else:
        A = np.random.default_rng(0).standard_normal((SIDE, n_features)).astype(dtype)
        B = A.copy()  # a product with itself would be done by half
        seconds = min(_timed(lambda: A @ B.T) for _ in range(3))
    return 2.0 * SIDE * SIDE * n_features / seconds


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def memory_needed(
    shape: tuple[int, int], dtype: np.dtype[Any], *, n_temperatures: int, method: str = "auto", k: int = 15
) -> int:
    """Least memory in bytes that RLD takes beside embeddings of this shape and dtype; "auto" counts as "exact"."""
    from clorg_scale.neighbors.memory import memory_needed as memory_of_search
    from clorg_scale.rld.exact.cpu import exact_bytes
    from clorg_scale.rld.points import computing_dtype

    n, d = shape
    if method == "sampled":
        return _sampled_bytes(n, n_temperatures, k)
    if method == "graph":
        return memory_of_search(n, d, k)
    return exact_bytes(n, d, computing_dtype(dtype).itemsize, n_temperatures)


def _sampled_bytes(n: int, n_temperatures: int, k: int) -> int:
    """Memory of sampled RLD beside the embeddings."""
    sums = 8 * 6 * n_temperatures + 4 * 17 * n_temperatures // 4
    near_field = 2 * k * (8 + 8 + 4)
    return n * (sums + near_field) + 64 * 2**20


def check_sampled_memory(points: ClassOrderedPoints, n_temperatures: int, k: int, memory_limit: int | None) -> None:
    """Refuse a memory limit below the memory that sampled RLD takes beside the embeddings."""
    needed = _sampled_bytes(points.n_points, n_temperatures, k)
    check_memory(memory_limit, needed, f"Sampled RLD of {points.n_points} points")
