"""Floors: the time a machine needs at least, from its best matrix-product rate at any shape and its copy bandwidth."""

from __future__ import annotations

import time
from functools import cache
from typing import NamedTuple

import numpy as np

__all__ = ["Floor", "Rates", "floor_of", "machine_rates"]

SHAPES = (
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 512),
    (2048, 2048, 2048),
    (4096, 4096, 784),
    (4096, 4096, 4096),
    (512, 8192, 1024),
)
"""Shapes (m, n, k) of the products that are tried; tall, wide, small enough for a cache and large."""

SECONDS = 1.0
"""For which each shape is repeated; the best repeat counts, as a floor is what the machine can do undisturbed."""

COPIED = 256 << 20
"""Bytes of the array that is copied: larger than any cache."""


class Rates(NamedTuple):
    """Rates of the machine.

    Attributes
    ----------
    flops
        Best float32 matrix products at any shape, in FLOP/s.
    shape
        The shape (m, n, k) that reached it.
    bandwidth
        Bytes/s read plus written by a copy.
    """

    flops: float
    shape: tuple[int, int, int]
    bandwidth: float


class Floor(NamedTuple):
    """Seconds at least, and what they count."""

    seconds: float
    work: str


@cache
def machine_rates(*, quick: bool = False) -> Rates:
    """Measure both rates, once a process; NumPy's and, where it is installed, torch's products, whichever is faster.

    Parameters
    ----------
    quick
        Try the smallest shape for a moment only: no figure to cite.
    """
    seconds, shapes, copied = (0.02, SHAPES[:1], COPIED // 16) if quick else (SECONDS, SHAPES, COPIED)
    best, shape = max((_product_rate(*shape, seconds), shape) for shape in shapes)
    return Rates(best, shape, _copy_rate(copied, seconds))


def floor_of(flop: float, moved: float, rates: Rates | None = None) -> Floor:
    """Floor of work that takes `flop` operations in matrix products and moves `moved` bytes: the longer of the two."""
    rates = rates or machine_rates()
    by_flops, by_bytes = flop / rates.flops, moved / rates.bandwidth
    if by_flops >= by_bytes:
        return Floor(by_flops, f"{flop:.3g} FLOP at {rates.flops / 1e9:.0f} GFLOP/s, the best product of any shape")
    return Floor(by_bytes, f"{moved:.3g} bytes at {rates.bandwidth / 1e9:.1f} GB/s of a copy")


def _product_rate(m: int, n: int, k: int, seconds: float) -> float:
    """Best of repeated products of NumPy's BLAS and of torch's."""
    rng = np.random.default_rng(0)
    A, B, C = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32), np.empty((m, n), "f4")
    best = _best_time(lambda: np.matmul(A, B, out=C), seconds)
    try:
        import torch
    except ImportError:
        return 2 * m * n * k / best
    a, b, c = torch.from_numpy(A), torch.from_numpy(B), torch.from_numpy(C)
    return 2 * m * n * k / min(best, _best_time(lambda: torch.mm(a, b, out=c), seconds))


def _copy_rate(copied: int, seconds: float) -> float:
    source = np.ones(copied // 8)
    target = np.empty_like(source)
    halves = len(source) // 2

    def copy() -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as pool:  # one thread may not fill the memory's channels
            list(pool.map(lambda part: np.copyto(target[part], source[part]), (slice(halves), slice(halves, None))))

    return 2 * copied / min(_best_time(copy, seconds), _best_time(lambda: np.copyto(target, source), seconds))


def _best_time(step: object, seconds: float) -> float:
    assert callable(step)
    step()
    best, started, repeats = float("inf"), time.perf_counter(), 0
    while repeats < 3 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - before)
        repeats += 1
    return best
