"""Exact search of blocks with torch: one matrix product and a top-k, on any device torch knows.

The fallback on a GPU where neither cuVS nor a GPU build of FAISS is installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.arrays.products import full_float32_products
from clorg_scale.errors import require

__all__ = ["search_block"]

SCORES = 1 << 28
"""Entries of one tile of scores (1 GiB of float32)."""


def search_block(queries: Array, points: Array, k: int, inner_product: bool) -> tuple[Array, Array]:  # noqa: FBT001
    """Find the k best of `points` for each of `queries` (see `neighbors.exact.BlockSearch`)."""
    torch = require("torch", extra="train", purpose="Searching neighbours without cuVS or FAISS on this device")
    xp = array_module(queries)
    x, y = _tensor(torch, queries), _tensor(torch, points)
    keys = torch.empty((len(x), k), dtype=torch.float32, device=x.device)
    ids = torch.empty((len(x), k), dtype=torch.int64, device=x.device)
    norms = None if inner_product else (y * y).sum(1)
    step = max(1, SCORES // len(y))
    with full_float32_products():
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            scores = _scores(torch, x[rows], y, norms)
            keys[rows], ids[rows] = scores.topk(k, dim=1, largest=False, sorted=False)
            if norms is not None:
                keys[rows] += (x[rows] * x[rows]).sum(1, keepdim=True)
    return _back(xp, keys), _back(xp, ids)


def _tensor(torch: Any, block: Array) -> Any:
    """Share the block's memory with a tensor; read-only memory is copied, as torch knows no such thing."""
    if isinstance(block, np.ndarray) and not block.flags.writeable:
        block = block.copy()
    return torch.as_tensor(block)


def _scores(torch: Any, x: Any, y: Any, norms: Any) -> Any:
    """(b, m): -x.y, or |y|^2 - 2 x.y, which orders a row as the squared distance does."""
    if norms is None:
        return (x @ y.T).neg_()
    return torch.addmm(norms[None, :], x, y.T, alpha=-2.0)


def _back(xp: Any, tensor: Any) -> Array:
    return tensor.numpy() if xp is np else xp.from_dlpack(tensor)
